"""A worker that has loaded and serves nothing yet: whoever dies is followed at once.

Loading takes seconds of a processor, and many more where others have it. A spare has that behind
it; what is left of a start is making the server of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from ringtrue.agent.workers.child import Worker

log = structlog.get_logger(__name__)

LONGEST_PAUSE: Final = 300.0
"""Seconds before another is started where one after the other dies."""


class Spare:
    """One worker without a plan, or none. Serves one event loop."""

    def __init__(self, make: Callable[[], Worker], *, after: float) -> None:
        """``make`` gives a worker that was not started.

        One is started ``after`` seconds of there being none: until then there is other work.
        """
        self._make = make
        self._after = after
        self._worker: Worker | None = None
        self._keeping: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Of the process; None where there is none."""
        worker = self._worker
        return worker.pid if worker is not None and worker.living else None

    def provide(self) -> None:
        """See to it that there is one before long. Idempotent."""
        if self._keeping is None or self._keeping.done():
            self._keeping = asyncio.get_running_loop().create_task(self._keep(), name="spare")

    def take(self) -> Worker | None:
        """The worker, which is the caller's from now on; None where there is none."""
        self._stop_keeping()
        worker, self._worker = self._worker, None
        return worker if worker is not None and worker.living else None

    async def close(self) -> None:
        """There is none any more, and will be none. Idempotent."""
        keeping = self._keeping
        self._stop_keeping()
        if keeping is not None:
            await asyncio.gather(keeping, return_exceptions=True)
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.kill()
            await worker.ended()

    def _stop_keeping(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            self._keeping = None

    async def _keep(self) -> None:
        """Start one, and another, later each time, whenever it dies."""
        pause = self._after
        while True:
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            worker = self._make()
            try:
                await worker.start()
            except Exception as error:  # whatever it is, the workers that there are go on
                log.warning("workers.no_spare", exc_info=error)
                continue
            except asyncio.CancelledError:
                worker.kill()
                raise
            self._worker = worker
            await worker.ended()
            self._worker = None
            log.warning("workers.spare_died")
