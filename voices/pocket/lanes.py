"""Streaming states side by side: many utterances through one model in lock-step.

The library keeps one position for a whole batch. Utterances that began at different times stand
right-aligned in it: each keeps its keys and values at the end of the cache, the room before them is
marked as padding (the library masks it), and its keys are turned to their new positions, which
rotary embeddings allow because only distances count (Su et al. 2021, https://arxiv.org/abs/2104.09864).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ringtrue.voices.pocket.backend import ModelState, Tensor


@dataclass(frozen=True, slots=True)
class Attention:
    """What must be known of one attention layer to move its keys."""

    max_period: float
    context: int | None
    """Positions it looks back; None: all."""


def attentions(model: Any) -> dict[str, Attention]:
    """Every attention layer of ``model`` by its name in a state."""
    found = {}
    for name, module in model.named_modules():
        rope = getattr(module, "rope", None)
        if rope is not None and hasattr(module, "in_proj"):
            found[name] = Attention(float(rope.max_period), module.context)
    return found


def length_of(state: ModelState) -> int:
    """How many positions a single utterance's state holds; 0 where it has no attention."""
    for tensors in state.values():
        if "cache" in tensors:
            return int(tensors["offset"][0])
    return 0


def turned(torch: Any, keys: Tensor, by: int, max_period: float) -> Tensor:
    """``keys`` ``(…, heads, depth)`` rotated as if they stood ``by`` positions later."""
    if by == 0:
        return keys
    depth = keys.shape[-1]
    rates = torch.exp(torch.arange(depth // 2) * (-math.log(max_period) * 2 / depth))
    angle = rates.double() * by
    cos, sin = torch.cos(angle).to(keys.dtype), torch.sin(angle).to(keys.dtype)
    pairs = keys.reshape(*keys.shape[:-1], depth // 2, 2)
    real, imaginary = pairs[..., 0], pairs[..., 1]
    both = torch.stack((real * cos - imaginary * sin, real * sin + imaginary * cos), dim=-1)
    return both.reshape(keys.shape)


def joined(
    torch: Any, states: Sequence[ModelState], layers: Mapping[str, Attention], room: int
) -> ModelState:
    """One batch state of single ``states``, with space for ``room`` more positions.

    Each of ``states`` has batch size 1 and no padding.
    """
    result: ModelState = {}
    for name, first in states[0].items():
        parts = [state[name] for state in states]
        if "cache" in first:
            result[name] = _join_attention(torch, parts, layers[name], room)
        else:
            result[name] = {key: torch.cat([part[key] for part in parts], dim=0) for key in first}
    return result


def _join_attention(
    torch: Any, parts: Sequence[dict[str, Any]], layer: Attention, room: int
) -> dict[str, Any]:
    kept = []
    for part in parts:
        length = int(part["offset"][0])
        keep = length if layer.context is None else min(length, layer.context)
        kept.append((length, keep))
    end = max(keep for _, keep in kept)
    shape = parts[0]["cache"].shape
    # Zeros, not NaN as in the library: a masked NaN still spoils the sum it is masked in.
    cache = torch.zeros((2, len(parts), end + room, shape[3], shape[4]))
    for row, (part, (length, keep)) in enumerate(zip(parts, kept, strict=True)):
        old = part["cache"][:, 0, length - keep : length]
        cache[0, row, end - keep : end] = turned(torch, old[0], end - length, layer.max_period)
        cache[1, row, end - keep : end] = old[1]
    return {
        "offset": torch.full((len(parts),), end, dtype=torch.long),
        "pad": torch.tensor([end - keep for _, keep in kept], dtype=torch.long),
        "cache": cache,
    }


def parted(torch: Any, batch: ModelState, row: int, layers: Mapping[str, Attention]) -> ModelState:
    """The state of one ``row`` of ``batch``, by itself and without padding."""
    result: ModelState = {}
    for name, tensors in batch.items():
        if "cache" not in tensors:
            result[name] = {key: value[row : row + 1].clone() for key, value in tensors.items()}
            continue
        end, pad = int(tensors["offset"][row]), int(tensors["pad"][row])
        old = tensors["cache"][:, row, pad:end]
        cache = torch.stack(
            (turned(torch, old[0], -pad, layers[name].max_period), old[1])
        ).unsqueeze(1)
        result[name] = {
            "offset": torch.full((1,), end - pad, dtype=torch.long),
            "pad": torch.zeros(1, dtype=torch.long),
            "cache": cache,
        }
    return result


def room_in(state: ModelState) -> int:
    """How many more positions fit into every cache of ``state``."""
    free = [
        int(tensors["cache"].shape[2]) - int(tensors["offset"][0])
        for tensors in state.values()
        if "cache" in tensors
    ]
    return min(free) if free else 1 << 30
