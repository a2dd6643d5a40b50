"""``ringtrue serve`` with more than one worker: from the command to its exit code."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

import structlog

from ringtrue.agent.workers.supervisor import Supervisor
from ringtrue.config.settings import Settings

log = structlog.get_logger(__name__)


async def serve_workers(
    settings: Settings, count: int, *, on_ready: Callable[[Supervisor], None] | None = None
) -> int:
    """Serve until SIGTERM or SIGINT comes and the last call is over; a second one hurries that.

    Returns the exit code. Raises what :class:`Supervisor` does.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    supervisor = Supervisor(settings, count)

    def signalled() -> None:
        if stop.is_set():
            supervisor.hurry()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled)
    try:
        async with supervisor:
            if on_ready is not None:
                on_ready(supervisor)
            await stop.wait()
            log.info("workers.draining", calls=sum(slot.calls for slot in supervisor.slots))
            await supervisor.drain()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    return 0
