"""A carrier's media stream as a media leg.

The carrier plays what it was sent in order and in real time, and most tell by marks what they
have played; so this leg alone knows what the caller heard, not just what left the process.

The leg does no I/O. It queues what the websocket adapter sends, so that a slow websocket never
holds the clock. Overflow policy: a backlog beyond :data:`MAX_BACKLOG` frames drops the oldest
audio and counts it; marks and clears are never dropped, and no mark is sent while
:data:`MAX_OUTSTANDING` wait for their echo.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from enum import Enum, auto
from typing import Final

from ringtrue.streaming.errors import GateError
from ringtrue.streaming.gate import FrameKind, SealedFrame, SealGuard
from ringtrue.streaming.ports import FRAME_MS, Inbound, LegStats, frame_samples
from ringtrue.telephony.media_streams.wire import Heard, Message, StreamWire
from ringtrue.telephony.tick_buffer import TickBuffer

MAX_BACKLOG: Final = 50
"""Frames that may wait for the websocket: one second."""

MAX_OUTBOX: Final = 1024
"""All that may wait; a far end that makes us reply without end is not answered beyond it."""

MAX_OUTSTANDING: Final = 256
"""Marks that may await their echo."""

MAX_DIGITS: Final = 64
"""Digits that may wait for the next tick; later ones are dropped and counted."""

MARK_AUDIBLE: Final = 3
"""Frames between marks while something is audible: what was heard is known to 60 ms."""

MARK_SILENT: Final = 25
"""Frames between marks in silence."""


class _Out(Enum):
    AUDIO = auto()
    MARK = auto()
    CLEAR = auto()
    REPLY = auto()
    GOODBYE = auto()


class StreamLeg:
    """One stream's audio; implements :class:`~ringtrue.streaming.ports.MediaLeg`."""

    def __init__(self, wire: StreamWire) -> None:
        """Speak ``wire``'s protocol."""
        self._wire = wire
        self._rate = wire.rate
        self._guard = SealGuard()
        self._buffer = TickBuffer(wire.rate)
        self._digits: deque[str] = deque()
        self._stats = LegStats()
        self._outbox: deque[tuple[_Out, Message]] = deque()
        self._ready: deque[Message] = deque()
        self._backlog = 0
        self._wake_sender = asyncio.Event()
        self._closed = False
        self._last_heard: float | None = None
        self._last_chunk: int | None = None
        self._last_arrival: tuple[float, int] | None = None
        self._pulled = False
        self._sent = 0
        self._heard = 0
        self._heard_at: float | None = None
        self._dropped = 0  # position of the last clear: nothing before it is still to be played
        self._since_mark = 0
        self._audible = False
        self._marks: dict[str, int] = {}

    @property
    def rate(self) -> int:
        """The wire's, in Hz."""
        return self._rate

    @property
    def stats(self) -> LegStats:
        """Live counters; ``extra`` has ``unplayed_ms`` (sent, not confirmed as played),
        ``standing_ms``, ``drained_ms``, ``overflowed_ms``, ``backlog_dropped``
        and ``digits_dropped``.
        """
        extra = self._stats.extra
        if self._wire.confirms:
            extra["unplayed_ms"] = (self._sent - self._heard) * 1000 / self._rate
        extra["standing_ms"] = self._buffer.standing_ms
        extra["drained_ms"] = self._buffer.drained_ms
        extra["overflowed_ms"] = self._buffer.overflowed_ms
        self._stats.jitter_buffer_ms = self._buffer.depth_ms
        return self._stats

    # What the websocket adapter calls.

    def alive(self, now: float) -> None:
        """A message came from the far end."""
        self._last_heard = now

    def hear(self, audio: Heard, now: float) -> None:
        """Take one message's audio."""
        stats = self._stats
        stats.packets_received += 1
        if audio.chunk is not None and self._last_chunk is not None:
            if audio.chunk <= self._last_chunk:
                stats.packets_duplicate += 1
                return
            stats.packets_lost += audio.chunk - self._last_chunk - 1
        self._last_chunk = audio.chunk
        if audio.timestamp is not None:
            self._measure(audio.timestamp, now)
        self._buffer.put(audio.pcm)

    def press(self, digit: str) -> None:
        """Take one digit the caller pressed."""
        if len(self._digits) >= MAX_DIGITS:
            self._count("digits_dropped")
            return
        self._digits.append(digit)

    def played(self, name: str) -> None:
        """Take the echo of a mark. One we never sent, or gave up, is ignored."""
        position = self._marks.pop(name, None)
        if position is not None and position > self._heard:
            self._heard = position
            self._heard_at = self._last_heard

    def reply(self, message: Message) -> None:
        """Queue what the protocol wants said."""
        if not self._closed:
            self._put(_Out.REPLY, message)

    async def outgoing(self) -> Message | None:
        """The next message to send, in order; None once the leg is closed and nothing is left.

        Only one caller at a time.
        """
        while True:
            while self._ready or self._outbox:
                if not self._ready:
                    self._ready.extend(await self._next())
                    continue
                return self._ready.popleft()
            if self._closed:
                return None
            self._wake_sender.clear()
            await self._wake_sender.wait()

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
        if frame.rate != self._rate:
            raise GateError(f"frame is at {frame.rate} Hz; this leg takes {self._rate} Hz")
        if self._closed:
            return
        samples = frame_samples(self._rate)
        self._sent += samples
        self._stats.packets_sent += 1
        audible = frame.kind is not FrameKind.SILENCE
        if self._audible and not audible and self._since_mark:
            self._mark(self._sent - samples)
        self._audible = audible
        self._put(_Out.AUDIO, frame.pcm)
        self._since_mark += 1
        if self._since_mark >= (MARK_AUDIBLE if audible else MARK_SILENT):
            self._mark(self._sent)

    def last_heard(self) -> float | None:
        """Loop time of the carrier's last message."""
        return self._last_heard

    def heard_position(self) -> int | None:
        """Samples since the leg opened that the carrier confirmed as played, silence included."""
        return self._heard if self._wire.confirms else None

    def played_by(self, now: float) -> int | None:
        """Samples played, or dropped, by ``now``: since the last mark came back, playing went on
        in real time, though not past the next one."""
        if not self._wire.confirms:
            return None
        since = 0.0 if self._heard_at is None else max(0.0, now - self._heard_at)
        most = next(iter(self._marks.values()), self._sent)
        return max(self._dropped, min(most, self._heard + round(since * self._rate)))

    def clear(self) -> None:
        """Drop what waits here and at the carrier; it counts as never heard."""
        if self._closed:
            return
        self._drop_outbox()
        self._marks.clear()  # some carriers return them now: of audio that nobody heard
        self._since_mark = 0
        self._dropped = self._sent
        self._put(_Out.CLEAR, "")

    def close(self, *, goodbye: bool = False) -> None:
        """Drop what waits and let :meth:`outgoing` end, the call too where asked. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._drop_outbox()
        if goodbye:
            self._put(_Out.GOODBYE, "")
        self._buffer.clear()
        self._digits.clear()
        self._wake_sender.set()

    async def _next(self) -> Sequence[Message]:
        """The messages of what waits first."""
        kind, content = self._outbox.popleft()
        match kind:
            case _Out.AUDIO:
                self._backlog -= 1
                assert isinstance(content, bytes)
                return await self._wire.audio(content)
            case _Out.MARK:
                return await self._wire.mark(str(content))
            case _Out.CLEAR:
                return await self._wire.clear()
            case _Out.GOODBYE:
                return await self._wire.goodbye()
        return (content,)

    def _drop_outbox(self) -> None:
        """Drop the audio and its marks; what the protocol is owed stays."""
        replies = [item for item in self._outbox if item[0] is _Out.REPLY]
        self._outbox.clear()
        self._outbox.extend(replies)
        self._backlog = 0

    def _put(self, kind: _Out, content: Message) -> None:
        if kind is _Out.AUDIO:
            if self._backlog >= MAX_BACKLOG:
                oldest = next(i for i, item in enumerate(self._outbox) if item[0] is _Out.AUDIO)
                del self._outbox[oldest]
                self._backlog -= 1
                self._count("backlog_dropped")
            self._backlog += 1
        elif kind is _Out.REPLY and len(self._outbox) >= MAX_OUTBOX:
            self._count("replies_dropped")
            return
        self._outbox.append((kind, content))
        self._wake_sender.set()

    def _mark(self, position: int) -> None:
        self._since_mark = 0
        if not self._wire.confirms:
            return
        name = str(position)
        if len(self._marks) < MAX_OUTSTANDING:
            self._marks[name] = position
            self._put(_Out.MARK, name)

    def _measure(self, timestamp: int, now: float) -> None:
        """Interarrival jitter as in RFC 3550 A.8, on the carrier's millisecond timestamps."""
        if self._last_arrival is not None:
            arrived, stamped = self._last_arrival
            difference = abs((now - arrived) * 1000 - (timestamp - stamped))
            if difference < 50 * FRAME_MS:
                self._stats.jitter_ms += (difference - self._stats.jitter_ms) / 16
        self._last_arrival = (now, timestamp)

    def _count(self, name: str) -> None:
        self._stats.extra[name] = self._stats.extra.get(name, 0.0) + 1
