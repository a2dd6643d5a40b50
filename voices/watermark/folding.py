"""Finds faint marks that stay in step for long: the carrier folded over the pilot's period.

Where no clock drifts, all that lies whole periods apart is under the same chip. With ``S`` the
folded carrier and ``C`` its correlation with the pilot from some chip on, Hoeffding's lemma makes
``cosh(a·C)·exp(−a²·‖S‖²/2)`` a variable whose expectation is at most 1 in every signal that the
pilot's signs don't depend on, periodic ones included: what repeats itself adds to ``‖S‖²`` too.
So is the mean over all chips of the period, strengths and half-chip offsets, and by Markov's
inequality it exceeds ``1/α`` with a probability of at most ``α``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.watermark.keys import PERIOD
from ringtrue.voices.watermark.lpc import RealArray
from ringtrue.voices.watermark.tracking import MAX_STRENGTH, Bet

STRENGTHS: Final = (0.02, 0.035, 0.06)


@dataclass(frozen=True, slots=True)
class Folded:
    """What a fold says."""

    evidence: float
    """Natural logarithm of the e-value."""

    bet: Bet
    """How the mark most likely lies, if there is one."""

    lag: int
    """The chip under the first sample."""


def fold(pilot: npt.NDArray[np.float32], carrier: RealArray, late: RealArray) -> Folded:
    """Look for a pilot (a period of chips or more) in a carrier of any length.

    ``late`` is the carrier half a chip on.
    """
    chips = np.fft.rfft(pilot[:PERIOD])
    logs: list[float] = []
    best = (-math.inf, Bet(STRENGTHS[0]), 0)
    for values in (carrier, late):
        padded = np.pad(values, (0, -len(values) % PERIOD))
        folded = padded.reshape(-1, PERIOD).sum(axis=0)
        energy = float((folded**2).sum())
        found = np.fft.irfft(np.conj(np.fft.rfft(folded)) * chips, PERIOD)
        size = np.abs(found)
        for strength in STRENGTHS:
            # log cosh x = |x| + log(1 + exp(−2|x|)) − log 2
            grown = strength * size
            grown += np.log1p(np.exp(-2.0 * grown)) - math.log(2.0)
            top = float(grown.max())
            log = top + math.log(float(np.exp(grown - top).mean())) - strength**2 * energy / 2
            logs.append(log)
            if log > best[0]:
                lag = int(size.argmax())
                sign = 1 if found[lag] >= 0 else -1
                best = log, Bet(strength, polarity=sign, late=values is late), lag
    evidence = float(np.logaddexp.reduce(logs)) - math.log(len(logs))
    return Folded(evidence, replace(best[1], strength=min(best[1].strength, MAX_STRENGTH)), best[2])
