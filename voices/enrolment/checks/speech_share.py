"""Is it speech, most of the time?"""

from __future__ import annotations

from typing import Final

from ringtrue.voices.enrolment.evidence import Evidence
from ringtrue.voices.enrolment.findings import Check, Finding
from ringtrue.voices.enrolment.levels import speech_seconds

SHARE: Final = 0.4
"""Of a recording; people reading aloud speak 0.6 of the time and more."""

LEAST: Final = 3.0
"""Seconds of speech in the body."""

LEAST_STATEMENT: Final = 1.2
"""Seconds of speech in the statement: what the speaker encoder needs."""


def check(evidence: Evidence) -> Finding:
    """Refuse recordings that are mostly silence; the score is the worse share of speech."""
    parts = [("statement", evidence.statement, LEAST_STATEMENT, evidence.statement_windows)]
    if evidence.speech is not evidence.statement:
        parts.append(("speech", evidence.speech, LEAST, evidence.speech_windows))
    found = []
    for what, recording, least, windows in parts:
        seconds = speech_seconds(recording.samples) if len(windows) else 0.0
        length = max(recording.seconds, 1e-3)
        found.append((seconds / length, max(SHARE, least / length), what, seconds, length))
    share, needed, what, seconds, length = min(found, key=lambda f: f[0] - f[1])
    passed = share >= needed
    message = f"{seconds:.1f} s of speech in {length:.1f} s of the {what}"
    if not passed:
        message += (
            f"; needed are {needed * length:.1f} s: begin to speak at once, and close to the "
            "microphone"
        )
    return Finding(Check.SPEECH_SHARE, passed, share, needed, message)
