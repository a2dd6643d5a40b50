"""Movement given back to trajectories that statistics have smoothed.

A stock voice's cepstra are the likeliest trajectories of its models, and move less than speech
does, the more so the faster (Takamichi et al., "Postfilters to modify the modulation spectrum for
statistical parametric speech synthesis", IEEE/ACM Trans. ASLP 2016). What is faster than a moving
average of 75 ms is therefore scaled up.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

REACH: Final = 7
"""Frames of 5 ms to either side that the moving average sees."""

_WINDOW: Final = np.hanning(2 * REACH + 3)[1:-1] / np.hanning(2 * REACH + 3).sum()

RealArray = npt.NDArray[np.float64]


def enlivened(mcep: npt.NDArray[np.floating], gain: float) -> RealArray:
    """Cepstra of one phrase (T, 25) with their fast movement 1 + ``gain`` times as large.

    Beyond the phrase's ends its first and last frame count as going on.
    """
    rows = np.ascontiguousarray(mcep, np.float64)
    if gain == 0.0 or not len(rows):
        return rows
    padded = np.pad(rows, ((REACH, REACH), (0, 0)), mode="edge")
    slow = np.zeros_like(rows)
    for at, weight in enumerate(_WINDOW):
        slow += weight * padded[at : at + len(rows)]
    return np.asarray(rows + gain * (rows - slow))
