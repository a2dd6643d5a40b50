"""Teaches the networks of ``voices/enrolment/texture.py`` to hear what vocoders make.

    python scripts/enrolment_corpus.py --fetch
    python scripts/fit_texture.py

By folds of people and synthesizers (:mod:`taught_networks`). What is learnt is kept under
``build/enrolment/synthesis``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import taught_networks
from enrolment_corpus import ROOT
from synthesis_material import KEPT, Sample, everything, sources
from taught_networks import Taught

from ringtrue.voices.enrolment.texture import (
    BINS,
    HIDDEN,
    SHAPES,
    TextureNetwork,
    active,
    prepared,
    traits,
)

if TYPE_CHECKING:
    import torch

Real = npt.NDArray[np.float32]

OUT: Final = ROOT / "voices" / "enrolment" / "texture.npz"

STEPS: Final = 900
BATCH: Final = 32
FRAMES: Final = 128
RATE: Final = 4e-3


class Pool:
    """Stretches to learn from, drawn by kind, then by owner."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        """Prepare the samples once."""
        self._by: dict[str, dict[str, list[Real]]] = defaultdict(lambda: defaultdict(list))
        for sample in samples:
            seen = sample.texture.astype(np.float32)
            self._by[sample.kind][sample.owner].append(
                np.concatenate([prepared(seen), active(seen)[:, None]], axis=1).astype(np.float16)
            )
        self._attacks = sorted(set(self._by) - {"person"})

    def draw(self, rng: np.random.Generator) -> tuple[Real, Real, Real]:
        """Spectra ``(BATCH, FRAMES, BINS)``, which frames count, and whether each is an attack."""
        seen = np.zeros((BATCH, FRAMES, BINS), np.float32)
        counts = np.zeros((BATCH, FRAMES), np.float32)
        attack = (np.arange(BATCH) % 2).astype(np.float32)
        for row in range(BATCH):
            kind = "person" if not row % 2 else self._attacks[int(rng.integers(len(self._attacks)))]
            owners = list(self._by[kind].values())
            pool = owners[int(rng.integers(len(owners)))]
            part = pool[int(rng.integers(len(pool)))]
            start = int(rng.integers(0, max(1, len(part) - FRAMES)))
            part = part[start : start + FRAMES].astype(np.float32)
            seen[row, : len(part)], counts[row, : len(part)] = part[:, :BINS], part[:, BINS]
        return roughened(seen, rng), counts, attack


def roughened(seen: Real, rng: np.random.Generator) -> Real:
    """With a little noise in some, and a band of bins hidden in some."""
    for row in seen:
        if rng.random() < 0.3:
            row += rng.normal(0, rng.uniform(0.02, 0.15), row.shape).astype(np.float32)
        if rng.random() < 0.5:
            low, width = int(rng.integers(BINS)), int(rng.integers(5, 40))
            row[:, low : low + width] = 0.0
        row += np.float32(rng.normal(0, 0.1))
    return seen


def learnt(fold: int, member: int) -> TextureNetwork:
    """Teach one network."""
    import torch
    from torch import nn
    from torch.nn import functional

    rng = taught_networks.seeded(fold, member)
    pool = Pool([s for s in everything() if NETWORKS.folds[s.owner] != fold])
    sizes = [1, *(shape.channels for shape in SHAPES)]
    layers = nn.ModuleList(
        nn.Conv2d(
            size,
            shape.channels,
            shape.kernel,
            shape.step,
            (shape.kernel[0] // 2, shape.kernel[1] // 2),
            bias=False,
        )
        for size, shape in zip(sizes, SHAPES, strict=False)
    )
    norms = nn.ModuleList(nn.BatchNorm2d(shape.channels) for shape in SHAPES)
    bins = BINS
    for shape in SHAPES:
        bins = -(-bins // shape.step[1])
    hidden, last = nn.Linear(bins * SHAPES[-1].channels, HIDDEN), nn.Linear(HIDDEN, 1)
    modules = nn.ModuleList([*layers, *norms, hidden, last])

    def loss() -> torch.Tensor:
        seen, counts, attack = (torch.from_numpy(part) for part in pool.draw(rng))
        values = seen[:, None]
        for layer, norm in zip(layers, norms, strict=True):
            values = functional.relu(norm(layer(values)))
        flat = functional.dropout(values.permute(0, 2, 3, 1).flatten(2), 0.3)
        odds = last(functional.relu(hidden(flat)))[:, :, 0]
        counted = counts[:, ::2]
        score = (odds * counted).sum(dim=1) / (counted.sum(dim=1) + 1)
        return functional.binary_cross_entropy_with_logits(score, attack)

    taught_networks.learn(modules, loss, STEPS, RATE, f"fold {fold}, {member}")
    return TextureNetwork(*taught_networks.exported(layers, norms, [hidden, last]))


def voices() -> set[str]:
    """Whose samples there are: people, those who read letters, and machines."""
    return {name.removeprefix("neural-").removeprefix("pulses-") for name in sources()}


NETWORKS: Final = Taught(TextureNetwork, KEPT, voices, learnt)


def report() -> None:
    """What share of each kind is above what 2 % of people's exceed, nobody judged by theirs."""
    found: dict[str, list[float]] = defaultdict(list)
    for sample in everything():
        if not sample.owner.startswith(("letters-", "shapes-")):
            seen = sample.texture.astype(np.float32)
            heard = traits(NETWORKS.without(sample.owner).odds(seen), seen)
            found[sample.kind].append(float(heard[0]))
    bound = float(np.quantile(found["person"], 0.98))
    for kind, scores in sorted(found.items()):
        print(f"{kind:12} {len(scores):5}  above {np.mean(np.array(scores) > bound):.2f}")


if __name__ == "__main__":
    NETWORKS.main("Teach the network that hears vocoders.", report, OUT)
