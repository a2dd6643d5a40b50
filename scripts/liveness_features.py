"""What the liveness checks measure, of people and of attacks: what their models are fitted on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from enrolment_attacks import (
    CLONED,
    TEXTS,
    at_quiet,
    cloned,
    coded,
    gain,
    joined,
    microphone,
    noise,
    pieces,
    replayed,
    room,
    synthesizers,
    vocoded,
)
from enrolment_corpus import RATE, Audio, speakers, strung

from ringtrue.voices.enrolment.acoustics import breaks, channel, difference
from ringtrue.voices.enrolment.cues import cues

Real = npt.NDArray[np.float64]

SECONDS: Final = 7
TAKES: Final = 14
VOCODED: Final = 4
STRINGS: Final = 2
PAIRS: Final = 16

SYNTHESIZED_TEXTS: Final = 6

Change = Callable[[Audio], Audio]


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


def splices(rng: np.random.Generator) -> Iterator[tuple[str, bool, Real]]:
    """Speaker, whether put together, and how abruptly it changes, of statements."""
    for speaker in speakers():
        if not speaker.continuous or speaker.name.endswith("-8k"):
            continue
        takes = speaker.takes(2.5, 60)
        for _ in range(PAIRS):
            whole = takes[int(rng.integers(len(takes)))][: 8 * RATE]
            cut = pieces(takes, rng, int(rng.integers(6, 12)))
            quiet = at_quiet(takes, rng, int(rng.integers(6, 12)))
            uncut = [
                whole,
                microphone(whole, rng),
                noise(room(whole, rng, 0.3, 8), 30, rng),
                coded(whole, "libopus", 32000),
                coded(whole, "libmp3lame", 48000),
            ]
            put_together = [
                joined(cut),
                joined(cut, fade=0.005),
                joined(cut, fade=0.02),
                joined(quiet),
                joined(quiet, fade=0.01),
                joined([microphone(piece, rng) for piece in quiet]),
                microphone(joined(quiet), rng),
                coded(joined(cut), "libopus", 32000),
            ]
            for spliced, cases in ((False, uncut), (True, put_together)):
                for samples in cases:
                    found = breaks(samples)
                    if found is not None:
                        yield speaker.name, spliced, found


def heard(rng: np.random.Generator) -> Iterator[tuple[str, bool, Audio]]:
    """Name, whether synthetic, and 6 or 7 s of speech."""
    sources = asyncio.run(cloned(CLONED, TEXTS[:SYNTHESIZED_TEXTS]))
    for name, say in synthesizers().items():
        sources[name] = [say(text) for text in TEXTS[:SYNTHESIZED_TEXTS]]
    for name, spoken in sources.items():
        for samples in spoken:
            for version in versions(samples[: SECONDS * RATE], rng):
                yield name, True, version
    for speaker in speakers():
        if speaker.continuous:
            takes = speaker.takes(2.5, 200)
            originals = [takes[i] for i in rng.permutation(len(takes))[:TAKES]]
        else:
            found = [strung(speaker, 6, rng) for _ in range(STRINGS)]
            originals = [samples for samples in found if samples is not None]
        for index, original in enumerate(originals):
            samples = original[: SECONDS * RATE]
            for version in versions(samples, rng):
                yield speaker.name, False, version
            if speaker.continuous and index < VOCODED:
                for version in versions(vocoded(samples), rng):
                    yield f"world-{speaker.name}", True, version


def pairs(rng: np.random.Generator) -> Iterator[tuple[str, bool, Real]]:
    """Speaker, whether the channels differ, and how, for two recordings by one speaker."""
    for speaker in speakers():
        if not speaker.continuous or speaker.name.endswith("-8k"):
            continue
        takes = speaker.takes(2.5, 60)
        if len(takes) < 2:
            continue
        for _ in range(PAIRS):
            a, b = (takes[i] for i in rng.choice(len(takes), 2, replace=False))
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


def measure(path: Path | None) -> dict[str, Measured]:
    """By check, what is measured of the whole corpus; from ``path`` where that is there."""
    if path and path.is_file():
        kept = np.load(path, allow_pickle=False)
        return {
            what: Measured(*(kept[f"{what}_{part}"] for part in ("names", "labels", "rows")))
            for what in ("synthesis", "channel", "splice")
        }
    rng = np.random.default_rng(2)
    traits = ((name, attack, cues(samples)) for name, attack, samples in heard(rng))
    found = {
        "synthesis": collected(traits),
        "channel": collected(pairs(rng)),
        "splice": collected(splices(rng)),
    }
    if path:
        arrays = {f"{what}_{k}": v for what, one in found.items() for k, v in vars(one).items()}
        np.savez(path, **arrays)
    return found


def collected(cases: Iterable[tuple[str, bool, Real | None]]) -> Measured:
    """Cases as arrays, without those that nothing could be measured of."""
    found = [(name, attack, row) for name, attack, row in cases if row is not None]
    return Measured(
        np.array([name for name, _, _ in found]),
        np.array([float(attack) for _, attack, _ in found]),
        np.array([row for _, _, row in found]),
    )
