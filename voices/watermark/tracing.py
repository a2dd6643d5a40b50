"""Where a mark that was found lay, segment by segment: forward and backward over nearby lags.

:class:`~ringtrue.voices.watermark.tracking.Follower` knows a mark's place only from what came
before. Once it has found one, the same hidden Markov model is solved exactly (Baum et al. 1970)
in a band of lags around it, so that the mark is also placed where it had not yet been sure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.watermark.keys import PERIOD
from ringtrue.voices.watermark.lpc import RealArray
from ringtrue.voices.watermark.tracking import BEGIN, BLOCK, END, HEAD, SEGMENT, Bet, Segments

NEAR: Final = 64
"""How far a mark without jumps may drift within an epoch, in chips."""

FAR: Final = 1400
"""How far with jumps: time stretched by 3 %."""

ECHO: Final = 400
"""Lags this close are one mark and its echo: 50 ms."""

_FLOOR: Final = 1e-30

Lags = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Track:
    """A mark's course through one epoch."""

    lags: Lags = field(repr=False)
    """The chip under the epoch's first sample, as each segment has it; shape ``(segments,)``."""

    sure: RealArray = field(repr=False)
    """Probability that the mark is there, ``(segments,)``."""

    bet: Bet
    evidence: float
    """Natural logarithm of how much likelier the signal is with it than without."""

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """The segments in which it is likelier there than not."""
        return np.asarray(self.sure > 0.5)

    @property
    def barred(self) -> tuple[int, int]:
        """The lags that it takes up (first, and how many), for whoever looks for another."""
        lags = self.lags[self.present] if self.present.any() else self.lags
        first = int(lags.min()) - ECHO
        return first, int(lags.max()) + ECHO - first

    def overlaps(self, other: Track) -> bool:
        """Whether ``other`` is a track of the same mark in the same epoch."""
        both = self.present & other.present
        return bool((_away(self.lags, other.lags)[both] <= ECHO).sum() * 2 > both.sum())

    def holds(self, lag: int) -> bool:
        """Whether it is the track of a mark that ran on into the epoch at ``lag``, if one did."""
        here = self.present & (_away(self.lags, lag) <= ECHO)
        return bool(here.sum() * 2 > len(here))


def _away(lags: Lags, others: Lags | int) -> Lags:
    """How far lags lie from others around the period."""
    return np.asarray(np.abs((lags - others + PERIOD // 2) % PERIOD - PERIOD // 2), np.int64)


def trace(pilot: npt.NDArray[np.float32], segments: Segments, bet: Bet, lag: int) -> Track:
    """The course of a mark that lies near ``lag`` in some segment of the epoch.

    ``pilot`` is two periods of chips. Lags of the result run on beyond one period.
    """
    reach = FAR if bet.jump else NEAR
    width = 2 * reach + 1
    first = lag - reach
    count = len(segments)
    stay, jumped = _factors(pilot, segments, bet, first, width)
    slip = bet.slip
    kept = 1.0 - 2.0 * slip - bet.jump

    def move(mass: RealArray, back: float, ahead: float) -> tuple[RealArray, RealArray]:
        """Where mass goes in step, and by a jump."""
        moved = kept * mass
        moved[:-1] += back * mass[1:]
        moved[1:] += ahead * mass[:-1]
        return moved, _spread(mass) * bet.jump if bet.jump else np.zeros(width)

    forward = np.empty((count, width))
    outside = np.empty((count, 2))
    mass, waiting, over = np.zeros(width), 1.0, 0.0
    evidence = 0.0
    for i in range(count):
        moved, leapt = move(mass, slip, slip)
        over += END * mass.sum()
        mass = ((1.0 - END) * moved + BEGIN * waiting / width) * stay[i]
        mass += (1.0 - END) * leapt * jumped[i]
        waiting *= 1.0 - BEGIN
        total = mass.sum() + waiting + over
        mass, waiting, over = mass / total, waiting / total, over / total
        evidence += float(np.log(total))
        forward[i], outside[i] = mass, (waiting, over)
    behind, before, after = np.ones(width), 1.0, 1.0
    lags, sure = np.empty(count, np.int64), np.empty(count)
    for i in range(count - 1, -1, -1):
        joint = forward[i] * behind
        here, away = joint.sum(), float(outside[i] @ (before, after))
        lags[i] = first + int(joint.argmax())
        sure[i] = here / (here + away + _FLOOR)
        moved, _ = move(stay[i] * behind, slip, slip)
        _, leapt = move(jumped[i] * behind, slip, slip)
        begun = float((stay[i] * behind).mean())
        behind = (1.0 - END) * (moved + leapt) + END * after
        before = (1.0 - BEGIN) * before + BEGIN * begun
        scale = max(float(behind.max()), before, after)
        behind, before, after = behind / scale, before / scale, after / scale
    return Track(lags, sure, bet, evidence)


def _factors(
    pilot: npt.NDArray[np.float32], segments: Segments, bet: Bet, first: int, width: int
) -> tuple[RealArray, RealArray]:
    """What each segment multiplies each lag's mass by, in step and after a jump."""
    which = int(bet.late)
    count = len(segments)
    stay, jumped = np.empty((count, width)), np.zeros((count, width))
    cost = 0.5 * bet.strength**2
    gain = bet.polarity * bet.strength
    for i, values in enumerate(segments.values[which]):
        at = (first + i * SEGMENT) % PERIOD
        chips = pilot[at : at + width + SEGMENT - 1]
        stay[i] = np.correlate(chips, values, "valid")
        stay[i] = gain * stay[i] - cost * segments.energies[which][i]
        if bet.jump:
            jumped[i] = np.correlate(chips[HEAD:], values[HEAD:], "valid")
            jumped[i] = gain * jumped[i] - cost * segments.tails[which][i]
    return np.exp(np.minimum(stay, 80.0)), np.exp(np.minimum(jumped, 80.0))


def _spread(mass: RealArray) -> RealArray:
    """Mass moved evenly over the same and the neighbouring blocks."""
    blocks = np.pad(mass, (0, -len(mass) % BLOCK)).reshape(-1, BLOCK).sum(axis=1)
    sums = np.convolve(blocks, np.ones(3), "same") / (3 * BLOCK)
    return np.repeat(sums, BLOCK)[: len(mass)]
