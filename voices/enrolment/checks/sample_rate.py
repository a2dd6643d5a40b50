"""Is the audio as wide as its sample rate says?"""

from __future__ import annotations

from typing import Final

from ringtrue.voices.enrolment.evidence import Evidence
from ringtrue.voices.enrolment.findings import Check, Finding
from ringtrue.voices.enrolment.levels import HIGH_BAND_RATE

THRESHOLD: Final = -57.0
"""Level in dB of the speech above 4.5 kHz: people's are -56 and more, of those with few sibilants
too, and audio that was once sampled at 8 kHz has -59 and less, whatever coded it since."""


def check(evidence: Evidence) -> Finding:
    """Refuse narrow-band audio in a wide-band file; the score is the worse high-band level in dB.

    A telephone's recording as it was made, at 8 kHz, is taken: calls are as narrow. One that was
    resampled has been through something it doesn't tell of.
    """
    worst, level = "", 0.0
    for what, recording in (("statement", evidence.statement), ("speech", evidence.speech)):
        if recording.source_rate >= HIGH_BAND_RATE and (not worst or recording.high_band < level):
            worst, level = what, recording.high_band
    if not worst:
        rates = sorted({evidence.statement.source_rate, evidence.speech.source_rate})
        message = f"recorded at {' and '.join(map(str, rates))} Hz, as on a telephone"
        return Finding(Check.SAMPLE_RATE, True, 0.0, THRESHOLD, message)
    if level < THRESHOLD:
        message = (
            f"the {worst} is in a wide-band file but holds no speech above 4.5 kHz "
            f"({level:.0f} dB; at least {THRESHOLD:.0f} dB are needed): record with a microphone "
            "in full quality, not over a telephone or a headset in call mode"
        )
        return Finding(Check.SAMPLE_RATE, False, level, THRESHOLD, message)
    message = f"wide-band speech ({level:.0f} dB above 4.5 kHz)"
    return Finding(Check.SAMPLE_RATE, True, level, THRESHOLD, message)
