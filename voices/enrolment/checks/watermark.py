"""Is it our own output? Speech that a gate let out carries this installation's watermark."""

from __future__ import annotations

from typing import Final

from ringtrue.voices.engine import SPEECH_RATE
from ringtrue.voices.enrolment.evidence import Evidence
from ringtrue.voices.enrolment.findings import Check, Finding
from ringtrue.voices.watermark.detector import detect

THRESHOLD: Final = 6.0
"""−log10 of the probability that an unmarked recording shows as much: a proven bound, not an
estimate (see :mod:`ringtrue.voices.watermark.detector`)."""


def check(evidence: Evidence) -> Finding:
    """Refuse recordings that carry our mark; the score is −log10 of the false-alarm bound.

    Blocking: some 20 times faster than real time for one key.
    """
    score = 0.0
    for recording in (evidence.statement, evidence.speech) if evidence.marks else ():
        score = max(score, detect(recording.samples, SPEECH_RATE, evidence.marks).significance)
    if score >= THRESHOLD:
        message = (
            "the recording carries the watermark of speech made by this server; only speech "
            "recorded from a person is taken"
        )
        return Finding(Check.WATERMARK, False, score, THRESHOLD, message)
    return Finding(Check.WATERMARK, True, score, THRESHOLD, "no watermark of this server found")
