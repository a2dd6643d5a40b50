"""Arithmetic on speaker embeddings: points on the unit sphere, compared by their angle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

DIMENSION: Final = 256
"""Length of an embedding."""

Embedding = npt.NDArray[np.float32]


def similarity(a: Embedding, b: Embedding) -> float:
    """Cosine of the angle between two embeddings of shape (256,), of any length: -1 to 1.

    The network's outputs are not negative, so real ones lie between 0 and 1. Between 16 prompts
    of 5 to 31 s by four speakers over telephone bandwidth it was 0.92 or more within a speaker
    and up to 0.86 across: a threshold has to come from data like the ones it is used on. Raises
    ``ValueError`` on another shape, a value that isn't finite, or a zero vector.
    """
    return float(np.clip(np.dot(_direction(a, "a"), _direction(b, "b")), -1.0, 1.0))


def centroid(embeddings: Sequence[Embedding] | Embedding) -> Embedding:
    """The mean direction of one or more embeddings, shape (256,), unit norm.

    Takes a sequence or an array of shape (n, 256). Each counts alike, whatever its length.
    Raises ``ValueError`` as :func:`similarity` does, and where there is none.
    """
    if len(embeddings) == 0:
        raise ValueError("the centroid of no embeddings is undefined; give at least one")
    directions = [_direction(e, f"embeddings[{i}]") for i, e in enumerate(embeddings)]
    return _direction(np.mean(directions, axis=0), "the mean").astype(np.float32)


def _direction(vector: npt.ArrayLike, name: str) -> npt.NDArray[np.float64]:
    values = np.asarray(vector, np.float64)
    if values.shape != (DIMENSION,):
        raise ValueError(f"{name} has shape {values.shape}; an embedding has ({DIMENSION},)")
    length = np.linalg.norm(values)
    if not np.isfinite(length) or length == 0:
        raise ValueError(f"{name} has no direction: its norm is {length}")
    return np.asarray(values / length, np.float64)
