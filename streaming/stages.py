"""The moments of a turn, and the named intervals between them."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Stage(StrEnum):
    """Moments of a turn, in the order they normally come."""

    SPEECH_ENDED = "speech_ended"
    """The caller's last speech sample."""

    VAD_STOPPED = "vad_stopped"
    TRANSCRIPT = "transcript"
    """The recognizer's final text."""

    TURN_ENDED = "turn_ended"
    """It was decided that the caller is done."""

    FIRST_TOKEN = "first_token"
    FIRST_PHRASE = "first_phrase"
    """The first speakable text was handed to the synthesizer."""

    FIRST_AUDIO = "first_audio"
    """The first PCM reached playout."""

    FIRST_SEALED = "first_sealed"
    """The first frame of speech passed the gate."""

    FIRST_PACKET = "first_packet"
    """The first frame of speech was written to the wire."""


CALLER_STAGES: Final = (
    Stage.SPEECH_ENDED,
    Stage.VAD_STOPPED,
    Stage.TRANSCRIPT,
    Stage.TURN_ENDED,
)
"""Those that are the caller's; the rest are the agent's."""

INTERVALS: Final[dict[str, tuple[Stage, Stage]]] = {
    "endpointing": (Stage.SPEECH_ENDED, Stage.TURN_ENDED),
    "recognizer": (Stage.VAD_STOPPED, Stage.TRANSCRIPT),
    "language": (Stage.TURN_ENDED, Stage.FIRST_TOKEN),
    "phrase": (Stage.FIRST_TOKEN, Stage.FIRST_PHRASE),
    "synthesis": (Stage.FIRST_PHRASE, Stage.FIRST_AUDIO),
    "wire": (Stage.FIRST_AUDIO, Stage.FIRST_PACKET),
    "ttfa": (Stage.FIRST_PHRASE, Stage.FIRST_PACKET),
    "turn_latency": (Stage.SPEECH_ENDED, Stage.FIRST_PACKET),
}
"""Name → the two moments it lies between."""
