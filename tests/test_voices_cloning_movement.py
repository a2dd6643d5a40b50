"""Fast movement is scaled, slow movement and the mean are not."""

from __future__ import annotations

import numpy as np
import pytest

from ringtrue.voices.cloning.movement import enlivened

FRAMES = 400


def wave(hertz: float) -> np.ndarray:
    """One modulation in all coefficients, at 200 frames a second."""
    rows = np.sin(2 * np.pi * hertz * np.arange(FRAMES) / 200)
    return np.repeat(rows[:, None], 25, axis=1) + 3.0


@pytest.mark.parametrize(
    ("hertz", "least", "most"), [(0.5, 1.0, 1.01), (4.0, 1.0, 1.15), (25.0, 1.45, 1.55)]
)
def test_what_moves_fast_moves_more(hertz: float, least: float, most: float) -> None:
    made = enlivened(wave(hertz), 0.5)[50:-50]
    grown = float(made.std() / wave(hertz)[50:-50].std())
    assert least <= grown <= most
    assert float(made.mean()) == pytest.approx(3.0, abs=0.05)


def test_no_gain_and_no_movement_change_nothing() -> None:
    np.testing.assert_array_equal(enlivened(wave(10.0), 0.0), wave(10.0))
    still = np.full((30, 25), -2.5)
    np.testing.assert_allclose(enlivened(still, 1.0), still, atol=1e-12)


@pytest.mark.parametrize("frames", [0, 1, 3])
def test_phrases_shorter_than_the_average_are_taken(frames: int) -> None:
    assert enlivened(np.ones((frames, 25)), 0.5).shape == (frames, 25)
