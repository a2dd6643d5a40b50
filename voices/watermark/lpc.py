"""Linear prediction by the autocorrelation method (Levinson-Durbin; Makhoul 1975)."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.jit import compiled

RealArray = npt.NDArray[np.float64]

LANES: Final = 16
"""Lags are counted in multiples of this: four vectors of four."""


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
    # All lags side by side within a few samples, not sample by sample within a lag: that is done
    # in vectors, for which the lags are filled up to whole ones. Every sum keeps its order.
    lanes = (order + LANES) // LANES * LANES
    shaped = np.zeros(lanes + count)
    for n in range(count):
        shaped[lanes + n] = segment[n] * window[n]
    sums = np.zeros(lanes)
    first = 1
    for n in range(0, count - count % 8, 8):
        now = shaped[lanes + n : lanes + n + 8]
        x0, x1, x2, x3, x4, x5, x6, x7 = (
            now[0], now[1], now[2], now[3], now[4], now[5], now[6], now[7]
        )  # fmt: skip
        past = shaped[first + n : first + n + lanes + 7]
        for j in range(lanes):
            total = sums[j] + x0 * past[j]
            total += x1 * past[j + 1]
            total += x2 * past[j + 2]
            total += x3 * past[j + 3]
            total += x4 * past[j + 4]
            total += x5 * past[j + 5]
            total += x6 * past[j + 6]
            total += x7 * past[j + 7]
            sums[j] = total
    for n in range(count - count % 8, count):
        for j in range(lanes):
            sums[j] += shaped[lanes + n] * shaped[first + n + j]
    auto = np.empty(order + 1)
    for lag in range(order + 1):
        auto[lag] = sums[lanes - 1 - lag] * lag_window[lag]
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
