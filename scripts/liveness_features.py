"""What the liveness checks measure, of people and of attacks: what their models are fitted on.

Measured is one source (a person, a synthesizer, a clone) at a time, and kept by its name under
``build/enrolment/features``; remove a file there to have it measured anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt
from enrolment_attacks import (
    CLONED,
    TEXTS,
    cloned,
    coded,
    gain,
    loudspeaker,
    microphone,
    noise,
    replayed,
    room,
    synthesizers,
    vocoded,
)
from enrolment_corpus import RATE, UNPACKED, Audio, Speaker, at_home, speakers, strung
from fit_joins import network_without
from splice_material import material, somehow

from ringtrue.voices.enrolment.acoustics import channel, difference
from ringtrue.voices.enrolment.cues import cues
from ringtrue.voices.enrolment.joins import strongest
from ringtrue.voices.enrolment.playback import playback

Real = npt.NDArray[np.float64]

SECONDS: Final = 7
TAKES: Final = 14
VOCODED: Final = 4
STRINGS: Final = 2
PAIRS: Final = 16

PLAYED: Final = 9

SYNTHESIZED_TEXTS: Final = 6

STOCK: Final = ("awb", "rms", "slt")
FEATURES: Final = UNPACKED / "features"

Change = Callable[[Audio], Audio]
Row = tuple[str, bool, Real]
"""Whose it is, whether it is an attack, and its traits."""


@dataclass(frozen=True)
class Measured:
    """What one check measures of many recordings."""

    names: npt.NDArray[np.str_]
    """Whose each is; a clone of Ada is ``clone-Ada``, Ada vocoded ``world-Ada``."""

    labels: Real
    """1 for attacks, 0 for people."""

    rows: Real
    """Traits, shape ``(recordings, traits)``."""


def conditions(rng: np.random.Generator) -> list[Change]:
    """What a recording may have been through, one set of random choices."""
    seed = int(rng.integers(2**31))
    return [
        lambda x: coded(x, "libopus", 24000),
        lambda x: coded(x, "libmp3lame", 48000),
        lambda x: coded(x, "g722", 64000),
        lambda x: noise(x, rng.uniform(20, 32), rng),
        lambda x: room(x, rng, rng.uniform(0.15, 0.35), rng.uniform(5, 12)),
        lambda x: microphone(x, np.random.default_rng(seed)),
        lambda x: coded(microphone(x, np.random.default_rng(seed)), "libopus", 20000),
    ]


def versions(samples: Audio, rng: np.random.Generator) -> Iterator[Audio]:
    """The recording, and it in two conditions."""
    yield samples
    every = conditions(rng)
    for index in rng.permutation(len(every))[:2]:
        yield every[index](samples)


FAMILIES: Final = ("formant", "diphone", "parametric", "vocoded", "own")


def family(name: str) -> str:
    """The way of synthesis a synthesizer's name stands for."""
    if name.startswith("espeak"):
        return "formant"
    if name.startswith(("clone", "stock")):
        return "own"
    if name.startswith("world"):
        return "vocoded"
    if "hts" in name or name in ("flite-slt", "flite-awb", "flite-rms"):
        return "parametric"
    return "diphone"


def splices(speaker: Speaker) -> Iterator[Row]:
    """Of statements put together and of uncut ones: breaks, and joins heard by a stranger."""
    network = network_without(speaker.name)
    for sample in material(speaker):
        joins = strongest(network.odds(sample.course.astype(np.float32)))
        yield speaker.name, sample.kind != "uncut", np.concatenate([sample.breaks, joins])


def played(speaker: Speaker) -> Iterator[Row]:
    """Of takes as they are and in conditions, and from loudspeakers of all sizes."""
    rng = seeded("played", speaker.name)
    takes = speaker.takes(4.0, 60)
    for index in rng.permutation(len(takes))[:PLAYED]:
        take = takes[int(index)][: SECONDS * RATE]
        honest = [take, *(somehow(take, rng) for _ in range(3))]
        heard = [from_loudspeaker(take, rng) for _ in range(3)]
        heard[2] = somehow(heard[2], rng)
        for attack, cases in ((False, honest), (True, heard)):
            for samples in cases:
                found = playback(samples)
                if found is not None:
                    yield speaker.name, attack, found


def from_loudspeaker(samples: Audio, rng: np.random.Generator) -> Audio:
    """Played by anything from a telephone to a bookshelf's loudspeaker, in some room."""
    low = float(np.exp(rng.uniform(np.log(90), np.log(500))))
    seconds, direct = rng.uniform(0.15, 0.6), rng.uniform(0, 10)
    wet = room(loudspeaker(samples, rng, low), rng, seconds, direct)
    return noise(wet, rng.uniform(22, 40), rng)


def synthesized() -> dict[str, Callable[[], list[Audio]]]:
    """By name, what every synthesizer and every clone says."""
    sources: dict[str, Callable[[], list[Audio]]] = {
        name: lambda say=say: [say(text) for text in TEXTS[:SYNTHESIZED_TEXTS]]
        for name, say in synthesizers().items()
    }

    @cache
    def clones() -> dict[str, list[Audio]]:
        return asyncio.run(cloned(CLONED, TEXTS[:SYNTHESIZED_TEXTS]))

    own = [f"stock-{voice}" for voice in STOCK] + [f"clone-{name}" for name in CLONED]
    return sources | {name: lambda name=name: clones().get(name, []) for name in own}


def of_machine(name: str, spoken: Sequence[Audio]) -> Iterator[Row]:
    """Traits of a synthesizer's or a clone's speech, in conditions."""
    rng = seeded("synthesis", name)
    for samples in spoken:
        for version in versions(samples[: SECONDS * RATE], rng):
            traits = cues(version)
            if traits is not None:
                yield name, True, traits


def of_person(speaker: Speaker) -> Iterator[Row]:
    """Traits of a person's speech, in conditions, and of some of it through a vocoder."""
    rng = seeded("synthesis", speaker.name)
    if speaker.continuous:
        takes = speaker.takes(2.5, 200)
        originals = [takes[int(i)] for i in rng.permutation(len(takes))[:TAKES]]
    else:
        found = [strung(speaker, 6, rng) for _ in range(STRINGS)]
        originals = [samples for samples in found if samples is not None]
    for index, original in enumerate(originals):
        samples = original[: SECONDS * RATE]
        made = [(speaker.name, False, version) for version in versions(samples, rng)]
        if speaker.continuous and index < VOCODED:
            copies = versions(vocoded(samples), rng)
            made += [(f"world-{speaker.name}", True, version) for version in copies]
        for name, attack, version in made:
            traits = cues(version)
            if traits is not None:
                yield name, attack, traits


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
        for differ, cases in ((False, same), (True, other)):
            for one, two in cases:
                left, right = channel(one), channel(two)
                if left is not None and right is not None:
                    yield speaker.name, differ, np.log1p(difference(left, right))


def seeded(what: str, name: str) -> np.random.Generator:
    """The same random numbers each time for one source."""
    return np.random.default_rng(list(f"{what} {name}".encode()))


def measure() -> dict[str, Measured]:
    """By check, what is measured of the whole corpus, kept or anew."""
    everybody = [*speakers(), *at_home()]
    people = [speaker for speaker in everybody if speaker.continuous]
    wide = [speaker for speaker in people if not speaker.name.endswith("-8k")]
    spoken = [
        kept("synthesis", name, lambda name=name, say=say: of_machine(name, say()))
        for name, say in synthesized().items()
    ]
    spoken += [kept("synthesis", s.name, lambda s=s: of_person(s)) for s in everybody]
    return {
        "synthesis": together(spoken),
        "channel": together(kept("channel", s.name, lambda s=s: pairs(s)) for s in wide),
        "loudspeaker": together(kept("loudspeaker", s.name, lambda s=s: played(s)) for s in people),
        "splice": together(kept("splice", s.name, lambda s=s: splices(s)) for s in wide),
    }


def kept(what: str, name: str, rows: Callable[[], Iterable[Row]]) -> Measured:
    """One source's rows, from its file or into it."""
    path = FEATURES / what / f"{name}.npz"
    if not path.is_file():
        found = list(rows())
        path.parent.mkdir(parents=True, exist_ok=True)
        one = Measured(
            np.array([name for name, _, _ in found], np.str_),
            np.array([float(attack) for _, attack, _ in found]),
            np.array([row for _, _, row in found]),
        )
        np.savez(path, names=one.names, labels=one.labels, rows=one.rows)
        print(f"measured {what} of {name}", flush=True)
    with np.load(path, allow_pickle=False) as held:
        return Measured(held["names"], held["labels"], held["rows"])


def together(parts: Iterable[Measured]) -> Measured:
    """Many sources' rows as one."""
    found = [part for part in parts if len(part.rows)]
    return Measured(
        np.concatenate([part.names for part in found]),
        np.concatenate([part.labels for part in found]),
        np.concatenate([part.rows for part in found]),
    )
