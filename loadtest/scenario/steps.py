"""The steps of a caller's script, as a scenario's file has them.

Each is a mapping with one key, whose value may be short: ``- say: opening_hours`` is
``- say: {prompt: opening_hours}``, ``- hear:`` is ``- hear: {}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from ringtrue.config.section import Section
from ringtrue.loadtest.prompts import prompt_names
from ringtrue.streaming.tones import FREQUENCIES

MAX_REPEATS: Final = 200
MAX_STEPS: Final = 500
"""Steps of a script, repetitions counted."""

Seconds = Annotated[float, Field(ge=0, le=600)]
Milliseconds = Annotated[float, Field(ge=0, le=60_000)]
Decibels = Annotated[float, Field(ge=-70, le=-6)]


def _as(key: str) -> BeforeValidator:
    """A plain value stands for a section with only ``key``; nothing for an empty section."""

    def spread(value: object) -> object:
        if value is None:
            return {}
        return value if isinstance(value, Mapping | Section) else {key: value}

    return BeforeValidator(spread)


class Line(Section):
    """Something to say: one of ``prompt``, ``text`` and ``wav``."""

    prompt: str | None = None
    """The name of a recorded prompt, spoken by the caller's voice."""

    text: Annotated[str, Field(min_length=1, max_length=500)] | None = None
    """Synthesized in the caller's voice before the run."""

    wav: Path | None = None
    """A 16-bit mono file at 8 or 16 kHz; relative to the scenario's file."""

    @field_validator("prompt")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None and value not in prompt_names():
            raise ValueError(
                f"there is no such prompt; there are: {', '.join(prompt_names())}; "
                "for other words give {text: ...} or {wav: ...}"
            )
        return value

    @model_validator(mode="after")
    def _one(self) -> Line:
        if sum(given is not None for given in (self.prompt, self.text, self.wav)) != 1:
            raise ValueError("give exactly one of prompt, text and wav")
        return self

    @property
    def name(self) -> str:
        """What reports call it."""
        if self.prompt is not None:
            return self.prompt
        if self.wav is not None:
            return self.wav.stem[:40]
        return "text"


class Say(Line):
    """Speak, and return when the last frame was sent."""

    answered: bool = True
    """Whether the agent owes an answer: a turn is measured."""


class Hear(Section):
    """Wait for the agent to begin and to come to an end."""

    begin_ms: Milliseconds = 10_000
    """How long it may take to begin."""

    end_ms: Milliseconds = 30_000
    """How long it may speak."""

    quiet_ms: Milliseconds = 900
    """How long it must have been silent to have come to an end: longer than its own pauses, and
    where it says something to fill the time, than what is waited for."""


class Interrupt(Line):
    """Speak over the agent, to stop it."""

    after_ms: Milliseconds = 700
    """Of agent speech."""


class Backchannel(Line):
    """Murmur while the agent speaks, as a listener does; it should not stop for that."""

    after_ms: Milliseconds = 700


class Wait(Section):
    """Say nothing for a while."""

    seconds: Annotated[tuple[Seconds, ...], Field(min_length=1, max_length=2)] = (0.5,)
    """How long, or from how long to how long: then drawn anew each time."""

    @field_validator("seconds", mode="before")
    @classmethod
    def _single(cls, value: object) -> object:
        return (value,) if isinstance(value, int | float) else value

    @model_validator(mode="after")
    def _ordered(self) -> Wait:
        if self.seconds[0] > self.seconds[-1]:
            raise ValueError(f"seconds {list(self.seconds)}: the first must not be above the last")
        return self


class Noise(Section):
    """Make a noise that is no speech."""

    seconds: Seconds = 2.0
    dbfs: Decibels = -30.0
    """Its level: RMS relative to full scale. Speech is about -20."""

    kind: Literal["white", "hum", "cough"] = "white"


class Hold(Section):
    """Put the agent on hold, and take it off again."""

    seconds: Seconds = 3.0


class AgentHangsUp(Section):
    """Wait for the agent to end the call."""

    within_ms: Milliseconds = 15_000
    insist: Annotated[Line | None, _as("prompt")] = None
    """What the caller says, twice at most, to an agent that asks something instead; None: the
    caller waits."""

    model_config = Section.model_config | {"validate_default": False}


class HangUp(Section):
    """End the call."""


def _digits(value: object) -> object:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if isinstance(text, str) and (not text or set(text) - set(FREQUENCIES) or len(text) > 32):
        raise ValueError(f"allowed: 1 to 32 of {''.join(FREQUENCIES)}")
    return text


class Action(Section):
    """One thing that a caller does: exactly one of these keys."""

    say: Annotated[Say | None, _as("prompt")] = None
    hear: Annotated[Hear | None, _as("begin_ms")] = None
    interrupt: Annotated[Interrupt | None, _as("prompt")] = None
    backchannel: Annotated[Backchannel | None, _as("prompt")] = None
    press: Annotated[str | None, BeforeValidator(_digits)] = None
    wait: Annotated[Wait | None, _as("seconds")] = None
    noise: Annotated[Noise | None, _as("seconds")] = None
    hold: Annotated[Hold | None, _as("seconds")] = None
    hang_up: Annotated[HangUp | None, _as("nothing")] = None
    agent_hangs_up: Annotated[AgentHangsUp | None, _as("within_ms")] = None

    model_config = Section.model_config | {"validate_default": False}

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError(f"a step has exactly one of {', '.join(type(self).model_fields)}")
        return self

    @property
    def kind(self) -> str:
        """Its key."""
        return next(iter(self.model_fields_set))

    @property
    def does(self) -> Any:
        """Its value."""
        return getattr(self, self.kind)


class Repeat(Section):
    """Do the same again."""

    times: Annotated[int, Field(ge=1, le=MAX_REPEATS)]
    steps: Annotated[tuple[Action, ...], Field(min_length=1, max_length=100)]


class Step(Action):
    """An action, or several that repeat."""

    repeat: Repeat | None = None


def flattened(steps: tuple[Step, ...]) -> list[Action]:
    """The steps with what repeats written out.

    Raises ``ValueError`` for more than :data:`MAX_STEPS`.
    """
    found: list[Action] = []
    for step in steps:
        if step.repeat is None:
            found.append(step)
        else:
            found += list(step.repeat.steps) * step.repeat.times
        if len(found) > MAX_STEPS:
            raise ValueError(f"the script has over {MAX_STEPS} steps, repetitions counted")
    return found
