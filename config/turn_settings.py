"""Settings of turn-taking: when a pause ends the caller's turn, and who has the floor."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ringtrue.config.section import Section

Silence = Annotated[float, Field(ge=0, le=30)]


class TurnSettings(Section):
    """When a pause ends the caller's turn, and what may interrupt the agent."""

    smart_turn: bool = True
    complete: Annotated[float, Field(gt=0, le=1)] = 0.5
    incomplete_seconds: Silence = 1.2
    transcript_seconds: Annotated[float, Field(gt=0, le=30)] = 1.5
    yes_no_seconds: Silence = 0.6
    """The most silence asked for after an answer to a yes-or-no question."""

    digits_seconds: Silence = 1.0
    """The least silence that ends digits which are not enough yet."""

    enough_digits_seconds: Silence = 0.4
    """The most that is asked for after digits which are enough, where more might come."""

    spelling_seconds: Silence = 1.3
    """The least silence that ends what is spelt."""

    anticipate: bool = True
    """Begin to answer what is probably the turn's end before it is certain."""

    backchannels: bool = True
    """Pause for what may be no interruption, and go on if it was none; else stop at any speech."""
