"""Linear prediction by the autocorrelation method (Levinson-Durbin; Makhoul 1975)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ringtrue.voices.jit import compiled

RealArray = npt.NDArray[np.float64]


@compiled
def predict(
    segment: RealArray, window: RealArray, lag_window: RealArray, floor: float, out: RealArray
) -> None:
    """Fill ``out`` with the inverse filter ``1, a1 … ap`` of the windowed ``segment``.

    ``lag_window`` (p+1) smooths the spectrum; ``floor`` is white noise added to the energy, so
    that silence gives a flat filter.
    """
    order = out.shape[0] - 1
    count = segment.shape[0]
    # Lag by lag within a sample, not sample by sample within a lag: that is done in vectors.
    shaped = np.zeros(order + count)
    for n in range(count):
        shaped[order + n] = segment[n] * window[n]
    sums = np.zeros(order + 1)
    for n in range(count):
        for j in range(order + 1):
            sums[j] += shaped[order + n] * shaped[n + j]
    auto = np.empty(order + 1)
    for lag in range(order + 1):
        auto[lag] = sums[order - lag] * lag_window[lag]
    auto[0] = auto[0] * 1.0001 + floor
    out[:] = 0.0
    out[0] = 1.0
    error = auto[0]
    older = np.empty(order + 1)
    for i in range(1, order + 1):
        total = auto[i]
        for j in range(1, i):
            total += out[j] * auto[i - j]
        reflection = -total / error
        for j in range(1, i):
            older[j] = out[j] + reflection * out[i - j]
        for j in range(1, i):
            out[j] = older[j]
        out[i] = reflection
        error *= 1.0 - reflection * reflection


def lag_window(order: int, rate: int, bandwidth: float = 40.0) -> RealArray:
    """A Gaussian lag window of ``bandwidth`` Hz, shape ``(order + 1,)``."""
    lags = np.arange(order + 1)
    return np.asarray(np.exp(-0.5 * (2 * np.pi * bandwidth * lags / rate) ** 2), np.float64)
