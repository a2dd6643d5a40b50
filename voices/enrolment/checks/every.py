"""Every check, in the order they are made. All are made, whichever fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ringtrue.voices.enrolment.checks import (
    channel,
    clipping,
    duration,
    loudspeaker,
    noise,
    replay,
    sample_rate,
    speaker,
    speech_share,
    splice,
    synthesis,
    watermark,
)
from ringtrue.voices.enrolment.evidence import Evidence
from ringtrue.voices.enrolment.findings import Finding

OF_AUDIO: Final[tuple[Callable[[Evidence], Finding], ...]] = (
    duration.check,
    sample_rate.check,
    speech_share.check,
    noise.check,
    clipping.check,
)
"""Checks that need no speech."""

OF_SPEECH: Final[tuple[Callable[[Evidence], Finding], ...]] = (
    speaker.check,
    replay.check,
    watermark.check,
    splice.check,
    synthesis.check,
    channel.check,
    loudspeaker.check,
)
"""Checks of what was spoken, but for the wording."""
