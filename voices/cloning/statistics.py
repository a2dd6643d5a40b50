"""Mixtures of Gaussians with diagonal covariances, fitted by expectation-maximisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

RealArray = npt.NDArray[np.float64]

_VARIANCE_FLOOR: Final = 1e-3
_KMEANS_ROUNDS: Final = 8


@dataclass(frozen=True, slots=True)
class Mixture:
    """M Gaussians in D dimensions."""

    weights: RealArray
    """(M,), summing to 1."""

    means: RealArray
    """(M, D)."""

    variances: RealArray
    """(M, D)."""

    def log_densities(self, rows: RealArray) -> RealArray:
        """Log of weight times density of each Gaussian at each row: (N, M)."""
        precision = 1.0 / self.variances
        scaled = self.means * precision
        constant = np.log(self.weights) - 0.5 * (
            np.log(2 * np.pi * self.variances) + self.means * scaled
        ).sum(axis=1)
        return np.asarray(rows @ scaled.T - 0.5 * (rows**2 @ precision.T) + constant)

    def posteriors(self, rows: RealArray) -> RealArray:
        """Which Gaussian each row (N, D) comes from: (N, M), rows summing to 1."""
        log = self.log_densities(rows)
        log -= log.max(axis=1, keepdims=True)
        share = np.exp(log)
        return np.asarray(share / share.sum(axis=1, keepdims=True))

    def slopes(self, rows: RealArray) -> RealArray:
        """Derivative of the log density at each row (N, D)."""
        share = self.posteriors(rows)
        precision = 1.0 / self.variances
        return np.asarray(share @ (self.means * precision) - rows * (share @ precision))

    def improved(self, rows: RealArray) -> Mixture:
        """One round of expectation-maximisation on ``rows`` (N, D)."""
        return _maximised(rows, self.posteriors(rows))


def fit_mixture(rows: RealArray, count: int, rng: np.random.Generator, rounds: int = 30) -> Mixture:
    """``count`` Gaussians of ``rows`` (N, D), from k-means; fewer if there are too few rows.

    Gaussians that lose their rows are restarted at random ones while clustering.
    """
    count = max(1, min(count, len(rows) // 10))
    scale = rows.std(axis=0) + 1e-9
    owner = _cluster(rows / scale, count, rng)
    share = np.eye(count)[owner] + 1e-6
    mixture = _maximised(rows, share / share.sum(axis=1, keepdims=True))
    for _ in range(rounds):
        mixture = mixture.improved(rows)
    return mixture


def _maximised(rows: RealArray, share: RealArray) -> Mixture:
    mass = share.sum(axis=0) + 1e-9
    means = share.T @ rows / mass[:, None]
    variances = share.T @ rows**2 / mass[:, None] - means**2
    return Mixture(mass / mass.sum(), means, np.maximum(variances, 0.0) + _VARIANCE_FLOOR)


def _cluster(rows: RealArray, count: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    centres = rows[rng.choice(len(rows), count, replace=False)]
    owner = np.zeros(len(rows), np.intp)
    for _ in range(_KMEANS_ROUNDS):
        owner = np.argmin((centres**2).sum(axis=1) - 2 * rows @ centres.T, axis=1)
        sizes = np.bincount(owner, minlength=count)
        sums = np.stack(
            [np.bincount(owner, weights=column, minlength=count) for column in rows.T], axis=1
        )
        centres = sums / np.maximum(sizes, 1)[:, None]
        empty = np.flatnonzero(sizes == 0)
        centres[empty] = rows[rng.choice(len(rows), len(empty))]
    return owner
