"""Speech a little faster or slower without changing its pitch: one period out, or one more in.

What drains a jitter buffer's standing delay (and fills one that runs dry) without a gap: two
stretches one pitch period apart are cross-faded (WSOLA's step; Verhelst & Roelands, 1993).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ringtrue.telephony.rtp.pitch import Samples, best_lag

SHORTEST, LONGEST = 0.0025, 0.015
"""Periods taken out or put in, in seconds."""

WINDOW: Final = 0.010
"""Seconds compared and cross-faded."""

NEEDED: Final = WINDOW + LONGEST
"""Seconds of PCM that allow every period; with less, longer ones are left out."""

ALIKE: Final = 0.75
"""Correlation from which a join is not heard."""

QUIET: Final = 130.0
"""RMS under which (−48 dBFS) any join will do."""


def shorten(pcm: bytes, rate: int, most: int | None = None) -> bytes:
    """``pcm`` less one period, or as it is where no join would go unheard.

    ``most`` limits the samples taken out.
    """
    return _join(pcm, rate, most, longer=False)


def lengthen(pcm: bytes, rate: int) -> bytes:
    """``pcm`` with one period twice, or as it is where no join would go unheard."""
    return _join(pcm, rate, None, longer=True)


def _join(pcm: bytes, rate: int, most: int | None, *, longer: bool) -> bytes:
    width = int(WINDOW * rate)
    longest = min(int(LONGEST * rate), len(pcm) // 2 - width)
    longest = longest if most is None else min(longest, most)
    lags = range(int(SHORTEST * rate), longest + 1)
    if not lags:
        return pcm
    samples: Samples = np.frombuffer(pcm, "<i2").astype(np.float32)
    head = samples[: width + lags[-1]]
    if float(head @ head) < QUIET * QUIET * len(head):
        lag = lags[-1]
    else:
        lag, likeness = best_lag(samples[:width], head[lags[0] :], lags, backwards=False)
        if likeness < ALIKE:
            return pcm
    near, far = samples[:width], samples[lag : lag + width]
    if longer:
        joined = (samples[:lag], _fade(far, near), samples[width:])
    else:
        joined = (samples[:0], _fade(near, far), samples[lag + width :])
    changed: bytes = np.rint(np.concatenate(joined)).astype("<i2").tobytes()
    return changed


def _fade(out: Samples, into: Samples) -> Samples:
    ramp = np.arange(1, len(out) + 1, dtype=np.float32) / (len(out) + 1)
    faded: Samples = (out * (1 - ramp) + into * ramp).astype(np.float32)
    return faded
