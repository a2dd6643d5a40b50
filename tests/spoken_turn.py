"""A caller's turn, driven frame by frame."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pipecat.frames.frames import (
    Frame,
    InterimTranscriptionFrame,
    TranscriptionFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)

from ringtrue.streaming.record import Stage
from ringtrue.streaming.turns import SpokenTurnStop, TurnPolicy
from ringtrue.streaming.turns.expect import Expect

STARTED = VADUserStartedSpeakingFrame()
STOPPED = VADUserStoppedSpeakingFrame()
TEXT = TranscriptionFrame(text="yes", user_id="", timestamp="", finalized=True)
POLICY = TurnPolicy(complete=0.5, incomplete_seconds=1.2, transcript_seconds=1.5)


class Turn:
    """Drives a strategy and notes when the turn ended."""

    def __init__(
        self, probability: float | None, delay: float = 0.05, *, sure: bool = False
    ) -> None:
        async def judge() -> float:
            self.judgements += 1
            await asyncio.sleep(delay)
            assert self.probability is not None
            return self.probability

        self.probability = probability
        self.expects = Expect.OPEN
        self.busy = False
        self.ended: list[float] = []
        self.stages: list[Stage] = []
        self.start = asyncio.get_running_loop().time()
        self.judgements = self.cut_short = 0
        self.hastened: list[bool] = []
        self.believed: list[float | None] = []
        self.told: list[str] = []
        self.strategy = SpokenTurnStop(
            None if probability is None else judge,
            POLICY,
            self.stages.append,
            lambda _: sure,
            expects=lambda: self.expects,
            suffices=lambda text: len(text.split()) >= 4,
            answering=self,
            busy=lambda: self.busy,
            hasten=lambda: self.hastened.append(True),
            on_cut_short=self._was_cut_short,
            believe=self.believed.append,
        )
        self.strategy.add_event_handler("on_user_turn_stopped", self._stopped)

    def began(self) -> None:
        self.told.append("began")

    def confirmed(self) -> None:
        self.told.append("confirmed")

    def dropped(self, reason: str) -> None:
        self.told.append(reason)

    def _was_cut_short(self) -> None:
        self.cut_short += 1

    async def _stopped(self, *_: object) -> None:
        self.ended.append(asyncio.get_running_loop().time() - self.start)

    async def take(self, *frames: Frame) -> None:
        for frame in frames:
            await self.strategy.process_frame(frame)


@asynccontextmanager
async def turn(probability: float | None, *, sure: bool = False) -> AsyncIterator[Turn]:
    """A strategy that is cleaned up."""
    it = Turn(probability, sure=sure)
    try:
        yield it
    finally:
        await it.strategy.cleanup()


def words(text: str) -> TranscriptionFrame:
    return TranscriptionFrame(text=text, user_id="", timestamp="", finalized=True)


def guess(text: str) -> InterimTranscriptionFrame:
    return InterimTranscriptionFrame(text=text, user_id="", timestamp="")
