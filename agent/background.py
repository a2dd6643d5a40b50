"""Work that goes on beside whoever began it: referred to until it ends, and heard if it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog

log = structlog.get_logger(__name__)

RESTART_SECONDS: Final = 5.0
"""Pause before work that failed is begun again."""


class Background:
    """The tasks of one owner, who waits for them or cancels them at its end."""

    def __init__(self, event: str, on_restart: Callable[[], None] = lambda: None) -> None:
        """A failure is logged as ``event``, with the task's name.

        ``on_restart`` is called when work of :meth:`keep` failed and is to be begun again.
        """
        self.tasks: set[asyncio.Task[None]] = set()
        self._event = event
        self._on_restart = on_restart

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Begin ``work``."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self.tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def keep(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> asyncio.Task[None]:
        """Begin ``work``, and after a pause again whenever it fails; for what goes on for ever."""
        return self.spawn(self._kept(work, name), name)

    async def close(self) -> None:
        """Cancel what goes on, and wait for its end."""
        tasks = tuple(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _kept(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        while True:
            try:
                return await work()
            except Exception as error:
                log.error(self._event, task=name, exc_info=error)
            self._on_restart()
            await asyncio.sleep(RESTART_SECONDS)

    def _done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error(self._event, task=task.get_name(), exc_info=error)
