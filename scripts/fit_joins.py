"""Teaches the networks of ``voices/enrolment/joins.py`` to hear where recordings were joined.

    python scripts/enrolment_corpus.py --fetch
    python scripts/fit_joins.py

By folds of people (:mod:`taught_networks`). Some fifteen minutes on one core; what is made and
learnt is kept under ``build/enrolment/joins``. ``python scripts/splice_material.py`` makes what is
learnt from alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import taught_networks
from enrolment_corpus import ROOT
from splice_material import KEPT, Sample, material, people
from taught_networks import Taught

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
CHANNELS: Final = 32
STEPS: Final = 1500
BATCH: Final = 16
FRAMES: Final = 400
RATE: Final = 8e-3
WEIGHT: Final = 5.0
"""A frame with a join counts this often: there are few."""

NEAR: Final = 2.5
UNSURE: Final = 6.0
"""Frames from a join: nearer than the first counts as one, from there to the second as nothing."""


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


def learnt(fold: int, member: int) -> JoinNetwork:
    """Teach one network."""
    import torch
    from torch import nn
    from torch.nn import functional

    rng = taught_networks.seeded(fold, member)
    made = [material(person) for person in people() if NETWORKS.folds[person.name] != fold]
    sizes = [BANDS, *[CHANNELS] * (len(DILATIONS) - 1)]
    layers = nn.ModuleList(
        nn.Conv1d(size, CHANNELS, 3, padding=dilation, dilation=dilation, bias=False)
        for size, dilation in zip(sizes, DILATIONS, strict=True)
    )
    norms = nn.ModuleList(nn.BatchNorm1d(CHANNELS) for _ in DILATIONS)
    last = nn.Conv1d(CHANNELS, 1, 1)
    heavy = torch.tensor(WEIGHT)

    def loss() -> torch.Tensor:
        seen, joined, counts = (torch.from_numpy(part) for part in batch(made, rng))
        values = seen.transpose(1, 2)
        for number, (layer, norm) in enumerate(zip(layers, norms, strict=True)):
            heard = functional.relu(norm(layer(values)))
            values = values + heard if number else heard
        losses = functional.binary_cross_entropy_with_logits(
            last(values)[:, 0], joined, reduction="none", pos_weight=heavy
        )
        return (losses * counts).mean()

    modules = nn.ModuleList([*layers, *norms, last])
    taught_networks.learn(modules, loss, STEPS, RATE, f"fold {fold}, {member}")
    return JoinNetwork(*taught_networks.exported(layers, norms, [last]))


NETWORKS: Final = Taught(JoinNetwork, KEPT, lambda: (person.name for person in people()), learnt)


def report() -> None:
    """What share of each kind is above what 2 % of uncut ones exceed, nobody judged by theirs."""
    found: dict[str, list[float]] = {}
    for person in people():
        networks = NETWORKS.without(person.name)
        for sample in material(person):
            odds = networks.odds(sample.course.astype(np.float32))
            found.setdefault(sample.kind, []).append(float(strongest(odds)[2]))
    bound = float(np.quantile(found["uncut"], 0.98))
    for kind, scores in sorted(found.items()):
        print(f"{kind:22} {len(scores):5}  above {np.mean(np.array(scores) > bound):.2f}")


if __name__ == "__main__":
    NETWORKS.main("Teach the network that hears joins.", report, OUT)
