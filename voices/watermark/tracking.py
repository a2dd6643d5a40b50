"""Follows a mark whose timing may drift, jump, begin and end: a bet that grows where there is one.

The signal's carrier is cut into segments of 25 ms, and those into epochs of 4.8 s. Within an epoch
a hidden Markov model says how a mark may lie under the signal: not begun, present at some chip of
the period, or over; from segment to segment it stays in step, slips by a chip (a clock's drift) or
jumps (time-scale modification, concealed loss). With ``c`` a segment's correlation with the pilot
at a state's chip and ``e`` its energy, being there multiplies the state's mass by
``exp(a·c − a²·e/2)``, being absent by 1.

The pilot's chips are random signs that an unmarked signal doesn't depend on, so by Hoeffding's
lemma each factor's expectation is at most 1 given everything before, *as long as no chip is bet on
twice*: the total mass is then an e-process, and by Ville's inequality the probability that it ever
exceeds ``1/α`` is at most ``α`` (Ramdas et al., "Game-theoretic statistics and safe anytime-valid
inference", 2023). Signals that repeat themselves (tones, loops) would win from chips they have
met before. Three rules keep every chip to one bet: an epoch is shorter than the pilot's period and
begins with new money; what is over doesn't begin again; and after a jump, which may lead back by
up to :data:`HEAD` chips, the first so many of a segment carry no bet. A slip back by one chip is
charged for that chip.

No threshold is tuned, and looking longer costs nothing. Averages of e-processes are e-processes:
strengths, polarities and half-chip offsets are bets placed side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.jit import compiled
from ringtrue.voices.watermark.keys import PERIOD, DetectionKey
from ringtrue.voices.watermark.lpc import RealArray

SEGMENT: Final = 200
"""Chips of one segment: 25 ms."""

HEAD: Final = 80
"""Chips of a segment that carry no bet after a jump: the farthest that one may lead back."""

BLOCK: Final = 40
"""A jump leads to any chip of the same or a neighbouring block of so many."""

EPOCH_SEGMENTS: Final = 192
"""The farthest drift of any likely path, ten standard deviations, still stays in the period."""

EPOCH: Final = EPOCH_SEGMENTS * SEGMENT

BEGIN_AT_ONCE: Final = 0.5
"""Share of the money that is placed on the epoch's first segment."""

BEGIN: Final = 0.01
"""Share of what is left of it that is placed on each of the others."""

END: Final = 0.0005

SLIP: Final = 0.003
MAX_STRENGTH: Final = 0.3
"""With carriers that stay below 2.5 no segment's factor can then leave the range of float32."""

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Bet:
    """How strong the mark may be, and how loosely timed."""

    strength: float
    """``a``: about the correlation per chip that is expected."""

    slip: float = SLIP
    """Probability of a slip by one chip either way, per segment."""

    jump: float = 0.0
    """Probability of a jump, per segment."""

    polarity: int = 1
    """−1 for a signal turned upside down."""

    late: bool = False
    """Whether the mark lies half a chip beside the samples."""

    share: float = 1.0
    """How much is placed on it, relative to the others."""

    def __post_init__(self) -> None:
        if not 0 < self.strength <= MAX_STRENGTH:
            raise ValueError(f"strength is {self.strength}; allowed: above 0 to {MAX_STRENGTH}")
        if self.share <= 0:
            raise ValueError(f"share is {self.share}; allowed: above 0")


BETS: Final = (
    Bet(0.1, slip=0.02, jump=0.1),
    Bet(0.2, slip=0.02, jump=0.2),
    *(Bet(strength, share=3.0) for strength in (0.055, 0.09, 0.15)),
    *(
        Bet(strength, polarity=polarity, late=late)
        for polarity, late in ((1, True), (-1, False), (-1, True))
        for strength in (0.055, 0.125)
    ),
)
"""Most is placed on what is usual: neither stretched nor turned upside down, and in step."""


@dataclass(frozen=True, slots=True)
class Course:
    """What one epoch says, segment by segment."""

    evidence: RealArray = field(repr=False)
    """Natural logarithm of the e-value so far, shape ``(segments,)``."""

    best: Bet
    """The bet that won most."""

    at: int
    """The segment after which it had won most."""

    lag: int
    """Where it said then that the mark lies: the chip under the epoch's first sample."""


class Segments:
    """One epoch of carrier, cut up; with a copy shifted by half a chip."""

    def __init__(self, carrier: RealArray, late: RealArray) -> None:
        """Take the whole segments of at most one epoch; ``late`` is the shifted carrier."""
        count = min(len(carrier) // SEGMENT, EPOCH_SEGMENTS)
        self.values = [
            part[: count * SEGMENT].astype(np.float32).reshape(count, SEGMENT)
            for part in (carrier, late)
        ]
        squares = [values.astype(np.float64) ** 2 for values in self.values]
        self.energies = [square.sum(axis=1) for square in squares]
        self.tails = [square[:, HEAD:].sum(axis=1) for square in squares]
        self.joints = [
            np.concatenate([[0.0], np.maximum(values[:-1, -1] * values[1:, 0], 0.0)])
            for values in self.values
        ]
        """What a slip back by one chip is charged for, before the square of the strength."""

    def __len__(self) -> int:
        """How many segments there are."""
        return len(self.values[0])


class Pilot:
    """A key's pilot, laid out for correlation at every chip at once; not for two threads."""

    def __init__(self, key: DetectionKey) -> None:
        """Lay out the chips of ``key``: 33 MB."""
        self.id = key.id
        self.chips = np.concatenate([key.pilot, key.pilot]).astype(np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(
            self.chips[: PERIOD + SEGMENT - 1], SEGMENT
        )
        self._table = np.ascontiguousarray(windows.T)

    def correlate(self, values: FloatArray, first: int, last: int, out: FloatArray) -> FloatArray:
        """Columns ``first`` to ``last`` of segments against the pilot from every chip on."""
        rows = out[: len(values)]
        np.matmul(values[:, first:last], self._table[first:last], out=rows)
        return rows


class Follower:
    """Bets on epochs; holds the memory that this takes (some 100 MB). Not for two threads."""

    def __init__(self, bets: Sequence[Bet] = BETS) -> None:
        """Place ``bets`` side by side, each with its share of the money."""
        self.bets = tuple(bets)
        self._rows = np.empty((3, _BATCH, PERIOD), np.float32)
        self._mass = np.empty((2, len(bets), PERIOD + 2), np.float32)
        self._near = np.empty(PERIOD, np.float32)

    def follow(
        self,
        pilot: Pilot,
        segments: Segments,
        *,
        bets: Sequence[Bet] = (),
        barred: Sequence[tuple[int, int]] = (),
    ) -> Course:
        """Bet on one epoch, but not on the ``barred`` lags (first, and how many).

        ``bets`` are placed instead of the usual ones, at most as many.
        """
        count = len(segments)
        tables = [_Table(segments, bet) for bet in bets or self.bets]
        shares = np.log([table.bet.share for table in tables])
        shares -= np.logaddexp.reduce(shares)
        self._mass.fill(0.0)
        evidence = np.zeros(count)
        closed = np.zeros(PERIOD, np.bool_)
        for begin, width in barred:
            closed[np.arange(begin, begin + width) % PERIOD] = True
        most, best, at, lag = 0.0, tables[0].bet, 0, 0
        looser = any(table.bet.jump for table in tables)
        early = any(not table.bet.late for table in tables)
        late = any(table.bet.late for table in tables)
        for first in range(0, count, _BATCH):
            some = slice(first, first + _BATCH)
            values = segments.values[0][some]
            head, tail, beside = self._rows
            if looser:
                pilot.correlate(values, 0, HEAD, head)
                pilot.correlate(values, HEAD, SEGMENT, tail)
                head[: len(values)] += tail[: len(values)]
            elif early:
                pilot.correlate(values, 0, SEGMENT, head)
            if late:
                pilot.correlate(segments.values[1][some], 0, SEGMENT, beside)
            for i in range(first, min(count, first + _BATCH)):
                row = i - first
                for n, table in enumerate(tables):
                    heard = beside[row] if table.bet.late else head[row]
                    mass = self._step(i, n, table, heard, tail[row])
                    if barred:
                        mass[closed] = 0.0
                    if table.settle(float(mass.sum())) > most:
                        most, best, at = table.log, table.bet, i
                        lag = int(mass.argmax())
                evidence[i] = np.logaddexp.reduce([table.log for table in tables] + shares)
        return Course(evidence, best, at, lag)

    def _step(self, i: int, n: int, table: _Table, row: FloatArray, tail: FloatArray) -> FloatArray:
        """Move bet ``n`` by one segment; returns its mass by lag."""
        bet = table.bet
        old, new = self._mass[i % 2, n], self._mass[(i + 1) % 2, n]
        old[0], old[-1] = old[-2], old[1]
        going = (1.0 - END) * table.scale
        begin = table.begin
        turn = i * SEGMENT % PERIOD
        f = np.float32
        gain = f(bet.polarity * bet.strength / _ROOTS)
        cost = 0.5 * bet.strength**2 / _ROOTS
        _move(
            old,
            new,
            row,
            turn,
            f(going * (1.0 - 2.0 * bet.slip - bet.jump)),
            f(going * bet.slip * np.exp(-(bet.strength**2) * table.joints[i])),
            f(going * bet.slip),
            f(begin * table.waiting / PERIOD),
            gain,
            f(1.0 - cost * table.energies[i]),
        )
        if bet.jump:
            sums = old[1:-1].reshape(-1, BLOCK).sum(axis=1)
            near = (sums + np.roll(sums, 1) + np.roll(sums, -1)) * f(going * bet.jump / (3 * BLOCK))
            self._near.reshape(-1, BLOCK)[:] = near[:, None]
            _add_jumped(new, tail, self._near, turn, gain, f(1.0 - cost * table.tails[i]))
        moved: FloatArray = new[1:-1]
        return moved


class _Table:
    """One bet's money that lies on no chip."""

    def __init__(self, segments: Segments, bet: Bet) -> None:
        self.bet = bet
        which = int(bet.late)
        self.energies = segments.energies[which]
        self.tails = segments.tails[which]
        self.joints = segments.joints[which]
        self.waiting, self.over, self.present = 1.0, 0.0, 0.0
        """Shares of the money: not yet placed, taken back, lying on chips."""

        self.begin = BEGIN_AT_ONCE
        """Share of what waits that is placed next."""

        self.scale = 1.0
        """What the mass of the last step has to be multiplied by to be a share."""

        self.log = 0.0
        """Logarithm of all the money."""

    def settle(self, mass: float) -> float:
        """Count the money after a step that left ``mass`` on chips."""
        self.over += END * self.present
        self.waiting *= 1.0 - self.begin
        self.begin = BEGIN
        total = mass + self.waiting + self.over
        self.log += float(np.log(total))
        self.scale = 1.0 / total
        self.present = mass * self.scale
        self.waiting *= self.scale
        self.over *= self.scale
        return self.log


_BATCH: Final = 96
_ROOTS: Final = 256.0
"""``(1 + x/n)ⁿ`` stands for ``exp(x)``: it is never more, so the bounds hold, and it is fast."""


@compiled
def _grown(root: np.float32) -> np.float32:
    """``root`` to the power of :data:`_ROOTS`."""
    for _ in range(8):
        root *= root
    return root


@compiled
def _move(
    old: FloatArray,
    new: FloatArray,
    row: FloatArray,
    turn: int,
    stay: np.float32,
    back: np.float32,
    ahead: np.float32,
    begin: np.float32,
    gain: np.float32,
    rest: np.float32,
) -> None:
    """One segment for a bet without jumps; ``turn`` is how far the epoch has come."""
    period = row.shape[0]
    for part in range(2):
        first, last = (0, period - turn) if part == 0 else (period - turn, period)
        at = turn if part == 0 else 0
        count = last - first
        heard = row[at : at + count]
        before, same, after = old[first:last], old[first + 1 : last + 1], old[first + 2 : last + 2]
        moved = new[first + 1 : last + 1]
        for k in range(count):
            y = _grown(rest + gain * heard[k])
            moved[k] = (stay * same[k] + back * after[k] + ahead * before[k] + begin) * y


@compiled
def _add_jumped(
    new: FloatArray,
    tail: FloatArray,
    near: FloatArray,
    turn: int,
    gain: np.float32,
    rest: np.float32,
) -> None:
    """What jumped bets on the segment's tail alone."""
    period = tail.shape[0]
    for part in range(2):
        first, last = (0, period - turn) if part == 0 else (period - turn, period)
        at = turn if part == 0 else 0
        count = last - first
        heard = tail[at : at + count]
        moved, came = new[first + 1 : last + 1], near[first:last]
        for k in range(count):
            moved[k] += came[k] * _grown(rest + gain * heard[k])
