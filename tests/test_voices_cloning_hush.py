"""Quiet frames are lowered, loud ones are not, and each by itself."""

from __future__ import annotations

import numpy as np

from ringtrue.voices.cloning.hush import KNEE, START, hushed, loud_level


def rows(levels: np.ndarray) -> np.ndarray:
    """Frames of these levels, the rest of their cepstra at random."""
    made = np.random.default_rng(0).normal(0, 1, (len(levels), 25))
    made[:, 0] = levels
    return made


def test_the_depth_is_reached_over_the_knee() -> None:
    given = rows(np.array([8.0, 8.0 - START, 8.0 - START - KNEE / 2, 8.0 - START - KNEE, -40.0]))
    lowered = given - hushed(given, 8.0, 2.0)
    np.testing.assert_allclose(lowered[:, 0], [0.0, 0.0, 1.0, 2.0, 2.0], atol=1e-12)
    np.testing.assert_array_equal(lowered[:, 1:], 0.0)


def test_what_is_louder_stays_louder() -> None:
    levels = np.linspace(-10.0, 10.0, 500)
    assert (np.diff(hushed(rows(levels), 9.0, 3.0)[:, 0]) > 0).all()


def test_frames_do_not_depend_on_those_around_them() -> None:
    given = rows(np.random.default_rng(1).normal(5.0, 3.0, 300))
    parts = [hushed(given[at : at + 7], 8.0, 2.0) for at in range(0, 300, 7)]
    np.testing.assert_array_equal(np.concatenate(parts), hushed(given, 8.0, 2.0))


def test_no_depth_and_no_frames_change_nothing() -> None:
    given = rows(np.linspace(-5.0, 5.0, 20))
    assert hushed(given, 5.0, 0.0) is given
    assert hushed(given[:0], 5.0, 2.0).shape == (0, 25)


def test_loud_frames_are_not_the_loudest_one() -> None:
    levels = np.full(1000, 7.0)
    levels[:300], levels[-3:] = -8.0, 12.0
    assert loud_level(rows(levels)) == 7.0
