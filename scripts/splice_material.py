"""Statements put together from pieces, with where they were joined, and uncut ones beside them.

What :mod:`fit_joins` and the splice check's model learn from. Pieces are words cut anywhere or at
quiet places, faded or not, from one recording session or several, alone or after a phrase left
whole; a statement and its uncut counterpart go through the same microphones, rooms and codecs.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import soxr
from enrolment_attacks import at_quiet, coded, microphone, noise, pieces, room
from enrolment_corpus import RATE, UNPACKED, Audio, Speaker, at_home, speakers

from ringtrue.voices.enrolment.acoustics import breaks
from ringtrue.voices.enrolment.joins import course

KEPT: Final = UNPACKED / "joins"
"""Where what was made and learnt is kept; remove it to begin anew."""

UNCUT: Final = 4
"""Of each passage: as it is, and in as many conditions less one."""

PASSAGES: Final = 12
TAKES: Final = 60
LONGEST: Final = 8 * RATE

KINDS: Final = (
    "cut", "cut", "cut 5 ms", "cut 20 ms", "quiet", "quiet", "quiet 10 ms", "quiet 10 ms",
    "sessions", "sessions", "few sessions", "phrase", "phrase and sessions",
)  # fmt: skip
"""What statements are made, one of each of eight drawn for every passage."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One statement as the network sees it."""

    person: str
    kind: str
    """``uncut`` or one of :data:`KINDS`."""

    course: npt.NDArray[np.float16] = field(repr=False)
    """Shape ``(frames, bands)``."""

    joins: tuple[int, ...]
    """Samples at 16 kHz before each join."""

    breaks: npt.NDArray[np.float64] = field(repr=False)
    """What :func:`~ringtrue.voices.enrolment.acoustics.breaks` measured of it."""


def end_to_end(parts: Sequence[Audio], fade: float) -> tuple[Audio, list[int]]:
    """Pieces faded into one another over ``fade`` seconds, and where they meet."""
    out, width = parts[0], int(fade * RATE)
    met = []
    for part in parts[1:]:
        met.append(len(out) - width // 2)
        if width:
            ramp = np.linspace(0, 1, width, dtype=np.float32)
            middle = out[-width:] * (1 - ramp) + part[:width] * ramp
            out = np.concatenate([out[:-width], middle, part[width:]])
        else:
            out = np.concatenate([out, part])
    return out, met


def put_together(
    kind: str, takes: Sequence[Audio], rng: np.random.Generator
) -> tuple[Audio, list[int]]:
    """A statement of one of :data:`KINDS`, and the samples before each of its joins."""
    count = int(rng.integers(6, 12))
    if kind.startswith("cut"):
        fades = {"cut": 0.0, "cut 5 ms": 0.005, "cut 20 ms": 0.02}
        return end_to_end(pieces(takes, rng, count), fades[kind])
    if kind.startswith("phrase"):
        take = takes[int(rng.integers(len(takes)))]
        length = int(rng.uniform(1, 3) * RATE)
        start = int(rng.integers(0, max(1, len(take) - length)))
        words = at_quiet(takes, rng, int(rng.integers(3, 6)))
        if kind == "phrase and sessions":
            words = [microphone(word, rng) for word in words]
        return end_to_end([take[start : start + length], *words], _fade(rng))
    words = at_quiet(takes, rng, count)
    if kind.startswith("quiet"):
        return end_to_end(words, 0.01 if kind == "quiet 10 ms" else 0.0)
    # A session's microphone is a seed: the same one is met again among few.
    seeds = [int(seed) for seed in rng.integers(2**31, size=3 if kind == "few sessions" else count)]
    chosen = [seeds[int(rng.integers(len(seeds)))] for _ in words]
    words = [
        microphone(word, np.random.default_rng(seed))
        for word, seed in zip(words, chosen, strict=True)
    ]
    return end_to_end(words, _fade(rng))


def _fade(rng: np.random.Generator) -> float:
    return float(rng.choice([0.0, 0.005, 0.01]))


def narrowed(samples: Audio) -> Audio:
    """Through a telephone's 8 kHz and back."""
    down = soxr.resample(samples, RATE, 8000)
    return np.asarray(soxr.resample(down, 8000, RATE), np.float32)[: len(samples)]


def somehow(samples: Audio, rng: np.random.Generator) -> Audio:
    """In one of the conditions that honest and cut statements alike may be in."""
    way = int(rng.integers(10))
    if way < 2:
        return samples
    if way == 2:
        return coded(samples, "libopus", 32000)
    if way == 3:
        return coded(samples, "libopus", 16000)
    if way == 4:
        return coded(samples, "libmp3lame", 48000)
    if way == 5:
        return noise(samples, rng.uniform(20, 35), rng)
    if way == 6:
        wet = room(samples, rng, rng.uniform(0.15, 0.4), rng.uniform(5, 12))
        return noise(wet, rng.uniform(28, 40), rng)
    if way == 7:
        return narrowed(samples)
    heard = microphone(samples, rng)
    return heard if way == 8 else coded(heard, "libopus", 24000)


def samples_of(speaker: Speaker) -> Iterator[Sample]:
    """All that is learnt from one person; the same each time."""
    rng = np.random.default_rng(list(speaker.name.encode()))
    takes = speaker.takes(2.5, TAKES)
    for _ in range(PASSAGES):
        take = takes[int(rng.integers(len(takes)))]
        start = int(rng.integers(0, max(1, len(take) - LONGEST)))
        whole = take[start : start + LONGEST]
        made = [("uncut", whole, [])]
        made += [("uncut", somehow(whole, rng), []) for _ in range(UNCUT - 1)]
        for kind in rng.choice(KINDS, 8, replace=False):
            joined, met = put_together(str(kind), takes, rng)
            made.append((str(kind), somehow(joined[: LONGEST + 2 * RATE], rng), met))
        for kind, samples, met in made:
            seen, broken = course(samples), breaks(samples)
            if seen is not None and broken is not None and len(seen) > 120:
                inside = tuple(at for at in met if at < len(samples) - RATE // 20)
                yield Sample(speaker.name, kind, seen.astype(np.float16), inside, broken)


def people() -> list[Speaker]:
    """Everybody whose recordings are each one take and weren't made at 8 kHz alone."""
    everybody = [*speakers(), *at_home()]
    return [speaker for speaker in everybody if speaker.continuous and speaker.rate == RATE]


def material(speaker: Speaker) -> list[Sample]:
    """What :func:`samples_of` makes, kept under :data:`KEPT`."""
    path = KEPT / f"{speaker.name}.npz"
    if not path.is_file():
        KEPT.mkdir(parents=True, exist_ok=True)
        _write(path, list(samples_of(speaker)))
    with np.load(path, allow_pickle=False) as kept:
        ends = np.cumsum(kept["lengths"])
        marks = np.cumsum(kept["counts"])
        courses = np.split(kept["frames"], ends[:-1])
        joins = np.split(kept["joins"], marks[:-1])
        kinds, broken = kept["kinds"], kept["breaks"]
    return [
        Sample(speaker.name, str(kind), seen, tuple(int(at) for at in met), row)
        for kind, seen, met, row in zip(kinds, courses, joins, broken, strict=True)
    ]


def _write(path: Path, made: Sequence[Sample]) -> None:
    partial = path.with_suffix(".part.npz")
    np.savez(
        partial,
        frames=np.concatenate([sample.course for sample in made]),
        lengths=np.array([len(sample.course) for sample in made]),
        kinds=np.array([sample.kind for sample in made]),
        counts=np.array([len(sample.joins) for sample in made]),
        joins=np.array([at for sample in made for at in sample.joins], np.int64),
        breaks=np.array([sample.breaks for sample in made]),
    )
    partial.replace(path)


def main() -> None:
    """Make what is learnt from, of everybody or of every other one."""
    parser = argparse.ArgumentParser(description="Make what the splice check learns from.")
    parser.add_argument("--every", type=int, default=1, help="one in so many people only")
    parser.add_argument("--first", type=int, default=0, help="of these; each core may take its own")
    arguments = parser.parse_args()
    for person in people()[arguments.first :: arguments.every]:
        print(f"{person.name}: {len(material(person))}", flush=True)


if __name__ == "__main__":
    main()
