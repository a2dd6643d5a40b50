"""Likeness of two speakers' embeddings, where what varies within a person counts for little.

Embeddings are centred and whitened by the covariance within people before their cosine is taken:
within-class covariance normalisation (Hatch, Kajarekar & Stolcke, "Within-class covariance
normalization for SVM-based speaker recognition", Interspeech 2006). Mean and covariance come from
``scripts/fit_likeness.py``; they are of many people together and nobody's voiceprint.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.encoder.embeddings import Embedding
from ringtrue.voices.enrolment import arrays

FloatArray = npt.NDArray[np.float32]

FILE: Final = "likeness.npz"


@dataclass(frozen=True, slots=True, eq=False)
class Likeness:
    """A space in which people are told apart."""

    mean: FloatArray = field(repr=False)
    """Of people's embeddings, shape ``(256,)``."""

    whitening: FloatArray = field(repr=False)
    """What makes everybody's spread alike in all directions, shape ``(256, 256)``."""

    def __call__(self, a: Embedding, b: Embedding) -> float:
        """The cosine of two embeddings of shape ``(256,)`` there, -1 to 1; strangers are at 0."""
        x, y = self.whitening @ (a - self.mean), self.whitening @ (b - self.mean)
        size = float(np.linalg.norm(x) * np.linalg.norm(y))
        return float(x @ y) / size if size > 0.0 else 0.0

    def to_bytes(self) -> bytes:
        """As an archive."""
        return arrays.packed({"mean": self.mean, "whitening": self.whitening})

    @classmethod
    def from_bytes(cls, data: bytes) -> Likeness:
        """What :meth:`to_bytes` made. Raises ``ValueError`` or ``KeyError`` for anything else."""
        kept = arrays.unpacked(data)
        return cls(kept["mean"], kept["whitening"])


@cache
def shipped() -> Likeness:
    """The space that ships with this package."""
    return Likeness.from_bytes(arrays.shipped(FILE))
