"""How far a clone's sounds are, taken together, from those of the speaker's recording.

A speaker encoder hears some of what a voice is; what it doesn't hear, a refinement that follows it
alone may spoil. The other half of the loss is the Kullback-Leibler divergence of the clone's frames
from the speaker's, both as mixtures of Gaussians: it draws each frame to where the speaker's are
denser than the clone's. No words need be the same in both.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.cloning.statistics import fit_mixture

COMPONENTS: Final = 32
FIRST: Final = 1
"""Of the mel-cepstrum, what counts; the level is left to the voice."""

RealArray = npt.NDArray[np.float64]


class Divergence:
    """Of frames that a fit moves. One for each fit."""

    def __init__(
        self, speaker: RealArray, made: RealArray, added: RealArray, rng: np.random.Generator
    ) -> None:
        """Measure ``made`` (N, 25), before it is moved, against ``speaker`` (M, 25): mel-cepstra.

        ``made`` is what a vocoder is given; analysis of what it renders finds that and one of
        ``added`` (K, 25) more, which is drawn for each frame once. ``speaker`` is as analysed.
        """
        self._added = added[rng.integers(len(added), size=len(made)), FIRST:]
        self._speaker = fit_mixture(speaker[:, FIRST:], COMPONENTS, rng)
        self._made = fit_mixture(made[:, FIRST:] + self._added, COMPONENTS, rng)

    def slope(self, made: RealArray) -> RealArray:
        """Derivative of the divergence (nats) with respect to each of the frames, as ``made``.

        The frames given to the constructor, moved since. Their mixture follows them by one round
        of expectation-maximisation for each call, so they should move little in between.
        """
        rows = made[:, FIRST:] + self._added
        self._made = self._made.improved(rows)
        slope = np.zeros_like(made)
        slope[:, FIRST:] = (self._made.slopes(rows) - self._speaker.slopes(rows)) / len(rows)
        return slope

    def value(self, made: RealArray) -> float:
        """The divergence, in nats."""
        rows = made[:, FIRST:] + self._added
        ours, theirs = (
            np.logaddexp.reduce(mixture.log_densities(rows), axis=1)
            for mixture in (self._made, self._speaker)
        )
        return float((ours - theirs).mean())
