"""A browser's audio as a media leg: Opus, 16 kHz PCM on this side.

Its connection may be replaced while the call goes on. Between a path's death and the next one's
life the leg is held: what the agent has to say waits, and goes on at its very next sample.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Final

from ringtrue.streaming.gate import SealedFrame
from ringtrue.streaming.ports import Inbound, LegStats
from ringtrue.telephony.codecs.opus import RATE
from ringtrue.telephony.rtp.quality import note_quality
from ringtrue.telephony.webrtc.connection import Connection

MAX_DIGITS: Final = 64
"""Digits that may wait for the next tick; later ones are dropped and counted."""

HOLD_AFTER: Final = 1.0
"""Seconds unheard after which the agent waits; a browser sends a packet every 20 ms."""


class WebRtcLeg:
    """One browser's audio; implements :class:`~ringtrue.streaming.ports.MediaLeg` and
    :class:`~ringtrue.streaming.ports.Holdable`."""

    def __init__(self, connection: Connection) -> None:
        """Send and receive over ``connection``."""
        self.__connection = connection  # private: only frames from send() may reach its track
        self._heard_before: float | None = None
        self._digits: deque[str] = deque()
        self._digits_dropped = 0
        self._past: Counter[str] = Counter()
        self._stats = LegStats()
        self._held = False
        self.interruptions = 0
        """How often the caller was lost, for a moment or until reconnected."""

    @property
    def rate(self) -> int:
        """16000 Hz."""
        return RATE

    @property
    def held(self) -> bool:
        """Nothing was heard for :data:`HOLD_AFTER`: nobody there to speak to at present."""
        return self._held

    @property
    def stats(self) -> LegStats:
        """Live counters over all connections; ``extra`` has ``standing_ms`` (what the jitter
        buffer holds above its aim), ``send_waiting_ms``, ``frames_dropped``,
        ``datagrams_dropped``, ``digits_dropped`` and ``interruptions``.
        """
        stats, receiver = self._stats, self.__connection.inbound.receiver
        totals = self._past + _counts(self.__connection)
        stats.packets_received = totals["received"]
        stats.packets_sent = totals["sent"]
        stats.packets_lost = totals["lost"]
        stats.packets_late = totals["late"]
        stats.packets_duplicate = totals["duplicates"]
        stats.packets_refused = totals["refused"]
        stats.frames_concealed = totals["concealed"]
        if receiver.reception is not None:
            stats.jitter_ms = receiver.reception.jitter * 1000
        stats.jitter_buffer_ms = receiver.buffer.target * 1000
        note_quality(stats, receiver)
        stats.extra["standing_ms"] = max(0.0, receiver.buffer.excess * 1000)
        stats.extra["send_waiting_ms"] = self.__connection.track.waiting * 20.0
        stats.extra["frames_dropped"] = totals["frames_dropped"]
        stats.extra["datagrams_dropped"] = totals["datagrams_dropped"]
        stats.extra["digits_dropped"] = self._digits_dropped
        stats.extra["interruptions"] = self.interruptions
        return stats

    def attach(self, connection: Connection) -> None:
        """Go on over ``connection``; the one before it is left, its counts kept."""
        self._past = self._past + _counts(self.__connection)
        self._heard_before = self.last_heard()
        self.__connection = connection
        connection.track.discard()

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
        heard = self.last_heard()
        held = heard is not None and now - heard > HOLD_AFTER
        self.interruptions += held and not self._held
        self._held = held
        step = self.__connection.inbound.pull(now)
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
        self.__connection.track.put(frame)

    def last_heard(self) -> float | None:
        """Loop time of the last datagram from the browser's verified address."""
        heard = self.__connection.guard.last_heard
        return self._heard_before if heard is None else heard

    def heard_position(self) -> int | None:
        """None: a browser does not tell what it has played."""
        return None

    def clear(self) -> None:
        """Drop frames the sender has not taken yet: none, unless it is stalled."""
        self.__connection.track.discard()

    def close(self) -> None:
        """End the outgoing track. Idempotent."""
        self.__connection.track.stop()
        self._digits.clear()


def _counts(connection: Connection) -> Counter[str]:
    """What was counted on one connection."""
    receiver, datagrams = connection.inbound.receiver, connection.guard.stats.dropped
    return Counter(
        received=receiver.received,
        sent=connection.track.sent,
        lost=receiver.lost,
        late=receiver.buffer.late,
        duplicates=receiver.buffer.duplicates,
        refused=receiver.refused + datagrams,
        concealed=receiver.frames_concealed,
        frames_dropped=connection.track.dropped,
        datagrams_dropped=datagrams,
    )
