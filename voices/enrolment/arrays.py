"""Fitted arrays as they ship with this package: NumPy archives in half precision.

Single precision in memory; nothing is unpickled.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


def packed(arrays: Mapping[str, FloatArray]) -> bytes:
    """An archive of arrays, of any shapes, by name."""
    buffer = io.BytesIO()
    halves = {name: array.astype(np.float16) for name, array in arrays.items()}
    np.savez_compressed(buffer, allow_pickle=False, **halves)
    return buffer.getvalue()


def unpacked(data: bytes) -> dict[str, FloatArray]:
    """What :func:`packed` made, in single precision.

    Raises ``ValueError`` or ``EOFError`` for what is no archive.
    """
    kept = np.load(io.BytesIO(data), allow_pickle=False)
    if isinstance(kept, np.ndarray):
        raise ValueError("one array, not an archive of them")
    with kept:
        return {name: kept[name].astype(np.float32) for name in kept.files}


def shipped(file: str) -> bytes:
    """A file of this package."""
    return resources.files(__package__).joinpath(file).read_bytes()


@dataclass(frozen=True, slots=True, eq=False)
class Layers:
    """A network's layers, first to last."""

    LAYERS: ClassVar[int]
    """How many a network of this kind has."""

    weights: tuple[FloatArray, ...] = field(repr=False)
    """Of each layer, shape ``(inputs, outputs)``."""

    biases: tuple[FloatArray, ...] = field(repr=False)
    """Of each layer, shape ``(outputs,)``."""

    def to_bytes(self) -> bytes:
        """As an archive."""
        arrays = {f"weights{n}": weights for n, weights in enumerate(self.weights)}
        arrays |= {f"biases{n}": bias for n, bias in enumerate(self.biases)}
        return packed(arrays)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """What :meth:`to_bytes` made. Raises ``ValueError`` or ``KeyError`` for anything else."""
        kept = unpacked(data)
        count = range(cls.LAYERS)
        return cls(
            tuple(kept[f"weights{n}"] for n in count), tuple(kept[f"biases{n}"] for n in count)
        )
