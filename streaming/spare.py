"""A second synthesizer that takes over where the first makes nothing.

::

    switch → first → (seal) → dam → second → (seal) → join
                               └──────────────────────↑

Until it is needed the second sees system frames alone: what the first makes goes past it. Once
switched, everything goes to the second, and what the first still makes ends at the dam. It stays
so for the rest of the call: a voice that changes once is strange enough.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import structlog
from pipecat.frames.frames import (
    AggregatedTextFrame,
    CancelFrame,
    EndFrame,
    Frame,
    InterruptionFrame,
    SystemFrame,
    TTSSpeakFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from ringtrue.streaming.provenance import Provenance
from ringtrue.streaming.sealing import SealingTap, SealsSpeech

log = structlog.get_logger(__name__)

MAX_HELD: Final = 200
"""Frames remembered for the second synthesizer; the oldest are forgotten."""


class _Join(FrameProcessor):
    """Where both ways meet."""

    def __init__(self) -> None:
        super().__init__(name="voice-join", enable_direct_mode=True)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)


class _Dam(FrameProcessor):
    """Lets the first synthesizer's frames past the second, until it is closed."""

    def __init__(self, join: _Join) -> None:
        super().__init__(name="voice-dam", enable_direct_mode=True)
        self._join = join
        self.closed = False
        self.swallowed: Frame | None = None
        self.passed: set[int] = set()
        """Ids of what came through since the last interruption."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if direction is FrameDirection.UPSTREAM or isinstance(frame, SystemFrame | EndFrame):
            if isinstance(frame, InterruptionFrame | CancelFrame):
                self.passed.clear()
            if frame is not self.swallowed:
                await self.push_frame(frame, direction)
        elif not self.closed:
            self.passed.add(frame.id)
            await self._join.queue_frame(frame, direction)


class SpareVoice(FrameProcessor):
    """The head of the two; hands frames to the one that speaks."""

    def __init__(self, first: FrameProcessor, second: FrameProcessor) -> None:
        """Speak with ``first`` until :meth:`switch`."""
        super().__init__(name="voice-switch", enable_direct_mode=True)
        self._first = first
        self._second = second
        self._join = _Join()
        self._dam = _Dam(self._join)
        self._held: deque[Frame] = deque(maxlen=MAX_HELD)

    def chain(self, provenance: Provenance) -> list[FrameProcessor]:
        """All of them, in their order, sealing for one call."""
        found: list[FrameProcessor] = [self]
        for voice, behind in ((self._first, self._dam), (self._second, self._join)):
            found.append(voice)
            if isinstance(voice, SealsSpeech):
                voice.seal_with(provenance)
            else:
                found.append(SealingTap(provenance))
            found.append(behind)
        return found

    @property
    def switched(self) -> bool:
        """Whether the second speaks."""
        return self._dam.closed

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Hand a frame to the synthesizer that speaks."""
        await super().process_frame(frame, direction)
        if direction is FrameDirection.UPSTREAM or isinstance(frame, SystemFrame | EndFrame):
            if isinstance(frame, InterruptionFrame | CancelFrame):
                self._held.clear()
            await self.push_frame(frame, direction)
        elif self.switched:
            await self._second.queue_frame(frame, direction)
        else:
            self._held.append(frame)
            await self.push_frame(frame, direction)

    async def switch(self) -> bool:
        """Let the second say what the first has made nothing of; False where it does already."""
        if self.switched:
            return False
        log.warning("voice.switched", second=type(self._second).__name__)
        self._dam.closed = True
        stop = InterruptionFrame()
        self._dam.swallowed = stop
        await self._first.queue_frame(stop)
        held, passed = tuple(self._held), self._dam.passed
        self._held.clear()
        for frame in held:
            spoken = isinstance(frame, AggregatedTextFrame | TTSSpeakFrame)
            if spoken or frame.id not in passed:
                await self._second.queue_frame(frame)
        return True
