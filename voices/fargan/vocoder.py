"""The neural vocoder, where :class:`ringtrue.voices.vocoder.Vocoder` may stand."""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.fargan.features import HALVES, Tables, features, fresh_pitch, tables
from ringtrue.voices.fargan.network import Memory, synthesize
from ringtrue.voices.fargan.weights import Weights, shipped
from ringtrue.voices.vocoder import BAND_CENTRES

DELAY: Final = 200
"""Samples from a frame's start in the input to the same moment in the output."""

_TAIL_FRAMES: Final = 2
_SETTLING_FRAMES: Final = 10
_SILENT_C0: Final = -40.0

FloatArray = npt.NDArray[np.float32]
RealArray = npt.NDArray[np.float64]


class NeuralVocoder:
    """Tables for one mel-cepstrum format; holds no stream's state, so all streams share it."""

    delay: Final = DELAY

    def __init__(self, alpha: float = 0.42, order: int = 25, postfilter: float = 0.0) -> None:
        """For cepstra of ``order`` coefficients warped by ``alpha``, sharpened by ``postfilter``.

        Raises :class:`~ringtrue.voices.errors.EngineUnavailableError` where the weights can't be
        read, and ``ValueError`` for a postfilter that isn't in 0..1.
        """
        if not 0.0 <= postfilter <= 1.0:
            raise ValueError(f"postfilter must lie in 0..1, got {postfilter}")
        self._tables = tables(alpha, order, BAND_CENTRES)
        self._weights = shipped()
        self._order = order
        self._sharpen = 1.0 + postfilter

    def stream(self) -> NeuralStream:
        """A new stream, silent so far."""
        return NeuralStream(self._tables, self._weights, self._order, self._sharpen)


class NeuralStream:
    """One utterance. Not for two threads at a time."""

    def __init__(self, given: Tables, weights: Weights, order: int, sharpen: float) -> None:
        """Made by :meth:`NeuralVocoder.stream`."""
        self._tables = given
        self._weights = weights
        self._order = order
        self._sharpen = sharpen
        self._memory = _settled().copy()
        self._pitch = fresh_pitch()
        self._waiting: RealArray = np.empty((0, 1 + order + len(BAND_CENTRES)))
        """A frame of 5 ms whose other half hasn't come: F0, cepstrum and strengths."""

    def render(self, f0: npt.ArrayLike, mcep: npt.ArrayLike, strengths: npt.ArrayLike) -> RealArray:
        """Vocode T frames of 5 ms; returns 160 samples for every two that are complete.

        Arguments as of :meth:`ringtrue.voices.vocoder.Vocoder.render`. Raises ``ValueError`` if
        the shapes disagree.
        """
        pitch = np.asarray(f0, np.float64)
        cepstra = np.asarray(mcep, np.float64)
        voicing = np.asarray(strengths, np.float64)
        frames, bands = len(pitch), len(BAND_CENTRES)
        if cepstra.shape != (frames, self._order) or voicing.shape != (frames, bands):
            raise ValueError(
                f"{frames} pitches need cepstra ({frames}, {self._order}) and strengths "
                f"({frames}, {bands}), got {cepstra.shape} and {voicing.shape}"
            )
        rows = np.concatenate(
            [self._waiting, np.concatenate([pitch[:, None], cepstra, voicing], axis=1)]
        )
        whole = len(rows) // HALVES * HALVES
        self._waiting = rows[whole:]
        found = features(
            self._tables,
            rows[:whole, 0],
            rows[:whole, 1 : 1 + self._order],
            rows[:whole, 1 + self._order :],
            self._sharpen,
            self._pitch,
        )
        return synthesize(self._weights, self._memory, found).astype(np.float64)

    def finish(self) -> RealArray:
        """What is still to be heard after the last frame: 320 samples, or 480 if a half waits."""
        count = HALVES * _TAIL_FRAMES + len(self._waiting)
        rest = self.render(*_silence(count, self._order))
        self._memory = _settled().copy()
        self._pitch = fresh_pitch()
        self._waiting = self._waiting[:0]
        return rest


def _silence(frames: int, order: int) -> tuple[RealArray, RealArray, RealArray]:
    mcep = np.zeros((frames, order))
    mcep[:, 0] = _SILENT_C0
    return np.zeros(frames), mcep, np.zeros((frames, len(BAND_CENTRES)))


@cache
def _settled() -> Memory:
    """The network's memory after a while of silence; copied, never advanced."""
    memory = Memory()
    given = tables(0.42, 25, BAND_CENTRES)
    quiet = features(given, *_silence(HALVES * _SETTLING_FRAMES, 25), 1.0, fresh_pitch())
    synthesize(shipped(), memory, quiet)
    return memory


def warm_up() -> None:
    """Read the weights and compile the kernels, so that no caller waits for it.

    Raises :class:`~ringtrue.voices.errors.EngineUnavailableError` where the weights can't be read.
    """
    _settled()
