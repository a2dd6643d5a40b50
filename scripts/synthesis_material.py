"""People's speech, and speech from machines beside it: what the synthesis check learns from.

Of people's own recordings there are copies by vocoders: the same words, the same room, but for the
waveform. A copy by the neural vocoder is made of what WORLD measured, as clones' frames are. Clones
by the neural and by the pulse vocoder and synthesizers say texts. Everything is heard as it is and
in conditions. Kept by source under ``build/enrolment/synthesis``; remove a file there to begin
anew.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from enrolment_attacks import (
    CLONED,
    TEXTS,
    cloned,
    coded,
    microphone,
    noise,
    room,
    synthesizers,
    vocoded,
)
from enrolment_corpus import RATE, UNPACKED, Audio, Speaker, at_home, speakers, strung
from splice_material import narrowed

from ringtrue.voices.cloning.analysis import analyse
from ringtrue.voices.enrolment.cues import cues
from ringtrue.voices.enrolment.texture import BINS, texture
from ringtrue.voices.errors import CloningError
from ringtrue.voices.fargan.vocoder import NeuralVocoder
from ringtrue.voices.vocoder import PulseStream, Vocoder

KEPT: Final = UNPACKED / "synthesis"

SECONDS: Final = 7
TAKES: Final = 10
COPIED: Final = 5
"""Takes of a person, and those of them that vocoders copy."""

STRINGS: Final = 3
SPOKEN: Final = 5
"""Texts that a synthesizer or a clone says."""

STOCK: Final = ("awb", "rms", "slt")

Change = Callable[[Audio], Audio]


@dataclass(frozen=True, slots=True)
class Sample:
    """One recording as the synthesis check hears it."""

    owner: str
    """Whose voice or whose words: a person, or a synthesizer."""

    kind: str
    """``person`` or a way of synthesis."""

    traits: npt.NDArray[np.float64] = field(repr=False)
    """What :func:`~ringtrue.voices.enrolment.cues.cues` measured."""

    texture: npt.NDArray[np.float16] = field(repr=False)
    """Shape ``(frames, bins)``."""


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
        narrowed,
    ]


def versions(samples: Audio, rng: np.random.Generator, count: int) -> Iterator[Audio]:
    """The recording, and it in some conditions."""
    yield samples
    every = conditions(rng)
    for index in rng.permutation(len(every))[:count]:
        yield every[index](samples)


def copied(samples: Audio) -> Iterator[tuple[str, Audio]]:
    """A person's words by each vocoder; nothing where too little is voiced."""
    yield "vocoded", vocoded(samples)
    try:
        frames = analyse(samples)
    except CloningError:
        return
    for kind, stream in (
        ("neural", NeuralVocoder().stream()),
        ("pulses", PulseStream(Vocoder())),
    ):
        made = [stream.render(frames.f0, frames.mcep, frames.strengths), stream.finish()]
        yield kind, np.concatenate(made).astype(np.float32)


def of_person(speaker: Speaker) -> Iterator[Sample]:
    """A person's speech, in conditions, and some of it through vocoders."""
    rng = np.random.default_rng(list(f"synthesis {speaker.name}".encode()))
    if speaker.continuous:
        takes = speaker.takes(2.5, 60)
        originals = [takes[int(i)] for i in rng.permutation(len(takes))[:TAKES]]
    else:
        found = [strung(speaker, 6, rng) for _ in range(STRINGS)]
        originals = [samples for samples in found if samples is not None]
    for index, original in enumerate(originals):
        samples = original[: SECONDS * RATE]
        made = [("person", samples)]
        if speaker.continuous and index < COPIED:
            made += copied(samples)
        for kind, each in made:
            for version in versions(each, rng, 2 if kind == "person" else 1):
                yield from heard(speaker.name, kind, version)


def of_machine(name: str, kind: str, spoken: Sequence[Audio]) -> Iterator[Sample]:
    """A synthesizer's or a clone's speech, in conditions."""
    rng = np.random.default_rng(list(f"synthesis {kind} {name}".encode()))
    for samples in spoken:
        for version in versions(samples[: SECONDS * RATE], rng, 2):
            yield from heard(name, kind, version)


def heard(owner: str, kind: str, samples: Audio) -> Iterator[Sample]:
    """A recording as a sample, where it can be judged."""
    traits, seen = cues(samples), texture(samples)
    if traits is not None and seen is not None:
        yield Sample(owner, kind, traits, seen.astype(np.float16))


def family(name: str) -> str:
    """The way of synthesis a synthesizer's name stands for."""
    if name.startswith("espeak"):
        return "formant"
    if name.startswith("stock"):
        return "pulses"
    if "hts" in name or name in ("flite-slt", "flite-awb", "flite-rms"):
        return "parametric"
    return "diphone"


def sources() -> dict[str, Callable[[], Iterator[Sample]]]:
    """By name, everybody and every machine there is."""

    @functools.cache
    def clones(neural: bool) -> dict[str, list[Audio]]:
        return asyncio.run(cloned(CLONED, TEXTS[:SPOKEN], neural=neural))

    def said(name: str, kind: str, spoken: Callable[[], list[Audio]]) -> Iterator[Sample]:
        return of_machine(name, kind, spoken())

    found: dict[str, Callable[[], Iterator[Sample]]] = {}
    everybody = [*at_home(), *speakers()]
    for speaker in sorted(everybody, key=lambda speaker: not speaker.continuous):
        found[speaker.name] = functools.partial(of_person, speaker)
    for neural, kind in ((True, "neural"), (False, "pulses")):
        for name in CLONED:
            told = functools.partial(lambda n, p: clones(p)[f"clone-{n}"], name, neural)
            found[f"{kind}-{name}"] = functools.partial(said, name, kind, told)
    for voice in STOCK:
        name = f"stock-{voice}"
        told = functools.partial(lambda name: clones(False)[name], name)
        found[name] = functools.partial(said, name, "pulses", told)
    for name, say in synthesizers().items():
        texts = functools.partial(lambda say: [say(text) for text in TEXTS[:SPOKEN]], say)
        found[name] = functools.partial(said, name, family(name), texts)
    return found


def material(name: str, make: Callable[[], Iterator[Sample]]) -> list[Sample]:
    """One source's samples, from its file or into it."""
    path = KEPT / f"{name}.npz"
    if not path.is_file():
        KEPT.mkdir(parents=True, exist_ok=True)
        _write(path, list(make()))
        print(f"heard {name}", flush=True)
    with np.load(path, allow_pickle=False) as kept:
        if not len(kept["owners"]):
            return []
        textures = np.split(kept["textures"], np.cumsum(kept["lengths"])[:-1])
        rows = zip(kept["owners"], kept["kinds"], kept["traits"], textures, strict=True)
        return [Sample(str(owner), str(kind), row, seen) for owner, kind, row, seen in rows]


def everything() -> list[Sample]:
    """All samples of all sources."""
    return [sample for name, make in sources().items() for sample in material(name, make)]


def _write(path: Path, made: Sequence[Sample]) -> None:
    partial = path.with_suffix(".part.npz")
    np.savez(
        partial,
        owners=np.array([sample.owner for sample in made], np.str_),
        kinds=np.array([sample.kind for sample in made], np.str_),
        traits=np.array([sample.traits for sample in made]),
        lengths=np.array([len(sample.texture) for sample in made], np.int64),
        textures=np.concatenate([np.zeros((0, BINS), np.float16), *(s.texture for s in made)]),
    )
    partial.replace(path)


def main() -> None:
    """Hear everything, or every other one."""
    parser = argparse.ArgumentParser(description="Make what the synthesis check learns from.")
    parser.add_argument("--every", type=int, default=1, help="one in so many sources only")
    parser.add_argument("--first", type=int, default=0, help="of these; each core may take its own")
    arguments = parser.parse_args()
    for name, make in list(sources().items())[arguments.first :: arguments.every]:
        material(name, make)


if __name__ == "__main__":
    main()
