"""The mel-cepstrum's frequency axis."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.flite.frontend import COEFFICIENTS

ALPHA: Final = 0.42
"""All-pass warping of all base voices."""

RealArray = npt.NDArray[np.float64]


def cosines(bins: int, alpha: float = ALPHA) -> RealArray:
    """Log magnitude at ``bins`` frequencies from 0 to the Nyquist rate is this times the
    mel-cepstrum: (bins, 25).
    """
    omega = np.linspace(0.0, np.pi, bins)
    warped = omega + 2 * np.arctan2(alpha * np.sin(omega), 1 - alpha * np.cos(omega))
    return np.asarray(np.cos(np.outer(warped, np.arange(COEFFICIENTS))))


def from_log_magnitude(bins: int, alpha: float = ALPHA) -> RealArray:
    """Mel-cepstra are rows of log magnitudes at ``bins`` frequencies times this: (bins, 25).

    The cosine series of the log magnitude along the warped axis, cut after c24: what warping
    the whole cepstrum and cutting it gives (Oppenheim and Johnson, Proc. IEEE 1972).
    """
    points = 4 * bins
    warped = np.pi * (np.arange(points) + 0.5) / points
    linear = warped - 2 * np.arctan2(alpha * np.sin(warped), 1 + alpha * np.cos(warped))
    at = linear * (bins - 1) / np.pi
    low = np.minimum(at.astype(np.intp), bins - 2)
    weight = at - low
    series = np.cos(np.outer(warped, np.arange(COEFFICIENTS))) * (2.0 / points)
    series[:, 0] /= 2
    matrix = np.zeros((bins, COEFFICIENTS))
    np.add.at(matrix, low, series * (1 - weight)[:, None])
    np.add.at(matrix, low + 1, series * weight[:, None])
    return matrix
