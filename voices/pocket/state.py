"""A voice's state as bytes: what the model made of the prompt, and for which model.

A safetensors file (https://huggingface.co/docs/safetensors): a JSON header and raw numbers; reading
it runs nothing. It holds the keys and values of every attention layer for the voice's prompt, in
half precision, and in its header the model's digest and the voice's gain.
"""

from __future__ import annotations

import importlib
import json
import math
import re
from dataclasses import dataclass
from typing import Any, Final

from ringtrue.voices.errors import EngineStateError
from ringtrue.voices.pocket.backend import Backend, ModelState

FORMAT: Final = "ringtrue.pocket.1"
MAX_STATE: Final = 16 << 20
"""Bytes."""

MAX_POSITIONS: Final = 512
GAINS: Final = (0.05, 20.0)
_MAX_HEADER: Final = 256 * 1024
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class VoiceState:
    """What a voice's utterances all begin with."""

    prompt: ModelState
    """The flow model's state after the prompt; never changed."""

    gain: float
    """Factor that brings the voice to the level of the stock voices."""


def dump(backend: Backend, prompt: ModelState, gain: float) -> bytes:
    """``prompt`` as bytes; raises ``ValueError`` for more than :data:`MAX_STATE` of them."""
    torch = backend.torch
    tensors = {}
    for module, entries in prompt.items():
        if "cache" in entries:
            end = int(entries["offset"][0])
            tensors[module] = entries["cache"][:, :, :end].to(torch.float16).contiguous()
    metadata = {"format": FORMAT, "model": backend.digest, "gain": f"{gain:.6f}"}
    data = importlib.import_module("safetensors.torch").save(tensors, metadata=metadata)
    if len(data) > MAX_STATE:
        raise ValueError(f"a voice's state has at most {MAX_STATE} bytes, not {len(data)}")
    return bytes(data)


def load(backend: Backend, data: bytes) -> VoiceState:
    """The state that ``data`` is.

    Raises :class:`~ringtrue.voices.errors.EngineStateError` for anything that :func:`dump` didn't
    make of a voice for this model.
    """
    metadata = _metadata(data)
    model = metadata.get("model")
    if model != backend.digest:
        named = f"{model:.12}" if isinstance(model, str) and _DIGEST.fullmatch(model) else "unknown"
        raise EngineStateError(
            f"the voice was made with another pocket-tts model ({named}…) than the one configured "
            f"({backend.digest:.12}…); configure that model, or enrol the voice again"
        )
    try:
        gain = float(metadata["gain"])
        if not GAINS[0] <= gain <= GAINS[1]:
            raise ValueError("gain out of range")
        tensors = importlib.import_module("safetensors.torch").load(data)
        return VoiceState(_prompt(backend, tensors), gain)
    except Exception as error:  # whatever safetensors, float and torch raise on malformed bytes
        raise EngineStateError(f"no state of a pocket-tts voice: {str(error)[:200]}") from None


def _metadata(data: bytes) -> dict[str, Any]:
    if not 8 < len(data) <= MAX_STATE:
        raise EngineStateError(f"{len(data)} bytes are no state of a pocket-tts voice")
    length = int.from_bytes(data[:8], "little")
    try:
        if not 0 < length <= min(_MAX_HEADER, len(data) - 8):
            raise ValueError("header out of bounds")
        metadata = json.loads(data[8 : 8 + length])["__metadata__"]
        if metadata["format"] != FORMAT:
            raise ValueError("another format")
    except (ValueError, KeyError, TypeError, RecursionError):
        raise EngineStateError("the bytes are no state of a pocket-tts voice") from None
    assert isinstance(metadata, dict)
    return metadata


def _prompt(backend: Backend, tensors: dict[str, Any]) -> ModelState:
    torch = backend.torch
    prompt = backend.init_states(backend.model.flow_lm, batch_size=1, sequence_length=1)
    expected = {name: entries for name, entries in prompt.items() if "cache" in entries}
    if set(tensors) != set(expected):
        raise ValueError("other layers than the model has")
    lengths = {int(tensor.shape[2]) if tensor.dim() == 5 else -1 for tensor in tensors.values()}
    if len(lengths) != 1 or not 0 < (length := lengths.pop()) <= MAX_POSITIONS:
        raise ValueError("lengths that don't fit")
    for name, entries in expected.items():
        tensor = tensors[name]
        wanted = list(entries["cache"].shape)
        wanted[2] = length
        if tensor.dtype != torch.float16 or list(tensor.shape) != wanted:
            raise ValueError(f"{name} has another shape than the model's")
        cache = tensor.to(entries["cache"].dtype)
        if not math.isfinite(float(cache.abs().sum())):
            raise ValueError(f"{name} holds numbers that are none")
        entries["cache"] = cache
        entries["offset"] = torch.full((1,), length, dtype=torch.long)
    assert isinstance(prompt, dict)
    return prompt
