"""The tone after which an answering machine records. Sans-IO.

There is no standard for it: one steady tone, mostly 400 to 2,100 Hz, from 0.12 s to 2 s. Speech
has harmonics and moves, DTMF and most progress tones (ITU-T E.180) are two tones at once.
"""

from __future__ import annotations

from typing import Final

import numpy as np

LOW_HZ: Final = 380.0
HIGH_HZ: Final = 2100.0
LEAST_FRAMES: Final = 6
MOST_FRAMES: Final = 100
LOUD_RMS: Final = 150.0
"""Softer ones are taken for noise (16-bit samples)."""

PURE: Final = 0.9
"""Share of a frame's energy that its strongest component must have."""

DRIFT_HZ: Final = 8.0
SWELL_DB: Final = 1.5
"""How far pitch and level may be from those of the beep's second frame: voices waver."""

_FFT: Final = 1024
_LOBE_HZ: Final = 110.0
"""Half width of a Hann window's main lobe over 20 ms."""


class BeepDetector:
    """For 20 ms frames at ``rate`` Hz; about 40 µs each."""

    def __init__(self, rate: int) -> None:
        """Nothing heard yet."""
        self._window = np.hanning(rate // 50)
        self._frequency = np.fft.rfftfreq(_FFT, 1 / rate)
        self._inside = (self._frequency >= LOW_HZ) & (self._frequency <= HIGH_HZ)
        self._tone = self._level = 0.0
        self._frames = 0

    def push(self, pcm: bytes) -> bool:
        """Whether a beep has just ended, with the frame before ``pcm``."""
        tone, level = self._tone_of(pcm)
        drift = DRIFT_HZ if self._frames > 1 else 3 * DRIFT_HZ
        if self._frames and tone and abs(tone - self._tone) <= drift:
            steady = self._frames == 1 or abs(level - self._level) <= SWELL_DB
            if self._frames == 1:  # the first may have begun within the frame
                self._tone, self._level = tone, level
            if steady:
                self._frames += 1
                return False
        # Nor does the last frame, in which it ends, count.
        ended = LEAST_FRAMES <= self._frames <= MOST_FRAMES and not tone
        if self._frames < LEAST_FRAMES or not tone:
            self._frames = 1 if tone else 0
            self._tone, self._level = tone, level
        return ended

    def _tone_of(self, pcm: bytes) -> tuple[float, float]:
        """Frequency and level (dB) of a frame that is one tone; zeros otherwise."""
        samples = np.frombuffer(pcm, np.int16).astype(np.float64)
        if not len(samples) or float(samples @ samples) < LOUD_RMS**2 * len(samples):
            return 0.0, 0.0
        power = np.abs(np.fft.rfft(samples * self._window, _FFT)) ** 2
        peak = int(np.argmax(np.where(self._inside, power, 0)))
        near = np.abs(self._frequency - self._frequency[peak]) <= _LOBE_HZ
        if power[near].sum() < PURE * power.sum():
            return 0.0, 0.0
        # A parabola through the logarithms of the peak and its neighbours.
        below, top, above = np.log(power[peak - 1 : peak + 2] + 1e-9)
        offset = 0.5 * (below - above) / (below - 2 * top + above)
        step = self._frequency[1]
        return float(self._frequency[peak] + offset * step), 10 / np.log(10) * float(top)
