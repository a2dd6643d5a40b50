"""A browser's audio as a media leg: Opus, 16 kHz PCM on this side."""

from __future__ import annotations

from collections import deque
from typing import Final

from ringtrue.streaming.gate import SealedFrame
from ringtrue.streaming.ports import Inbound, LegStats
from ringtrue.telephony.codecs.opus import RATE
from ringtrue.telephony.rtp.quality import note_quality
from ringtrue.telephony.webrtc.guard import DatagramGuard
from ringtrue.telephony.webrtc.inbound import OpusInbound
from ringtrue.telephony.webrtc.track import SealedTrack

MAX_DIGITS: Final = 64
"""Digits that may wait for the next tick; later ones are dropped and counted."""


class WebRtcLeg:
    """One browser's audio; implements :class:`~ringtrue.streaming.ports.MediaLeg`."""

    def __init__(self, track: SealedTrack, inbound: OpusInbound, guard: DatagramGuard) -> None:
        """Join what the connection sends, what it receives and what guards it."""
        self.__track = track  # private: only frames from send() may reach it
        self._inbound = inbound
        self._guard = guard
        self._digits: deque[str] = deque()
        self._digits_dropped = 0
        self._stats = LegStats()

    @property
    def rate(self) -> int:
        """16000 Hz."""
        return RATE

    @property
    def stats(self) -> LegStats:
        """Live counters; ``extra`` has ``standing_ms`` (what the jitter buffer holds above its
        aim), ``send_waiting_ms``, ``frames_dropped`` and ``datagrams_dropped``.
        """
        stats, receiver = self._stats, self._inbound.receiver
        stats.packets_received = receiver.received
        stats.packets_sent = self.__track.sent
        stats.packets_lost = receiver.lost
        stats.packets_late = receiver.buffer.late
        stats.packets_duplicate = receiver.buffer.duplicates
        stats.packets_refused = receiver.refused + self._guard.stats.dropped
        stats.frames_concealed = receiver.frames_concealed
        if receiver.reception is not None:
            stats.jitter_ms = receiver.reception.jitter * 1000
        stats.jitter_buffer_ms = receiver.buffer.target * 1000
        note_quality(stats, receiver)
        stats.extra["standing_ms"] = max(0.0, receiver.buffer.excess * 1000)
        stats.extra["send_waiting_ms"] = self.__track.waiting * 20.0
        stats.extra["frames_dropped"] = self.__track.dropped
        stats.extra["datagrams_dropped"] = self._guard.stats.dropped
        stats.extra["digits_dropped"] = self._digits_dropped
        return stats

    def round_trip(self, seconds: float | None) -> None:
        """Note what RTCP measured; called by the call."""
        self._stats.round_trip_ms = None if seconds is None else seconds * 1000

    def press(self, digit: str) -> None:
        """Take one digit the caller pressed on the page."""
        if len(self._digits) >= MAX_DIGITS:
            self._digits_dropped += 1
            return
        self._digits.append(digit)

    def pull(self, now: float) -> Inbound:
        """The next 20 ms from the browser, with the digits pressed since the last pull."""
        step = self._inbound.pull(now)
        if not self._digits:
            return step
        digits = tuple(self._digits)
        self._digits.clear()
        return Inbound(step.pcm, step.concealed, digits)

    def send(self, frame: SealedFrame, now: float) -> None:
        """Queue one sealed frame for the outgoing track.

        Raises ``TypeError`` for anything that is no sealed frame,
        :class:`~ringtrue.streaming.errors.GateError` for one of another call, at another rate,
        or sent before.
        """
        self.__track.put(frame)

    def last_heard(self) -> float | None:
        """Loop time of the last datagram from the browser's verified address."""
        return self._guard.last_heard

    def heard_position(self) -> int | None:
        """None: a browser does not tell what it has played."""
        return None

    def clear(self) -> None:
        """Drop frames the sender has not taken yet: none, unless it is stalled."""
        self.__track.discard()

    def close(self) -> None:
        """End the outgoing track. Idempotent."""
        self.__track.stop()
        self._digits.clear()
