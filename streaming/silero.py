"""Silero VAD (v5/v6): the network that confirms speech, loaded once per process.

The file that Pipecat ships holds one network for each sample rate, and works out shapes at every
window that never change. Here each network is put together anew from the same weights with
nothing but its layers, which gives the same probabilities to the last bit in two thirds of the
time. A file in which those layers are not found is run as it is.
"""

from __future__ import annotations

import time
from importlib import resources
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import structlog
from onnx import TensorProto, helper, numpy_helper

log = structlog.get_logger(__name__)

FloatArray = npt.NDArray[np.float32]

UNITS: Final = 128
"""Of the recurrent layer; its state is (2, 1, UNITS): what it put out, and its cells."""

_BRANCHES: Final = {8000: "else_branch", 16000: "then_branch"}
"""Of the shipped file's one condition: whether the rate is 16 kHz."""

_STRIDES: Final = (1, 2, 2, 1)
"""Of the four convolutions between the spectrum and the recurrent layer."""

_OPSET: Final = 17
_IR: Final = 9


class SileroModel:
    """Both networks; state lives with each stream."""

    def __init__(self, network: bytes | None = None) -> None:
        """``network``: an ONNX file of silero's; None: the one that Pipecat ships."""
        if network is None:
            file = resources.files("pipecat.audio.vad.data").joinpath("silero_vad.onnx")
            network = file.read_bytes()
        self._plain: dict[int, onnxruntime.InferenceSession] = {}
        self._shipped: onnxruntime.InferenceSession | None = None
        try:
            for rate in _BRANCHES:
                self._plain[rate] = _session(layers(network, rate).SerializeToString())
        except KeyError as error:
            log.warning("silero.unknown_layers", missing=str(error))
            self._shipped = _session(network)
        self.busy = 0.0
        """CPU seconds of the calling threads spent in the network."""

    def run(self, window: FloatArray, state: FloatArray, rate: int) -> tuple[float, FloatArray]:
        """Speech probability of one window with its context, and the next state (2, 1, 128).

        ``window`` is 32 ms at ``rate`` Hz (8000 or 16000) in -1...1 behind an eighth of the one
        before it.
        """
        started = time.thread_time()
        if self._shipped is not None:
            feeds: dict[str, Any] = {
                "input": window[np.newaxis],
                "state": state,
                "sr": np.array(rate, dtype=np.int64),
            }
            probability, following = self._shipped.run(None, feeds)
        else:
            feeds = {"input": window[np.newaxis, np.newaxis], "h": state[:1], "c": state[1:]}
            probability, *halves = self._plain[rate].run(None, feeds)
            following = np.concatenate(halves)
        self.busy += time.thread_time() - started
        return probability.item(), following


def layers(network: bytes, rate: int) -> onnx.ModelProto:
    """The layers for ``rate`` Hz of silero's ONNX file, with their weights and nothing else.

    Inputs ``input`` (1, 1, samples), ``h`` and ``c`` (1, 1, 128); outputs the probability
    (1, 1, 1) and the next ``h`` and ``c``. Raises ``KeyError`` with what isn't found.
    """
    weights = _weights(onnx.load_from_string(network), _BRANCHES[rate])
    basis = weights["stft.forward_basis_buffer"]
    bins, size = basis.shape[0] // 2, basis.shape[2]
    build = _Builder()
    # Half as much as a hop is put behind the window, mirrored, as torch.stft does.
    ends = np.array([0, 0, 0, 0, 0, size // 4], np.int64)
    padded = build.add("Pad", ["input", build.hold(ends)], mode="reflect")
    squares = []
    for part in (basis[:bins], basis[bins:]):  # real, imaginary
        along = build.add("Conv", [padded, build.hold(part)], strides=[size // 2])
        squares.append(build.add("Mul", [along, along]))
    x = build.add("Sqrt", [build.add("Add", squares)])
    for number, stride in enumerate(_STRIDES):
        name = f"encoder.{number}.reparam_conv"
        inputs = [x, build.hold(weights[f"{name}.weight"]), build.hold(weights[f"{name}.bias"])]
        x = build.add("Relu", [build.add("Conv", inputs, strides=[stride], pads=[1, 1])])
    x = build.add("Transpose", [x], perm=[2, 0, 1])
    recurrent = [
        build.hold(np.concatenate([_gates(weights[f"decoder.rnn.{name}"]) for name in names])[None])
        for names in (["weight_ih"], ["weight_hh"], ["bias_ih", "bias_hh"])
    ]
    build.add("LSTM", [x, *recurrent, "", "h", "c"], ["", "h_next", "c_next"], hidden_size=UNITS)
    x = build.add("Transpose", [build.add("Relu", ["h_next"])], perm=[0, 2, 1])
    head = [build.hold(weights[f"decoder.decoder.2.{name}"]) for name in ("weight", "bias")]
    build.add("Sigmoid", [build.add("Conv", [x, *head])], ["output"])
    return build.model()


def _weights(model: onnx.ModelProto, branch: str) -> dict[str, npt.NDArray[Any]]:
    """The constants of a branch by their names in the network it was exported from."""
    condition = next((node for node in model.graph.node if node.op_type == "If"), None)
    if condition is None:
        raise KeyError("If")
    graph = {each.name: each.g for each in condition.attribute}[branch]
    return {
        node.output[0].split("__")[-1]: numpy_helper.to_array(node.attribute[0].t)
        for node in graph.node
        if node.op_type == "Constant"
    }


def _gates(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """From PyTorch's order of an LSTM's gates (input, forget, cell, output) to that of ONNX."""
    into, forget, cell, out = np.split(rows, 4)
    return np.concatenate([into, out, forget, cell])


class _Builder:
    """Collects nodes and weights under names of its own."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._held: list[onnx.TensorProto] = []

    def hold(self, value: npt.NDArray[Any]) -> str:
        """``value`` as a constant of the network; its name."""
        name = f"held{len(self._held)}"
        self._held.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(
        self, kind: str, inputs: list[str], outputs: list[str] | None = None, **settings: Any
    ) -> str:
        """A layer; the name of its output."""
        outputs = outputs or [f"made{len(self._nodes)}"]
        self._nodes.append(helper.make_node(kind, inputs, outputs, **settings))
        return outputs[0]

    def model(self) -> onnx.ModelProto:
        """What was collected."""
        state: list[int | None] = [1, 1, UNITS]
        shapes: dict[str, list[int | None]] = {"input": [1, 1, None], "h": state, "c": state}
        results: dict[str, list[int | None]] = {
            "output": [1, 1, 1],
            "h_next": state,
            "c_next": state,
        }
        inputs, outputs = (
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in each.items()]
            for each in (shapes, results)
        )
        graph = helper.make_graph(self._nodes, "silero", inputs, outputs, self._held)
        versions = [helper.make_opsetid("", _OPSET)]
        return helper.make_model(graph, opset_imports=versions, ir_version=_IR)


def _session(network: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.inter_op_num_threads = 1
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        network, providers=["CPUExecutionProvider"], sess_options=options
    )
