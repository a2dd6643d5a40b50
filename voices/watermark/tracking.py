"""Follows a mark whose timing may drift, jump, begin and end: a bet that grows where there is one.

The signal's carrier is cut into segments of 25 ms. A hidden Markov model says how a mark may lie
under it: absent, or present at some chip of the period; from segment to segment it stays in step,
slips by a chip (a clock's drift), jumps (time-scale modification, concealed loss, a splice), ends,
or begins anew. With ``c`` a segment's correlation with the pilot at a state's lag and ``e`` its
energy, being there multiplies the state's mass by ``exp(a·c − a²·e/2)``, being absent by 1.

The pilot's chips are random signs that an unmarked signal doesn't depend on, so by Hoeffding's
lemma each factor has expectation at most 1, and the total mass is an e-process: by Ville's
inequality the probability that it *ever* exceeds ``1/α`` is at most ``α`` (Ramdas et al., "Game-
theoretic statistics and safe anytime-valid inference", 2023). No threshold is tuned, and looking
longer costs nothing. Averages of e-processes are e-processes: the strengths ``a`` are bets placed
side by side.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.watermark.keys import PERIOD, DetectionKey
from ringtrue.voices.watermark.lpc import RealArray

SEGMENT: Final = 200
"""Chips of one segment: 25 ms."""

REACH: Final = 60
"""Farthest jump in chips: 7.5 ms, about a pitch period."""

BEGIN: Final = 0.02
END: Final = 0.002
BATCH: Final = 40


FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Course:
    """What a track learned, segment by segment."""

    evidence: RealArray = field(repr=False)
    """Natural logarithm of the e-value so far, shape ``(segments,)``."""

    chips: npt.NDArray[np.int64] = field(repr=False)
    """Chip of the period at which the mark most likely stands where each segment begins."""


@dataclass(frozen=True, slots=True)
class Bet:
    """One strength and how loosely the mark may be timed."""

    strength: float
    """``a``: about the correlation per chip that is expected."""

    slip: float
    """Probability of a slip by one chip either way, per segment."""

    jump: float
    """Probability of a jump within REACH, per segment."""


BETS: Final = (
    Bet(0.03, 0.01, 0.0),
    Bet(0.07, 0.01, 0.0),
    Bet(0.15, 0.01, 0.005),
    Bet(0.12, 0.02, 0.25),
    Bet(0.3, 0.02, 0.25),
)


class Pilot:
    """A key's pilot laid out for correlation at every lag at once (33 MB); shared by tracks."""

    def __init__(self, key: DetectionKey) -> None:
        """Lay out the chips of ``key``."""
        self.id = key.id
        chips = np.concatenate([key.pilot, key.pilot[: SEGMENT - 1]]).astype(np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(chips, SEGMENT)
        self._table = np.ascontiguousarray(windows.T)

    def correlate(self, segments: FloatArray) -> FloatArray:
        """Segments ``(n, SEGMENT)`` against the pilot from every chip on, ``(n, PERIOD)``."""
        return np.asarray(segments @ self._table)


class Track:
    """Evidence for one mark as it accumulates over one carrier."""

    def __init__(self, pilot: Pilot, bets: tuple[Bet, ...] = BETS) -> None:
        """Nothing is known yet: the mark is absent."""
        self._pilot = pilot
        self._bets = bets
        self._mass = np.zeros((len(bets), PERIOD), np.float32)
        """By the chip at which a segment would begin, after the segment before it."""
        self._absent = np.ones(len(bets))
        self._log = np.zeros(len(bets))

    def feed(self, carrier: RealArray) -> Course:
        """Take the carrier's whole segments; the rest is left out."""
        count = len(carrier) // SEGMENT
        segments = carrier[: count * SEGMENT].astype(np.float32).reshape(count, SEGMENT)
        energies = (segments.astype(np.float64) ** 2).sum(axis=1)
        evidence, chips = np.empty(count), np.empty(count, np.int64)
        for first in range(0, count, BATCH):
            for i, correlation in enumerate(
                self._pilot.correlate(segments[first : first + BATCH]), first
            ):
                chips[i] = self._take(correlation, float(energies[i]))
                evidence[i] = np.logaddexp.reduce(self._log) - np.log(len(self._bets))
        return Course(evidence, chips)

    def _take(self, correlation: FloatArray, energy: float) -> int:
        """One segment; returns the chip it most likely begins with."""
        heaviest, chip = -np.inf, 0
        for n, bet in enumerate(self._bets):
            mass, absent = self._move(n, bet)
            loss = np.float32(-0.5 * bet.strength**2 * energy)
            mass *= np.exp(np.float32(bet.strength) * correlation + loss)
            total = absent + float(mass.sum(dtype=np.float64))
            at = int(mass.argmax())
            self._log[n] += np.log(total)
            weight = self._log[n] + np.log(float(mass[at]) / total + 1e-300)
            if weight > heaviest:
                heaviest, chip = weight, at
            mass *= np.float32(1.0 / total)
            self._mass[n] = np.roll(mass, SEGMENT)
            self._absent[n] = absent / total
        return chip

    def _move(self, n: int, bet: Bet) -> tuple[FloatArray, float]:
        """Where bet ``n`` has its mass once the next segment begins."""
        old = self._mass[n]
        absent = float(self._absent[n])
        going_on = 1.0 - END
        mass = old * np.float32(going_on * (1.0 - 2.0 * bet.slip - bet.jump))
        beside = np.float32(going_on * bet.slip) * old
        mass[1:] += beside[:-1]
        mass[:-1] += beside[1:]
        mass[0] += beside[-1]
        mass[-1] += beside[0]
        if bet.jump:
            around = np.concatenate([old[-REACH:], old, old[:REACH]])
            sums = np.concatenate([[0.0], np.cumsum(around, dtype=np.float64)])
            width = 2 * REACH + 1
            near = (sums[width:] - sums[:-width]).astype(np.float32)
            mass += np.float32(going_on * bet.jump / width) * np.maximum(near, 0)
        mass += np.float32(BEGIN * absent / PERIOD)
        present = 1.0 - absent
        return mass, (1.0 - BEGIN) * absent + END * present
