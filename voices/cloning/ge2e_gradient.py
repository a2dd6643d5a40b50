"""How a spectrogram should change to sound more like a speaker: GE2E forwards and backwards.

The same network and weights as :mod:`ringtrue.voices.encoder`, in NumPy and single precision, with
its derivatives with respect to its input. Weights are constants here, so nothing else is
propagated back.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.encoder.speaker import MODEL

CELLS: Final = 256
_GATES: Final = 4 * CELLS
_SIGMOIDS: Final = 3 * CELLS
"""ONNX orders the gates input, output, forget, cell: three sigmoids, then one tanh."""

_LAYERS: Final = 3
_TINY: Final = 1e-6

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Layer:
    """Weights of one LSTM layer; sigmoid gates at half scale, as sigmoid(x) = (1 + tanh(x/2))/2."""

    inputs: FloatArray
    """(inputs, 1024)."""

    inputs_back: FloatArray
    """(1024, inputs)."""

    states: FloatArray
    """(256, 1024)."""

    states_back: FloatArray
    """(1024, 256)."""

    bias: FloatArray
    """(1024,)."""


@dataclass(slots=True)
class _Trace:
    """What one layer computed, by frame: gates after their functions, cells and their tanh."""

    gates: FloatArray
    """(T, B, 1024)."""

    cells: FloatArray
    """(T + 1, B, 256), starting with the zeros before the first frame."""

    squashed: FloatArray
    """(T, B, 256): tanh of the cells."""

    hidden: FloatArray
    """(T, B, 256)."""


@dataclass(slots=True)
class Pass:
    """One run of the network, kept for the way back."""

    embeddings: FloatArray
    """(B, 256), unit norm."""

    norms: FloatArray
    raw: FloatArray
    traces: list[_Trace]


class DifferentiableEncoder:
    """GE2E with gradients. Holds 5 MB of weights and no state; for one thread at a time."""

    def __init__(self) -> None:
        """Read the weights from the network that ships with the speaker encoder."""
        import onnx
        from onnx import numpy_helper

        data = resources.files("ringtrue.voices.encoder").joinpath(MODEL).read_bytes()
        stored: dict[str, npt.NDArray[Any]] = {
            tensor.name: numpy_helper.to_array(tensor)
            for tensor in onnx.load_model_from_string(data).graph.initializer
        }
        self._layers = [_layer(stored, index) for index in range(_LAYERS)]
        self._last: FloatArray = stored["Wl_half"].astype(np.float32)
        self._last_bias: FloatArray = stored["Bl"].astype(np.float32)

    def forward(self, mels: FloatArray) -> Pass:
        """Embed windows of power spectrograms, shape (160, B, 40)."""
        rows = np.ascontiguousarray(mels, np.float32)
        traces = []
        for layer in self._layers:
            trace = _forward(layer, rows)
            traces.append(trace)
            rows = trace.hidden
        raw = np.maximum(rows[-1] @ self._last.T + self._last_bias, 0.0)
        norms = np.linalg.norm(raw, axis=1, keepdims=True) + np.float32(_TINY)
        return Pass(raw / norms, norms, raw, traces)

    def backward(self, run: Pass, slope: FloatArray) -> FloatArray:
        """What ``run``'s input does to a loss with derivative ``slope`` (B, 256): (160, B, 40)."""
        along = (slope * run.embeddings).sum(axis=1, keepdims=True)
        raw = (slope - along * run.embeddings) / run.norms
        raw = np.where(run.raw > 0, raw, np.float32(0))
        last = run.traces[-1].hidden
        slopes = np.zeros_like(last)
        slopes[-1] = raw @ self._last
        for layer, trace in zip(reversed(self._layers), reversed(run.traces), strict=True):
            slopes = _backward(layer, trace, slopes)
        return slopes


def _layer(stored: dict[str, npt.NDArray[Any]], index: int) -> _Layer:
    inputs, states = (_matrix(stored, f"{kind}{index}") for kind in "WR")
    both = stored[f"B{index}"][0].astype(np.float32)
    bias = both[:_GATES] + both[_GATES:]
    half = np.ones(_GATES, np.float32)
    half[:_SIGMOIDS] = 0.5
    inputs, states = inputs * half, states * half
    return _Layer(
        inputs=np.ascontiguousarray(inputs),
        inputs_back=np.ascontiguousarray(inputs.T),
        states=np.ascontiguousarray(states),
        states_back=np.ascontiguousarray(states.T),
        bias=bias * half,
    )


def _matrix(stored: dict[str, npt.NDArray[Any]], name: str) -> FloatArray:
    """Weights as (inputs, gates), whichever way they are stored."""
    if f"{name}_half" in stored:
        return np.asarray(stored[f"{name}_half"][0].astype(np.float32).T)
    steps = stored[name][0].astype(np.float32) - stored[f"{name}_zero"].astype(np.float32)
    return np.asarray(steps * stored[f"{name}_scale"].astype(np.float32), np.float32)


def _forward(layer: _Layer, rows: FloatArray) -> _Trace:
    length, batch, _ = rows.shape
    gates = (rows.reshape(length * batch, -1) @ layer.inputs + layer.bias).reshape(
        length, batch, _GATES
    )
    cells = np.zeros((length + 1, batch, CELLS), np.float32)
    squashed = np.empty((length, batch, CELLS), np.float32)
    hidden = np.empty((length, batch, CELLS), np.float32)
    state = np.zeros((batch, CELLS), np.float32)
    half = np.float32(0.5)
    for t in range(length):
        gate = gates[t]
        gate += state @ layer.states
        np.tanh(gate, out=gate)
        gate[:, :_SIGMOIDS] *= half
        gate[:, :_SIGMOIDS] += half
        kept = gate[:, 2 * CELLS : _SIGMOIDS] * cells[t]
        np.add(kept, gate[:, :CELLS] * gate[:, _SIGMOIDS:], out=cells[t + 1])
        np.tanh(cells[t + 1], out=squashed[t])
        np.multiply(gate[:, CELLS : 2 * CELLS], squashed[t], out=hidden[t])
        state = hidden[t]
    return _Trace(gates, cells, squashed, hidden)


def _backward(layer: _Layer, trace: _Trace, slopes: FloatArray) -> FloatArray:
    length, batch, _ = slopes.shape
    back = np.empty((length, batch, _GATES), np.float32)
    into_hidden = np.zeros((batch, CELLS), np.float32)
    into_cell = np.zeros((batch, CELLS), np.float32)
    one, two = np.float32(1), np.float32(2)
    for t in range(length - 1, -1, -1):
        gate, squashed = trace.gates[t], trace.squashed[t]
        enter, leave = gate[:, :CELLS], gate[:, CELLS : 2 * CELLS]
        forget, new = gate[:, 2 * CELLS : _SIGMOIDS], gate[:, _SIGMOIDS:]
        hidden = slopes[t] + into_hidden
        cell = into_cell + hidden * leave * (one - squashed * squashed)
        step = back[t]
        # With s = (1 + tanh(x)) / 2, ds/dx = 2 s (1 - s).
        step[:, :CELLS] = cell * new * (two * enter * (one - enter))
        step[:, CELLS : 2 * CELLS] = hidden * squashed * (two * leave * (one - leave))
        step[:, 2 * CELLS : _SIGMOIDS] = cell * trace.cells[t] * (two * forget * (one - forget))
        step[:, _SIGMOIDS:] = cell * enter * (one - new * new)
        into_hidden = step @ layer.states_back
        into_cell = cell * forget
    flat = back.reshape(length * batch, _GATES) @ layer.inputs_back
    return flat.reshape(length, batch, -1)
