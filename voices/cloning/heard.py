"""What a fit has to know of the base voices, kept beside the code: their frames as rendered, as
analysis finds them, and whom the speaker encoder takes them for.

It hangs on nobody's recording, and finding it is a quarter of a fit's work. It is kept under a
digest of what was rendered; where nothing is kept under it, as with another build of Flite, it is
found anew. ``scripts/hear_bases.py`` writes the file.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.cloning.analysis import Frames

FILE: Final = "heard.npz"
_STORED: Final = {"f0": np.float32, "mcep": np.float16, "strengths": np.float16}
"""The fields of :class:`~.analysis.Frames` and how they are kept."""

_EMBEDDING: Final = "embedding"


@dataclass(frozen=True, slots=True)
class Heard:
    """What is kept of one base voice."""

    frames: Frames
    """What analysis finds in it as rendered."""

    embedding: npt.NDArray[np.float32]
    """Of the voice as it is, saying the same, (256,)."""


def digest(given: Frames, *, neural: bool) -> str:
    """Of what is rendered, and by which vocoder."""
    found = hashlib.sha256(f"{neural} {len(given)}".encode())
    for field in _STORED:
        found.update(np.ascontiguousarray(getattr(given, field), "<f4").tobytes())
    return found.hexdigest()[:32]


def packed(heard: Mapping[str, Heard]) -> bytes:
    """An archive of what is known, by digest."""
    buffer = io.BytesIO()
    arrays = {
        f"{name}.{field}": getattr(known.frames, field).astype(kind)
        for name, known in heard.items()
        for field, kind in _STORED.items()
    }
    embeddings = {f"{name}.{_EMBEDDING}": known.embedding for name, known in heard.items()}
    np.savez_compressed(buffer, allow_pickle=False, **arrays, **embeddings)
    return buffer.getvalue()


def unpacked(data: bytes) -> dict[str, Heard]:
    """What :func:`packed` packed."""
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        names = dict.fromkeys(name.rpartition(".")[0] for name in archive.files)
        return {
            name: Heard(
                Frames(*(archive[f"{name}.{field}"].astype(np.float64) for field in _STORED)),
                archive[f"{name}.{_EMBEDDING}"],
            )
            for name in names
        }


def kept(name: str) -> Heard | None:
    """What is kept under a :func:`digest`; None if nothing is."""
    return _shipped().get(name)


@cache
def _shipped() -> dict[str, Heard]:
    return unpacked(resources.files(__package__).joinpath(FILE).read_bytes())
