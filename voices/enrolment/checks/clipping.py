"""Were the peaks cut off?"""

from __future__ import annotations

from typing import Final

from ringtrue.voices.enrolment.evidence import Evidence
from ringtrue.voices.enrolment.findings import Check, Finding

THRESHOLD: Final = 0.02
"""Share of samples near the top: 0.003 to 0.015 in clean speech, 0.02 and more where 1 % of the
samples were clipped, whatever coded it since."""


def check(evidence: Evidence) -> Finding:
    """Refuse clipped recordings; the score is the worse share of samples near the top."""
    share, what = max(
        (recording.clipped_share, what)
        for what, recording in (("statement", evidence.statement), ("speech", evidence.speech))
    )
    message = f"{100 * share:.1f} % of the {what} lies at its peak level"
    if share > THRESHOLD:
        message += (
            f" (allowed: {100 * THRESHOLD:.0f} %): it is clipped; lower the microphone's gain "
            "or move back"
        )
    return Finding(Check.CLIPPING, share <= THRESHOLD, share, THRESHOLD, message)
