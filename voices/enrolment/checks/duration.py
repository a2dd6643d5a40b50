"""Is there enough of it, and not too much?"""

from __future__ import annotations

from typing import Final

from ringtrue.voices.enrolment.evidence import Evidence
from ringtrue.voices.enrolment.findings import Check, Finding

MIN_SPEECH: Final = 5.0
MAX_SPEECH: Final = 30.0
MAX_STATEMENT: Final = 40.0

WORDS_PER_SECOND: Final = 6.0
"""Faster than anybody reads aloud: the quickest auctioneers speak about 5 words a second."""


def check(evidence: Evidence) -> Finding:
    """Refuse a body outside 5 to 30 s, and a statement too short to hold its words or over 40 s.

    The score is the length in seconds of what is furthest from its bounds.
    """
    shortest = max(1.5, len(evidence.challenge.text.split()) / WORDS_PER_SECOND)
    parts = [("statement", evidence.statement.seconds, shortest, MAX_STATEMENT)]
    if evidence.speech is not evidence.statement:
        parts.append(("speech", evidence.speech.seconds, MIN_SPEECH, MAX_SPEECH))
    for what, seconds, least, most in parts:
        if not least <= seconds <= most:
            bound = least if seconds < least else most
            message = f"the {what} is {seconds:.1f} s long; allowed: {least:.1f} to {most:.0f} s"
            return Finding(Check.DURATION, False, seconds, bound, message)
    what, seconds, least, most = parts[-1]
    message = f"the {what} is {seconds:.1f} s long; allowed: {least:.1f} to {most:.0f} s"
    return Finding(Check.DURATION, True, seconds, least, message)
