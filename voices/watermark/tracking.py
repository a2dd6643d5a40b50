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

from ringtrue.voices.jit import compiled
from ringtrue.voices.watermark.keys import PERIOD
from ringtrue.voices.watermark.lpc import RealArray

SEGMENT: Final = 200
"""Chips of one segment: 25 ms."""

REACH: Final = 60
"""Farthest jump in chips: 7.5 ms, about a pitch period."""

BEGIN: Final = 0.02
END: Final = 0.002
BATCH: Final = 16


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
    Bet(0.03, 0.01, 0.0005),
    Bet(0.07, 0.01, 0.0005),
    Bet(0.15, 0.01, 0.005),
    Bet(0.12, 0.02, 0.25),
    Bet(0.3, 0.02, 0.25),
)


@dataclass(slots=True)
class Track:
    """Evidence for a mark as it accumulates over one carrier."""

    pilot: npt.NDArray[np.complex64] = field(repr=False)
    """Spectrum of the key's chips, from :func:`spectrum_of`."""

    bets: tuple[Bet, ...] = BETS
    segments: int = 0
    _mass: RealArray = field(init=False, repr=False)
    _absent: RealArray = field(init=False, repr=False)
    _log: RealArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        count = len(self.bets)
        self._mass = np.zeros((count, PERIOD))
        self._absent = np.ones(count)
        self._log = np.zeros(count)

    def feed(self, carrier: RealArray) -> tuple[RealArray, npt.NDArray[np.int64]]:
        """Take whole segments (the rest is left out).

        Returns, per segment, the evidence so far (natural logarithm of the e-value) and the chip
        at which the mark most likely stands where the carrier began, modulo the period.
        """
        count = len(carrier) // SEGMENT
        evidence, lags = np.empty(count), np.empty(count, np.int64)
        for first in range(0, count, BATCH):
            size = min(BATCH, count - first)
            placed = np.zeros((size, PERIOD), np.float32)
            for i in range(size):
                part = carrier[(first + i) * SEGMENT : (first + i + 1) * SEGMENT]
                at = (self.segments + i) * SEGMENT % PERIOD
                head = min(SEGMENT, PERIOD - at)
                placed[i, at : at + head] = part[:head]
                placed[i, : SEGMENT - head] = part[head:]
            spectra = np.conj(np.fft.rfft(placed, axis=1)) * self.pilot
            correlations = np.fft.irfft(spectra, PERIOD, axis=1)
            energies = (placed.astype(np.float64) ** 2).sum(axis=1)
            for i in range(size):
                best, at = -np.inf, 0
                for n, bet in enumerate(self.bets):
                    gain, absent, lag, top = _advance(
                        self._mass[n],
                        self._absent[n],
                        correlations[i],
                        energies[i],
                        bet.strength,
                        bet.slip,
                        bet.jump,
                    )
                    self._log[n] += gain
                    self._absent[n] = absent
                    weight = self._log[n] + np.log(top + 1e-300)
                    if weight > best:
                        best, at = weight, lag
                evidence[first + i] = np.logaddexp.reduce(self._log) - np.log(len(self.bets))
                lags[first + i] = at
            self.segments += size
        return evidence, lags


def spectrum_of(pilot: RealArray) -> npt.NDArray[np.complex64]:
    """A pilot as :class:`Track` takes it."""
    return np.fft.rfft(pilot.astype(np.float32)).astype(np.complex64)


@compiled
def _advance(
    mass: RealArray,
    absent: float,
    correlation: npt.NDArray[np.float32],
    energy: float,
    strength: float,
    slip: float,
    jump: float,
) -> tuple[float, float, int, float]:
    """One segment: move the masses, weigh them, and bring their sum back to 1.

    Returns the logarithm of the sum, the mass of absence, and the heaviest lag with its mass.
    """
    size = mass.shape[0]
    width = 2 * REACH + 1
    near = 0.0
    total = 0.0
    for n in range(size):
        total += mass[n]
    for n in range(-REACH, REACH + 1):
        near += mass[n % size]
    begun = BEGIN * absent / size
    absent = (1.0 - BEGIN) * absent + END * total
    stay = (1.0 - END) * (1.0 - 2.0 * slip - jump)
    beside = (1.0 - END) * slip
    away = (1.0 - END) * jump / width
    moved = np.empty(size)
    for n in range(size):
        left = mass[n - 1] if n else mass[size - 1]
        right = mass[n + 1] if n + 1 < size else mass[0]
        moved[n] = begun + stay * mass[n] + beside * (left + right) + away * max(0.0, near)
        leaving, coming = n - REACH, n + REACH + 1
        near += mass[coming - size if coming >= size else coming] - mass[leaving % size]
    constant = -0.5 * strength * strength * energy
    total, best, at = 0.0, -1.0, 0
    for n in range(size):
        value = moved[n] * np.exp(min(80.0, strength * correlation[n] + constant))
        moved[n] = value
        total += value
        if value > best:
            best, at = value, n
    total += absent
    scale = 1.0 / total
    for n in range(size):
        mass[n] = moved[n] * scale
    return np.log(total), absent * scale, at, best * scale
