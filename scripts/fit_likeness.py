"""Fits ``voices/enrolment/likeness.npz``: in which directions one person's embeddings vary.

    python scripts/enrolment_corpus.py --fetch
    python scripts/fit_likeness.py

Every take is heard as a statement and as a body would be, as it is and in two conditions. What is
reported, and what the speaker check's bounds were chosen by, comes from spaces fitted without the
people that are compared (:func:`without`). Some minutes on one core, most for the embeddings, which
are kept under ``build/enrolment``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from enrolment_corpus import RATE, ROOT, UNPACKED, Audio, Speaker, at_home, speakers, strung
from splice_material import somehow

from ringtrue.voices.encoder import SpeakerEncoder
from ringtrue.voices.encoder.embeddings import DIMENSION, Embedding, centroid, similarity
from ringtrue.voices.encoder.errors import NotEnoughSpeechError
from ringtrue.voices.enrolment.checks import speaker
from ringtrue.voices.enrolment.likeness import Likeness

OUT: Final = ROOT / "voices" / "enrolment" / "likeness.npz"
KEPT: Final = UNPACKED / "embeddings"

TAKES: Final = 20
STATEMENT: Final = 5 * RATE
BODY: Final = 12 * RATE
STRINGS: Final = 3

FEWEST: Final = 10
"""Embeddings of a person from which a covariance is taken."""

RIDGE: Final = 0.3
"""Of the mean variance, added to every direction's: what few people don't show may still vary."""

BOUNDS: Final = ((speaker.THRESHOLD, speaker.COSINE), (0.30, 0.70), (0.38, 0.72), (0.47, 0.78))
"""Likeness and cosine that a pair has to reach: those of the speaker check, and others beside."""

Pairs = list[tuple[float, float]]
"""The likeness and the cosine of each."""


@dataclass(frozen=True)
class Heard:
    """Embeddings of many recordings."""

    names: npt.NDArray[np.str_]
    parts: npt.NDArray[np.str_]
    """``statement``, ``body``, or ``strung`` for what is no take."""

    takes: npt.NDArray[np.int64]
    ways: npt.NDArray[np.int64]
    """0 as recorded; pairs are of one way."""

    embeddings: npt.NDArray[np.float32]
    """Shape ``(recordings, 256)``, unit norm."""


def _recordings(speaker: Speaker) -> Iterator[tuple[str, int, int, Audio]]:
    """What somebody is heard in: the part it plays, the take, the way, and the sound."""
    seed = list(speaker.name.encode())
    rng = np.random.default_rng(seed)
    if not speaker.continuous:
        for index in range(STRINGS):
            made = strung(speaker, 7.0, rng)
            if made is not None:
                yield "strung", index, 0, made
        return
    for index, take in enumerate(speaker.takes(3.0, TAKES)):
        for part, size in (("statement", STATEMENT), ("body", BODY)):
            yield part, index, 0, take[:size]
            for way in (1, 2):
                # Both recordings of an enrolment go the same way.
                sitting = np.random.default_rng([*seed, way, index // 2])
                yield part, index, way, somehow(take[:size], sitting)


@cache
def heard() -> Heard:
    """Everybody's embeddings, measured or as they were kept."""
    parts = [_kept(person) for person in [*speakers(), *at_home()]]
    found = [part for part in parts if len(part.names)]
    return Heard(
        np.concatenate([part.names for part in found]),
        np.concatenate([part.parts for part in found]),
        np.concatenate([part.takes for part in found]),
        np.concatenate([part.ways for part in found]),
        np.concatenate([part.embeddings for part in found]),
    )


@cache
def _encoder() -> SpeakerEncoder:
    return SpeakerEncoder.load()


def _kept(speaker: Speaker) -> Heard:
    path = KEPT / f"{speaker.name}.npz"
    if not path.is_file():
        rows = []
        for part, take, way, samples in _recordings(speaker):
            clipped = np.clip(samples, -1, 1).astype(np.float32)
            try:
                windows = _encoder().embed_windows(clipped, RATE)
            except NotEnoughSpeechError:
                continue
            rows.append((part, take, way, centroid(windows)))
        KEPT.mkdir(parents=True, exist_ok=True)
        np.savez(
            path,
            names=np.array([speaker.name] * len(rows), np.str_),
            parts=np.array([row[0] for row in rows], np.str_),
            takes=np.array([row[1] for row in rows], np.int64),
            ways=np.array([row[2] for row in rows], np.int64),
            embeddings=np.array([row[3] for row in rows], np.float32).reshape(-1, DIMENSION),
        )
        print(f"heard {speaker.name}", flush=True)
    with np.load(path, allow_pickle=False) as kept:
        return Heard(*(kept[part] for part in ("names", "parts", "takes", "ways", "embeddings")))


@cache
def _moments() -> dict[str, tuple[Embedding, npt.NDArray[np.float64] | None]]:
    """Everybody's mean and, of those with enough recordings, covariance."""
    known = heard()
    found = {}
    for name in sorted(set(known.names)):
        own = known.embeddings[known.names == name]
        spread = np.cov(own.T, bias=True) if len(own) >= FEWEST else None
        found[str(name)] = own.mean(axis=0), spread
    return found


@cache
def without(people: frozenset[str]) -> Likeness:
    """The space fitted on everybody but ``people``."""
    left = {name: moments for name, moments in _moments().items() if name not in people}
    mean = np.mean([centre for centre, _ in left.values()], axis=0)
    within = np.mean([spread for _, spread in left.values() if spread is not None], axis=0)
    size = len(within)
    within = within + RIDGE * np.trace(within) / size * np.eye(size)
    whitening = np.linalg.inv(np.linalg.cholesky(within))
    scale = np.sqrt(np.trace(within) / size)  # for half precision
    return Likeness(mean.astype(np.float32), (whitening * scale).astype(np.float32))


def compared() -> tuple[dict[str, Pairs], Pairs]:
    """Each person's pairs, and strangers', none compared by what they are part of.

    Pairs are of two takes heard the same way; strangers are compared as recorded.
    """
    known = heard()
    names = sorted(map(str, set(known.names[known.parts == "statement"])))
    same: dict[str, Pairs] = {}
    others: Pairs = []
    for mine, theirs in product(names, names):
        space = without(frozenset({mine, theirs}))
        found = [
            (space(a, b), similarity(a, b))
            for way in range(3 if mine == theirs else 1)
            for a, b in _pairs(known, mine, theirs, way)
        ]
        if mine != theirs:
            others += found
        elif found:
            same[mine] = found
    return same, others


def _pairs(known: Heard, mine: str, theirs: str, way: int) -> Iterator[tuple[Embedding, Embedding]]:
    """Statements of one and bodies of another, or of other takes by the same, one way."""
    heard_so = known.ways == way
    statements = heard_so & (known.names == mine) & (known.parts == "statement")
    bodies = heard_so & (known.names == theirs) & (known.parts == "body")
    for i, j in product(np.flatnonzero(statements), np.flatnonzero(bodies)):
        if mine == theirs and known.takes[i] == known.takes[j]:
            continue
        if way and known.takes[i] // 2 != known.takes[j] // 2:
            continue  # another sitting
        yield known.embeddings[i], known.embeddings[j]


def short_of(pairs: Pairs, bounds: tuple[float, float]) -> float:
    """The share of pairs that don't reach both bounds."""
    return float(np.mean((np.array(pairs) < bounds).any(axis=1)))


def main() -> None:
    """Fit, report and write."""
    parser = argparse.ArgumentParser(description="Fit the speaker check's space.")
    parser.add_argument("--out", type=Path, default=OUT)
    out = parser.parse_args().out
    same, others = compared()
    for bounds in BOUNDS:
        refused = np.mean([short_of(pairs, bounds) for pairs in same.values()])
        print(f"{bounds}: refused {refused:.4f}, strangers {1 - short_of(others, bounds):.4f}")
    for name, pairs in same.items():
        print(f"  {name:24} {len(pairs):4} refused {short_of(pairs, BOUNDS[0]):.3f}")
    print(f"{len(others)} pairs of strangers")
    out.write_bytes(without(frozenset()).to_bytes())
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
