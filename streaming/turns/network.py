"""smart-turn v3's network, made to take a third of the time.

The file that Pipecat ships (Whisper tiny's encoder over 8 s, pooled; static 8-bit quantization)
hears silence before all turns that are shorter. Changed here, when it is loaded:

- it hears the turn and :data:`BEFORE_SECONDS` of that silence, :data:`LEAST_SECONDS` at least: the
  rows of its positions become an input, and the last ones are used;
- between its matrix products, whose 8-bit weights and inputs stay, it computes in 32 bits;
  attention is one operation (com.microsoft's MultiHeadAttention).

A file in which those layers are not found is run as it is.
"""

from __future__ import annotations

import math
from importlib import resources
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import structlog
from onnx import TensorProto, helper, numpy_helper

from ringtrue.streaming.errors import RingtrueError
from ringtrue.streaming.turns.features import SECONDS, log_mel

log = structlog.get_logger(__name__)

FRAMES_PER_SECOND: Final = 100
"""Of the features; the network has a position for two of them."""

BEFORE_SECONDS: Final = 1.0
LEAST_SECONDS: Final = 4.0

_POSITIONS: Final = "inner.encoder.embed_positions.weight"
_WIDTH: Final = 384
_HEADS: Final = 6
_LAYERS: Final = 4
_PRODUCTS: Final = ("MatMul", "Gemm", "Conv")
_ARRANGING: Final = ("Mul", "Transpose", "Reshape", "QuantizeLinear", "DequantizeLinear")

FloatArray = npt.NDArray[np.float32]


class UnknownNetworkError(RingtrueError):
    """The file's layers are not those of smart-turn v3."""


class TurnNetwork:
    """Says how probably a turn is complete. For many threads."""

    def __init__(self, network: bytes | None = None) -> None:
        """``network``: an ONNX file of smart-turn v3; None: the one that Pipecat ships."""
        if network is None:
            folder = resources.files("pipecat.audio.turn.smart_turn.data")
            network = folder.joinpath("smart-turn-v3.2-cpu.onnx").read_bytes()
        self._positions: FloatArray | None = None
        try:
            lightened, self._positions = lighten(onnx.load_from_string(network))
            network = lightened.SerializeToString()
        except UnknownNetworkError as error:
            log.warning("smart_turn.unknown_layers", error=str(error))
        options = onnxruntime.SessionOptions()
        options.inter_op_num_threads = options.intra_op_num_threads = 1
        # Processors without VNNI add pairs of products in 16 bits, which overflow in this network:
        # it took half a question for a whole one. Others don't look at this.
        options.add_session_config_entry("session.x64quantprecision", "1")
        self._session = onnxruntime.InferenceSession(
            network, providers=["CPUExecutionProvider"], sess_options=options
        )

    def probability(self, audio: FloatArray, rate: int = 16000) -> float:
        """0 to 1 for a turn's ``audio``, at 16 kHz in -1...1; of a long one, its end."""
        if self._positions is None:
            frames = SECONDS * FRAMES_PER_SECOND
            feeds = {"input_features": log_mel(audio, frames)[np.newaxis]}
        else:
            frames = heard_frames(len(audio) / rate)
            rows = self._positions[-frames // 2 :]
            feeds = {"input_features": log_mel(audio, frames)[np.newaxis], "positions": rows}
        (result,) = self._session.run(None, feeds)
        return float(result[0, 0])


def heard_frames(seconds: float) -> int:
    """How many frames of features the network hears of a turn of so many seconds."""
    heard = min(float(SECONDS), max(LEAST_SECONDS, seconds + BEFORE_SECONDS))
    return 2 * math.ceil(heard * FRAMES_PER_SECOND / 2)


def lighten(model: onnx.ModelProto) -> tuple[onnx.ModelProto, FloatArray]:
    """``model`` changed as the module says, and the rows of its positions (400, 384).

    Raises :class:`UnknownNetworkError`.
    """
    surgery = _Surgery(model.graph)
    positions = surgery.free_positions()
    surgery.keep_products_alone_quantized()
    surgery.fuse_attention()
    surgery.clear()
    return model, positions


class _Surgery:
    """Changes one graph in place."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._held = {each.name for each in graph.initializer}

    def _made_by(self) -> dict[str, onnx.NodeProto]:
        return {name: node for node in self._graph.node for name in node.output}

    def _used_by(self) -> dict[str, list[onnx.NodeProto]]:
        users: dict[str, list[onnx.NodeProto]] = {}
        for node in self._graph.node:
            for name in node.input:
                users.setdefault(name, []).append(node)
        return users

    def free_positions(self) -> FloatArray:
        """Make the positions an input, and the features' length free."""
        graph = self._graph
        held = next((each for each in graph.initializer if each.name == _POSITIONS), None)
        if held is None:
            raise UnknownNetworkError(f"no {_POSITIONS}")
        rows: FloatArray = numpy_helper.to_array(held)
        if rows.shape != (SECONDS * FRAMES_PER_SECOND // 2, _WIDTH):
            raise UnknownNetworkError(f"positions are {rows.shape}")
        graph.initializer.remove(held)
        graph.input.append(
            helper.make_tensor_value_info("positions", TensorProto.FLOAT, ["positions", _WIDTH])
        )
        for node in graph.node:
            node.input[:] = ["positions" if name == _POSITIONS else name for name in node.input]
        graph.input[0].type.tensor_type.shape.dim[2].dim_param = "frames"
        del graph.value_info[:]
        return rows

    def keep_products_alone_quantized(self) -> None:
        """Leave 8 bits to what goes into products with 8-bit weights, and comes of convolutions."""
        made, used = self._made_by(), self._used_by()
        weights = {
            node.output[0]
            for node in self._graph.node
            if node.op_type == "DequantizeLinear" and node.input[0] in self._held
        }
        source: dict[str, str] = {}
        dropped: list[onnx.NodeProto] = []
        for quantize in [node for node in self._graph.node if node.op_type == "QuantizeLinear"]:
            back = used.get(quantize.output[0], [])
            users = [user for each in back for user in used.get(each.output[0], [])]
            maker = made.get(quantize.input[0])
            if any(u.op_type in _PRODUCTS and weights.intersection(u.input) for u in users):
                continue
            if maker is not None and maker.op_type == "Conv":
                continue
            source |= {each.output[0]: quantize.input[0] for each in back}
            dropped += [quantize, *back]
        for node in dropped:
            self._graph.node.remove(node)
        for node in self._graph.node:
            node.input[:] = [_followed(name, source) for name in node.input]

    def fuse_attention(self) -> None:
        """Four times, one operation for the products of queries, keys and values."""
        scores = [node for node in self._graph.node if node.op_type == "Softmax"][:_LAYERS]
        if len(scores) < _LAYERS:
            raise UnknownNetworkError(f"{len(scores)} layers of attention")
        made, used = self._made_by(), self._used_by()
        for number, softmax in enumerate(scores):
            weighted = _only(used, softmax.output[0], "MatMul")
            compared = made.get(softmax.input[0])
            if compared is None or compared.op_type != "MatMul":
                raise UnknownNetworkError("scores are no product")
            inputs = [_projected(made, name) for name in (*compared.input[:2], weighted.input[1])]
            joined = _only(used, _only(used, weighted.output[0], "Transpose").output[0], "Reshape")
            fused = helper.make_node(
                "MultiHeadAttention",
                inputs,
                [joined.output[0]],
                name=f"attention{number}",
                domain="com.microsoft",
                num_heads=_HEADS,
            )
            at = list(self._graph.node).index(joined)
            self._graph.node.remove(joined)
            self._graph.node.insert(at, fused)

    def clear(self) -> None:
        """Take out what nothing uses any more."""
        graph = self._graph
        while True:
            wanted = {name for node in graph.node for name in node.input}
            wanted.update(each.name for each in graph.output)
            unused = [node for node in graph.node if wanted.isdisjoint(node.output)]
            if not unused:
                break
            for node in unused:
                graph.node.remove(node)
        for held in [each for each in graph.initializer if each.name not in wanted]:
            graph.initializer.remove(held)


def _followed(name: str, source: dict[str, str]) -> str:
    while name in source:
        name = source[name]
    return name


def _only(used: dict[str, list[onnx.NodeProto]], name: str, kind: str) -> onnx.NodeProto:
    """The one node that uses ``name``; it must be of ``kind``."""
    users = used.get(name, [])
    if len(users) != 1 or users[0].op_type != kind:
        found = ", ".join(user.op_type for user in users)
        raise UnknownNetworkError(f"{name} goes to {found or 'nothing'}, not to one {kind}")
    return users[0]


def _projected(made: dict[str, onnx.NodeProto], name: str) -> str:
    """What ``name`` was before it was scaled and arranged by heads."""
    while name in made and made[name].op_type in _ARRANGING:
        name = made[name].input[0]
    return name
