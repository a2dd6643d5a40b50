"""What goes into the dialogue and comes out of it, and one call's place in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ringtrue.streaming.llm.actions import CallAction
from ringtrue.streaming.llm.slots import SlotValue


@dataclass(frozen=True, slots=True)
class Spoken:
    """The caller said something."""

    text: str = field(repr=False)
    confidence: float | None = None
    """How sure the recognizer is, 0 to 1; None: it doesn't say."""


@dataclass(frozen=True, slots=True)
class Keyed:
    """The caller pressed keys (``0-9*#``)."""

    keys: str = field(repr=False)


class Event(StrEnum):
    """Something else happened."""

    START = "start"
    """The call was answered; the agent speaks first."""

    UNHEARD = "unheard"
    """The caller spoke, but no words came of it."""


Input = Spoken | Keyed | Event


@dataclass(frozen=True, slots=True)
class Filling:
    """Waiting for a slot's value."""

    intent: str
    slot: str
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Confirming:
    """Waiting for yes or no before an intent is answered."""

    intent: str
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Clarifying:
    """Waiting for which of one or two intents was meant."""

    intents: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DialogueState:
    """One call's place in the dialogue. Its repr holds nothing the caller said."""

    name: str | None
    waiting: Filling | Confirming | Clarifying | None = None
    misses: int = 0
    """Inputs in a row that were not understood."""

    slots: Mapping[str, SlotValue] = field(default_factory=dict, repr=False)
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    variants: Mapping[tuple[str, ...], int] = field(default_factory=dict, repr=False)
    """Which of the variants was said last."""

    seed: int = 0
    """Where the variants begin, so that calls differ."""

    said: str = field(default="", repr=False)
    """The last answer, for those who ask to hear it again."""

    question: str = field(default="", repr=False)
    """The open question, asked again after a misunderstanding."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the agent says and does."""

    text: str = field(repr=False)
    state: DialogueState
    actions: tuple[CallAction, ...] = ()
    """Carried out once ``text`` has been heard."""

    intent: str | None = None
    """What was understood; None where nothing was."""
