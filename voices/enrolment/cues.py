"""Traits of a voice's waveform by which speech from a vocoder differs from speech from a throat.

Three kinds, none of which a fixed linear filter (a microphone, a telephone) changes much:

- *modulation*: how fast the spectrum's shape moves. Trajectories that a model predicts are
  smoother, or stepped at its frame rate (Takamichi et al., "Postfilters to modify the modulation
  spectrum for statistical parametric speech synthesis", IEEE/ACM TASLP 24(4), 2016);
- *excitation*: the linear prediction's residual. Vocoders excite with pulses, whose harmonics
  are in phase, and are more periodic than folds of flesh (De Leon et al., "Evaluation of speaker
  verification security and detection of HMM-based synthetic speech", IEEE TASLP 20(8), 2012);
- *periodicity by band*: how far up the spectrum a voice is periodic, and how evenly.

Everything is measured at 8 kHz, so that a telephone's band, a codec that drops what is above it
and a rate converted up say nothing by themselves.

All blocking, on mono samples at 16 kHz.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.engine import SPEECH_RATE

RealArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

LONGEST_SECONDS: Final = 31

_ACTIVE_DB: Final = 30.0
"""Frames further below the loud ones than this are not looked at."""

_RATE: Final = 8000
_HOP: Final = 80
_SHORT: Final = 160
_LONG: Final = 320
_TRANSFORM: Final = 2048
_ORDER: Final = 10

_PITCH: Final = (60.0, 420.0)
_VOICED: Final = 0.6
"""Normalised autocorrelation at the pitch from which a frame counts as voiced."""

_FEWEST_VOICED: Final = 30
"""Voiced frames (10 ms) without which nothing is said."""

_CEPSTRA: Final = ((1, 4), (4, 7), (7, 13))
_MODULATIONS: Final = ((2.0, 5.0), (5.0, 10.0), (10.0, 18.0), (18.0, 30.0), (30.0, 50.0))
_BLOCK: Final = 64
_BANDS: Final = ((80, 800), (800, 1600), (1600, 2400), (2400, 3600))
_PHASE_BANDS: Final = ((80, 1000), (1000, 2000), (2000, 3600))

NAMES: Final = (
    *(
        f"modulation {a}-{b - 1} {lo:.0f}-{hi:.0f} Hz"
        for a, b in _CEPSTRA
        for lo, hi in _MODULATIONS
    ),
    *(f"periodicity {what} {lo}-{hi} Hz" for lo, hi in _BANDS for what in ("mean", "spread")),
    *(f"phase {what} {lo}-{hi} Hz" for lo, hi in _PHASE_BANDS for what in ("mean", "spread")),
    "residual kurtosis mean",
    "residual kurtosis spread",
    "residual skewness mean",
    "residual skewness spread",
    "residual periodicity mean",
    "residual periodicity spread",
    "pitch jitter median",
    "pitch jitter spread",
    "level jitter median",
)  # fmt: skip
"""What each number of :func:`cues` is."""


def cues(samples: npt.NDArray[np.float32]) -> RealArray | None:
    """The traits named in :data:`NAMES`, shape ``(len(NAMES),)``, all finite.

    ``samples`` is mono at 16 kHz, shape (n,); 5 s say much more than 2. None where under 0.3 s
    of it is voiced. Blocking: some 60 ms of CPU for 10 s, none for one of the last two
    recordings: more than one check asks for them.
    """
    if len(samples) < SPEECH_RATE:
        return None
    found = _cues(samples[: LONGEST_SECONDS * SPEECH_RATE].astype(np.float32).tobytes())
    return None if found is None else found.copy()


@lru_cache(maxsize=2)
def _cues(samples: bytes) -> RealArray | None:
    wave = _halved(np.frombuffer(samples, np.float32).astype(np.float64))
    wave = np.append(wave[0], wave[1:] - 0.95 * wave[:-1])
    level = float(np.sqrt(np.mean(wave**2)))
    if level < 1e-6:
        return None
    wave /= level
    long = np.lib.stride_tricks.sliding_window_view(wave, _LONG)[::_HOP]
    power = np.mean(long**2, axis=1)
    active = power > np.quantile(power, 0.95) * 10 ** (-_ACTIVE_DB / 10)
    spectra = np.abs(np.fft.rfft(long * np.hanning(_LONG), _TRANSFORM, axis=1)) ** 2
    lags, strength = _pitch(spectra)
    voiced = active & (strength > _VOICED)
    if voiced.sum() < _FEWEST_VOICED:
        return None
    parts = [
        _modulation(wave, active),
        _periodicity(spectra[voiced], lags[voiced]),
        _excitation(long[voiced], lags[voiced]),
        _jitter(lags, np.log(power + 1e-12), voiced),
    ]
    return np.nan_to_num(np.concatenate(parts), posinf=0.0, neginf=0.0)


def _halved(wave: RealArray) -> RealArray:
    """At 8 kHz, without what is above 3.8 kHz."""
    even = wave[: len(wave) // 2 * 2]
    spectrum = np.fft.rfft(even)[: len(even) // 4 + 1]
    hz = np.arange(len(spectrum)) * SPEECH_RATE / len(even)
    spectrum *= np.clip((3900.0 - hz) / 200.0, 0.0, 1.0)
    return np.asarray(np.fft.irfft(spectrum, len(even) // 2) / 2, np.float64)


def _pitch(spectra: RealArray) -> tuple[RealArray, RealArray]:
    """Pitch period in samples (fractional) and normalised autocorrelation there, per frame."""
    correlation = np.fft.irfft(spectra, axis=1)
    window = np.hanning(_LONG)
    taper = np.fft.irfft(np.abs(np.fft.rfft(window, _TRANSFORM)) ** 2)
    low, high = int(_RATE / _PITCH[1]), int(_RATE / _PITCH[0])
    part = (
        correlation[:, : high + 2] / (correlation[:, :1] + 1e-12) / (taper[: high + 2] / taper[0])
    )
    region = part[:, low : high + 1]
    # The shortest period that is nearly as good as the best: not its double.
    good = region >= 0.92 * region.max(axis=1, keepdims=True)
    inner = (region >= part[:, low - 1 : high]) & (region >= part[:, low + 1 : high + 2])
    at = low + np.argmax(good & inner, axis=1)
    rows = np.arange(len(part))
    before, here, after = part[rows, at - 1], part[rows, at], part[rows, at + 1]
    bend = before - 2 * here + after
    shift = np.where(np.abs(bend) > 1e-9, 0.5 * (before - after) / np.where(bend == 0, 1, bend), 0)
    return at + np.clip(shift, -0.5, 0.5), here


def _modulation(wave: RealArray, active: npt.NDArray[np.bool_]) -> RealArray:
    """Log shares of the modulation spectrum of the cepstra, per group of these."""
    frames = np.lib.stride_tricks.sliding_window_view(wave, _SHORT)[::_HOP][: len(active)]
    bands, cosines = _cepstral()
    spectra = np.abs(np.fft.rfft(frames * np.hanning(_SHORT), 512, axis=1)) ** 2
    cepstra = np.log(spectra @ bands + 1e-3) @ cosines
    blocks = []
    for start in range(0, len(cepstra) - _BLOCK + 1, _BLOCK // 2):
        if active[start : start + _BLOCK].mean() > 0.6:
            blocks.append(cepstra[start : start + _BLOCK])
    if not blocks:
        blocks = [np.resize(cepstra, (_BLOCK, cepstra.shape[1]))]
    stacked = np.stack(blocks)
    stacked = stacked - stacked.mean(axis=1, keepdims=True)
    power = np.abs(np.fft.rfft(stacked * np.hanning(_BLOCK)[:, None], axis=1)) ** 2
    power = power.mean(axis=0)
    hz = np.fft.rfftfreq(_BLOCK, _HOP / _RATE)
    out = []
    for first, end in _CEPSTRA:
        total = power[:, first:end].sum() + 1e-12
        for lo, hi in _MODULATIONS:
            share = power[(hz >= lo) & (hz < hi), first:end].sum() / total
            out.append(np.log(share + 1e-6))
    return np.array(out)


def _periodicity(spectra: RealArray, lags: RealArray) -> RealArray:
    """Mean and spread over frames of the autocorrelation at the pitch, in each band."""
    bins = np.arange(spectra.shape[1])
    cosine = np.cos(2 * np.pi * bins[None] * lags[:, None] / _TRANSFORM)
    out = []
    for lo, hi in _BANDS:
        band = slice(lo * _TRANSFORM // _RATE, hi * _TRANSFORM // _RATE)
        ratio = (spectra[:, band] * cosine[:, band]).sum(axis=1) / (
            spectra[:, band].sum(axis=1) + 1e-12
        )
        out += [ratio.mean(), ratio.std()]
    return np.array(out)


def _excitation(frames: RealArray, lags: RealArray) -> RealArray:
    """Phase coherence of the residual's harmonics by band, then its shape and periodicity."""
    residual = _residual(frames)
    window = np.hanning(residual.shape[1])
    spectra = np.fft.rfft(residual * window, _TRANSFORM, axis=1)
    step = _TRANSFORM / lags
    out = []
    for lo, hi in _PHASE_BANDS:
        coherence = []
        low, high = lo * _TRANSFORM / _RATE, hi * _TRANSFORM / _RATE
        for spectrum, width in zip(spectra, step, strict=True):
            first, last = int(np.ceil(low / width)), int(high / width)
            at = np.rint(np.arange(max(first, 1), last + 1) * width).astype(int)
            values = spectrum[at]
            products = values[1:] * values[:-1].conj()
            size = np.abs(products).sum()
            if len(products) > 2:
                # What all neighbours have in common is the pulse's place in the frame.
                coherence.append(np.abs(products.sum()) / (size + 1e-12))
        values = np.array(coherence or [0.0])
        out += [values.mean(), values.std()]
    middle = residual - residual.mean(axis=1, keepdims=True)
    scale = middle.std(axis=1) + 1e-12
    kurtosis = np.log(np.mean((middle / scale[:, None]) ** 4, axis=1))
    skewness = np.mean((middle / scale[:, None]) ** 3, axis=1)
    correlation = np.fft.irfft(np.abs(spectra) ** 2, axis=1)
    taper = np.fft.irfft(np.abs(np.fft.rfft(window, _TRANSFORM)) ** 2)
    at = np.rint(lags).astype(int)
    rows = np.arange(len(at))
    near = np.stack([correlation[rows, at + d] / taper[at + d] for d in (-1, 0, 1)])
    periodic = near.max(axis=0) / (correlation[:, 0] / taper[0] + 1e-12)
    # A recording may be inverted: which way the pulses point says nothing.
    out += [kurtosis.mean(), kurtosis.std(), abs(np.median(skewness)), skewness.std()]
    out += [periodic.mean(), periodic.std()]
    return np.array(out)


def _residual(frames: RealArray) -> RealArray:
    """The linear prediction's error, shape (frames, n - order), by Levinson's recursion."""
    windowed = frames * np.hanning(frames.shape[1])
    spectra = np.abs(np.fft.rfft(windowed, _TRANSFORM, axis=1)) ** 2
    r = np.fft.irfft(spectra, axis=1)[:, : _ORDER + 1]
    r[:, 0] = r[:, 0] * 1.0001 + 1e-9
    a = np.zeros((len(frames), _ORDER + 1))
    a[:, 0] = 1.0
    error = r[:, 0].copy()
    for i in range(1, _ORDER + 1):
        reflection = -np.sum(a[:, :i] * r[:, i:0:-1], axis=1) / error
        previous = a[:, : i + 1].copy()
        a[:, : i + 1] = previous + reflection[:, None] * previous[:, ::-1]
        error *= np.maximum(1 - reflection**2, 1e-9)
    size = frames.shape[1] - _ORDER
    out = np.zeros((len(frames), size))
    for i in range(_ORDER + 1):
        out += a[:, i : i + 1] * frames[:, _ORDER - i : _ORDER - i + size]
    return out


def _jitter(lags: RealArray, level: RealArray, voiced: npt.NDArray[np.bool_]) -> RealArray:
    """How unsteadily pitch and level move from frame to frame within voiced runs."""
    run = voiced[2:] & voiced[1:-1] & voiced[:-2]
    logs = np.log(lags)
    bend = np.abs(logs[2:] - 2 * logs[1:-1] + logs[:-2])
    bend = bend[run & (bend < 0.1)]
    loud = np.abs(level[2:] - 2 * level[1:-1] + level[:-2])[run]
    if len(bend) < 10:
        return np.zeros(3)
    return np.array(
        [
            np.log(np.median(bend) + 1e-5),
            np.log(np.quantile(bend, 0.8) + 1e-5),
            np.log(np.median(loud) + 1e-5),
        ]
    )


@cache
def _cepstral() -> tuple[RealArray, RealArray]:
    """24 triangles over 100 to 3700 Hz as (bins, 24), and their cosine transform (24, 13)."""
    hz = np.fft.rfftfreq(512, 1 / _RATE)
    centres = np.linspace(100, 3700, 26)
    width = centres[1] - centres[0]
    bands = np.maximum(0, 1 - np.abs(hz[:, None] - centres[1:-1]) / width)
    n = np.arange(24)
    cosines = np.cos(np.pi * np.arange(13)[None] * (n[:, None] + 0.5) / 24) / 12
    return bands, cosines
