"""Was the statement put together? Cuts leave corners, sudden silences and steps in the noise, and
words that don't run on (:mod:`ringtrue.voices.enrolment.joins`).

What this can't see is a cut made with care inside one session: at the bottom of a pause, faded,
with the room's noise running on; nor one that was played into a room afterwards. The challenge's
random words are what makes such material hard to have.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ringtrue.voices.enrolment.acoustics import breaks, dead_seconds
from ringtrue.voices.enrolment.evidence import Evidence
from ringtrue.voices.enrolment.findings import Check, Finding
from ringtrue.voices.enrolment.joins import course, shipped, strongest
from ringtrue.voices.enrolment.weights import SPLICE

MODEL: Final = SPLICE
"""Of :func:`~ringtrue.voices.enrolment.acoustics.breaks` and
:func:`~ringtrue.voices.enrolment.joins.strongest`."""

NETWORKS: Final = shipped()

DEAD_SECONDS: Final = 0.02
"""Of a waveform that stands still between words; microphones never do."""

_DEAD_SCORE: Final = 20.0


def check(evidence: Evidence) -> Finding:
    """Refuse a statement with signs of cutting.

    The score is in log odds. Blocking: some 100 ms of CPU for 10 s. The body may be cut: what was
    left out of it says nothing. A statement in which nothing is heard doesn't pass.
    """
    samples = evidence.statement.samples
    broken, seen = breaks(samples), course(samples)
    if broken is None or seen is None:
        message = "nothing is heard in the statement; record it anew"
        return Finding(Check.SPLICE, False, _DEAD_SCORE, MODEL.threshold, message)
    dead = dead_seconds(samples)
    if dead > DEAD_SECONDS:
        message = (
            f"the statement holds {1e3 * dead:.0f} ms of dead silence between words (allowed: "
            f"{1e3 * DEAD_SECONDS:.0f} ms); record it in one go, without noise suppression"
        )
        return Finding(Check.SPLICE, False, _DEAD_SCORE, MODEL.threshold, message)
    value = MODEL.score(np.concatenate([broken, strongest(NETWORKS.odds(seen))]))
    if value > MODEL.threshold:
        message = (
            f"the statement seems put together from pieces (score {value:.1f}, allowed: "
            f"{MODEL.threshold:.1f}); record it in one go, without noise suppression"
        )
        return Finding(Check.SPLICE, False, value, MODEL.threshold, message)
    return Finding(Check.SPLICE, True, value, MODEL.threshold, "the statement shows no cut")
