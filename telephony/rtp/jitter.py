"""Adaptive jitter buffer: packets in as they come, media out as the clock asks for it.

All times are kept as *transit*: arrival (or playout) time less the RTP timestamp in seconds,
known up to a constant. The smallest transit of the last seconds is the network's own delay; a
high quantile of them, plus a margin, is where the deadline should be: the moment a packet is
asked for. Where it stands is seen at every :meth:`JitterBuffer.get`; the difference is
:attr:`JitterBuffer.excess`, which the stream removes by shortening or lengthening speech. Clock
drift needs nothing of its own: it moves the transits and playout follows. Because packets are
asked for at ticks, the deadline moves by a packet at a time, and what the caller holds beyond
the tick (:attr:`JitterBuffer.spare`) is delay that protects nothing.

An empty buffer does not move the cursor: a packet that comes late is still played, later, and
the delay that adds is drained afterwards. A caller's word is worth more than 60 ms.
"""

from __future__ import annotations

from array import array
from bisect import insort
from collections import deque
from enum import Enum, auto
from typing import Final

import numpy as np

from ringtrue.telephony.codecs import Codec
from ringtrue.telephony.rtp.packet import timestamp_delta

WINDOW: Final = 500
"""Packets the delay statistics look back on: 10 s at 20 ms."""

QUANTILE: Final = 0.99
"""Share of packets that should be there when the clock asks for them."""

MARGIN: Final = 0.010
"""Seconds kept above the quantile."""

REVIEW: Final = 25
"""Packets between two looks at the statistics; a late packet causes one at once."""

YOUNG: Final = 50
"""Packets before the statistics may go below the initial delay."""

JUMP: Final = 1.0
"""Seconds by which a packet may miss its place before it counts as another time line."""

IDLE: Final = 0.2
"""Seconds of nothing after which the stream counts as paused."""

CAPACITY: Final = 64
"""Packets held at most (1.28 s at 20 ms); the oldest gives way and counts as late."""

SLACK: Final = 0.060
"""Seconds above the maximum from which media is dropped rather than shortened: the deadline moves
by packets and by pitch periods, and may aim at the maximum."""

RISEN: Final = 0.1
"""Seconds in which all that comes is beyond what playout may wait for, after which that is how
long the network takes now. What was held up once comes all at once."""

MAX_NOTED: Final = 1024
"""Packets without audio remembered: a key held for 20 s."""


class Put(Enum):
    """What became of a packet."""

    HELD = auto()
    LATE = auto()
    DUPLICATE = auto()
    SUSPECT = auto()
    """Far off the time line; played if the next packet agrees with it."""


class Kind(Enum):
    """What the next piece of media is."""

    PACKET = auto()
    LOST = auto()
    """Missing while later packets are there: conceal :attr:`Step.units`."""

    EMPTY = auto()
    """Nothing is there: conceal :attr:`Step.units`; the packet may still come."""

    SILENCE = auto()
    """The sender paused (or has not begun): :attr:`Step.units` of silence."""


class Held:  # written out: what a dataclass makes is not compiled
    """One packet in the buffer, in the order of their timestamps."""

    __slots__ = ("codec", "payload", "sequence", "timestamp", "units")

    def __init__(
        self, timestamp: int, sequence: int, units: int, payload: bytes, codec: Codec
    ) -> None:
        """``timestamp`` unwrapped, ``sequence`` extended."""
        self.timestamp = timestamp
        self.sequence = sequence
        self.units = units
        self.payload = payload
        self.codec = codec


class Step:
    """One piece of media, in RTP timestamp units."""

    __slots__ = ("kind", "missing", "packet", "units")

    def __init__(
        self, kind: Kind, units: int, packet: Held | None = None, missing: int = 0
    ) -> None:
        """``units`` of ``kind``."""
        self.kind = kind
        self.units = units
        self.packet = packet
        """What to play or, where something is lost right before it, what may tell of that."""

        self.missing = missing
        """Audio packets between the one played last and this one that were not there in time."""


# Members of an enumeration are looked up by name each time; these are not.
PACKET: Final = Kind.PACKET
LOST: Final = Kind.LOST
EMPTY: Final = Kind.EMPTY
SILENCE: Final = Kind.SILENCE
HELD: Final = Put.HELD


class JitterBuffer:
    """One source's packets. ``now`` is seconds on the media clock."""

    __slots__ = (
        "_base",
        "_began",
        "_beyond",
        "_beyond_since",
        "_buffered",
        "_deadline",
        "_held",
        "_initial",
        "_last_played",
        "_last_sequence",
        "_last_transit",
        "_learnt",
        "_limit",
        "_maximum",
        "_minimum",
        "_newest",
        "_next",
        "_noted",
        "_played",
        "_playing",
        "_rate",
        "_recent",
        "_since_review",
        "_spare",
        "_starved",
        "_step",
        "_suspect",
        "_target",
        "_tick",
        "_transits",
        "duplicates",
        "late",
        "resets",
    )

    def __init__(
        self,
        clock_rate: int,
        *,
        initial: float = 0.040,
        minimum: float = 0.010,
        maximum: float = 0.200,
    ) -> None:
        """Delays in seconds above the network's own; playout aims at ``maximum`` at most."""
        if not 0 < minimum <= initial <= maximum:
            found = f"got {minimum}, {initial}, {maximum}"
            raise ValueError(f"need 0 < minimum <= initial <= maximum, {found}")
        self._initial, self._minimum, self._maximum = initial, minimum, maximum
        self._limit = maximum + SLACK
        self.late = 0
        self.duplicates = 0
        self.resets = 0
        self._noted: dict[int, None] = {}
        self._played: deque[int] = deque(maxlen=2 * CAPACITY)
        self.reset(clock_rate)

    def reset(self, clock_rate: int | None = None) -> None:
        """Forget everything but the counters: another source, time line or RTP clock."""
        if clock_rate is not None:
            self._rate = clock_rate
            self._tick = clock_rate // 50
        self._held: list[Held] = []
        self._transits = array("d")
        """The last :data:`WINDOW`, in no order once there were more."""
        self._beyond = array("d")
        """The last ones, as long as all of them came too late to be waited for."""
        self._beyond_since = 0.0
        self._learnt = 0
        self._last_transit = 0.0
        self._since_review = 0
        self._suspect: tuple[int, int, bytes, Codec, float] | None = None
        self._newest: int | None = None
        self._target = self._initial
        self._base = 0.0
        self._deadline = 0.0
        self._buffered = self._spare = 0
        self._recent: deque[int] = deque(maxlen=REVIEW)
        self._playing = self._began = False
        self._next = 0
        self._starved = 0
        self._last_sequence = 0
        self._last_played: int | None = None
        self._step = self._tick
        self._noted.clear()
        self._played.clear()

    def __len__(self) -> int:
        """Packets held."""
        return len(self._held)

    @property
    def target(self) -> float:
        """Delay playout aims at, in seconds above the network's own."""
        return self._target

    @property
    def depth(self) -> float:
        """Delay playout stands at, in seconds above the network's own."""
        if self._newest is None:
            return 0.0
        return self._deadline - self._base + self._buffered / self._rate

    @property
    def excess(self) -> float:
        """How far the deadline stands above its aim, in seconds; negative: it is too early."""
        return self._deadline - self._base - self._target if self._playing else 0.0

    @property
    def step(self) -> float:
        """Seconds by which the deadline moves at least: a packet, and no more than a tick."""
        return self._step / self._rate

    @property
    def spare(self) -> int:
        """Timestamp units the caller held at every one of the last packets it took."""
        return self._spare

    @property
    def silent_unasked(self) -> bool:
        """Nothing is played though the stream had begun: it stopped without a word."""
        return self._began and not self._playing

    @property
    def ready(self) -> bool:
        """The packet the cursor stands at is here."""
        return self._playing and bool(self._held) and self._held[0].timestamp <= self._next

    def moved(self) -> None:
        """The caller's holdings were shortened or lengthened: :attr:`spare` begins anew."""
        self._recent.clear()
        self._spare = 0

    def note(self, sequence: int) -> None:
        """A packet of ``sequence`` came that carries no audio: its number is no loss."""
        self._noted[sequence] = None
        if len(self._noted) > MAX_NOTED:
            del self._noted[next(iter(self._noted))]

    def put(
        self,
        sequence: int,
        timestamp: int,
        payload: bytes,
        codec: Codec,
        now: float,
        units: int | None = None,
    ) -> Put:
        """Take a packet with extended ``sequence`` and 32-bit ``timestamp``.

        ``units`` is what :meth:`Codec.duration` says of ``payload``, where that is known.
        """
        if self._newest is None:
            self._newest = timestamp
            self._deadline = now + self._initial - timestamp / self._rate
        unwrapped = self._newest + timestamp_delta(timestamp, self._newest & 0xFFFF_FFFF)
        transit = now - unwrapped / self._rate
        if self._learnt and abs(transit - self._last_transit) > JUMP:
            return self._off_line(sequence, timestamp, payload, codec, now)
        self._suspect = None
        if self._playing and unwrapped < self._next:
            if sequence in self._played:
                self.duplicates += 1
                return Put.DUPLICATE
            self.late += 1
            self._learn(transit, now)
            return Put.LATE
        held = self._held
        if units is None:
            units = codec.duration(payload)
        packet = Held(unwrapped, sequence, units, payload, codec)
        if not held or held[-1].timestamp < unwrapped:
            held.append(packet)
        elif any(other.timestamp == unwrapped for other in held):
            self.duplicates += 1
            return Put.DUPLICATE
        else:
            insort(held, packet, key=lambda other: other.timestamp)
        self._newest = max(self._newest, unwrapped)
        self._learn(transit, now)
        if len(held) > CAPACITY:
            self.late += 1
            del held[0]
            if self._playing:
                self._next, self._starved = held[0].timestamp, 0
        return HELD

    def _off_line(
        self, sequence: int, timestamp: int, payload: bytes, codec: Codec, now: float
    ) -> Put:
        """A jump of the time line is believed when two packets in a row agree on it."""
        before = self._suspect
        self._suspect = (sequence, timestamp, payload, codec, now)
        if before is None or before[0] == sequence:
            return Put.SUSPECT
        advance = timestamp_delta(timestamp, before[1]) / self._rate
        if abs(now - before[4] - advance) > JUMP:
            return Put.SUSPECT
        self.reset()
        self.resets += 1
        self.put(*before)
        return self.put(sequence, timestamp, payload, codec, now)

    def _learn(self, transit: float, now: float) -> None:
        learnt = self._learnt
        if not learnt or transit < self._base:
            self._base = transit
        if learnt < WINDOW:
            self._transits.append(transit)
        else:
            self._transits[learnt % WINDOW] = transit
        self._learnt, self._last_transit = learnt + 1, transit
        self._since_review += 1
        if transit > self._base + self._limit:
            self._follow(transit, now)
        elif self._beyond:
            self._beyond = array("d")
        if self._since_review >= REVIEW or transit > self._deadline:
            self._review()

    def _follow(self, transit: float, now: float) -> None:
        """Learn anew from what came beyond the maximum, once nothing else did for a while."""
        if not self._beyond:
            self._beyond_since = now
        self._beyond.append(transit)
        if now - self._beyond_since < RISEN and len(self._beyond) < WINDOW:
            return
        self._transits, self._beyond = self._beyond, array("d")
        self._learnt = len(self._transits)
        self._review()
        if not self._playing:
            self._deadline = self._base + self._target

    def _review(self) -> None:
        """Tell the network's delay, and where playout is to stand above it."""
        self._since_review = 0
        transits = np.array(self._transits)
        high = int(QUANTILE * (len(transits) - 1) + 0.5)
        transits.partition(high)
        self._base = float(transits[: high + 1].min())
        spread = float(transits[high]) - self._base + MARGIN
        floor = self._initial if len(transits) < YOUNG else self._minimum
        self._target = min(self._maximum, max(floor, spread))

    def take_all(self) -> list[Held]:
        """What is held, in order: it is to be played before a :meth:`reset`."""
        held, self._held = self._held, []
        return held

    def get(self, now: float, buffered: int, quantum: int = 1) -> Step:
        """The next piece of media for the tick at ``now``.

        ``buffered`` is what was taken before and not yet played, in timestamp units; a piece
        other than a packet fills the tick at most, rounded up to ``quantum`` units. With a
        ``quantum`` above one the decoder conceals by itself, and a loss ends with a piece as
        long as the lost packet.
        """
        wanted = max(1, self._tick - buffered)
        wanted += -wanted % quantum
        held = self._held
        if not self._playing:
            self._skip_stale(now)
            if not held or now < held[0].timestamp / self._rate + self._deadline:
                return Step(SILENCE, wanted)
            self._playing = self._began = True
            self._next, self._starved = held[0].timestamp, 0
            self._last_sequence = held[0].sequence - 1
        # what is taken ahead of need counts from the tick at which it will be needed
        needed = now + buffered // self._tick * self._tick / self._rate
        self._buffered = buffered % self._tick
        self._deadline = needed - self._next / self._rate
        if not held:
            return self._empty(wanted)
        if self._starved or self._deadline > self._base + self._limit:
            self._settle(needed)
            if not held:
                return self._empty(wanted)
        gap = held[0].timestamp - self._next
        if gap <= 0:
            packet = held.pop(0)
            self._next = packet.timestamp + packet.units
            self._last_sequence = packet.sequence
            self._played.append(packet.sequence)
            self._step = min(self._tick, packet.units)
            self._keep(self._buffered)
            missing = self._missing(packet.sequence)
            self._last_played = packet.sequence
            return Step(PACKET, packet.units, packet, missing)
        units = min(gap, wanted)
        if not self._paused(held[0].sequence):
            if quantum > 1:
                rest = gap - held[0].units
                units = gap if rest <= 0 else min(wanted, rest)
            self._next += units
            return Step(LOST, units, held[0] if units == gap else None)
        # nobody hears a pause being cut or drawn out
        surplus = int(self.excess * self._rate)
        if surplus > 0:
            self._next += min(gap, units + surplus)
        elif surplus > -self._tick:
            self._next += units
        return Step(SILENCE, units)

    def _empty(self, wanted: int) -> Step:
        self._starved += wanted
        if self._starved >= IDLE * self._rate:
            self._playing = False
            self._deadline = self._base + self._target
            self._recent.clear()
        return Step(EMPTY, wanted)

    def _skip_stale(self, now: float) -> None:
        """Before playout (re)starts: what is more than a tick overdue is not played any more."""
        held = self._held
        due = (now - self._deadline) * self._rate - self._tick
        while len(held) > 1 and held[1].timestamp <= due:
            del held[0]
            self.late += 1

    def _settle(self, needed: float) -> None:
        """Account for what was played while the buffer was empty, and keep below the maximum."""
        held = self._held
        gap = held[0].timestamp - self._next
        covered = min(gap, self._starved) if gap > 0 else 0
        self._next += covered
        self._starved = 0
        limit = self._base + self._limit
        while held:
            self._deadline = needed - self._next / self._rate
            if self._deadline <= limit:
                return
            surplus = int((self._deadline - limit) * self._rate) + 1
            gap = held[0].timestamp - self._next
            if gap > 0:
                self._next += min(gap, surplus)
            else:
                packet = held.pop(0)
                self.late += 1
                self._next = packet.timestamp + packet.units
                self._last_sequence = packet.sequence

    def _keep(self, buffered: int) -> None:
        """What the caller held when it took the packet; the least of the last ones is spare."""
        recent = self._recent
        full = len(recent) == REVIEW
        left = recent[0] if full else None
        recent.append(buffered)
        if not full:
            self._spare = min(recent) if len(recent) == REVIEW else 0
        elif buffered <= self._spare:
            self._spare = buffered
        elif left == self._spare:
            self._spare = min(recent)

    def _missing(self, sequence: int) -> int:
        before = self._last_played
        if before is None or sequence - before <= 1:
            return 0
        between = range(before + 1, sequence)
        if len(between) > MAX_NOTED:
            return len(between)
        return sum(number not in self._noted for number in between)

    def _paused(self, sequence: int) -> bool:
        """No audio packet is missing before ``sequence``: the sender left the gap on purpose."""
        missing = range(self._last_sequence + 1, sequence)
        return len(missing) <= MAX_NOTED and all(number in self._noted for number in missing)
