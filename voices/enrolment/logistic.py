"""Logistic models: how odd a recording's traits are for what people do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

RealArray = npt.NDArray[np.float64]

LIMIT: Final = 4.0
"""Spreads from the mean within which a trait is held: no single one decides."""


@dataclass(frozen=True, slots=True, eq=False)
class Logistic:
    """One model for each kind of attack against people, all over the same traits."""

    mean: RealArray = field(repr=False)
    """Of the traits, shape ``(traits,)``."""

    spread: RealArray = field(repr=False)
    """Standard deviation of the traits, shape ``(traits,)``."""

    weights: RealArray = field(repr=False)
    """Shape ``(kinds, features)``."""

    bias: RealArray = field(repr=False)
    """Shape ``(kinds,)``."""

    threshold: float
    """Log odds above which a recording is refused."""

    quadratic: bool = False
    """Whether the features are the traits and their squares: odd may be too much or too little."""

    def score(self, traits: RealArray) -> float:
        """Log odds of any of the attacks, for traits of shape ``(traits,)``."""
        odds = self.weights @ self.features(traits) + self.bias
        return float(np.logaddexp.reduce(odds))

    def features(self, traits: RealArray) -> RealArray:
        """Traits, ``(..., traits)``, in spreads from the mean, within bounds; and their squares."""
        z = np.clip((traits - self.mean) / self.spread, -LIMIT, LIMIT)
        return np.concatenate([z, z**2], axis=-1) if self.quadratic else np.asarray(z)
