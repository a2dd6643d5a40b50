"""Was it played to the microphone? What was recorded, played and recorded again is refused.

This is for recordings that no earlier enrolment holds: of those that one does,
:mod:`ringtrue.voices.enrolment.checks.replay` knows. A good loudspeaker close to the microphone in
a dry room leaves too little to be told from a person.
"""

from __future__ import annotations

from typing import Final

from ringtrue.voices.enrolment.evidence import Evidence
from ringtrue.voices.enrolment.findings import Check, Finding
from ringtrue.voices.enrolment.playback import playback
from ringtrue.voices.enrolment.weights import LOUDSPEAKER

MODEL: Final = LOUDSPEAKER
"""Of :func:`~ringtrue.voices.enrolment.playback.playback`'s traits."""


def check(evidence: Evidence) -> Finding:
    """Refuse recordings that came from a loudspeaker.

    The score is the mean of the two recordings', in log odds: who plays one of them has to play the
    other, or they differ in their channel. Blocking: some 80 ms of CPU for each 10 s. A recording
    without 0.3 s of voice doesn't pass.
    """
    scores = []
    for what, recording in (("statement", evidence.statement), ("speech", evidence.speech)):
        traits = playback(recording.samples)
        if traits is None:
            message = f"the {what} holds too little voice to judge; record it anew"
            return Finding(Check.LOUDSPEAKER, False, 99.0, MODEL.threshold, message)
        scores.append(MODEL.score(traits))
    found = sum(scores) / len(scores)
    if found > MODEL.threshold:
        message = (
            f"the recordings sound as if played from a loudspeaker (score {found:.1f}, allowed: "
            f"{MODEL.threshold:.1f}); speak into the microphone, close to it, in a room with "
            "little echo"
        )
        return Finding(Check.LOUDSPEAKER, False, found, MODEL.threshold, message)
    return Finding(
        Check.LOUDSPEAKER, True, found, MODEL.threshold, "neither recording was played back"
    )
