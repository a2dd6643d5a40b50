"""Did both recordings come the same way? One microphone, one room, close to the mouth."""

from __future__ import annotations

from typing import Final

import numpy as np

from ringtrue.voices.enrolment.acoustics import channel, difference
from ringtrue.voices.enrolment.evidence import Evidence
from ringtrue.voices.enrolment.findings import Check, Finding
from ringtrue.voices.enrolment.weights import CHANNEL

MODEL: Final = CHANNEL
"""Of :func:`~ringtrue.voices.enrolment.acoustics.difference`'s parts, as ``log(1 + x)``."""


def check(evidence: Evidence) -> Finding:
    """Refuse a statement whose microphone, noise or room is not that of the body.

    The score is in log odds. Blocking: some 40 ms of CPU. Recordings in which nothing is heard
    don't pass.
    """
    statement, speech = channel(evidence.statement.samples), channel(evidence.speech.samples)
    if statement is None or speech is None:
        message = "nothing is heard in one of the recordings; record both anew"
        return Finding(Check.CHANNEL, False, 99.0, MODEL.threshold, message)
    found = MODEL.score(np.log1p(difference(statement, speech)))
    if found > MODEL.threshold:
        message = (
            "the statement and the speech sound as if recorded in different places or on "
            f"different devices (score {found:.1f}, allowed: {MODEL.threshold:.1f}); record both "
            "in one sitting with one microphone"
        )
        return Finding(Check.CHANNEL, False, found, MODEL.threshold, message)
    return Finding(
        Check.CHANNEL, True, found, MODEL.threshold, "both recordings were made in the same way"
    )
