"""Parsers under bytes they were never meant for; ``make fuzz`` goes on where this ends."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from fuzzing.targets import TARGETS, Target

REGRESSIONS = Path(__file__).parent / "fuzzing" / "regressions"
MUTATIONS = 150


def mutated(seed: bytes, rng: random.Random) -> bytes:
    """A few bytes flipped, cut out, repeated or moved."""
    data = bytearray(seed)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + rng.randint(1, 12))
        match rng.randrange(5):
            case 0 if at < len(data):
                data[at] = rng.randrange(256)
            case 1:
                del data[at:end]
            case 2:
                data[at:at] = data[at:end]
            case 3:
                data[at:at] = rng.randbytes(rng.randint(1, 8))
            case _:
                data = data[at:] + data[:at]
    return bytes(data)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_seeds_are_understood_whole_and_survived_in_pieces(target: Target) -> None:
    for seed in target.seeds:
        target.run(seed) if seed else target.feed(seed)
        for end in range(0, len(seed), max(1, len(seed) // 60)):
            target.feed(seed[:end])


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_seeded_mutations_raise_only_what_is_documented(target: Target) -> None:
    rng = random.Random(7)
    for number in range(MUTATIONS):
        target.feed(mutated(target.seeds[number % len(target.seeds)], rng))


def test_what_once_crashed_no_longer_does() -> None:
    for path in sorted(REGRESSIONS.glob("*-*")):
        TARGETS[path.name.partition("-")[0]].feed(path.read_bytes())
