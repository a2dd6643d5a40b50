"""Turn-taking: when the caller is done, whether the caller interrupts, and when nobody speaks."""

from ringtrue.streaming.turns.policy import TurnPolicy
from ringtrue.streaming.turns.smart import (
    MAX_SECONDS,
    PRE_SPEECH_SECONDS,
    SmartTurnModel,
    TurnAudio,
    prolonged,
)
from ringtrue.streaming.turns.stop import SpokenTurnStop

__all__ = [
    "MAX_SECONDS",
    "PRE_SPEECH_SECONDS",
    "SmartTurnModel",
    "SpokenTurnStop",
    "TurnAudio",
    "TurnPolicy",
    "prolonged",
]
