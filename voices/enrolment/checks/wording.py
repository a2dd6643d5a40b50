"""Were the words of the challenge said?"""

from __future__ import annotations

from typing import Final

from ringtrue.voices.enrolment.checks import sample_rate
from ringtrue.voices.enrolment.evidence import Evidence
from ringtrue.voices.enrolment.findings import Check, Finding
from ringtrue.voices.enrolment.hearing import Heard, hear
from ringtrue.voices.enrolment.levels import HIGH_BAND_RATE
from ringtrue.voices.enrolment.recording import Recording
from ringtrue.voices.enrolment.script import script_for

LEAST_FIT: Final[dict[str, float]] = {
    "name": -4.8,
    "consent": -4.8,
    "cloning": -4.8,
    "purpose": -4.8,
    "drawn": -3.6,
}
"""Goodness of each part in nats per frame below which other words were said."""

MOST_EXTRA: Final = 150.0
"""Nats of anything but silence within one pause: more is words that are not in the text."""

MOST_MARGIN: Final = 70.0
"""Nats by which the digits and words at the end may fit better as others and still count as those
that were drawn: one that was not said costs 80 to 500."""

MOST_MISSED: Final = 2
"""Drawn words that may be heard as others within that margin."""

_WHAT: Final = {
    "name": "your name",
    "consent": "the word of consent",
    "cloning": "what you consent to",
    "purpose": "the purpose",
    "drawn": "the digits and words at the end",
}


def check(evidence: Evidence) -> Finding:
    """Refuse a statement in other words than the challenge's, or with more; English only.

    The score is the distance in nats per frame to the nearest bound, at least 0 to pass.
    Blocking: see :mod:`ringtrue.voices.enrolment.hearing`.
    """
    return listen(evidence)[0]


def listen(evidence: Evidence) -> tuple[Finding, str]:
    """As :func:`check`, with the text as it was heard; empty where nothing fits."""
    heard = hear(
        evidence.statement.samples,
        script_for(evidence.challenge),
        narrow_band=_is_narrow(evidence.statement),
    )
    return judge(heard), " ".join(heard.words)


def judge(heard: Heard) -> Finding:
    """Whether a statement heard like this is the challenge's."""
    wrong = [_WHAT[part] for part, fit in heard.fits.items() if fit < LEAST_FIT[part]]
    slack = min(fit - LEAST_FIT[part] for part, fit in heard.fits.items())
    slack = min(slack, 1.0 - heard.extra / MOST_EXTRA)
    if heard.missed:
        slack = min(slack, 1.0 - heard.margin / MOST_MARGIN)
        if heard.missed > MOST_MISSED:
            slack = min(slack, float(MOST_MISSED - heard.missed))
        missed = heard.missed > MOST_MISSED or heard.margin > MOST_MARGIN
        if missed and _WHAT["drawn"] not in wrong:
            wrong.append(_WHAT["drawn"])
    if len(wrong) == len(heard.fits):
        message = "the statement is not the text that was shown"
    elif wrong:
        message = f"the statement differs from the text that was shown in {', '.join(wrong)}"
    elif heard.extra > MOST_EXTRA:
        message = "the statement holds words that are not in the text that was shown"
    else:
        return Finding(Check.WORDING, True, slack, 0.0, "the statement is the text that was shown")
    message += "; get a new challenge and read it out as it stands, in English"
    return Finding(Check.WORDING, False, min(slack, -1e-3), 0.0, message)


def _is_narrow(recording: Recording) -> bool:
    return recording.source_rate < HIGH_BAND_RATE or recording.high_band < sample_rate.THRESHOLD
