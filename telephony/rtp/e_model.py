"""What a listener would say: the E-model's rating and the mean opinion score it stands for.

ITU-T G.107 (06/2015) with its default values, reduced to what a call's media can tell: packet
loss, how it clusters, and delay. Rooms, telephones and echo are taken as the defaults have them
(R = 93.2 without loss and delay). It is an estimate on the narrow-band scale, where 4.4 is the
best there is; wide-band sound is not credited.

``Ie`` and ``Bpl`` are G.113 Appendix I's for G.711 with concealment. For G.722 and Opus nothing is
published on this scale, and they are taken like G.711: our concealment is the same or better.
"""

from __future__ import annotations

import math
from typing import Final

BEST: Final = 93.2
"""R with every default of G.107 and nothing lost."""

IMPAIRMENT: Final = 0.0
"""Ie of G.711 (G.113 Appendix I)."""

ROBUSTNESS: Final = 25.1
"""Bpl of G.711 with G.711 Appendix I's concealment (G.113 Appendix I)."""


def delay_impairment(seconds: float) -> float:
    """Idd for a one-way delay without echo (G.107 §7.4.3): nothing up to 100 ms."""
    milliseconds = 1000 * seconds
    if milliseconds <= 100:
        return 0.0
    x = math.log2(milliseconds / 100)

    def root(value: float) -> float:
        return float((1 + value**6) ** (1 / 6))

    return 25 * (root(x) - 3 * root(x / 3) + 2)


def loss_impairment(loss: float, burst_ratio: float) -> float:
    """Ie-eff for a share of ``loss`` (0–1) that clusters ``burst_ratio`` (§7.5)."""
    percent = 100 * loss
    return IMPAIRMENT + (95 - IMPAIRMENT) * percent / (percent / burst_ratio + ROBUSTNESS)


def rating(loss: float, burst_ratio: float, delay: float) -> float:
    """R, 0–93.2, of a call with a one-way ``delay`` in seconds; 0.0 s for listening alone."""
    return max(0.0, BEST - delay_impairment(delay) - loss_impairment(loss, burst_ratio))


def opinion_score(r: float) -> float:
    """MOS of a rating (G.107 Annex B), 1–4.5."""
    if r <= 0:
        return 1.0
    if r >= 100:
        return 4.5
    return max(1.0, 1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6)
