"""The lag at which a stretch of speech repeats itself."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]


def best_lag(
    reference: Samples, searched: Samples, lags: range, *, backwards: bool
) -> tuple[int, float]:
    """Where ``reference`` is found again in ``searched``, and how well (normalised, −1…1).

    ``searched`` holds ``len(reference) + len(lags) - 1`` samples: its first window lies
    ``lags[0]`` samples from the reference, or, ``backwards``, its last one does.
    """
    width = len(reference)
    products = np.correlate(searched, reference, "valid")
    squares = np.concatenate((np.zeros(1, np.float32), np.cumsum(searched * searched)))
    energies = squares[width:] - squares[:-width]
    scores = products / np.sqrt(energies * float(reference @ reference) + 1.0)
    at = int(np.argmax(scores))
    return (lags[-1 - at] if backwards else lags[at]), float(scores[at])
