"""Was it recorded before? The same sound as an earlier enrolment's, whatever it went through."""

from __future__ import annotations

from typing import Final

from ringtrue.voices.enrolment.evidence import Evidence
from ringtrue.voices.enrolment.findings import Check, Finding
from ringtrue.voices.enrolment.fingerprint import Fingerprint, best_match, fingerprint

THRESHOLD: Final = 0.32
"""Agreement over 4 s (see :mod:`ringtrue.voices.enrolment.fingerprint`).

Different words by one speaker reach 0.16, one speaker's second reading of a text 0.29, a replay
from a loudspeaker across a room 0.33 to 0.6 and a re-encoded copy more.
"""


def check(evidence: Evidence) -> Finding:
    """Refuse a statement or a body that repeats sound of an earlier enrolment.

    The score is the best agreement found, 0 to 1. Blocking: some 10 ms of CPU for each earlier
    recording. Raises :class:`~ringtrue.voices.enrolment.fingerprint.FingerprintError` where an
    earlier fingerprint is none: with one unread, nothing can be said.
    """
    earlier = [Fingerprint.from_bytes(data) for data in evidence.earlier]
    scores = {
        what: best_match(fingerprint(recording.samples), earlier).score
        for what, recording in (("statement", evidence.statement), ("speech", evidence.speech))
    }
    what = max(scores, key=scores.__getitem__)
    score = scores[what]
    if score > THRESHOLD:
        message = (
            f"the {what} repeats a recording of an earlier enrolment (agreement {score:.2f}, "
            f"allowed: {THRESHOLD:.2f}); record it anew"
        )
        return Finding(Check.REPLAY, False, score, THRESHOLD, message)
    return Finding(
        Check.REPLAY, True, score, THRESHOLD, "neither recording repeats an earlier enrolment"
    )
