"""What is said to fill the time, told apart from an answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pipecat.frames.frames import SystemFrame, TTSSpeakFrame
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor


@dataclass
class FillerFrame(TTSSpeakFrame):
    """Said to fill the time until the answer, whoever says it."""


@dataclass
class AnswerJoinedFrame(SystemFrame):
    """The first audio of an answer was made; it is one utterance with what fills the time."""

    fillers: int = 1
    """Lines that were put in front of it."""


def joined(synthesizer: FrameProcessor) -> Callable[[int], Awaitable[None]]:
    """Has ``synthesizer`` say upstream that an answer follows so many lines in its utterance."""

    async def tell(fillers: int) -> None:
        await synthesizer.push_frame(AnswerJoinedFrame(fillers), FrameDirection.UPSTREAM)

    return tell


__all__ = ["AnswerJoinedFrame", "FillerFrame", "joined"]
