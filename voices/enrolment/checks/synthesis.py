"""Is it a person? Traits of the excitation and its movement against those of vocoders.

For each way of synthesis (formants, diphones, statistical parameters, a person's own words
through a vocoder, and this package's engine) there is a logistic model of it against people,
over the traits of :mod:`ringtrue.voices.enrolment.cues`; the score is the log odds of any of them.
The weights are fitted by ``scripts/fit_liveness.py``. What is made in yet another way, a neural
vocoder above all, is not known to be found.
"""

from __future__ import annotations

from typing import Final

from ringtrue.voices.enrolment.cues import cues
from ringtrue.voices.enrolment.evidence import Evidence
from ringtrue.voices.enrolment.findings import Check, Finding
from ringtrue.voices.enrolment.weights import SYNTHESIS

MODEL: Final = SYNTHESIS

SPEECH_ALONE: Final = 1.5
"""How much more the speech has to sound synthesized than the statement to be refused by itself: it
is longer, and what consents is the statement."""


def check(evidence: Evidence) -> Finding:
    """Refuse a statement or a body that sounds synthesized.

    The score is the highest of the statement's, the mean of both recordings', and the speech's less
    :data:`SPEECH_ALONE`, in log odds: two odd recordings say more than one. Blocking: some 100 ms
    of CPU for each 10 s. A recording without 0.3 s of voice doesn't pass.
    """
    scores = []
    for what, recording in (("statement", evidence.statement), ("speech", evidence.speech)):
        traits = cues(recording.samples)
        if traits is None:
            message = f"the {what} holds too little voice to judge; record it anew"
            return Finding(Check.SYNTHESIS, False, 99.0, MODEL.threshold, message)
        scores.append(MODEL.score(traits))
    statement, speech = scores
    together = {
        "statement sounds": statement,
        "statement and the speech sound": (statement + speech) / 2,
        "speech sounds": speech - SPEECH_ALONE,
    }
    what = max(together, key=together.__getitem__)
    found = together[what]
    if found > MODEL.threshold:
        message = (
            f"the {what} synthesized (score {found:.1f}, allowed: {MODEL.threshold:.1f}); "
            "only speech recorded from a person is taken"
        )
        return Finding(Check.SYNTHESIS, False, found, MODEL.threshold, message)
    return Finding(
        Check.SYNTHESIS, True, found, MODEL.threshold, "neither recording sounds synthesized"
    )
