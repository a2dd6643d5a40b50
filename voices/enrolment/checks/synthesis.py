"""Is it a person? Traits of the excitation, its movement and fine structure against vocoders'.

For each way of synthesis (formants, diphones, statistical parameters, a person's own words
through WORLD, and this package's pulse and neural vocoders) there is a logistic model of it against
people, over the traits of :mod:`ringtrue.voices.enrolment.cues` and what the networks of
:mod:`ringtrue.voices.enrolment.texture` hear; the score is the log odds of any of them. The
weights are fitted by ``scripts/fit_liveness.py``. What is made in yet another way, another neural
vocoder above all, is not known to be found.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.enrolment.cues import cues
from ringtrue.voices.enrolment.evidence import Evidence
from ringtrue.voices.enrolment.findings import Check, Finding
from ringtrue.voices.enrolment.texture import shipped, texture, traits
from ringtrue.voices.enrolment.weights import SYNTHESIS

MODEL: Final = SYNTHESIS
"""Of the traits of both modules, in this order."""

NETWORKS: Final = shipped()

SPEECH_ALONE: Final = 1.5
"""How much more the speech has to sound synthesized than the statement to be refused by itself: it
is longer, and what consents is the statement."""


def check(evidence: Evidence) -> Finding:
    """Refuse a statement or a body that sounds synthesized.

    The score is the highest of the statement's, the mean of both recordings', and the speech's less
    :data:`SPEECH_ALONE`, in log odds: two odd recordings say more than one. Blocking: some 120 ms
    of CPU for each 10 s. A recording without 0.3 s of voice doesn't pass.
    """
    scores = []
    for what, recording in (("statement", evidence.statement), ("speech", evidence.speech)):
        found = score(recording.samples)
        if found is None:
            message = f"the {what} holds too little voice to judge; record it anew"
            return Finding(Check.SYNTHESIS, False, 99.0, MODEL.threshold, message)
        scores.append(found)
    statement, speech = scores
    together = {
        "statement sounds": statement,
        "statement and the speech sound": (statement + speech) / 2,
        "speech sounds": speech - SPEECH_ALONE,
    }
    what = max(together, key=together.__getitem__)
    worst = together[what]
    if worst > MODEL.threshold:
        message = (
            f"the {what} synthesized (score {worst:.1f}, allowed: {MODEL.threshold:.1f}); "
            "only speech recorded from a person is taken"
        )
        return Finding(Check.SYNTHESIS, False, worst, MODEL.threshold, message)
    return Finding(
        Check.SYNTHESIS, True, worst, MODEL.threshold, "neither recording sounds synthesized"
    )


def score(samples: npt.NDArray[np.float32]) -> float | None:
    """Log odds that mono ``samples`` at 16 kHz, shape ``(n,)``, were synthesized.

    None where under 0.3 s of it is voiced.
    """
    found, seen = cues(samples), texture(samples)
    if found is None or seen is None:
        return None
    return MODEL.score(np.concatenate([found, traits(NETWORKS.odds(seen), seen)]))
