"""Levels of a recording: its noise, its speech, its flattened peaks and its bandwidth.

All blocking and on plain arrays: samples mono, shape ``(n,)``, float32, full scale 1.0.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.encoder.errors import NotEnoughSpeechError
from ringtrue.voices.encoder.speech import levelled, trimmed
from ringtrue.voices.engine import SPEECH_RATE

FloatArray = npt.NDArray[np.float32]
RealArray = npt.NDArray[np.float64]

MAX_SNR: Final = 60.0
"""Signal to noise in dB beyond which the measure tells no more."""

HIGH_BAND_RATE: Final = 15000
"""Lowest rate in Hz that holds the high band."""

_BAND_HZ: Final = 250.0
_LOWEST_HZ: Final = 100.0
"""Hum and handling below it don't count as noise: no voice is made from there."""

_QUIET_QUANTILE: Final = 0.1
_QUIET_BIAS: Final = 2.1
"""Mean of steady noise over its quietest tenth, in bands of eight bins."""

_LOUD_QUANTILE: Final = 0.7

_TOP_QUANTILE: Final = 0.999
_NEAR_TOP: Final = 0.85

SILENT_HIGH_BAND: Final = -80.0
"""In dB: nothing of the voice above 4.5 kHz, or too low a rate to hold it."""

_SPREAD: Final = 2.2
"""The 95th percentile of steady noise over its mean, in such bands."""


def speech_seconds(samples: FloatArray) -> float:
    """Seconds of speech in ``samples`` at 16 kHz; 0 where it is silent."""
    try:
        return len(trimmed(levelled(samples))) / SPEECH_RATE
    except NotEnoughSpeechError:
        return 0.0


def signal_to_noise(samples: FloatArray) -> float:
    """Speech over noise in dB at 16 kHz, 0 to :data:`MAX_SNR`.

    Noise is what each band never falls below: its quietest tenth in time (Martin, "Noise power
    spectral density estimation based on optimal smoothing and minimum statistics", IEEE TSAP
    9(5), 2001, without the tracking). So no pause is needed between words. Signal is the mean of
    the louder frames, less that noise. 0 for under 0.5 s.
    """
    if len(samples) < SPEECH_RATE // 2:
        return 0.0
    bands = _bands(samples, SPEECH_RATE)
    noise = float(np.quantile(bands, _QUIET_QUANTILE, axis=0).sum()) * _QUIET_BIAS
    power = bands.sum(axis=1)
    loud = power[power >= np.quantile(power, _LOUD_QUANTILE)].mean()
    if loud <= 0.0:
        return 0.0
    signal = max(loud - noise, loud * 1e-6)
    ratio = 10 * np.log10(signal / max(noise, signal * 1e-6))
    return float(np.clip(ratio, 0.0, MAX_SNR))


def clipped_share(samples: FloatArray) -> float:
    """Share of samples near the top: within 1.4 dB of what the loudest 0.1 % exceed.

    Speech has few there, under 1 %: its peaks are rare. Clipping gathers them at one level, and
    later gain, resampling or coding moves that level but keeps them together.
    """
    if len(samples) == 0:
        return 0.0
    size = np.abs(samples)
    top = float(np.quantile(size, _TOP_QUANTILE))
    return float(np.mean(size >= _NEAR_TOP * top)) if top > 0.0 else 0.0


def high_band(samples: FloatArray, rate: int) -> float:
    """Level in dB of the speech from 4.5 to 7.5 kHz against that below 4 kHz.

    Measured where each band is loudest (sibilants, in the high ones), less the noise in between.
    :data:`SILENT_HIGH_BAND` for rates that can't hold it and for under 0.25 s. Audio that was
    once sampled at 8 kHz has nothing there, whatever its rate is now.
    """
    if rate < HIGH_BAND_RATE or len(samples) < rate // 4:
        return SILENT_HIGH_BAND
    bands = _bands(samples, rate)
    noise = np.quantile(bands, _QUIET_QUANTILE, axis=0) * _QUIET_BIAS
    speech = np.maximum(np.quantile(bands, 0.95, axis=0) - _SPREAD * noise, 0.0)
    low, high = speech[_between(0, 4000)].sum(), speech[_between(4500, 7500)].sum()
    if low <= 0.0 or high <= 0.0:
        return SILENT_HIGH_BAND
    return float(max(SILENT_HIGH_BAND, 10 * np.log10(high / low)))


def _between(low: float, high: float) -> slice:
    """The bands that begin from ``low`` and end up to ``high`` Hz."""
    first = int(np.ceil(max(0.0, low - _LOWEST_HZ) / _BAND_HZ))
    return slice(first, int((high - _LOWEST_HZ) // _BAND_HZ))


def _bands(samples: FloatArray, rate: int) -> RealArray:
    """Power in bands of :data:`_BAND_HZ` from :data:`_LOWEST_HZ`: (frames, bands), every 16 ms."""
    size, hop = round(rate * 0.032), round(rate * 0.016)
    window = np.hanning(size).astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[::hop]
    count = int((rate / 2 - _LOWEST_HZ) // _BAND_HZ)
    edges = np.rint((_LOWEST_HZ + np.arange(count + 1) * _BAND_HZ) * size / rate).astype(int)
    out = np.empty((len(frames), count))
    for at in range(0, len(frames), 256):  # bounds the memory
        spectrum = np.abs(np.fft.rfft(frames[at : at + 256] * window, axis=1)) ** 2
        sums = np.add.reduceat(spectrum, edges, axis=1)
        out[at : at + 256] = sums[:, :count]
    return out
