"""What a detector listens to: the signal without the host's envelope, so that chips stand out.

LPC whitening undoes the minimum-phase filter of the embedder; a zero-phase spectral stage flattens
what is left and weights each band by how much of it rises above the noise. Everything that is
done depends on the signal alone, never on the key: that is what makes false alarms countable.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.jit import compiled
from ringtrue.voices.watermark.keys import CHIP_RATE
from ringtrue.voices.watermark.lpc import RealArray, lag_window, predict

ORDER: Final = 16
HOP: Final = 40
HALF_WINDOW: Final = 160
SIZE: Final = 256
SHIFT: Final = 64
MARGIN: Final = SIZE
"""Samples at either end that are less sure: 32 ms."""

LOW_HZ: Final = 150.0
HIGH_HZ: Final = 3850.0
OWN_SHARE: Final = 0.35
"""How far whitening keeps to the smooth envelope; the rest is each bin's own level."""

ACTIVE: Final = 1e-3
"""Power of the least of the frames that count as speech, relative to the loud ones'."""

NOISE_QUANTILE: Final = 0.1
NOISE_FACTOR: Final = 2.0
OWN_FLOOR: Final = 1e-3
"""A floor this far below the speech (30 dB) is what it is: such quiet is marked, and well."""

LEAST_ABOVE: Final = 0.01
LIFT: Final = 0.2
"""By what power of their level frames are lifted: the quieter, the less hides their mark."""

LOWEST: Final = 1e-6
TILT_DB_PER_KHZ: Final = 0.5
SMOOTH_BINS: Final = 4.0
NOISE_SMOOTH_BINS: Final = 3.0
LEVEL_SAMPLES: Final = 20
CLIP: Final = 2.5

_WINDOW: Final[RealArray] = np.hanning(2 * HALF_WINDOW)
_LAGS: Final[RealArray] = lag_window(ORDER, CHIP_RATE)
_TAPER: Final[RealArray] = np.sqrt(np.hanning(SIZE + 1)[:-1])
_BINS: Final = SIZE // 2 + 1


def _gaussian(sigma: float) -> RealArray:
    """Smoothing over frequency with the edge bins repeated, as a matrix ``(_BINS, _BINS)``."""
    reach = int(4 * sigma + 0.5)
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    matrix = np.zeros((_BINS, _BINS))
    for offset, weight in zip(offsets, weights, strict=True):
        source = np.clip(np.arange(_BINS) + offset, 0, _BINS - 1)
        np.add.at(matrix, (source, np.arange(_BINS)), weight)
    return matrix


_SMOOTH: Final[RealArray] = _gaussian(SMOOTH_BINS)
_SMOOTH_NOISE: Final[RealArray] = _gaussian(NOISE_SMOOTH_BINS)


def _band() -> RealArray:
    frequencies = np.arange(_BINS) * CHIP_RATE / SIZE
    inside = (frequencies >= LOW_HZ) & (frequencies <= HIGH_HZ)
    return np.asarray(inside * 10 ** (TILT_DB_PER_KHZ / 20 * (frequencies - 1000) / 1000))


_BAND: Final[RealArray] = _band()
_INSIDE: Final[npt.NDArray[np.bool_]] = _BAND > 0.0


def whitened(samples: npt.NDArray[np.float64]) -> RealArray:
    """The chips' carrier in ``samples`` (8 kHz, scale of 16-bit PCM), same length, rms about 1.

    Levels don't matter as long as they are far from one step of PCM.
    """
    count = len(samples)
    if count < 2 * SIZE:
        return np.zeros(count)
    flat = np.zeros(count)
    _whiten(np.ascontiguousarray(samples, np.float64), _WINDOW, _LAGS, flat)
    flat = np.clip(flat / (_moving_rms(flat, LEVEL_SAMPLES) + 2.0), -3.0, 3.0)
    spectrum = _stft(np.pad(flat, SIZE))
    power = np.abs(spectrum) ** 2
    power += 1e-3 * power.mean() + 1e-12
    envelope = power @ _SMOOTH
    gain = envelope / ((1 - OWN_SHARE) * power + OWN_SHARE * envelope)
    gain *= _trust(np.abs(_stft(np.pad(samples, SIZE))) ** 2 @ _SMOOTH) * _BAND
    result = _istft(spectrum * gain, count + 2 * SIZE)[SIZE : SIZE + count]
    deviation = float(np.sqrt((result**2).mean()))
    if deviation == 0.0:
        return np.zeros(count)
    return np.asarray(np.clip(result / deviation, -CLIP, CLIP))


def _trust(heard: RealArray) -> RealArray:
    """How much each frame and bin of the power ``heard`` is likely to tell of a mark.

    Less in what doesn't rise above the recording's noise; more where the speech is low, since a
    mark sinks with its host's level only by half.
    """
    level = heard[:, _INSIDE].mean(axis=1)
    speech = float(level[level >= ACTIVE * np.quantile(level, 0.95)].mean()) + 1e-9
    noise = np.quantile(heard, NOISE_QUANTILE, axis=0) @ _SMOOTH_NOISE
    noise = np.maximum(noise - OWN_FLOOR * speech, 0.0)
    above = np.maximum(heard - NOISE_FACTOR * noise, 0.0) / (heard + 1e-9)
    lift = np.clip(level / speech, LOWEST, 1.0) ** (-LIFT / 2)
    return np.asarray(np.sqrt(above + LEAST_ABOVE) * lift[:, None])


@compiled
def _whiten(samples: RealArray, window: RealArray, lags: RealArray, out: RealArray) -> None:
    order = lags.shape[0] - 1
    size = window.shape[0]
    count = samples.shape[0]
    inverse = np.empty(order + 1)
    segment = np.zeros(size)
    for frame in range((count + HOP - 1) // HOP):
        first = frame * HOP + HOP // 2 - size // 2
        for i in range(size):
            j = first + i
            segment[i] = samples[j] if 0 <= j < count else 0.0
        predict(segment, window, lags, float(size), inverse)
        for i in range(frame * HOP, min(count, (frame + 1) * HOP)):
            total = 0.0
            for k in range(min(order, i) + 1):
                total += inverse[k] * samples[i - k]
            out[i] = total


def _moving_rms(values: RealArray, width: int) -> RealArray:
    sums = np.concatenate([[0.0], np.cumsum(values * values)])
    at = np.arange(len(values))
    low = np.clip(at - width // 2, 0, len(values))
    high = np.clip(at + width - width // 2, 0, len(values))
    return np.asarray(np.sqrt(np.maximum(sums[high] - sums[low], 0.0) / (high - low) + 1e-9))


def _stft(values: RealArray) -> npt.NDArray[np.complex128]:
    frames = np.lib.stride_tricks.sliding_window_view(values, SIZE)[::SHIFT]
    return np.fft.rfft(frames * _TAPER, axis=1)


def _istft(spectrum: npt.NDArray[np.complex128], count: int) -> RealArray:
    frames = np.fft.irfft(spectrum, SIZE, axis=1) * _TAPER
    out = np.zeros(count + SIZE)
    overlap = SIZE // SHIFT
    for k in range(overlap):
        block = frames[k::overlap].ravel()
        out[k * SHIFT : k * SHIFT + len(block)] += block
    return out[:count] / (overlap / 2)
