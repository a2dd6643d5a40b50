"""How sure a percentile of few samples is: distribution-free intervals from order statistics.

Of ``n`` independent samples the number that lie at or below the true ``p`` quantile is binomial
(n, p), whatever the samples' distribution, so two ranks enclose the quantile with a known
probability (David and Nagaraja, *Order Statistics*, section 7.1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

LEVEL: Final = 0.95
"""Probability with which an interval holds the true value."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Where the true value lies; infinite where the samples set no bound on that side."""

    low: float
    high: float


def percentile_interval(ranked: Sequence[float], part: float, level: float = LEVEL) -> Interval:
    """The interval of the ``part`` quantile (0 to 1, exclusive) of sorted samples.

    Infinite samples stand for failed measurements.
    """
    count = len(ranked)
    tail = (1 - level) / 2
    low, high = -math.inf, math.inf
    below = 0.0
    for rank, mass in enumerate(_binomial(count, part)):
        # P(at most ``rank`` samples lie at or below the quantile).
        if below + mass <= tail and rank < count:
            low = ranked[rank]
        if high == math.inf and below + mass >= 1 - tail and rank < count:
            high = ranked[rank]
        below += mass
    return Interval(low, high)


def samples_needed(part: float, level: float = LEVEL) -> int:
    """Samples from which on :func:`percentile_interval` has an upper end.

    72 for the 95th percentile and 368 for the 99th at 95 %.
    """
    return math.ceil(math.log((1 - level) / 2) / math.log(part))


def share_interval(hits: int, count: int, level: float = LEVEL) -> Interval:
    """Wilson's score interval of a share; 0 to 1 where nothing was counted."""
    if not count:
        return Interval(0.0, 1.0)
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = hits / count
    scale = 1 + z * z / count
    centre = (share + z * z / (2 * count)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


def _binomial(count: int, part: float) -> list[float]:
    """P(k of ``count``) for k from 0 to ``count``."""
    logs = [
        math.lgamma(count + 1)
        - math.lgamma(k + 1)
        - math.lgamma(count - k + 1)
        + k * math.log(part)
        + (count - k) * math.log1p(-part)
        for k in range(count + 1)
    ]
    return [math.exp(value) for value in logs]
