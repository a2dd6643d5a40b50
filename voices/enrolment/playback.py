"""What a loudspeaker and the room it plays into leave in a recording of a recording.

A small loudspeaker gives no bass, resonates and distorts; the room between it and the microphone
smears every onset, its noise lies over that of the first recording, and both microphones colour
the whole. None of it shows in one number, so the traits are many and a model weighs them:

- the noise's level in each band, how fast sound dies away, the bass, and what
  :mod:`ringtrue.voices.enrolment.cues` measures of the voice's excitation and movement;
- *lows*: the long-term spectrum under 500 Hz. A box rolls off by 12 dB an octave, a microphone by
  less and lower down;
- *ripple*: how uneven the long-term spectrum is within a quarter of an octave, within three, and
  within two octaves. Resonances of a membrane are narrower than what a mouth averages to;
- *envelope* by band: modulation at 1 to 32 Hz. Reverberation is a low-pass filter of envelopes
  (Houtgast & Steeneken, "A review of the MTF concept in room acoustics", JASA 77(3), 1985);
- *falls*, *lopsided* and *gaps* by band: how steeply loud sound falls within 50 ms, how much
  slower than it rises, and how deep the quiet between sounds is.

All blocking, on mono samples at 16 kHz, shape ``(n,)``.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.engine import SPEECH_RATE
from ringtrue.voices.enrolment.acoustics import channel
from ringtrue.voices.enrolment.cues import NAMES, cues

RealArray = npt.NDArray[np.float64]

_FLOORS: Final = 20
_WINDOW: Final = 512
_TRANSFORM: Final = 1024
_HOP: Final = 160
_SPEECH_DB: Final = 20.0

_LOWS: Final = (60, 95, 140, 190, 260, 350, 500)
_MIDDLE: Final = (500, 1500)
_RIPPLE_HZ: Final = (250.0, 3600.0)
_STEPS: Final = 24
"""Of an octave, at which the long-term spectrum is read for its ripple."""

_RIPPLES: Final = (0.25, 0.75, 2.0)
_BANDS: Final = ((100, 500), (500, 1200), (1200, 2400), (2400, 3800))
_MODULATIONS: Final = (1, 4, 8, 16, 32)
_BLOCK: Final = 128
_FALL: Final = 5
"""Frames of 10 ms over which a fall or a rise is measured."""

_LOUD_DB: Final = -15.0
_FALLS: Final = (0.8, 0.9, 0.97)
_GAPS: Final = (0.05, 0.2, 0.35)

TRAITS: Final = (
    *(f"noise in band {n}" for n in range(_FLOORS)),
    "decay",
    "bass",
    *NAMES,
    *(f"lows {lo}-{hi} Hz" for lo, hi in pairwise(_LOWS)),
    *(f"ripple within {octaves} octaves" for octaves in _RIPPLES),
    *(
        f"envelope {a}-{b} Hz of {lo}-{hi} Hz"
        for lo, hi in _BANDS
        for a, b in pairwise(_MODULATIONS)
    ),
    *(
        f"{what} of {lo}-{hi} Hz"
        for lo, hi in _BANDS
        for what in (
            *(f"falls {share}" for share in _FALLS),
            "lopsided",
            *(f"gaps {share}" for share in _GAPS),
        )
    ),
)  # fmt: skip
"""What each number of :func:`playback` is."""


def playback(samples: npt.NDArray[np.float32]) -> RealArray | None:
    """The traits named in :data:`TRAITS`, shape ``(len(TRAITS),)``, all finite.

    None where under 0.3 s of it is voiced. Blocking: some 120 ms of CPU for 10 s.
    """
    way, voice = channel(samples), cues(samples)
    if way is None or voice is None:
        return None
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), _WINDOW)[::_HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(_WINDOW), _TRANSFORM, axis=1)) ** 2
    total = power.sum(axis=1)
    speech = total > np.quantile(total, 0.95) * 10 ** (-_SPEECH_DB / 10)
    lasting = power[speech].mean(axis=0)
    envelopes = [power[:, _between(lo, hi)].sum(axis=1) for lo, hi in _BANDS]
    parts = [
        way.floor,
        np.array([way.decay, way.bass]),
        voice,
        _lows(lasting),
        _ripple(lasting),
        *(_modulation(envelope) for envelope in envelopes),
        *(_course(envelope) for envelope in envelopes),
    ]
    return np.concatenate(parts)


def _lows(lasting: RealArray) -> RealArray:
    """Levels under 500 Hz against those above, dB."""
    means = [lasting[_between(lo, hi)].mean() for lo, hi in (*pairwise(_LOWS), _MIDDLE)]
    levels = 10 * np.log10(np.array(means) + 1e-14)
    return np.asarray(levels[:-1] - levels[-1])


def _ripple(lasting: RealArray) -> RealArray:
    """Spread of the long-term spectrum about itself smoothed, finest first, dB."""
    smoothed = [10 * np.log10(_readings() @ lasting + 1e-14)]
    for octaves in _RIPPLES:
        size = int(octaves * _STEPS) | 1
        kernel = np.hanning(size + 2)[1:-1]
        padded = np.pad(smoothed[0], size // 2, "edge")
        smoothed.append(np.convolve(padded, kernel / kernel.sum(), "valid"))
    return np.array([np.std(fine - coarse) for fine, coarse in pairwise(smoothed)])


def _modulation(envelope: RealArray) -> RealArray:
    """Power of a band's envelope in each range of modulation, for a mean of one, dB."""
    level = np.sqrt(envelope)
    level = level / (level.mean() + 1e-12)
    if len(level) < _BLOCK:
        level = np.pad(level, (0, _BLOCK - len(level)), "edge")
    blocks = np.lib.stride_tricks.sliding_window_view(level, _BLOCK)[:: _BLOCK // 2]
    centred = (blocks - blocks.mean(axis=1, keepdims=True)) * np.hanning(_BLOCK)
    spectrum = (np.abs(np.fft.rfft(centred, axis=1)) ** 2).mean(axis=0)
    hz = np.fft.rfftfreq(_BLOCK, _HOP / SPEECH_RATE)
    means = [spectrum[(hz >= a) & (hz < b)].mean() for a, b in pairwise(_MODULATIONS)]
    return np.asarray(10 * np.log10(np.array(means) + 1e-9))


def _course(envelope: RealArray) -> RealArray:
    """Of a band: its steep falls, how these differ from its rises, and its gaps, dB."""
    loud = np.quantile(envelope, 0.95) + 1e-12
    level = 10 * np.log10(envelope / loud + 1e-6)
    change = level[_FALL:] - level[:-_FALL]
    falls = -change[level[:-_FALL] > _LOUD_DB]
    rises = change[level[_FALL:] > _LOUD_DB]
    steep, sudden = (
        np.quantile(changes, _FALLS) if len(changes) > 10 else np.array([6.0, 9.0, 15.0])
        for changes in (falls, rises)
    )
    return np.array([*steep, np.mean(steep - sudden), *np.quantile(level, _GAPS)])


def _between(lo: float, hi: float) -> npt.NDArray[np.bool_]:
    hz = np.fft.rfftfreq(_TRANSFORM, 1 / SPEECH_RATE)
    return np.asarray((hz >= lo) & (hz < hi))


@cache
def _readings() -> RealArray:
    """What reads a spectrum at :data:`_STEPS` places an octave, (places, frequencies)."""
    hz = np.fft.rfftfreq(_TRANSFORM, 1 / SPEECH_RATE)
    low, high = np.log(_RIPPLE_HZ)
    places = np.exp(np.arange(low, high, np.log(2) / _STEPS))[:, None]
    half = 2 ** (1 / _STEPS)
    near = (hz >= places / half - 8) & (hz <= places * half + 8)
    return np.asarray(near / near.sum(axis=1, keepdims=True))
