"""Is the speaker well above the noise?"""

from __future__ import annotations

from typing import Final

from ringtrue.voices.enrolment.evidence import Evidence
from ringtrue.voices.enrolment.findings import Check, Finding
from ringtrue.voices.enrolment.levels import signal_to_noise

THRESHOLD: Final = 15.0
"""Speech over noise in dB. Studio speech measures 17 to 60; noise at 13 dB below it (over the
time somebody speaks) measures 15."""


def check(evidence: Evidence) -> Finding:
    """Refuse a noisy recording; the score is the worse signal-to-noise ratio in dB."""
    ratio, what = min(
        (signal_to_noise(recording.samples), what)
        for what, recording in (("statement", evidence.statement), ("speech", evidence.speech))
    )
    message = (
        f"the {what} is {ratio:.0f} dB above its noise; at least {THRESHOLD:.0f} dB are needed"
    )
    if ratio < THRESHOLD:
        message += ": find a quiet room and speak closer to the microphone"
    return Finding(Check.NOISE, ratio >= THRESHOLD, ratio, THRESHOLD, message)
