"""The fine structure of a voice's spectrum over time, by which small networks hear vocoders.

Harmonics, the noise between them and how both run on are looked at bin by bin, under 3.8 kHz only,
as in :mod:`ringtrue.voices.enrolment.cues`: a telephone's band says nothing by itself. A network
is four convolutions over frequency and time (LeCun et al., "Gradient-based learning applied to
document recognition", Proc. IEEE 86(11), 1998). Several were taught by ``scripts/fit_texture.py``
with people's recordings and copies of the same by vocoders, neural ones among them; they ship as
plain arrays and run in NumPy.

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
BoolArray = npt.NDArray[np.bool_]

FILE: Final = "texture.npz"

HOP: Final = 160
"""Samples from frame to frame: 10 ms."""

WINDOW: Final = 512
"""Samples a frame looks at: 32 ms."""

BINS: Final = 120
"""Of 31.25 Hz each, the first at 62.5 Hz."""

LONGEST_SECONDS: Final = 31

_FIRST: Final = 2
_FLOOR: Final = 1e-6
"""Of the loud frames' power in a bin: what counts as nothing, 60 dB below."""

_ACTIVE: Final = 10**-2.5
"""Of the loud frames' power: frames under it, 25 dB below, are not looked at."""


def texture(samples: FloatArray) -> FloatArray | None:
    """The spectrogram, ``(frames, BINS)``: levels against the loud frames', in 20 dB, 0 at -30 dB.

    None under a second or for silence.
    """
    wave = np.asarray(samples[: LONGEST_SECONDS * SPEECH_RATE], np.float32)
    if len(wave) < SPEECH_RATE:
        return None
    frames = np.lib.stride_tricks.sliding_window_view(wave, WINDOW)[::HOP]
    window = np.hanning(WINDOW).astype(np.float32)
    power = np.abs(np.fft.rfft(frames * window, axis=1)[:, _FIRST : _FIRST + BINS]) ** 2
    loud = float(np.quantile(power.mean(axis=1), 0.95))
    if loud < 1e-12:
        return None
    return (np.log10(power / loud + _FLOOR) / 2 + 1.5).astype(np.float32)


def active(texture: FloatArray) -> BoolArray:
    """Which frames are loud enough to say anything, shape ``(frames,)``."""
    power = (10 ** (2 * (texture.astype(np.float64) - 1.5))).mean(axis=1)
    return np.asarray(power > _ACTIVE)


@dataclass(frozen=True, slots=True)
class Shape:
    """One convolution: its kernel, and how far it steps, over time and over frequency."""

    kernel: tuple[int, int]
    step: tuple[int, int]
    channels: int


SHAPES: Final = (
    Shape((3, 5), (1, 2), 8),
    Shape((3, 3), (2, 2), 16),
    Shape((3, 3), (1, 2), 24),
    Shape((3, 3), (1, 2), 24),
)
"""Of the layers; what is left of the bins goes through one of :data:`HIDDEN` and is weighed."""

HIDDEN: Final = 32
EVERY: Final = 2
"""Frames to each of the network's answers."""

_QUANTILES: Final = (0.2, 0.8)

TRAITS: Final = ("texture mean", *(f"texture {quantile}" for quantile in _QUANTILES))
"""What each number of :func:`traits` is: log odds of a vocoder."""


@dataclass(frozen=True, slots=True, eq=False)
class TextureNetwork(Layers):
    """Log odds, for every other frame, that a vocoder made it.

    Weights of a layer have shape ``(kernel * inputs, channels)``, time before frequency before
    input; the last two's are ``(bins * channels, HIDDEN)`` and ``(HIDDEN, 1)``.
    """

    LAYERS = len(SHAPES) + 2

    def odds(self, texture: FloatArray) -> FloatArray:
        """``(answers,)`` of log odds for what :func:`texture` made, ``(frames, BINS)``."""
        values = prepared(texture)[:, :, None]
        for shape, weights, bias in zip(SHAPES, self.weights, self.biases, strict=False):
            values = np.maximum(_patches(values, shape) @ weights + bias, 0.0)
        flat = values.reshape(len(values), -1)
        hidden = np.maximum(flat @ self.weights[-2] + self.biases[-2], 0.0)
        return np.asarray((hidden @ self.weights[-1] + self.biases[-1])[:, 0], np.float32)


def traits(odds: FloatArray, texture: FloatArray) -> RealArray:
    """The traits named in :data:`TRAITS` of a recording, shape ``(len(TRAITS),)``.

    ``odds`` are a network's, ``(answers,)``, for ``texture``, ``(frames, BINS)``.
    """
    heard = odds.astype(np.float64)[active(texture)[::EVERY]]
    if not len(heard):
        return np.zeros(len(TRAITS))
    return np.array([heard.mean(), *np.quantile(heard, _QUANTILES)])


@cache
def shipped() -> Ensemble[TextureNetwork]:
    """The networks that ship with this package."""
    return Ensemble.from_bytes(TextureNetwork, arrays.shipped(FILE))


def prepared(texture: FloatArray) -> FloatArray:
    """What the network looks at: without the mean of the active frames in each bin."""
    heard = active(texture)
    mean = texture[heard].mean(axis=0) if heard.any() else texture.mean(axis=0)
    return np.asarray(texture - mean, np.float32)


def _patches(values: FloatArray, shape: Shape) -> FloatArray:
    """What each of a layer's kernels sees: ``(frames, bins, kernel * inputs)``."""
    (times, bins), (step, stride) = shape.kernel, shape.step
    around = np.pad(values, ((times // 2,) * 2, (bins // 2,) * 2, (0, 0)))
    frames, width = values.shape[:2]
    seen = [
        around[t : t + frames : step, b : b + width : stride]
        for t in range(times)
        for b in range(bins)
    ]
    return np.concatenate(seen, axis=2)
