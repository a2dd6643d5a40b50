"""Fitted arrays as they ship with this package: NumPy archives in half precision.

Single precision in memory; nothing is unpickled.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
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
class Layers(ABC):
    """A network of the liveness checks: its layers, first to last."""

    LAYERS: ClassVar[int]
    """How many a network of this kind has."""

    weights: tuple[FloatArray, ...] = field(repr=False)
    """Of each layer, shape ``(inputs, outputs)``."""

    biases: tuple[FloatArray, ...] = field(repr=False)
    """Of each layer, shape ``(outputs,)``."""

    @abstractmethod
    def odds(self, seen: FloatArray, /) -> FloatArray:
        """``(answers,)`` of log odds for what is seen, ``(frames, bins)``."""

    def named(self) -> dict[str, FloatArray]:
        """The arrays by their names in an archive."""
        found = {f"weights{n}": weights for n, weights in enumerate(self.weights)}
        return found | {f"biases{n}": bias for n, bias in enumerate(self.biases)}

    @classmethod
    def from_named(cls, kept: Mapping[str, FloatArray]) -> Self:
        """What :meth:`named` gave. Raises ``KeyError`` where a layer is missing."""
        count = range(cls.LAYERS)
        return cls(
            tuple(kept[f"weights{n}"] for n in count), tuple(kept[f"biases{n}"] for n in count)
        )

    def to_bytes(self) -> bytes:
        """As an archive."""
        return packed(self.named())

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """What :meth:`to_bytes` made. Raises ``ValueError`` or ``KeyError`` for anything else."""
        return cls.from_named(unpacked(data))
