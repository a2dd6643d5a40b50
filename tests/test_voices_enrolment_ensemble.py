from dataclasses import dataclass

import numpy as np
import pytest

from ringtrue.voices.enrolment import joins, texture
from ringtrue.voices.enrolment.arrays import Layers, packed
from ringtrue.voices.enrolment.ensemble import Ensemble


@dataclass(frozen=True, slots=True, eq=False)
class Line(Layers):
    LAYERS = 1

    def odds(self, seen: np.ndarray, /) -> np.ndarray:
        return np.asarray((seen @ self.weights[0] + self.biases[0])[:, 0], np.float32)


def line(seed: int) -> Line:
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 1, (4, 1)).astype(np.float16).astype(np.float32)
    return Line((weights,), (np.full(1, float(seed), np.float32),))


SEEN = np.random.default_rng(9).normal(0, 1, (11, 4)).astype(np.float32)


def test_the_answer_is_the_members_mean() -> None:
    made = Ensemble((line(1), line(2), line(6)))
    wanted = sum(member.odds(SEEN) for member in made.members) / 3
    assert np.allclose(made.odds(SEEN), wanted, atol=1e-5)
    assert made.odds(SEEN).dtype == np.float32


def test_all_members_come_back_from_one_archive() -> None:
    made = Ensemble(tuple(line(seed) for seed in range(11)))
    again = Ensemble.from_bytes(Line, made.to_bytes())
    assert len(again.members) == 11
    for before, after in zip(made.members, again.members, strict=True):
        assert np.array_equal(before.odds(SEEN), after.odds(SEEN))


def test_an_archive_without_a_network_is_refused() -> None:
    with pytest.raises(ValueError, match="without a network"):
        Ensemble.from_bytes(Line, packed({}))


def test_a_member_that_lacks_a_layer_is_refused() -> None:
    data = packed({"0.weights0": np.zeros((4, 1), np.float32)})
    with pytest.raises(KeyError):
        Ensemble.from_bytes(Line, data)


def test_what_ships_was_taught_apart() -> None:
    for shipped in (joins.shipped(), texture.shipped()):
        first, *others = shipped.members
        assert others
        assert not any(np.array_equal(first.weights[0], other.weights[0]) for other in others)
