"""Where a recording was joined, as small networks hear it: no word runs on past a cut.

A network is dilated convolutions over time (van den Oord et al., "WaveNet: A Generative Model
for Raw Audio", 2016, without the gates) on a mel spectrogram, 630 ms to either side of an instant.
Several were taught where real recordings had been cut and put together, and where they had not, by
``scripts/fit_joins.py``; they ship as plain arrays and run in NumPy.

All blocking, on mono samples at 16 kHz, shape ``(n,)``, full scale 1.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.engine import SPEECH_RATE
from ringtrue.voices.enrolment import arrays
from ringtrue.voices.enrolment.arrays import Layers
from ringtrue.voices.enrolment.ensemble import Ensemble

RealArray = npt.NDArray[np.float64]
FloatArray = npt.NDArray[np.float32]

FILE: Final = "joins.npz"

BANDS: Final = 40
HOP: Final = 160
"""Samples from frame to frame: 10 ms."""

WINDOW: Final = 400
"""Samples a frame looks at: 25 ms."""

DILATIONS: Final = (1, 2, 4, 8, 16, 32)
"""Frames between the three that each layer looks at: 630 ms to either side in all."""

LONGEST_SECONDS: Final = 45

_TRANSFORM: Final = 512
_LOW_HZ: Final = 60.0
_HIGH_HZ: Final = 7600.0
_EMPTY: Final = 1e-8
"""Of the loud frames' power: what counts as nothing, 80 dB below them."""

_APART: Final = 10
"""Frames in a block: of the joins in one, a single one counts."""

_MOST: Final = (1, 3, 6, 10)

TRAITS: Final = tuple(f"join {count}" for count in _MOST)
"""What each number of :func:`strongest` is: the mean of so many of the likeliest joins, 100 ms
apart, in log odds."""


@dataclass(frozen=True, slots=True, eq=False)
class JoinNetwork(Layers):
    """Log odds, frame by frame, that two pieces meet there.

    Weights of a layer have shape ``(3 * inputs, channels)``, past to future; the last's are
    ``(channels, 1)``.
    """

    LAYERS = len(DILATIONS) + 1

    def odds(self, course: FloatArray) -> FloatArray:
        """``(frames,)`` of log odds for what :func:`course` made, ``(frames, BANDS)``."""
        values = prepared(course)
        for number, dilation in enumerate(DILATIONS):
            around = np.pad(values, ((dilation, dilation), (0, 0)))
            size = len(values)
            seen = np.concatenate(
                [around[at : at + size] for at in (0, dilation, 2 * dilation)], axis=1
            )
            heard = np.maximum(seen @ self.weights[number] + self.biases[number], 0.0)
            values = values + heard if number else heard
        return np.asarray((values @ self.weights[-1] + self.biases[-1])[:, 0], np.float32)


@cache
def shipped() -> Ensemble[JoinNetwork]:
    """The networks that ship with this package."""
    return Ensemble.from_bytes(JoinNetwork, arrays.shipped(FILE))


def course(samples: FloatArray) -> FloatArray | None:
    """The mel spectrogram, ``(frames, BANDS)``: levels against the loud frames', 0 to -80 dB as 2
    to -2; None under a quarter of a second or for silence.
    """
    wave = np.asarray(samples[: LONGEST_SECONDS * SPEECH_RATE], np.float32)
    if len(wave) < SPEECH_RATE // 4:
        return None
    frames = np.lib.stride_tricks.sliding_window_view(wave, WINDOW)[::HOP]
    window, bands = _analysis()
    power = (np.abs(np.fft.rfft(frames * window, _TRANSFORM, axis=1)) ** 2) @ bands
    loud = float(np.quantile(power.sum(axis=1), 0.95))
    if loud < 1e-12:
        return None
    level = 10 * np.log10(power / loud + _EMPTY)
    return np.clip((level + 40) / 20, -2.0, 2.0).astype(np.float32)


def prepared(course: FloatArray) -> FloatArray:
    """What the network looks at: the course without its mean in each band, the microphone's."""
    return np.asarray(course - course.mean(axis=0), np.float32)


def strongest(odds: FloatArray) -> RealArray:
    """The traits named in :data:`TRAITS` of a recording's log odds, shape ``(len(TRAITS),)``."""
    blocks = max(-(-len(odds) // _APART), _MOST[-1])
    padded = np.full(blocks * _APART, float(odds.min()))
    padded[: len(odds)] = odds
    top = np.sort(padded.reshape(-1, _APART).max(axis=1))[::-1]
    return np.array([top[:count].mean() for count in _MOST])


@cache
def _analysis() -> tuple[RealArray, RealArray]:
    """The window, and triangles on the mel scale, each of unit sum, as ``(257, BANDS)``."""
    low, high = (2595 * np.log10(1 + hz / 700) for hz in (_LOW_HZ, _HIGH_HZ))
    edges = 700 * (10 ** (np.linspace(low, high, BANDS + 2) / 2595) - 1)
    hz = np.fft.rfftfreq(_TRANSFORM, 1 / SPEECH_RATE)[:, None]
    rising = (hz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hz) / (edges[2:] - edges[1:-1])
    matrix = np.maximum(0.0, np.minimum(rising, falling))
    for band in np.flatnonzero(matrix.sum(axis=0) == 0.0):
        matrix[np.argmin(np.abs(hz[:, 0] - edges[band + 1])), band] = 1.0
    return np.hanning(WINDOW), np.asarray(matrix / matrix.sum(axis=0))
