"""Teaches the network of ``voices/enrolment/texture.py`` to hear what vocoders make.

    python scripts/enrolment_corpus.py --fetch
    python scripts/fit_texture.py

Needs the ``test`` extra (PyTorch). As in :mod:`fit_joins`, people are divided into folds; a network
is taught without each, and one with everybody, which ships. Synthesizers are in no fold. What is
learnt is kept under ``build/enrolment/synthesis`` and taken up there again.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
from enrolment_corpus import ROOT, at_home, speakers
from synthesis_material import KEPT, Sample, everything

from ringtrue.voices.enrolment.texture import BINS, HIDDEN, SHAPES, TextureNetwork, active, prepared

if TYPE_CHECKING:
    import torch

Real = npt.NDArray[np.float32]

OUT: Final = ROOT / "voices" / "enrolment" / "texture.npz"
FOLDS: Final = 3
EVERYBODY: Final = -1
"""In the place of a fold: nobody is left out."""

STEPS: Final = 900
BATCH: Final = 32
FRAMES: Final = 128
RATE: Final = 4e-3
DECAY: Final = 1e-2


@cache
def folds() -> dict[str, int]:
    """The fold of everybody."""
    names = sorted(speaker.name for speaker in [*speakers(), *at_home()])
    return {name: number % FOLDS for number, name in enumerate(names)}


@cache
def left_out(fold: int) -> TextureNetwork:
    """The network that was taught without a fold, or with :data:`EVERYBODY`."""
    path = KEPT / f"network{fold}.npz"
    if not path.is_file():
        path.write_bytes(learnt(fold).to_bytes())
    return TextureNetwork.from_bytes(path.read_bytes())


def network_without(owner: str) -> TextureNetwork:
    """A network that never heard ``owner``; the first fold's for a synthesizer."""
    return left_out(folds().get(owner, 0))


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


def learnt(fold: int) -> TextureNetwork:
    """Teach one network."""
    import torch
    from torch import nn
    from torch.nn import functional

    torch.set_num_threads(1)
    torch.manual_seed(fold + 1)
    rng = np.random.default_rng(fold + 1)
    pool = Pool([s for s in everything() if folds().get(s.owner, EVERYBODY - 1) != fold])
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
    optimizer = torch.optim.AdamW(modules.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, STEPS)
    began, mean = time.monotonic(), 0.0
    for step in range(STEPS):
        seen, counts, attack = (torch.from_numpy(part) for part in pool.draw(rng))
        values = seen[:, None]
        for layer, norm in zip(layers, norms, strict=True):
            values = functional.relu(norm(layer(values)))
        flat = functional.dropout(values.permute(0, 2, 3, 1).flatten(2), 0.3)
        odds = last(functional.relu(hidden(flat)))[:, :, 0]
        counted = counts[:, ::2]
        score = (odds * counted).sum(dim=1) / (counted.sum(dim=1) + 1)
        loss = functional.binary_cross_entropy_with_logits(score, attack)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        mean += (loss.item() - mean) / min(step + 1, 100)
        if step % 150 == 149:
            spent = time.monotonic() - began
            print(f"fold {fold}: step {step + 1}, loss {mean:.3f}, {spent:.0f} s", flush=True)
    return _exported(list(layers), list(norms), [hidden, last])


def _exported(
    layers: Sequence[torch.nn.Module],
    norms: Sequence[torch.nn.Module],
    ends: Sequence[torch.nn.Module],
) -> TextureNetwork:
    """The layers as plain arrays, with each normalisation made part of the layer before it."""
    weights, biases = [], []
    for layer, norm in zip(layers, norms, strict=True):
        kept = {name: value.detach().numpy() for name, value in norm.state_dict().items()}
        scale = kept["weight"] / np.sqrt(kept["running_var"] + 1e-5)
        kernel = layer.state_dict()["weight"].numpy() * scale[:, None, None, None]
        weights.append(kernel.transpose(2, 3, 1, 0).reshape(-1, len(scale)))
        biases.append(kept["bias"] - kept["running_mean"] * scale)
    for end in ends:
        weights.append(end.state_dict()["weight"].numpy().T)
        biases.append(end.state_dict()["bias"].numpy())
    return TextureNetwork(tuple(weights), tuple(biases))


def report() -> None:
    """What share of each kind is above what 2 % of people's exceed, nobody judged by theirs."""
    found: dict[str, list[float]] = defaultdict(list)
    for sample in everything():
        if not sample.owner.startswith(("letters-", "shapes-")):
            traits = network_without(sample.owner).traits(sample.texture.astype(np.float32))
            found[sample.kind].append(float(traits[0]))
    bound = float(np.quantile(found["person"], 0.98))
    for kind, scores in sorted(found.items()):
        print(f"{kind:12} {len(scores):5}  above {np.mean(np.array(scores) > bound):.2f}")


def main() -> None:
    """Teach all networks, tell how well they hear, and write the one that ships."""
    parser = argparse.ArgumentParser(description="Teach the network that hears vocoders.")
    parser.add_argument("--only", type=int, help="one fold, -1 for everybody; writes nothing else")
    arguments = parser.parse_args()
    if arguments.only is not None:
        left_out(arguments.only)
        return
    for fold in range(FOLDS):
        left_out(fold)
    report()
    OUT.write_bytes(left_out(EVERYBODY).to_bytes())
    print(f"wrote {OUT}")


if __name__ == "__main__":
    main()
