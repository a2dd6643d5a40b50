"""Teaches the network of ``voices/enrolment/joins.py`` to hear where recordings were joined.

    python scripts/enrolment_corpus.py --fetch
    python scripts/fit_joins.py

Needs the ``test`` extra (PyTorch). People are divided into three folds; a network is taught without
each, so that everybody can be judged by one that never heard them (:func:`left_out`), and one with
everybody, which ships. Some fifteen minutes on one core; what is made and learnt is kept under
``build/enrolment/joins`` and taken up there again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
from enrolment_corpus import ROOT
from splice_material import KEPT, Sample, material, people

from ringtrue.voices.enrolment.joins import (
    BANDS,
    DILATIONS,
    HOP,
    WINDOW,
    JoinNetwork,
    prepared,
    strongest,
)

if TYPE_CHECKING:
    import torch

Real = npt.NDArray[np.float32]

OUT: Final = ROOT / "voices" / "enrolment" / "joins.npz"
FOLDS: Final = 3
EVERYBODY: Final = -1
"""In the place of a fold: nobody is left out."""

CHANNELS: Final = 32
STEPS: Final = 1500
BATCH: Final = 16
FRAMES: Final = 400
RATE: Final = 8e-3
DECAY: Final = 1e-2
WEIGHT: Final = 5.0
"""A frame with a join counts this often: there are few."""

NEAR: Final = 2.5
UNSURE: Final = 6.0
"""Frames from a join: nearer than the first counts as one, from there to the second as nothing."""


@cache
def folds() -> dict[str, int]:
    """The fold of everybody."""
    names = sorted(speaker.name for speaker in people())
    return {name: number % FOLDS for number, name in enumerate(names)}


@cache
def left_out(fold: int) -> JoinNetwork:
    """The network that was taught without a fold, or with :data:`EVERYBODY`."""
    path = KEPT / f"network{fold}.npz"
    if not path.is_file():
        path.write_bytes(learnt(fold).to_bytes())
    return JoinNetwork.from_bytes(path.read_bytes())


def network_without(person: str) -> JoinNetwork:
    """A network that never heard ``person``; everybody's for a name that is in no fold."""
    return left_out(folds().get(person, EVERYBODY))


def target(sample: Sample) -> tuple[Real, Real]:
    """Of each frame, whether it is a join, and whether it counts."""
    frames = np.arange(len(sample.course))
    joined, counts = np.zeros(len(frames), np.float32), np.ones(len(frames), np.float32)
    for at in sample.joins:
        away = np.abs(frames - (at - WINDOW / 2) / HOP)
        joined[away <= NEAR] = 1
        counts[(away > NEAR) & (away <= UNSURE)] = 0
    return joined, np.where(joined > 0, 1, counts).astype(np.float32)


def with_noise(course: Real, rng: np.random.Generator) -> Real:
    """With noise of a random level and colour, a quarter of the times."""
    if rng.random() > 0.25:
        return course
    colour = np.interp(np.arange(BANDS), np.linspace(0, BANDS - 1, 5), rng.normal(0, 0.3, 5))
    floor = colour + rng.uniform(-2.2, -0.6)
    power = 10 ** (2 * course) + 10 ** (2 * floor) * rng.standard_gamma(3, course.shape) / 3
    return np.clip(np.log10(power) / 2, -2, 2).astype(np.float32)


def batch(made: Sequence[Sequence[Sample]], rng: np.random.Generator) -> tuple[Real, Real, Real]:
    """Stretches of random samples of random people, ``(BATCH, …)`` each; ``made`` is by person."""
    seen = np.zeros((BATCH, FRAMES, BANDS), np.float32)
    joined, counts = np.zeros((2, BATCH, FRAMES), np.float32)
    for row in range(BATCH):
        pool = made[int(rng.integers(len(made)))]
        sample = pool[int(rng.integers(len(pool)))]
        values = prepared(with_noise(sample.course.astype(np.float32), rng))
        start = int(rng.integers(0, max(1, len(values) - FRAMES)))
        size = min(FRAMES, len(values) - start)
        part = slice(start, start + size)
        wanted, counted = target(sample)
        seen[row, :size], joined[row, :size] = values[part], wanted[part]
        counts[row, :size] = counted[part]
    return seen, joined, counts


def learnt(fold: int) -> JoinNetwork:
    """Teach one network."""
    import torch
    from torch import nn
    from torch.nn import functional

    torch.set_num_threads(1)
    torch.manual_seed(fold + 1)
    rng = np.random.default_rng(fold + 1)
    made = [material(person) for person in people() if folds()[person.name] != fold]
    sizes = [BANDS, *[CHANNELS] * (len(DILATIONS) - 1)]
    layers = nn.ModuleList(
        nn.Conv1d(size, CHANNELS, 3, padding=dilation, dilation=dilation, bias=False)
        for size, dilation in zip(sizes, DILATIONS, strict=True)
    )
    norms = nn.ModuleList(nn.BatchNorm1d(CHANNELS) for _ in DILATIONS)
    last = nn.Conv1d(CHANNELS, 1, 1)
    parameters = [*layers.parameters(), *norms.parameters(), *last.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, STEPS)
    heavy = torch.tensor(WEIGHT)
    began, mean = time.monotonic(), 0.0
    for step in range(STEPS):
        seen, joined, counts = (torch.from_numpy(part) for part in batch(made, rng))
        values = seen.transpose(1, 2)
        for number, (layer, norm) in enumerate(zip(layers, norms, strict=True)):
            heard = functional.relu(norm(layer(values)))
            values = values + heard if number else heard
        losses = functional.binary_cross_entropy_with_logits(
            last(values)[:, 0], joined, reduction="none", pos_weight=heavy
        )
        loss = (losses * counts).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        mean += (loss.item() - mean) / min(step + 1, 100)
        if step % 400 == 399:
            print(f"fold {fold}: step {step + 1}, loss {mean:.3f}", flush=True)
    print(f"fold {fold}: {time.monotonic() - began:.0f} s", flush=True)
    return _exported(list(layers), list(norms), last)


def _exported(
    layers: Sequence[torch.nn.Module], norms: Sequence[torch.nn.Module], last: torch.nn.Module
) -> JoinNetwork:
    """The layers as plain arrays, with each normalisation made part of the layer before it."""
    weights, biases = [], []
    for layer, norm in zip(layers, norms, strict=True):
        kept = {name: value.detach().numpy() for name, value in norm.state_dict().items()}
        scale = kept["weight"] / np.sqrt(kept["running_var"] + 1e-5)
        kernel = layer.state_dict()["weight"].numpy() * scale[:, None, None]
        weights.append(kernel.transpose(2, 1, 0).reshape(-1, len(scale)))
        biases.append(kept["bias"] - kept["running_mean"] * scale)
    end = last.state_dict()
    weights.append(end["weight"].numpy()[:, :, 0].T)
    biases.append(end["bias"].numpy())
    return JoinNetwork(tuple(weights), tuple(biases))


def report() -> None:
    """What share of each kind is above what 2 % of uncut ones exceed, nobody judged by theirs."""
    found: dict[str, list[float]] = {}
    for person in people():
        network = network_without(person.name)
        for sample in material(person):
            odds = network.odds(sample.course.astype(np.float32))
            found.setdefault(sample.kind, []).append(float(strongest(odds)[2]))
    bound = float(np.quantile(found["uncut"], 0.98))
    for kind, scores in sorted(found.items()):
        print(f"{kind:22} {len(scores):5}  above {np.mean(np.array(scores) > bound):.2f}")


def main() -> None:
    """Teach all networks, tell how well they hear, and write the one that ships."""
    parser = argparse.ArgumentParser(description="Teach the network that hears joins.")
    parser.add_argument("--only", type=int, help="one fold, -1 for everybody; writes nothing else")
    parser.add_argument("--material", action="store_true", help="make what is learnt from; no more")
    arguments = parser.parse_args()
    if arguments.material:
        for person in people():
            print(f"{person.name}: {len(material(person))}", flush=True)
    elif arguments.only is not None:
        left_out(arguments.only)
    else:
        for fold in range(FOLDS):
            left_out(fold)
        report()
        OUT.write_bytes(left_out(EVERYBODY).to_bytes())
        print(f"wrote {OUT}")


if __name__ == "__main__":
    main()
