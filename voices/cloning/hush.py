"""What is quiet in a clone is made quieter: pauses, closures and what breath stands between words.

A mapped spectrum brings the recording's noise and the base voice's vocoding into moments that are
nearly silent in speech, and listeners mark that down. Frames well below a voice's loud ones are
lowered by a downward expander with a soft knee; frames of vowels, and all but the weakest
consonants, are above it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

START: Final = 2.5
"""Nepers below the loud frames at which lowering begins."""

KNEE: Final = 1.0
"""Nepers over which it grows to its full depth."""

LOUD_PERCENTILE: Final = 95.0
"""Of the level of all frames, pauses included: what counts as a voice's loud frames."""

RealArray = npt.NDArray[np.float64]


def loud_level(mcep: npt.NDArray[np.floating]) -> float:
    """The level (c0, in nepers) of the loud frames of a voice's speech (T, 25)."""
    return float(np.percentile(mcep[:, 0], LOUD_PERCENTILE))


def hushed(mcep: RealArray, loud: float, depth: float) -> RealArray:
    """Cepstra (T, 25) whose quiet frames are up to ``depth`` nepers lower, each by itself.

    ``loud`` is the voice's :func:`loud_level`. Where ``depth`` is 0, ``mcep`` itself.
    """
    if depth == 0.0:
        return mcep
    below = np.clip((loud - START - mcep[:, 0]) / KNEE, 0.0, 1.0)
    lowered = mcep.copy()
    lowered[:, 0] -= depth * below
    return lowered
