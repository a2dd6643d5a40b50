"""The divergence of one set of frames from another, and where it draws them."""

from __future__ import annotations

import numpy as np
import pytest

from ringtrue.voices.cloning.divergence import Divergence

COUNT = 3000
NOTHING = np.zeros((1, 25))


def frames(seed: int, mean: float = 0.0, spread: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, spread, (COUNT, 25))


def between(speaker: np.ndarray, made: np.ndarray, added: np.ndarray = NOTHING) -> Divergence:
    return Divergence(speaker, made, added, np.random.default_rng(0))


def test_it_is_that_of_the_normal_distributions() -> None:
    """Nats of N(m, s) from N(0, 1) in each of 24 dimensions; the level doesn't count."""
    made = frames(1, 0.3, 0.8)
    known = 24 * 0.5 * (0.8**2 + 0.3**2 - 1 - 2 * np.log(0.8))
    assert between(frames(2), made).value(made) == pytest.approx(known, abs=1.2)
    assert between(frames(2), frames(3)).value(frames(3)) == pytest.approx(0.0, abs=1.2)


def test_following_its_slope_brings_frames_to_the_speakers() -> None:
    """Both their mean and their spread, and they stay there: it is no density's summit."""
    made = frames(1, 0.6, 0.7)
    divergence = between(frames(2), made)
    before = divergence.value(made)
    for _ in range(120):
        made = made - 0.05 * COUNT * divergence.slope(made)
    assert divergence.value(made) < 0.25 * before
    assert np.abs(made[:, 1:].mean(axis=0)).max() < 0.1
    assert made[:, 1:].std() == pytest.approx(1.0, abs=0.1)


def test_the_level_is_left_alone() -> None:
    made = frames(1)
    made[:, 0] += 5.0
    assert not between(frames(2), made).slope(made)[:, 0].any()


def test_what_analysis_adds_is_reckoned_with() -> None:
    """Frames that will be heard as the speaker's are where they belong."""
    added = np.random.default_rng(5).normal(0.4, 0.6, (500, 25))
    made = frames(1, -0.4, 0.8)
    naive, told = between(frames(2), made), between(frames(2), made, added)
    assert told.value(made) < 0.25 * naive.value(made)
    assert np.linalg.norm(told.slope(made)) < np.linalg.norm(naive.slope(made))


def test_the_same_draw_gives_the_same_slope() -> None:
    made, added = frames(1), frames(4)[:50]
    one, two = (between(frames(2), made, added).slope(made) for _ in range(2))
    np.testing.assert_array_equal(one, two)
