"""Twilio's audio as a media leg: µ-law 8 kHz over the websocket, one message each 20 ms.

Twilio plays what it was sent in order and in real time, and tells by ``mark`` what it has
played; so this leg alone knows what the caller heard, not just what left the process.

The leg does no I/O. It queues text messages that the websocket adapter sends, so that a slow
websocket never holds the clock. Overflow policy: a backlog beyond :data:`MAX_BACKLOG` messages
drops the oldest audio and counts it; ``mark`` and ``clear`` are never dropped, and no mark is
sent while :data:`MAX_OUTSTANDING` wait for their echo.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from ringtrue.streaming.errors import GateError
from ringtrue.streaming.gate import FrameKind, SealedFrame, SealGuard
from ringtrue.streaming.ports import FRAME_MS, Inbound, LegStats, frame_samples
from ringtrue.telephony.codecs.g711 import UlawCodec
from ringtrue.telephony.tick_buffer import TickBuffer
from ringtrue.telephony.twilio.protocol import Audio, MediaStreamProtocol

RATE: Final = 8000
MAX_BACKLOG: Final = 50
"""``media`` messages that may wait for the websocket: one second."""

MAX_OUTSTANDING: Final = 256
"""Marks that may await their echo."""

MAX_DIGITS: Final = 64
"""Digits that may wait for the next tick; later ones are dropped and counted."""

MARK_AUDIBLE: Final = 3
"""Frames between marks while something is audible: what was heard is known to 60 ms."""

MARK_SILENT: Final = 25
"""Frames between marks in silence."""


class TwilioLeg:
    """One stream's audio; implements :class:`~ringtrue.streaming.ports.MediaLeg`."""

    def __init__(self, protocol: MediaStreamProtocol) -> None:
        """``protocol`` has seen ``start``."""
        self._protocol = protocol
        self._guard = SealGuard()
        self._codec = UlawCodec()
        self._buffer = TickBuffer(RATE)
        self._digits: deque[str] = deque()
        self._stats = LegStats()
        self._outbox: deque[tuple[bool, str]] = deque()
        self._backlog = 0
        self._wake = asyncio.Event()
        self._closed = False
        self._last_heard: float | None = None
        self._last_chunk: int | None = None
        self._last_arrival: tuple[float, int] | None = None
        self._pulled = False
        self._sent = 0
        self._heard = 0
        self._since_mark = 0
        self._audible = False
        self._marks: dict[str, tuple[int, bool]] = {}

    @property
    def rate(self) -> int:
        """8000 Hz."""
        return RATE

    @property
    def stats(self) -> LegStats:
        """Live counters; ``extra`` has ``unplayed_ms`` (sent, not confirmed as played),
        ``standing_ms``, ``drained_ms``, ``overflowed_ms``, ``backlog_dropped``,
        ``digits_dropped`` and ``out_of_order``.
        """
        extra = self._stats.extra
        extra["unplayed_ms"] = (self._sent - self._heard) * 1000 / RATE
        extra["standing_ms"] = self._buffer.standing_ms
        extra["drained_ms"] = self._buffer.drained_ms
        extra["overflowed_ms"] = self._buffer.overflowed_ms
        extra["out_of_order"] = self._protocol.out_of_order
        self._stats.jitter_buffer_ms = self._buffer.depth_ms
        return self._stats

    # What the websocket adapter calls.

    def alive(self, now: float) -> None:
        """A message came from the far end."""
        self._last_heard = now

    def receive(self, audio: Audio, now: float) -> None:
        """Take one ``media`` message."""
        stats = self._stats
        stats.packets_received += 1
        if self._last_chunk is not None:
            if audio.chunk <= self._last_chunk:
                stats.packets_duplicate += 1
                return
            stats.packets_lost += audio.chunk - self._last_chunk - 1
        self._last_chunk = audio.chunk
        self._measure(audio.timestamp, now)
        self._buffer.put(self._codec.decode(audio.payload))

    def press(self, digit: str) -> None:
        """Take one digit the caller pressed."""
        if len(self._digits) >= MAX_DIGITS:
            self._count("digits_dropped")
            return
        self._digits.append(digit)

    def played(self, name: str) -> None:
        """Take the echo of a mark. One we never sent, or gave up, is ignored."""
        mark = self._marks.pop(name, None)
        if mark is None:
            return
        position, dropped = mark
        if not dropped:  # after clear Twilio returns marks whose audio nobody heard
            self._heard = max(self._heard, position)

    async def outgoing(self) -> str | None:
        """The next message to send, in order; None once the leg is closed and nothing is left.

        Only one caller at a time.
        """
        while True:
            message = self._next()
            if message is not None:
                return message
            if self._closed:
                return None
            self._wake.clear()
            await self._wake.wait()

    # What the media clock and the session call.

    def pull(self, now: float) -> Inbound:
        """The next 20 ms from the caller, with the digits pressed since the last pull.

        The first pull drops what came before it, a little stock excepted.
        """
        if not self._pulled:
            self._pulled = True
            self._buffer.trim()
        pcm, missing = self._buffer.take()
        if missing:
            self._stats.frames_concealed += 1
        digits: tuple[str, ...] = ()
        if self._digits:
            digits = tuple(self._digits)
            self._digits.clear()
        return Inbound(pcm, missing, digits)

    def send(self, frame: SealedFrame, now: float) -> None:
        """Queue one sealed frame for the websocket.

        Raises ``TypeError`` for anything that is no sealed frame, :class:`GateError` for one of
        another call, at another rate, or sent before.
        """
        frame = self._guard.check(frame)
        if frame.rate != RATE:
            raise GateError(f"frame is at {frame.rate} Hz; this leg takes {RATE} Hz")
        if self._closed:
            return
        self._sent += frame_samples(RATE)
        self._stats.packets_sent += 1
        audible = frame.kind is not FrameKind.SILENCE
        if self._audible and not audible and self._since_mark:
            self._mark(self._sent - frame_samples(RATE))
        self._audible = audible
        self._put(self._protocol.media(self._codec.encode(frame.pcm)), is_audio=True)
        self._since_mark += 1
        if self._since_mark >= (MARK_AUDIBLE if audible else MARK_SILENT):
            self._mark(self._sent)

    def last_heard(self) -> float | None:
        """Loop time of the last message from Twilio."""
        return self._last_heard

    def heard_position(self) -> int | None:
        """Samples since the leg opened that Twilio confirmed as played, silence included."""
        return self._heard

    def clear(self) -> None:
        """Drop what waits here and at Twilio; it counts as never heard."""
        if self._closed:
            return
        self._drop_outbox()
        for name, (position, _) in self._marks.items():
            self._marks[name] = (position, True)
        self._since_mark = 0
        self._put(self._protocol.clear())

    def close(self) -> None:
        """Drop what waits and let :meth:`outgoing` end. Idempotent."""
        self._closed = True
        self._drop_outbox()
        self._buffer.clear()
        self._digits.clear()
        self._wake.set()

    def _next(self) -> str | None:
        if not self._outbox:
            return None
        is_audio, message = self._outbox.popleft()
        self._backlog -= is_audio
        return message

    def _drop_outbox(self) -> None:
        self._outbox.clear()
        self._backlog = 0

    def _put(self, message: str, *, is_audio: bool = False) -> None:
        if is_audio and self._backlog >= MAX_BACKLOG:
            oldest = next(i for i, (audio, _) in enumerate(self._outbox) if audio)
            del self._outbox[oldest]
            self._backlog -= 1
            self._count("backlog_dropped")
        self._outbox.append((is_audio, message))
        self._backlog += is_audio
        self._wake.set()

    def _mark(self, position: int) -> None:
        self._since_mark = 0
        name = str(position)
        if len(self._marks) < MAX_OUTSTANDING:
            self._marks[name] = (position, False)
            self._put(self._protocol.mark(name))

    def _measure(self, timestamp: int, now: float) -> None:
        """Interarrival jitter as in RFC 3550 A.8, on Twilio's millisecond timestamps."""
        if self._last_arrival is not None:
            arrived, stamped = self._last_arrival
            difference = abs((now - arrived) * 1000 - (timestamp - stamped))
            if difference < 50 * FRAME_MS:
                self._stats.jitter_ms += (difference - self._stats.jitter_ms) / 16
        self._last_arrival = (now, timestamp)

    def _count(self, name: str) -> None:
        self._stats.extra[name] = self._stats.extra.get(name, 0.0) + 1
