"""Fits ``voices/enrolment/likeness.npz``: in which directions one person's embeddings vary.

    python scripts/enrolment_corpus.py --fetch
    python scripts/fit_likeness.py

Every take is heard as a statement and as a body would be, as it is and in two conditions. What is
reported, and the threshold of the speaker check, comes from spaces fitted without the people that
are compared (:func:`without`). Three minutes on one core, most for the embeddings, which are kept
under ``build/enrolment``.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from enrolment_corpus import RATE, ROOT, UNPACKED, Audio, Speaker, speakers, strung
from splice_material import somehow

from ringtrue.voices.encoder import SpeakerEncoder
from ringtrue.voices.encoder.embeddings import DIMENSION, Embedding, centroid
from ringtrue.voices.encoder.errors import NotEnoughSpeechError
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

REFUSED: Final = 0.02
"""Share of one person's pairs that the threshold refuses, everybody counting alike."""


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
    parts = [_kept(speaker) for speaker in speakers()]
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


def compared(
    left: Collection[str] = frozenset(), *, strangers: bool = True
) -> tuple[dict[str, list[float]], dict[tuple[str, str], list[float]]]:
    """Likeness of each person's pairs, and of strangers', none compared by what they are part of.

    People in ``left`` are neither compared nor learnt from; strangers may be passed over. Pairs
    are of two takes heard the same way; strangers are compared as recorded.
    """
    known = heard()
    names = sorted(set(known.names[known.parts == "statement"]) - set(left))
    same: dict[str, list[float]] = {}
    other: dict[tuple[str, str], list[float]] = {}
    for mine, theirs in product(names, names):
        if mine != theirs and not strangers:
            continue
        space = without(frozenset({str(mine), str(theirs), *left}))
        found = []
        for way in range(3):
            if mine != theirs and way:
                continue
            heard_so = known.ways == way
            chosen = heard_so & (known.names == mine) & (known.parts == "statement")
            bodies = heard_so & (known.names == theirs) & (known.parts == "body")
            for i, j in product(np.flatnonzero(chosen), np.flatnonzero(bodies)):
                if mine == theirs and known.takes[i] == known.takes[j]:
                    continue
                if way and known.takes[i] // 2 != known.takes[j] // 2:
                    continue  # another sitting
                found.append(space(known.embeddings[i], known.embeddings[j]))
        if mine != theirs:
            other[str(mine), str(theirs)] = found
        elif found:
            same[str(mine)] = found
    return same, other


def threshold_of(same: dict[str, list[float]]) -> float:
    """The likeness that a share of :data:`REFUSED` falls short of, everybody counting alike."""
    scores = np.concatenate([np.array(found) for found in same.values()])
    weights = np.concatenate([np.full(len(found), 1 / len(found)) for found in same.values()])
    order = np.argsort(scores)
    below = np.cumsum(weights[order]) / weights.sum()
    return float(scores[order][np.searchsorted(below, REFUSED)])


@cache
def threshold_without(people: frozenset[str]) -> float:
    """The threshold as it would be had nobody heard ``people``."""
    return threshold_of(compared(people, strangers=False)[0])


def main() -> None:
    """Fit, report and write."""
    parser = argparse.ArgumentParser(description="Fit the speaker check's space.")
    parser.add_argument("--out", type=Path, default=OUT)
    out = parser.parse_args().out
    same, other = compared()
    bound = threshold_of(same)
    print(f"threshold {bound:.3f}")
    for name, scores in same.items():
        print(f"  {name:24} {len(scores):4} refused {np.mean(np.array(scores) < bound):.3f}")
    strangers = np.concatenate([np.array(found) for found in other.values()])
    print(f"strangers: {len(strangers)} accepted {np.mean(strangers >= bound):.4f}")
    for pair, scores in sorted(other.items(), key=lambda item: -np.mean(item[1]))[:6]:
        print(f"  {pair} accepted {np.mean(np.array(scores) >= bound):.3f}")
    out.write_bytes(without(frozenset()).to_bytes())
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
