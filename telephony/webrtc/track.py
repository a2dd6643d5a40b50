"""The outgoing track: yields what the gate sealed, and nothing else ever."""

from __future__ import annotations

import asyncio
from collections import deque
from fractions import Fraction
from typing import Any, Final

from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import Packet

from ringtrue.streaming.errors import GateError
from ringtrue.streaming.gate import SealedFrame, SealGuard
from ringtrue.streaming.ports import frame_samples
from ringtrue.telephony.codecs.opus import RATE, OpusEncoder

MAX_FRAMES: Final = 15
"""Frames that may wait for the sender: 300 ms, a whole catch-up of the clock and some more."""

_TIME_BASE: Final = Fraction(1, RATE)


class SealedTrack(MediaStreamTrack):
    """Audio at 16 kHz from sealed frames, as Opus packets.

    Overflow policy: the oldest frame is dropped and counted; the RTP timestamp still moves on by
    20 ms, so the far end's clock stays with ours. Underflow policy: nothing is sent, because
    nothing that the gate did not seal may be; the far end conceals.
    """

    kind = "audio"

    def __init__(self, guard: SealGuard | None = None) -> None:
        """Empty, for one call; ``guard`` is that of the call's track before this one."""
        super().__init__()
        self._guard = SealGuard() if guard is None else guard
        self._encoder = OpusEncoder()
        self._frames: deque[tuple[int, SealedFrame]] = deque()
        self._wake = asyncio.Event()
        self._position = 0
        self.sent = 0
        self.dropped = 0

    @property
    def waiting(self) -> int:
        """Frames queued and not yet taken by the sender."""
        return len(self._frames)

    def put(self, frame: SealedFrame) -> None:
        """Queue one frame.

        Raises ``TypeError`` for anything that is no sealed frame, :class:`GateError` for one of
        another call, at another rate, or sent before.
        """
        frame = self._guard.check(frame)
        if frame.rate != RATE:
            raise GateError(f"frame is at {frame.rate} Hz; this track takes {RATE} Hz")
        position = self._position
        self._position += frame_samples(RATE)
        if self.readyState != "live":
            return
        if len(self._frames) >= MAX_FRAMES:
            self._frames.popleft()
            self.dropped += 1
        self._frames.append((position, frame))
        self._wake.set()

    def discard(self) -> None:
        """Drop what waits, e.g. everything offered before anybody could hear it."""
        self._frames.clear()

    async def recv(self) -> Packet[Any]:
        """The next frame as an Opus packet; waits for one. Raises when the track has ended."""
        while not self._frames:
            if self.readyState != "live":
                raise MediaStreamError
            self._wake.clear()
            await self._wake.wait()
        position, frame = self._frames.popleft()
        packet = Packet(self._encoder.encode(frame.pcm))
        packet.pts = position
        packet.time_base = _TIME_BASE
        self.sent += 1
        return packet

    def stop(self) -> None:
        """End the track; :meth:`recv` then raises."""
        super().stop()
        self._frames.clear()
        self._wake.set()
