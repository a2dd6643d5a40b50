"""Ends a user turn in which nothing was recognized."""

from __future__ import annotations

import asyncio
from typing import Any

from pipecat.frames.frames import (
    Frame,
    InterruptionFrame,
    TranscriptionFrame,
    VADUserStartedSpeakingFrame,
)
from pipecat.turns.types import ProcessFrameResult
from pipecat.turns.user_stop import BaseUserTurnStopStrategy

from ringtrue.streaming.recognizers.service import NothingRecognizedFrame


class NothingRecognizedStopStrategy(  # type: ignore[no-untyped-call]
    BaseUserTurnStopStrategy
):
    """Stops a turn whose utterances all came to nothing, after a moment's grace.

    Pipecat's other strategies want a text, and without one leave the turn to a watchdog of several
    seconds. Add this one beside them; Pipecat's ``empty_user_turn`` then decides whether the agent
    asks again.
    """

    def __init__(self, *, grace_seconds: float = 0.6, **kwargs: Any) -> None:
        """``grace_seconds``: how long the caller may take to go on after a cough or an "um"."""
        super().__init__(**kwargs)
        self._grace = grace_seconds
        self._heard = False
        self._timer: asyncio.Task[None] | None = None

    async def handle_user_turn_started(self) -> None:
        """A new turn: nothing heard yet."""
        await self._reset()

    async def handle_user_turn_stopped(self) -> None:
        """The turn is over, whoever ended it."""
        await self._reset()

    async def cleanup(self) -> None:
        """Leave no timer behind."""
        await super().cleanup()  # type: ignore[no-untyped-call]
        await self._disarm()

    async def _reset(self) -> None:
        self._heard = False
        await self._disarm()

    async def _disarm(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer is not asyncio.current_task():
            await self.task_manager.cancel_task(timer)

    async def process_frame(self, frame: Frame) -> ProcessFrameResult:
        """Arm on a turn without text, disarm when the caller goes on."""
        if isinstance(frame, TranscriptionFrame):
            self._heard = True
            await self._disarm()
        elif isinstance(frame, VADUserStartedSpeakingFrame | InterruptionFrame):
            await self._disarm()
        elif isinstance(frame, NothingRecognizedFrame) and not self._heard:
            await self._disarm()
            self._timer = self.task_manager.create_task(self._wait(), f"{self}::grace")
        return ProcessFrameResult.CONTINUE

    async def _wait(self) -> None:
        await asyncio.sleep(self._grace)
        await self.trigger_user_turn_stopped()
