"""What an LLM hook may ask of the call, besides speaking.

An action travels behind the words it follows, so that the call is not hung up before the
goodbye was heard. Its frame ends at the graph's ``on_heard``; a barge-in drops it with the words
it followed. A transfer names an entry of the agent's own list, never an address.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pipecat.frames.frames import ControlFrame


@dataclass(frozen=True, slots=True)
class Hangup:
    """End the call."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """Hand the caller over."""

    target: str
    """A key of the agent's ``transfers``."""

    briefing: str = field(default="", repr=False)
    """What whoever is there is told of the caller, where they are asked first."""


CallAction = Hangup | Transfer


@dataclass
class CallActionFrame(ControlFrame):
    """An action to carry out once everything before it has been heard."""

    action: CallAction
    reason: str = ""
    """Who asked for it: an intent's name, ``tool`` or ``llm_stalled``; safe to log."""
