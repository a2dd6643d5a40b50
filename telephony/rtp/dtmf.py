"""DTMF digits as telephone events (RFC 4733)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from ringtrue.streaming.gate import DigitEvent
from ringtrue.telephony.rtp.packet import RtpError, timestamp_delta

DIGITS: Final = "0123456789*#ABCD"
"""Event codes 0–15 (RFC 4733 §3.2)."""

MAX_DURATION: Final = 0xFFFF
"""Longest segment of an event in timestamp units; longer ones go on in a new segment (§2.5.1.3)."""

END_PACKETS: Final = 3
"""The last packet is sent this often (§2.5.1.4)."""

VOLUME: Final = 10
"""Level sent with a digit, in −dBm0."""

LOST_END: Final = 0.3
"""Seconds without a packet after which an event's end counts as lost (senders repeat every
20–50 ms, some gateways every 100)."""

STRAGGLER: Final = 5.0
"""Seconds after which an older timestamp is no late packet but a sender that started over."""

_PAYLOAD: Final = struct.Struct("!BBH")
_END: Final = 0x80


@dataclass(frozen=True, slots=True)
class TelephoneEvent:
    """The payload of one packet (RFC 4733 §2.3)."""

    event: int
    """0–255; 0–15 are DTMF digits."""

    end: bool
    volume: int
    """−dBm0, 0–63."""

    duration: int
    """Timestamp units since the packet's timestamp."""

    @classmethod
    def parse(cls, payload: bytes) -> TelephoneEvent:
        """Read a payload; of several events in one, the first.

        Raises :class:`RtpError` where it is too short.
        """
        if len(payload) < 4:
            raise RtpError(f"telephone event of {len(payload)} bytes; it has 4")
        event, flags, duration = _PAYLOAD.unpack_from(payload)
        return cls(event, flags >= _END, flags & 0x3F, duration)

    def serialize(self) -> bytes:
        """The payload's four bytes."""
        flags = (_END if self.end else 0) | self.volume
        return _PAYLOAD.pack(self.event, flags, self.duration)


class DtmfReceiver:
    """Digits out of event packets, each once, whichever of its packets were lost.

    An event is known by its timestamp. It is over at its end packet, at the first packet of a
    newer event, or :data:`LOST_END` after its last packet.
    """

    __slots__ = (
        "_event",
        "_last_at",
        "_open",
        "_timestamp",
    )

    def __init__(self) -> None:
        self._event: int | None = None
        self._timestamp = 0
        self._open = False
        self._last_at = 0.0

    @property
    def active(self) -> bool:
        """An event has begun and is not over."""
        return self._open

    def packet(self, event: TelephoneEvent, timestamp: int, now: float) -> str:
        """Take one packet that arrived at ``now``; returns the digits it completes (0–2)."""
        if event.event >= len(DIGITS):
            return ""
        digits = ""
        if self._event is not None:
            advance = timestamp_delta(timestamp, self._timestamp)
            if advance < 0 and now - self._last_at < STRAGGLER:
                return ""
            if advance and not self._goes_on(event, advance):
                digits = self._finish()
                self._begin(event, timestamp)
            elif advance:
                self._timestamp = timestamp
            elif not self._open:
                return ""  # a repeated end packet
        else:
            self._begin(event, timestamp)
        self._last_at = now
        return digits + self._finish() if event.end else digits

    def poll(self, now: float) -> str:
        """The digit whose end packets were all lost, once enough time has passed."""
        return self._finish() if self._open and now - self._last_at >= LOST_END else ""

    def _begin(self, event: TelephoneEvent, timestamp: int) -> None:
        self._event, self._timestamp = event.event, timestamp
        self._open = True

    def _goes_on(self, event: TelephoneEvent, advance: int) -> bool:
        """Whether a newer timestamp is the next segment of the same long event."""
        return self._open and event.event == self._event and advance == MAX_DURATION

    def _finish(self) -> str:
        if not self._open or self._event is None:
            return ""
        self._open = False
        return DIGITS[self._event]


@dataclass(frozen=True, slots=True)
class EventPacket:
    """One event packet to send: the RTP fields that differ from audio's."""

    payload: bytes
    timestamp: int
    """Unwrapped; the sender masks it."""

    marker: bool


class DtmfSender:
    """Event packets for outgoing digits, one step of 20 ms at a time."""

    __slots__ = (
        "_duration",
        "_event",
        "_start",
    )

    def __init__(self) -> None:
        self._event: int | None = None
        self._start = 0
        self._duration = 0

    @property
    def active(self) -> bool:
        """A digit has begun and not ended."""
        return self._event is not None

    def abandon(self) -> None:
        """Forget a digit that can't be ended because nothing may be sent."""
        self._event = None

    def step(self, digit: DigitEvent | None, timestamp: int, units: int) -> list[EventPacket]:
        """Packets for the 20 ms at RTP ``timestamp``, ``units`` long; none while no digit is on.

        ``digit`` None ends a digit that was cut short; a step whose beginning was never sent is
        passed over, because the far end would take it for a second digit.
        """
        packets: list[EventPacket] = []
        if self._event is not None and (digit is None or digit.first):
            packets += self._end()
        if digit is None or (self._event is None and not digit.first):
            return packets
        marker = digit.first
        if marker:
            self._event = DIGITS.index(digit.digit)
            self._start, self._duration = timestamp, 0
        self._duration += units
        if self._duration > MAX_DURATION:  # the next segment of a long event
            self._start += MAX_DURATION
            self._duration -= MAX_DURATION
        if digit.last:
            return packets + self._end(marker=marker)
        packets.append(self._packet(end=False, marker=marker))
        return packets

    def _end(self, *, marker: bool = False) -> list[EventPacket]:
        first = self._packet(end=True, marker=marker)
        again = self._packet(end=True, marker=False)
        self._event = None
        return [first, *([again] * (END_PACKETS - 1))]

    def _packet(self, *, end: bool, marker: bool) -> EventPacket:
        assert self._event is not None
        event = TelephoneEvent(self._event, end, VOLUME, self._duration)
        return EventPacket(event.serialize(), self._start, marker)
