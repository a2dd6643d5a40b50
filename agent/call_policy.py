"""What the settings say of how a call is held, as its graph takes it."""

from __future__ import annotations

from ringtrue.config.settings import Settings
from ringtrue.streaming.echo.canceller import echo_library_available
from ringtrue.streaming.gate import GatePolicy
from ringtrue.streaming.graph import GraphPolicy
from ringtrue.streaming.turns import TurnPolicy
from ringtrue.streaming.vad import VadPolicy


def graph_policy(settings: Settings, transport: str) -> GraphPolicy:
    """The behaviour of a call over ``transport``."""
    turns, vad, gate = settings.turns, settings.vad, settings.gate
    return GraphPolicy(
        vad=VadPolicy(
            confidence=vad.confidence,
            release=vad.release,
            start_seconds=vad.start_seconds,
            stop_seconds=vad.stop_seconds,
            aggressiveness=vad.aggressiveness,
        ),
        turns=TurnPolicy(
            complete=turns.complete,
            incomplete_seconds=turns.incomplete_seconds,
            transcript_seconds=turns.transcript_seconds,
            yes_no_seconds=turns.yes_no_seconds,
            enough_digits_seconds=turns.enough_digits_seconds,
            digits_seconds=turns.digits_seconds,
            spelling_seconds=turns.spelling_seconds,
            anticipate=turns.anticipate,
        ),
        gate=GatePolicy(
            far_end_timeout=gate.far_end_timeout_seconds.of(transport),
            far_end_grace=gate.far_end_grace_seconds,
            max_age=gate.max_age_seconds,
        ),
        cancel_echo=settings.echo.cancel and echo_library_available(),
    )
