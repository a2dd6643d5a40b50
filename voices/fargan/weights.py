"""The network's weights, as they ship with this package."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.errors import EngineUnavailableError

FILE: Final = "fargan.npz"
SHA256: Final = "7a1cf28e9a36bb3a4b90e8b43c7abedb6cefa379f64bca9e03eebca66466fcb0"

EMBEDDING: Final = "cond_net_pembed"
REAL_LAYERS: Final = (
    "cond_net_fdense1",
    "sig_net_cond_gain_dense",
    "sig_net_gain_dense_out",
)
INTEGER_LAYERS: Final = (
    "cond_net_fconv1",
    "cond_net_fdense2",
    "sig_net_fwc0_conv",
    "sig_net_fwc0_glu_gate",
    "sig_net_gru1_input",
    "sig_net_gru1_recurrent",
    "sig_net_gru1_glu_gate",
    "sig_net_gru2_input",
    "sig_net_gru2_recurrent",
    "sig_net_gru2_glu_gate",
    "sig_net_gru3_input",
    "sig_net_gru3_recurrent",
    "sig_net_gru3_glu_gate",
    "sig_net_skip_dense",
    "sig_net_skip_glu_gate",
    "sig_net_sig_dense_out",
)
"""In the order :mod:`.network` takes them."""

FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """All layers; 0.9 MB, shared by all streams and never written to.

    A layer of integers gives ``scale · (matrix @ round(127 · input)) + bias``.
    """

    embedding: FloatArray
    """(224, 12): of pitch periods from 32 samples up."""

    matrices: tuple[FloatArray, ...]
    """(outputs, inputs) of each of :data:`REAL_LAYERS`."""

    biases: tuple[FloatArray, ...]
    """(outputs,) of each of them."""

    integers: tuple[ByteArray, ...]
    """(outputs, inputs) of each of :data:`INTEGER_LAYERS`."""

    scales: tuple[FloatArray, ...]
    offsets: tuple[FloatArray, ...]
    """(outputs,) of each of them, both."""


def read(data: bytes) -> Weights:
    """The weights in the bytes of the file.

    Raises :class:`~ringtrue.voices.errors.EngineUnavailableError` for another file.
    """
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256:
        raise EngineUnavailableError(
            f"the neural vocoder's weights {FILE} have SHA-256 {found}; it must be {SHA256}"
        )
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        arrays = {name: np.ascontiguousarray(stored[name]) for name in stored.files}
    return Weights(
        arrays[EMBEDDING],
        tuple(arrays[name] for name in REAL_LAYERS),
        tuple(arrays[f"{name}.bias"] for name in REAL_LAYERS),
        tuple(arrays[name] for name in INTEGER_LAYERS),
        tuple(arrays[f"{name}.scale"] for name in INTEGER_LAYERS),
        tuple(arrays[f"{name}.bias"] for name in INTEGER_LAYERS),
    )


@cache
def shipped() -> Weights:
    """The weights that ship with this package, read once.

    Raises :class:`~ringtrue.voices.errors.EngineUnavailableError` where they can't be read.
    """
    path = Path(str(resources.files(__package__).joinpath(FILE)))
    try:
        return read(path.read_bytes())
    except OSError as error:
        raise EngineUnavailableError(
            f"the neural vocoder's weights {FILE} can't be read: {error.strerror}"
        ) from error
