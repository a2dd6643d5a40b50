"""The network: 20 features each 10 ms in, 160 samples out, with a memory from frame to frame.

Layer by layer as in libopus 1.5 (``dnn/fargan.c``, ``dnn/vec.h``), with its matrices of integers in
exact integer arithmetic and its approximation of the hyperbolic tangent. Every frame goes through
the same operations whatever came with it, so any chunking gives the same samples, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.fargan.weights import ByteArray, FloatArray, Weights
from ringtrue.voices.jit import compiled

FEATURES: Final = 20
"""18 cepstra of bands, log pitch, periodicity."""

FRAME: Final = 160
"""Samples of a frame: 10 ms."""

PITCH: Final = 18
"""Number of the feature that holds log2(256 / period) - 1.5."""

_SHORTEST: Final = 32
"""Samples of the shortest pitch period embedded."""

_AT_REST: Final = 160
_SUBFRAME: Final = 40
_SUBFRAMES: Final = FRAME // _SUBFRAME
_CONDITION: Final = 80
_EMBEDDED: Final = 12
_HIDDEN: Final = 64
_HISTORY: Final = 256
_AHEAD: Final = 2
_PREDICTED: Final = _SUBFRAME + 2 * _AHEAD
_FIRST: Final = 192
_INPUT: Final = _CONDITION + _PREDICTED + _SUBFRAME
_CELLS: Final = (160, 128, 128)
_SKIP: Final = sum(_CELLS) + _FIRST + 2 * _SUBFRAME

_FULL: Final = np.float32(127.0 * 129.0)
_RESTORED: Final = np.float32(1.0 / 129.0)
"""Inputs are rounded to 15 bits, where libopus rounds them to 8 and the layers' scales expect it:
that costs a listener's mark of 0.03 and saves nothing here. The longest sum stays within 31."""

_HALF: Final = np.float32(0.5)
_ONE: Final = np.float32(1.0)
_LEAST_GAIN: Final = np.float32(1e-5)
_LOUDEST: Final = np.float32(1.0)
"""Gain of a subframe; speech at full scale takes a third of it."""
_DEEMPHASIS: Final = np.float32(0.85)

_P0: Final = np.float32(952.52801514)
_P1: Final = np.float32(96.39235687)
_P2: Final = np.float32(0.60863042)
_Q0: Final = np.float32(952.72399902)
_Q1: Final = np.float32(413.36801147)
_Q2: Final = np.float32(11.88600922)
"""Of the hyperbolic tangent's rational approximation, good to 6e-5."""

IndexArray = npt.NDArray[np.int64]


def _zeros(size: int) -> FloatArray:
    return np.zeros(size, np.float32)


@dataclass(slots=True)
class Memory:
    """All that carries over from one frame to the next; about 5 kB."""

    conditioning: FloatArray = field(default_factory=lambda: _zeros(2 * _HIDDEN))
    history: FloatArray = field(default_factory=lambda: _zeros(_HISTORY))
    """The last samples, before de-emphasis."""

    inputs: FloatArray = field(default_factory=lambda: _zeros(_INPUT))
    cells: tuple[FloatArray, ...] = field(
        default_factory=lambda: tuple(_zeros(size) for size in _CELLS)
    )
    deemphasis: FloatArray = field(default_factory=lambda: _zeros(1))
    period: IndexArray = field(default_factory=lambda: np.full(1, _AT_REST, np.int64))

    def copy(self) -> Memory:
        """An independent memory that goes on as this one would."""
        return Memory(
            self.conditioning.copy(),
            self.history.copy(),
            self.inputs.copy(),
            tuple(cell.copy() for cell in self.cells),
            self.deemphasis.copy(),
            self.period.copy(),
        )


def synthesize(weights: Weights, memory: Memory, features: FloatArray) -> FloatArray:
    """N frames of ``features`` (N, 20) as N·160 samples, full scale 1.0; advances ``memory``.

    Raises ``ValueError`` for another shape.
    """
    if features.ndim != 2 or features.shape[1] != FEATURES:
        raise ValueError(f"features must have shape (N, {FEATURES}), got {features.shape}")
    out = np.empty(len(features) * FRAME, np.float32)
    _synthesize(
        np.ascontiguousarray(features, np.float32),
        weights.embedding,
        weights.matrices,
        weights.biases,
        weights.integers,
        weights.scales,
        weights.offsets,
        memory.conditioning,
        memory.history,
        memory.inputs,
        memory.cells,
        memory.deemphasis,
        memory.period,
        out,
    )
    return out


@compiled
def _tanh(values: FloatArray) -> None:
    for i in range(values.shape[0]):
        x = values[i]
        square = x * x
        top = (_P2 * square + _P1) * square + _P0
        bottom = (_Q2 * square + _Q1) * square + _Q0
        values[i] = max(-_ONE, min(_ONE, x * top / bottom))


@compiled
def _sigmoid(values: FloatArray) -> None:
    for i in range(values.shape[0]):
        values[i] *= _HALF
    _tanh(values)
    for i in range(values.shape[0]):
        values[i] = _HALF + _HALF * values[i]


@compiled
def _dense(matrix: FloatArray, bias: FloatArray, given: FloatArray, out: FloatArray) -> None:
    for i in range(matrix.shape[0]):
        total = np.float32(0.0)
        for j in range(matrix.shape[1]):
            total += matrix[i, j] * given[j]
        out[i] = total + bias[i]


@compiled
def _integer(
    matrix: ByteArray,
    scale: FloatArray,
    bias: FloatArray,
    given: FloatArray,
    rounded: npt.NDArray[np.int16],
    out: FloatArray,
) -> None:
    inputs = matrix.shape[1]
    for j in range(inputs):
        rounded[j] = np.int16(np.floor(_HALF + _FULL * given[j]))
    for i in range(matrix.shape[0]):
        total = np.int32(0)
        for j in range(inputs):
            total = np.int32(total + np.int32(matrix[i, j]) * np.int32(rounded[j]))
        out[i] = np.float32(total) * (scale[i] * _RESTORED) + bias[i]


@compiled
def _recurrent(
    at: int,
    integers: tuple[ByteArray, ...],
    scales: tuple[FloatArray, ...],
    offsets: tuple[FloatArray, ...],
    cells: FloatArray,
    given: FloatArray,
    rounded: npt.NDArray[np.int16],
    work: FloatArray,
    old: FloatArray,
    out: FloatArray,
) -> None:
    """A layer of gated recurrent units, and the gated linear unit behind it."""
    size = cells.shape[0]
    _integer(integers[at], scales[at], offsets[at], given, rounded, work)
    _integer(integers[at + 1], scales[at + 1], offsets[at + 1], cells, rounded, old)
    for i in range(2 * size):
        work[i] += old[i]
    _sigmoid(work[: 2 * size])
    for i in range(2 * size, 3 * size):
        work[i] += old[i] * work[i - size]
    _tanh(work[2 * size : 3 * size])
    for i in range(size):
        cells[i] = work[i] * cells[i] + (_ONE - work[i]) * work[2 * size + i]
    _integer(integers[at + 2], scales[at + 2], offsets[at + 2], cells, rounded, old)
    _sigmoid(old[:size])
    for i in range(size):
        out[i] = cells[i] * old[i]


@compiled
def _synthesize(
    features: FloatArray,
    embedding: FloatArray,
    matrices: tuple[FloatArray, ...],
    biases: tuple[FloatArray, ...],
    integers: tuple[ByteArray, ...],
    scales: tuple[FloatArray, ...],
    offsets: tuple[FloatArray, ...],
    conditioning: FloatArray,
    history: FloatArray,
    inputs: FloatArray,
    cells: tuple[FloatArray, ...],
    deemphasis: FloatArray,
    period: IndexArray,
    out: FloatArray,
) -> None:
    rounded = np.empty(_SKIP, np.int16)
    described = np.empty(FEATURES + _EMBEDDED, np.float32)
    window = np.empty(3 * _HIDDEN, np.float32)
    mixed = np.empty(2 * _HIDDEN, np.float32)
    conditions = np.empty(_SUBFRAMES * _CONDITION, np.float32)
    work = np.empty(3 * _CELLS[0], np.float32)
    old = np.empty(3 * _CELLS[0], np.float32)
    first = np.empty(_FIRST + 2 * _SUBFRAME, np.float32)
    second = np.empty(_CELLS[0] + 2 * _SUBFRAME, np.float32)
    third = np.empty(_CELLS[1] + 2 * _SUBFRAME, np.float32)
    skip = np.empty(_SKIP, np.float32)
    summed = np.empty(_CELLS[1], np.float32)
    gates = np.empty(_SUBFRAMES, np.float32)
    gain = np.empty(1, np.float32)
    predicted = np.empty(_PREDICTED, np.float32)
    sound = np.empty(_SUBFRAME, np.float32)
    previous = inputs[_CONDITION + _PREDICTED :]
    for n in range(features.shape[0]):
        next_period = int(np.floor(0.5 + 256.0 / 2.0 ** (float(features[n, PITCH]) + 1.5)))
        row = max(0, min(next_period - _SHORTEST, embedding.shape[0] - 1))
        described[:FEATURES] = features[n]
        described[FEATURES:] = embedding[row]
        window[: 2 * _HIDDEN] = conditioning
        _dense(matrices[0], biases[0], described, window[2 * _HIDDEN :])
        _tanh(window[2 * _HIDDEN :])
        conditioning[:] = window[_HIDDEN:]
        _integer(integers[0], scales[0], offsets[0], window, rounded, mixed)
        _tanh(mixed)
        _integer(integers[1], scales[1], offsets[1], mixed, rounded, conditions)
        _tanh(conditions)
        for part in range(_SUBFRAMES):
            condition = conditions[part * _CONDITION : (part + 1) * _CONDITION]
            _dense(matrices[1], biases[1], condition, gain)
            level = np.float32(min(_LOUDEST, np.exp(gain[0])))
            inverse = _ONE / (_LEAST_GAIN + level)
            at = _HISTORY - period[0] - _AHEAD
            for i in range(_PREDICTED):
                value = inverse * history[max(0, at)]
                predicted[i] = min(_ONE, max(-_ONE, value))
                at += 1
                if at == _HISTORY:
                    at -= period[0]
            _first(condition, predicted, history, inverse, inputs, rounded, integers[2], scales[2],
                   offsets[2], first)  # fmt: skip
            _integer(integers[3], scales[3], offsets[3], first[:_FIRST], rounded, old)
            _sigmoid(old[:_FIRST])
            for i in range(_FIRST):
                first[i] *= old[i]
            _dense(matrices[2], biases[2], first[:_FIRST], gates)
            _sigmoid(gates)
            _beside(first[_FIRST:], gates[0], predicted, previous)
            _recurrent(4, integers, scales, offsets, cells[0], first, rounded, work, old, second)
            _beside(second[_CELLS[0] :], gates[1], predicted, previous)
            _recurrent(7, integers, scales, offsets, cells[1], second, rounded, work, old, third)
            _beside(third[_CELLS[1] :], gates[2], predicted, previous)
            at = _CELLS[0] + _CELLS[1]
            _recurrent(
                10, integers, scales, offsets, cells[2], third, rounded, work, old, skip[at:]
            )
            skip[: _CELLS[0]] = second[: _CELLS[0]]
            skip[_CELLS[0] : at] = third[: _CELLS[1]]
            at += _CELLS[2]
            skip[at : at + _FIRST] = first[:_FIRST]
            _beside(skip[at + _FIRST :], gates[3], predicted, previous)
            _integer(integers[13], scales[13], offsets[13], skip, rounded, summed)
            _tanh(summed)
            _integer(integers[14], scales[14], offsets[14], summed, rounded, old)
            _sigmoid(old[: _CELLS[1]])
            for i in range(_CELLS[1]):
                summed[i] *= old[i]
            _integer(integers[15], scales[15], offsets[15], summed, rounded, sound)
            _tanh(sound)
            history[:-_SUBFRAME] = history[_SUBFRAME:].copy()
            start = n * FRAME + part * _SUBFRAME
            for i in range(_SUBFRAME):
                value = sound[i] * level
                history[_HISTORY - _SUBFRAME + i] = value
                deemphasis[0] = value + _DEEMPHASIS * deemphasis[0]
                out[start + i] = deemphasis[0]
        period[0] = next_period


@compiled
def _first(
    condition: FloatArray,
    predicted: FloatArray,
    history: FloatArray,
    inverse: np.float32,
    inputs: FloatArray,
    rounded: npt.NDArray[np.int16],
    matrix: ByteArray,
    scale: FloatArray,
    bias: FloatArray,
    out: FloatArray,
) -> None:
    """The convolution over this subframe's inputs and those of the one before."""
    both = np.empty(2 * _INPUT, np.float32)
    both[:_INPUT] = inputs
    inputs[:_CONDITION] = condition
    inputs[_CONDITION : _CONDITION + _PREDICTED] = predicted
    for i in range(_SUBFRAME):
        value = inverse * history[_HISTORY - _SUBFRAME + i]
        inputs[_CONDITION + _PREDICTED + i] = min(_ONE, max(-_ONE, value))
    both[_INPUT:] = inputs
    _integer(matrix, scale, bias, both, rounded, out)
    _tanh(out[:_FIRST])


@compiled
def _beside(out: FloatArray, gate: np.float32, predicted: FloatArray, previous: FloatArray) -> None:
    """What every layer is given beside the one before it: the past by one period, and as it is."""
    for i in range(_SUBFRAME):
        out[i] = gate * predicted[i + _AHEAD]
        out[_SUBFRAME + i] = previous[i]
