"""What the liveness checks measure, of people and of attacks: what their models are fitted on.

Measured is one source (a person, a synthesizer, a clone) at a time, and kept by its name under
``build/enrolment/features``; remove a file there to have it measured anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from enrolment_attacks import gain, loudspeaker, microphone, noise, replayed, room
from enrolment_corpus import RATE, UNPACKED, Audio, Speaker, at_home, speakers
from fit_joins import NETWORKS as JOINS
from fit_texture import NETWORKS as TEXTURES
from splice_material import material, people, somehow
from synthesis_material import Sample, conditions, sources
from synthesis_material import material as spoken

from ringtrue.voices.enrolment.acoustics import channel, difference
from ringtrue.voices.enrolment.joins import strongest
from ringtrue.voices.enrolment.playback import playback
from ringtrue.voices.enrolment.texture import traits

Real = npt.NDArray[np.float64]

SECONDS: Final = 7
PAIRS: Final = 16
PLAYED: Final = 9

PERSON: Final = "person"
ATTACK: Final = "attack"
FEATURES: Final = UNPACKED / "features"

Row = tuple[str, str, Real]
"""Whose it is, the kind of attack or :data:`PERSON`, and its traits."""


@dataclass(frozen=True)
class Measured:
    """What one check measures of many recordings."""

    names: npt.NDArray[np.str_]
    """Whose each is; a clone of Ada and Ada vocoded are Ada's."""

    kinds: npt.NDArray[np.str_]
    """:data:`PERSON`, or what kind of attack."""

    rows: Real
    """Traits, shape ``(recordings, traits)``."""

    @property
    def labels(self) -> Real:
        """1 for attacks, 0 for people."""
        return (self.kinds != PERSON).astype(np.float64)

    def where(self, kept: npt.NDArray[np.bool_]) -> Measured:
        """Some of it."""
        return Measured(self.names[kept], self.kinds[kept], self.rows[kept])


def splices(speaker: Speaker) -> Iterator[Row]:
    """Of statements put together and of uncut ones: breaks, and joins heard by strangers."""
    networks = JOINS.without(speaker.name)
    for sample in material(speaker):
        joins = strongest(networks.odds(sample.course.astype(np.float32)))
        kind = PERSON if sample.kind == "uncut" else ATTACK
        yield speaker.name, kind, np.concatenate([sample.breaks, joins])


def played(speaker: Speaker) -> Iterator[Row]:
    """Of takes as they are and in conditions, and from loudspeakers of all sizes."""
    rng = seeded("played", speaker.name)
    takes = speaker.takes(4.0, 60)
    for index in rng.permutation(len(takes))[:PLAYED]:
        take = takes[int(index)][: SECONDS * RATE]
        honest = [take, *(somehow(take, rng) for _ in range(3))]
        heard = [from_loudspeaker(take, rng) for _ in range(3)]
        heard[2] = somehow(heard[2], rng)
        for kind, cases in ((PERSON, honest), (ATTACK, heard)):
            for samples in cases:
                found = playback(samples)
                if found is not None:
                    yield speaker.name, kind, found


def from_loudspeaker(samples: Audio, rng: np.random.Generator) -> Audio:
    """Played by anything from a telephone to a bookshelf's loudspeaker, in some room."""
    low = float(np.exp(rng.uniform(np.log(90), np.log(500))))
    seconds, direct = rng.uniform(0.15, 0.6), rng.uniform(0, 10)
    wet = room(loudspeaker(samples, rng, low), rng, seconds, direct)
    return noise(wet, rng.uniform(22, 40), rng)


def syntheses(samples: Iterable[Sample]) -> Iterator[Row]:
    """Of people's speech and of machines': traits, and what networks heard that are strangers."""
    for sample in samples:
        seen = sample.texture.astype(np.float32)
        heard = traits(TEXTURES.without(sample.owner).odds(seen), seen)
        yield sample.owner, sample.kind, np.concatenate([sample.traits, heard])


def pairs(speaker: Speaker) -> Iterator[Row]:
    """How the channels of two recordings by one person differ, one sitting or two."""
    rng = seeded("channel", speaker.name)
    takes = speaker.takes(2.5, 60)
    for _ in range(PAIRS if len(takes) > 1 else 0):
        a, b = (takes[int(i)] for i in rng.choice(len(takes), 2, replace=False))
        a, b = a[: 8 * RATE], b[: 12 * RATE]
        change = conditions(rng)[int(rng.integers(7))]
        same = [(a, b), (change(a), change(b)), (gain(a, -10), b)]
        other = [
            (microphone(a, rng), b),
            (a, microphone(b, rng)),
            (microphone(a, rng), microphone(b, rng)),
            (replayed(a, rng), b),
        ]
        for kind, cases in ((PERSON, same), (ATTACK, other)):
            for one, two in cases:
                left, right = channel(one), channel(two)
                if left is not None and right is not None:
                    yield speaker.name, kind, np.log1p(difference(left, right))


def seeded(what: str, name: str) -> np.random.Generator:
    """The same random numbers each time for one source."""
    return np.random.default_rng(list(f"{what} {name}".encode()))


def measure() -> dict[str, Measured]:
    """By check, what is measured of the whole corpus, kept or anew."""
    everybody = [*speakers(), *at_home()]
    takes = [speaker for speaker in everybody if speaker.continuous]
    wide = [speaker for speaker in people() if not speaker.name.endswith("-8k")]
    return {
        "synthesis": together(
            kept("synthesis", name, lambda name=name, make=make: syntheses(spoken(name, make)))
            for name, make in sources().items()
        ),
        "channel": together(kept("channel", s.name, lambda s=s: pairs(s)) for s in wide),
        "loudspeaker": together(kept("loudspeaker", s.name, lambda s=s: played(s)) for s in takes),
        "splice": together(kept("splice", s.name, lambda s=s: splices(s)) for s in wide),
    }


def kept(what: str, name: str, rows: Callable[[], Iterable[Row]]) -> Measured:
    """One source's rows, from its file or into it."""
    path = FEATURES / what / f"{name}.npz"
    if not path.is_file():
        found = list(rows())
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(
            path,
            names=np.array([name for name, _, _ in found], np.str_),
            kinds=np.array([kind for _, kind, _ in found], np.str_),
            rows=np.array([row for _, _, row in found]),
        )
        print(f"measured {what} of {name}", flush=True)
    with np.load(path, allow_pickle=False) as held:
        return Measured(held["names"], held["kinds"], held["rows"])


def together(parts: Iterable[Measured]) -> Measured:
    """Many sources' rows as one."""
    found = [part for part in parts if len(part.rows)]
    return Measured(
        np.concatenate([part.names for part in found]),
        np.concatenate([part.kinds for part in found]),
        np.concatenate([part.rows for part in found]),
    )
