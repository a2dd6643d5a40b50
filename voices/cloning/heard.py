"""What analysis finds in the base voices as rendered for a fit, kept beside the code.

It hangs on nobody's recording, and finding it is a quarter of a fit's work. It is kept under a
digest of what was rendered; where nothing is kept under it, as with another build of Flite, it is
found anew. ``scripts/hear_bases.py`` writes the file.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Final

import numpy as np

from ringtrue.voices.cloning.analysis import Frames

FILE: Final = "heard.npz"
_STORED: Final = {"f0": np.float32, "mcep": np.float16, "strengths": np.float16}
"""The fields of :class:`~.analysis.Frames` and how they are kept."""


def digest(given: Frames, *, neural: bool) -> str:
    """Of what is rendered, and by which vocoder."""
    found = hashlib.sha256(f"{neural} {len(given)}".encode())
    for field in _STORED:
        found.update(np.ascontiguousarray(getattr(given, field), "<f4").tobytes())
    return found.hexdigest()[:32]


def packed(heard: Mapping[str, Frames]) -> bytes:
    """An archive of frames by digest."""
    buffer = io.BytesIO()
    arrays = {
        f"{name}.{field}": getattr(frames, field).astype(kind)
        for name, frames in heard.items()
        for field, kind in _STORED.items()
    }
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpacked(data: bytes) -> dict[str, Frames]:
    """What :func:`packed` packed."""
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        names = dict.fromkeys(name.rpartition(".")[0] for name in archive.files)
        return {
            name: Frames(*(archive[f"{name}.{field}"].astype(np.float64) for field in _STORED))
            for name in names
        }


def kept(name: str) -> Frames | None:
    """What is kept under a :func:`digest`; None if nothing is."""
    return _shipped().get(name)


@cache
def _shipped() -> dict[str, Frames]:
    return unpacked(resources.files(__package__).joinpath(FILE).read_bytes())
