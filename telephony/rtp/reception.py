"""What a receiver knows of one source: loss, jitter, reports, round trip (RFC 3550 §6.4, A)."""

from __future__ import annotations

from typing import Final

from ringtrue.telephony.rtp.packet import sequence_delta, timestamp_delta
from ringtrue.telephony.rtp.rtcp import ReportBlock

MAX_DROPOUT: Final = 3000
"""A sequence number this far off is a restart, not loss or reordering (RFC 3550 A.1)."""

JUMP: Final = 5.0
"""Seconds of timestamp jump that say nothing about the network."""


class Reception:
    """Statistics of one SSRC. ``now`` is seconds on a monotonic clock."""

    __slots__ = (
        "_clock_rate",
        "_first_sequence",
        "_highest",
        "_jitter",
        "_last_arrival",
        "_last_sr",
        "_last_sr_at",
        "_last_timestamp",
        "_prior_expected",
        "_prior_received",
        "_received",
        "ssrc",
    )

    def __init__(self, ssrc: int, clock_rate: int) -> None:
        """``clock_rate`` is the RTP clock of the source's audio in Hz."""
        self.ssrc = ssrc
        self._clock_rate = clock_rate
        self._first_sequence: int | None = None
        self._highest = 0
        self._received = 0
        self._jitter = 0.0
        self._last_arrival = 0.0
        self._last_timestamp: int | None = None
        self._prior_expected = 0
        self._prior_received = 0
        self._last_sr = 0
        self._last_sr_at = 0.0

    def behind(self, sequence_number: int) -> bool:
        """Whether a packet of ``sequence_number`` is older than the newest counted."""
        return (
            self._first_sequence is not None
            and -MAX_DROPOUT < sequence_delta(sequence_number, self._highest & 0xFFFF) < 0
        )

    def change_clock(self, clock_rate: int) -> None:
        """Timestamps count in another clock from now on (RFC 7160)."""
        self._jitter *= clock_rate / self._clock_rate
        self._clock_rate = clock_rate
        self._last_timestamp = None

    def packet(self, sequence_number: int, timestamp: int | None, now: float) -> int:
        """Count one packet that arrived at ``now``; returns its extended sequence number.

        ``timestamp`` None leaves the jitter alone: the packets of a telephone event share one.
        """
        if self._first_sequence is None:
            self._first_sequence = self._highest = extended = sequence_number
        else:
            delta = sequence_delta(sequence_number, self._highest)
            if -MAX_DROPOUT < delta < MAX_DROPOUT:
                extended = self._highest + delta
            else:  # the sender started over: no loss is to be read from the jump
                extended = self._highest + delta % 0x10000
                self._first_sequence = extended - self.expected
            if extended > self._highest:
                self._highest = extended
        self._received += 1
        if timestamp is not None:
            self._measure(timestamp, now)
        return extended

    def _measure(self, timestamp: int, now: float) -> None:
        """RFC 3550 A.8, with the difference of two transits taken directly."""
        if self._last_timestamp is not None:
            advance = timestamp_delta(timestamp, self._last_timestamp)
            difference = abs((now - self._last_arrival) * self._clock_rate - advance)
            if difference < JUMP * self._clock_rate:
                self._jitter += (difference - self._jitter) / 16
        self._last_arrival = now
        self._last_timestamp = timestamp

    def sender_report(self, ntp: int, now: float) -> None:
        """Note an SR from the source, for LSR and DLSR."""
        self._last_sr = ntp >> 16 & 0xFFFF_FFFF
        self._last_sr_at = now

    @property
    def received(self) -> int:
        """Packets counted, duplicates included."""
        return self._received

    @property
    def expected(self) -> int:
        """Packets the sequence numbers account for."""
        return 0 if self._first_sequence is None else self._highest - self._first_sequence + 1

    @property
    def lost(self) -> int:
        """Expected less received (A.3): late packets are not lost, duplicates may hide losses."""
        return self.expected - self._received

    @property
    def jitter(self) -> float:
        """Interarrival jitter in seconds."""
        return self._jitter / self._clock_rate

    def report(self, now: float) -> ReportBlock:
        """A report block on everything since the last one (A.3)."""
        expected, received = self.expected, self._received
        expected_interval = expected - self._prior_expected
        lost_interval = expected_interval - (received - self._prior_received)
        self._prior_expected, self._prior_received = expected, received
        fraction = 0
        if expected_interval > 0 and lost_interval > 0:
            fraction = min(255, (lost_interval << 8) // expected_interval)
        delay = 0
        if self._last_sr:
            delay = round((now - self._last_sr_at) * 65536)
        return ReportBlock(
            ssrc=self.ssrc,
            fraction_lost=fraction,
            cumulative_lost=max(-0x800000, min(0x7FFFFF, expected - received)),
            highest_sequence=self._highest,
            jitter=int(self._jitter),
            last_sr=self._last_sr,
            delay_since_last_sr=delay,
        )


def round_trip(block: ReportBlock, ntp: int) -> float | None:
    """Seconds between our SR and the report that answers it, both read at NTP time ``ntp``.

    None where the block answers no SR, or the arithmetic gives no plausible time.
    """
    if not block.last_sr:
        return None
    units = ((ntp >> 16) - block.last_sr - block.delay_since_last_sr) & 0xFFFF_FFFF
    seconds = units / 65536
    return seconds if seconds < 60 else None
