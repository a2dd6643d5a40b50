"""The spectrogram the network was trained on: power on a mel scale, linear, 100 frames a second.

The same numbers as ``librosa.feature.melspectrogram`` with its defaults at 16 kHz: Slaney's mel
scale and area-normalised triangles (Auditory Toolbox, Interval Research TR 1998-010, section
"mfcc"), periodic Hann window, centred frames over zero padding.
"""

from __future__ import annotations

import functools
from typing import Final

import numpy as np
import numpy.typing as npt

RATE: Final = 16000
"""Sample rate in Hz."""

HOP: Final = 160
"""Samples from frame to frame: 10 ms."""

MELS: Final = 40
"""Values in a frame."""

_FFT: Final = 400
_BREAK_HZ: Final = 1000.0
_LINEAR_HZ: Final = 200.0 / 3.0
_BREAK_MEL: Final = _BREAK_HZ / _LINEAR_HZ
_LOG_STEP: Final = float(np.log(6.4)) / 27.0

FloatArray = npt.NDArray[np.float32]


def mel_spectrogram(samples: FloatArray) -> FloatArray:
    """Power of ``samples`` (16 kHz float32 mono, shape (n,)) as (n // 160 + 1, 40) float32."""
    return np.asarray(power_spectrum(samples) @ filterbank(), np.float32)


def power_spectrum(samples: FloatArray) -> FloatArray:
    """Power of ``samples`` at 201 frequencies up to 8 kHz, (n // 160 + 1, 201)."""
    padded = np.pad(np.asarray(samples, np.float32), _FFT // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FFT)[::HOP]
    spectrum = np.fft.rfft(frames * _window(), axis=1)
    return np.asarray(spectrum.real**2 + spectrum.imag**2)


@functools.cache
def _window() -> FloatArray:
    n = np.arange(_FFT)
    return (0.5 - 0.5 * np.cos(2 * np.pi * n / _FFT)).astype(np.float32)


@functools.cache
def filterbank() -> FloatArray:
    """Triangles of equal area, shape (201, 40)."""
    bins = np.arange(_FFT // 2 + 1) * (RATE / _FFT)
    edges = _hertz(np.linspace(0.0, _mel(RATE / 2), MELS + 2))
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins[:, None] - low) / (middle - low)
    falling = (high - bins[:, None]) / (high - middle)
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return np.asarray(triangles * (2.0 / (high - low)), np.float32)


def _mel(hertz: float) -> float:
    """Slaney's scale above its break at 1 kHz."""
    return float(_BREAK_MEL + np.log(hertz / _BREAK_HZ) / _LOG_STEP)


def _hertz(mels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    above = _BREAK_HZ * np.exp(_LOG_STEP * (mels - _BREAK_MEL))
    return np.where(mels < _BREAK_MEL, mels * _LINEAR_HZ, above)
