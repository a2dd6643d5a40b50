"""Mixtures on data drawn from known ones."""

from __future__ import annotations

import numpy as np
import pytest

from ringtrue.voices.cloning.statistics import fit_mixture


def test_known_clusters_are_found() -> None:
    rng = np.random.default_rng(0)
    centres = np.array([[-4.0, 0.0], [3.0, 3.0], [3.0, -3.0]])
    rows = np.concatenate([centre + rng.normal(0, 0.5, (400, 2)) for centre in centres])
    best = min(
        np.abs(
            np.sort(fit_mixture(rows, 3, np.random.default_rng(seed)).means, axis=0)
            - np.sort(centres, axis=0)
        ).max()
        for seed in range(4)
    )
    assert best < 0.15


def test_densities_are_those_of_the_normal_distribution() -> None:
    rng = np.random.default_rng(1)
    mixture = fit_mixture(rng.normal(2.0, 3.0, (5000, 1)), 1, rng)
    row = np.array([[2.5]])
    variance = mixture.variances[0, 0]
    expected = -0.5 * (np.log(2 * np.pi * variance) + (2.5 - mixture.means[0, 0]) ** 2 / variance)
    assert mixture.log_densities(row)[0, 0] == pytest.approx(expected, rel=1e-6)
    assert variance == pytest.approx(9.0, rel=0.1)


def test_posteriors_sum_to_one_even_far_away() -> None:
    rng = np.random.default_rng(2)
    mixture = fit_mixture(rng.normal(size=(500, 25)), 8, rng)
    far = mixture.posteriors(np.full((3, 25), 1e3))
    np.testing.assert_allclose(far.sum(axis=1), 1.0)


def test_few_rows_make_few_components() -> None:
    rng = np.random.default_rng(3)
    assert len(fit_mixture(rng.normal(size=(45, 5)), 64, rng).weights) == 4


def test_the_same_seed_gives_the_same_mixture() -> None:
    rows = np.random.default_rng(4).normal(size=(300, 6))
    first, second = (fit_mixture(rows, 5, np.random.default_rng(9)) for _ in range(2))
    np.testing.assert_array_equal(first.means, second.means)


def test_slopes_are_those_of_the_log_density() -> None:
    rng = np.random.default_rng(3)
    mixture = fit_mixture(rng.normal(size=(800, 3)) * (1.0, 2.0, 0.5), 6, rng)
    rows, along = rng.normal(size=(40, 3)), rng.normal(size=(40, 3))

    def log_density(at: np.ndarray) -> np.ndarray:
        return np.logaddexp.reduce(mixture.log_densities(at), axis=1)

    numeric = (log_density(rows + 1e-4 * along) - log_density(rows - 1e-4 * along)) / 2e-4
    np.testing.assert_allclose((mixture.slopes(rows) * along).sum(axis=1), numeric, rtol=1e-4)


def test_a_round_of_improvement_makes_the_rows_likelier() -> None:
    rng = np.random.default_rng(4)
    mixture = fit_mixture(rng.normal(size=(500, 4)), 4, rng)
    rows = rng.normal(1.0, 2.0, (500, 4))
    told = [
        np.logaddexp.reduce(one.log_densities(rows), axis=1).mean()
        for one in (mixture, mixture.improved(rows), mixture.improved(rows).improved(rows))
    ]
    assert told[0] < told[1] < told[2]
