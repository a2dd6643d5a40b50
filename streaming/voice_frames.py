"""Frames between synthesizer and playout that Pipecat has none for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipecat.frames.frames import (
    AggregatedTextFrame,
    ControlFrame,
    Frame,
    TTSAudioRawFrame,
    TTSTextFrame,
)

from ringtrue.streaming.provenance import Chunk


@dataclass(kw_only=True)
class SealedAudioFrame(TTSAudioRawFrame):
    """Speech whose maker vouches for it; playout takes the samples from the chunk."""

    chunk: Chunk = field(repr=False)


def sealed_audio(chunk: Chunk, context_id: str | None = None) -> SealedAudioFrame:
    """``chunk`` as a frame of its own."""
    return SealedAudioFrame(
        audio=chunk.pcm,
        sample_rate=chunk.rate,
        num_channels=1,
        context_id=context_id,
        chunk=chunk,
    )


@dataclass
class SpokenWordFrame(TTSTextFrame):
    """A word, with its place in the phrase it was written in."""

    phrase: AggregatedTextFrame | None = field(default=None, repr=False)
    start: int = 0
    """Where the word begins in the phrase's plain text."""


@dataclass
class TakeBackFrame(ControlFrame):
    """The voice may not go on: playout drops what nobody heard yet of it, and says what that was.

    It goes through the graph behind the voice's last frame and ends at playout.
    """

    unheard: asyncio.Future[tuple[Frame, ...]] = field(repr=False)
    """The frames that had kept their place in the speech that was dropped, in order."""

    def give(self, frames: Sequence[Frame]) -> None:
        """Answer, if somebody still waits."""
        if not self.unheard.done():
            self.unheard.set_result(tuple(frames))
