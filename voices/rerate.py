"""Any sample rate to any other, in a stream, with explicit state and under 2 ms of delay.

A windowed-sinc low-pass as a polyphase bank (Crochiere & Rabiner, *Multirate Digital Signal
Processing*, 1983, §3). What lies above the target's Nyquist frequency is down by 70 dB.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

RealArray = npt.NDArray[np.float64]

MIN_RATE: Final = 8000
MAX_RATE: Final = 192_000

_ATTENUATION: Final = 70.0
_EDGE: Final = (0.44, 0.56)
"""Pass and stop band edges as a share of the lower rate: what folds back stays above 0.44."""


class Rerate:
    """One stream from ``source`` to ``target`` Hz. Any chunking gives the same output."""

    def __init__(self, source: int, target: int) -> None:
        """Start before the first sample; raises ``ValueError`` for rates out of 8..192 kHz."""
        for name, rate in (("source", source), ("target", target)):
            if not MIN_RATE <= rate <= MAX_RATE:
                raise ValueError(f"{name} rate {rate} Hz; allowed: {MIN_RATE} to {MAX_RATE}")
        self.source = source
        common = math.gcd(source, target)
        self._up, self._down = target // common, source // common
        self._bank = _bank(source, target)
        self._taps = self._bank.shape[1]
        self._history = np.zeros(self._taps - 1)
        self._taken = 0
        """Input samples so far."""

        self._made = 0
        """Output samples so far; output m stands at input m · down / up."""

    @property
    def delay(self) -> float:
        """Delay in input samples."""
        return 0.0 if self._up == self._down else (self._taps - 1) / 2

    def feed(self, samples: npt.NDArray[np.floating]) -> RealArray:
        """The output that ``samples``, shape ``(n,)``, complete."""
        if self._up == self._down:
            return np.asarray(samples, np.float64)
        window = np.concatenate([self._history, np.asarray(samples, np.float64)])
        base = self._taken - (self._taps - 1)
        self._taken += len(samples)
        count = max(0, -(-self._taken * self._up // self._down) - self._made)
        if not count:
            self._history = window[len(window) - (self._taps - 1) :].copy()
            return np.zeros(0)
        position = (self._made + np.arange(count)) * self._down
        first = position // self._up - base - (self._taps - 1)
        windows = np.lib.stride_tricks.sliding_window_view(window, self._taps)[first]
        out = np.einsum("ij,ij->i", windows, self._bank[position % self._up])
        self._made += count
        self._history = window[len(window) - (self._taps - 1) :].copy()
        return np.asarray(out, np.float64)

    def finish(self) -> RealArray:
        """What the delay still holds."""
        return self.feed(np.zeros(math.ceil(self.delay)))


@lru_cache(maxsize=32)
def _bank(source: int, target: int) -> RealArray:
    """The filter's phases, shape ``(up, taps)``; a row meets samples oldest first."""
    common = math.gcd(source, target)
    up = target // common
    low = min(source, target)
    width = (_EDGE[1] - _EDGE[0]) * low / source
    taps = math.ceil((_ATTENUATION - 8) / (2.285 * 2 * math.pi * width)) | 1
    beta = 0.1102 * (_ATTENUATION - 8.7)
    centre = (taps - 1) / 2
    cutoff = (_EDGE[0] + _EDGE[1]) / 2 * low / source
    age = (taps - 1) - np.arange(taps)[None, :] + np.arange(up)[:, None] / up
    inside = np.clip(1 - ((age - centre) / (centre + 1)) ** 2, 0.0, None)
    rows = 2 * cutoff * np.sinc(2 * cutoff * (age - centre)) * np.i0(beta * np.sqrt(inside))
    bank: RealArray = rows / rows.sum(axis=1, keepdims=True)
    bank.setflags(write=False)
    return bank
