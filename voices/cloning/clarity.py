"""What tells a voice's words apart: how well its frames say which phone they belong to.

Linear discriminant analysis of the stock voices' low mel-cepstra, whose phones are known. While a
voice is bent towards a speaker, the cross entropy of this classifier holds sounds apart that would
fall together. Only shapes that a recognizer's cepstra resolve are looked at, after each voice's
mean is taken away, as a recognizer takes away the channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.cloning.phones import PAUSE, PHONES, phone_numbers
from ringtrue.voices.flite import Parameters
from ringtrue.voices.flite.frontend import COEFFICIENTS

LOWEST: Final = 1
HIGHEST: Final = 12
"""Coefficients looked at, both included; recognizers use about as many."""

_SCALE: Final = 0.3
"""On log densities: neighbouring frames are no independent witnesses."""

_MIN_FRAMES: Final = 20
"""Of a phone, for it to be told from the others."""

_FLOOR: Final = 1e-3
_UNKNOWN: Final = -1e9

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.intp]


class PhoneClassifier:
    """Gaussians of one covariance, one for each phone. Immutable."""

    def __init__(self, voices: Sequence[Sequence[Parameters]]) -> None:
        """Learn from each voice's phrases; a few milliseconds for a minute of speech.

        Raises ``ValueError`` where no phone is said for 0.1 s.
        """
        rows, labels = [], []
        for phrases in voices:
            mcep = np.concatenate([found.mcep for found in phrases]).astype(np.float64)
            said = np.concatenate([phone_numbers(p.phones, len(p.f0)) for p in phrases])
            spoken = said != PAUSE
            low = mcep[spoken, LOWEST : HIGHEST + 1]
            rows.append(low - low.sum(axis=0) / max(1, len(low)))
            labels.append(said[spoken])
        low, said = np.concatenate(rows), np.concatenate(labels)
        size = low.shape[1]
        known = np.bincount(said, minlength=len(PHONES)) >= _MIN_FRAMES
        if not known.any():
            raise ValueError(f"no phone is said for {_MIN_FRAMES} frames")
        means = np.zeros((len(PHONES), size))
        within = np.zeros((size, size))
        for phone in np.flatnonzero(known):
            mine = low[said == phone]
            means[phone] = mine.mean(axis=0)
            within += (mine - means[phone]).T @ (mine - means[phone])
        prior = np.where(known, 0.0, _UNKNOWN)
        within /= len(low)
        within += np.eye(size) * (_FLOOR * np.trace(within) / size)
        weights = _SCALE * means @ np.linalg.inv(within)
        self._weights: FloatArray = weights.astype(np.float32)
        self.known = known
        """Which of :data:`~.phones.PHONES` were said often enough, (phones,)."""

        self._bias: FloatArray = (prior - 0.5 * (weights * means).sum(axis=1)).astype(np.float32)

    def posteriors(self, mcep: FloatArray) -> FloatArray:
        """Probability of each phone in each frame (N, 25): (N, phones), rows summing to 1.

        The frames are one voice's speech without pauses, enough of it for its mean.
        """
        low = mcep[:, LOWEST : HIGHEST + 1]
        log = (low - low.mean(axis=0)) @ self._weights.T + self._bias
        log -= log.max(axis=1, keepdims=True)
        share = np.exp(log)
        return np.asarray(share / share.sum(axis=1, keepdims=True))

    def slope(self, mcep: FloatArray, phones: IntArray) -> FloatArray:
        """Derivative by ``mcep`` (N, 25) of the mean cross entropy to ``phones`` (N,): (N, 25).

        Frames of phones that are not :attr:`known` count as nothing.
        """
        wrong = self.posteriors(mcep)
        wrong[np.arange(len(phones)), phones] -= 1.0
        wrong *= self.known[phones][:, None]
        low = wrong @ self._weights / np.float32(len(phones))
        found = np.zeros((len(mcep), COEFFICIENTS), np.float32)
        found[:, LOWEST : HIGHEST + 1] = low - low.mean(axis=0)
        return found
