"""What a check says of an enrolment."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Check(StrEnum):
    """What is checked."""

    DURATION = "duration"
    SAMPLE_RATE = "sample_rate"
    SPEECH_SHARE = "speech_share"
    NOISE = "noise"
    CLIPPING = "clipping"
    WORDING = "wording"
    SPEAKER = "speaker"
    REPLAY = "replay"
    SYNTHESIS = "synthesis"
    WATERMARK = "watermark"
    SPLICE = "splice"
    CHANNEL = "channel"
    LOUDSPEAKER = "loudspeaker"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's outcome."""

    check: Check
    passed: bool
    score: float
    """What was measured, in the check's own unit. Always finite."""

    threshold: float
    """What ``score`` was held against, in the same unit."""

    message: str
    """For the person: what was found and what is allowed. Repeats no word of the recording."""
