"""What the small networks of the enrolment's checks are taught by: folds, learning, export.

People are divided into folds. An ensemble is taught without each, so that everybody can be judged
by networks that never heard them, and one with everybody, which ships. What was learnt is kept and
taken up there again. Needs the ``test`` extra (PyTorch).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from ringtrue.voices.enrolment.arrays import Layers
from ringtrue.voices.enrolment.ensemble import Ensemble

if TYPE_CHECKING:
    import torch

Real = npt.NDArray[np.float32]
Network = TypeVar("Network", bound=Layers)

FOLDS: Final = 3
EVERYBODY: Final = -1
"""In the place of a fold: nobody is left out."""

MEMBERS: Final = 3
"""Networks in an ensemble."""

DECAY: Final = 1e-2
TOLD: Final = 150
"""Steps from one line of progress to the next."""


@dataclass(frozen=True)
class Taught(Generic[Network]):
    """The ensembles of one kind: one without each fold, and one with everybody."""

    kind: type[Network]
    kept: Path
    """A folder."""

    people: Callable[[], Iterable[str]]
    """Everybody's names."""

    learn: Callable[[int, int], Network]
    """Teaches one member, without a fold or with :data:`EVERYBODY`."""

    @cached_property
    def folds(self) -> dict[str, int]:
        """The fold of everybody."""
        return {name: number % FOLDS for number, name in enumerate(sorted(self.people()))}

    @cached_property
    def _read(self) -> dict[int, Ensemble[Network]]:
        return {}

    def left_out(self, fold: int) -> Ensemble[Network]:
        """What was taught without a fold, or with :data:`EVERYBODY`."""
        if fold not in self._read:
            self._read[fold] = Ensemble(tuple(self._member(fold, n) for n in range(MEMBERS)))
        return self._read[fold]

    def _member(self, fold: int, member: int) -> Network:
        path = self.kept / f"network{fold}-{member}.npz"
        if not path.is_file():
            path.write_bytes(self.learn(fold, member).to_bytes())
        return self.kind.from_bytes(path.read_bytes())

    def without(self, name: str) -> Ensemble[Network]:
        """Networks that never heard somebody."""
        return self.left_out(self.folds.get(name, EVERYBODY))

    def main(self, description: str, report: Callable[[], None], out: Path) -> None:
        """Teach all networks, tell how well they hear, and write those that ship."""
        parser = argparse.ArgumentParser(description=description)
        only = "one fold, -1 for everybody; writes nothing else"
        parser.add_argument("--only", type=int, help=only)
        arguments = parser.parse_args()
        if arguments.only is not None:
            self.left_out(arguments.only)
            return
        for fold in range(FOLDS):
            self.left_out(fold)
        report()
        out.write_bytes(self.left_out(EVERYBODY).to_bytes())
        print(f"wrote {out}")


def seeded(fold: int, member: int) -> np.random.Generator:
    """Random numbers for one network; PyTorch's are set too, for the layers made next."""
    import torch

    seed = fold + 1 + 100 * member
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    return np.random.default_rng(seed)


def learn(
    modules: torch.nn.Module,
    loss_of: Callable[[], torch.Tensor],
    steps: int,
    rate: float,
    what: str,
) -> None:
    """Teach ``modules`` by so many losses, each of a batch of its own."""
    import torch

    optimizer = torch.optim.AdamW(modules.parameters(), lr=rate, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps)
    began, mean = time.monotonic(), 0.0
    for step in range(steps):
        loss = loss_of()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        mean += (loss.item() - mean) / min(step + 1, 100)
        if step % TOLD == TOLD - 1 or step == steps - 1:
            spent = time.monotonic() - began
            print(f"{what}: step {step + 1}, loss {mean:.3f}, {spent:.0f} s", flush=True)


def exported(
    layers: Iterable[torch.nn.Module],
    norms: Iterable[torch.nn.Module],
    ends: Sequence[torch.nn.Module],
) -> tuple[tuple[Real, ...], tuple[Real, ...]]:
    """Weights and biases as plain arrays, each normalisation made part of the layer before it.

    A convolution's weights have shape ``(kernel * inputs, outputs)``, the kernel's last axis before
    the input.
    """
    weights, biases = [], []
    for layer, norm in zip(layers, norms, strict=True):
        kept = {name: value.detach().numpy() for name, value in norm.state_dict().items()}
        scale = kept["weight"] / np.sqrt(kept["running_var"] + 1e-5)
        kernel = np.moveaxis(layer.state_dict()["weight"].numpy(), (0, 1), (-1, -2))
        weights.append((kernel * scale).reshape(-1, len(scale)))
        biases.append(kept["bias"] - kept["running_mean"] * scale)
    for end in ends:
        state = {name: value.numpy() for name, value in end.state_dict().items()}
        weights.append(state["weight"].reshape(len(state["weight"]), -1).T)
        biases.append(state["bias"])
    return tuple(weights), tuple(biases)
