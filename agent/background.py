"""Work that goes on beside whoever began it: referred to until it ends, and heard if it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

log = structlog.get_logger(__name__)


class Background:
    """The tasks of one owner, who waits for them or cancels them at its end."""

    def __init__(self, event: str) -> None:
        """A failure is logged as ``event``, with the task's name."""
        self.tasks: set[asyncio.Task[None]] = set()
        self._event = event

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Begin ``work``."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self.tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error(self._event, task=task.get_name(), exc_info=error)
