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
from ringtrue.voices.jit import compiled

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
    gates = rows.reshape(length * batch, -1) @ layer.inputs
    gates += layer.bias
    gates = gates.reshape(length, batch, _GATES)
    cells = np.zeros((length + 1, batch, CELLS), np.float32)
    squashed = np.empty((length, batch, CELLS), np.float32)
    hidden = np.empty((length, batch, CELLS), np.float32)
    state = np.zeros((batch, CELLS), np.float32)
    fed_back = np.empty((batch, _GATES), np.float32)
    for t in range(length):
        gate = gates[t]
        np.matmul(state, layer.states, out=fed_back)
        gate += fed_back
        np.tanh(gate, out=gate)
        _open(gate, cells[t], cells[t + 1])
        np.tanh(cells[t + 1], out=squashed[t])
        state = hidden[t]
        np.multiply(gate[:, CELLS : 2 * CELLS], squashed[t], out=state)
    return _Trace(gates, cells, squashed, hidden)


def _backward(layer: _Layer, trace: _Trace, slopes: FloatArray) -> FloatArray:
    length, batch, _ = slopes.shape
    back = np.empty((length, batch, _GATES), np.float32)
    into_hidden = np.zeros((batch, CELLS), np.float32)
    into_cell = np.zeros((batch, CELLS), np.float32)
    for t in range(length - 1, -1, -1):
        into_hidden += slopes[t]
        _step_back(
            trace.gates[t], trace.cells[t], trace.squashed[t], into_hidden, into_cell, back[t]
        )
        np.matmul(back[t], layer.states_back, out=into_hidden)
    flat = back.reshape(length * batch, _GATES) @ layer.inputs_back
    return flat.reshape(length, batch, -1)


@compiled
def _open(gate: FloatArray, before: FloatArray, after: FloatArray) -> None:
    """From a step's tanh in ``gate`` (B, 1024) to its gates, and from one state to the next."""
    half = np.float32(0.5)
    for b in range(gate.shape[0]):
        row, old, new = gate[b], before[b], after[b]
        for c in range(CELLS):
            enter = row[c] * half + half
            forget = row[2 * CELLS + c] * half + half
            row[c] = enter
            row[CELLS + c] = row[CELLS + c] * half + half
            row[2 * CELLS + c] = forget
            new[c] = forget * old[c] + enter * row[3 * CELLS + c]


@compiled
def _step_back(
    gate: FloatArray,
    before: FloatArray,
    squashed: FloatArray,
    into_hidden: FloatArray,
    into_cell: FloatArray,
    back: FloatArray,
) -> None:
    """A step's derivatives, into ``back`` (B, 1024); ``into_cell`` becomes that of one before."""
    one, two = np.float32(1), np.float32(2)
    for b in range(gate.shape[0]):
        row, out, hidden, cells = gate[b], back[b], into_hidden[b], into_cell[b]
        old, tanh = before[b], squashed[b]
        for c in range(CELLS):
            enter, leave = row[c], row[CELLS + c]
            forget, new = row[2 * CELLS + c], row[3 * CELLS + c]
            cell = cells[c] + hidden[c] * leave * (one - tanh[c] * tanh[c])
            # With s = (1 + tanh(x)) / 2, ds/dx = 2 s (1 - s).
            out[c] = cell * new * (two * enter * (one - enter))
            out[CELLS + c] = hidden[c] * tanh[c] * (two * leave * (one - leave))
            out[2 * CELLS + c] = cell * old[c] * (two * forget * (one - forget))
            out[3 * CELLS + c] = cell * enter * (one - new * new)
            cells[c] = cell * forget
