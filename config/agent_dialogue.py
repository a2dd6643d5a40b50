"""The embedded dialogue of an agent's file: its types, and what must fit together.

The engine that runs it is ``ringtrue.streaming.llm.dialogue``. Texts may hold ``{name}``
placeholders: slots, the agent's variables, and ``{time}``, ``{date}``, ``{weekday}``. Those
that are spoken may hold the markup of :mod:`ringtrue.config.speech_markup`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ringtrue.config.speech_markup import markup_problems, tags_of

NAME: Final = r"^[a-z][a-z0-9_]*$"
PLACEHOLDER: Final = re.compile(r"\{([a-z][a-z0-9_]*)\}")
BUILT_IN: Final = ("time", "date", "weekday")
"""Placeholders every text may use."""

KEYS: Final = "0123456789*#"


def _one_or_many(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Name = Annotated[str, Field(pattern=NAME, max_length=40)]
Text = Annotated[str, Field(min_length=1, max_length=1000)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_one_or_many)]
"""One text or several variants, of which the same is never said twice in a row."""

Score = Annotated[float, Field(ge=0, le=1)]


class Part(BaseModel):
    """Base of every part of an agent's file: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class _Slot(Part):
    ask: Annotated[Texts, Field(min_length=1)]
    """The question that fills it."""

    retry: Texts = ()
    """Said instead of ``ask`` after an answer that doesn't fit; in order, the last repeats."""

    attempts: Annotated[int, Field(ge=1, le=10)] = 3
    """Answers that may fail before the dialogue gives up."""

    sensitive: bool = False
    """No recording of the call keeps what the caller says while it is asked."""


class DigitsSlot(_Slot):
    """Digits said or keyed one by one; spoken back one by one."""

    type: Literal["digits"]
    min_length: Annotated[int, Field(ge=1, le=40)] = 1
    max_length: Annotated[int, Field(ge=1, le=40)] = 20

    @model_validator(mode="after")
    def _ordered(self) -> DigitsSlot:
        if self.min_length > self.max_length:
            raise ValueError(
                f"min_length {self.min_length} must not be above max_length {self.max_length}"
            )
        return self


class NumberSlot(_Slot):
    """A whole number."""

    type: Literal["number"]
    min: int = 0
    max: int = 1_000_000


class DateSlot(_Slot):
    """A day: ``today``, ``next Tuesday``, ``the fifth of May``; kept as ISO 8601."""

    type: Literal["date"]


class TimeSlot(_Slot):
    """A time of day: ``half past three``, ``10 a.m.``; kept as HH:MM."""

    type: Literal["time"]


class ChoiceSlot(_Slot):
    """One of a list."""

    type: Literal["choice"]
    options: Annotated[dict[Text, Texts], Field(min_length=2)]
    """Value, as it is spoken back → phrases that mean it, besides itself."""


class TextSlot(_Slot):
    """Whatever the caller says."""

    type: Literal["text"]
    max_words: Annotated[int, Field(ge=1, le=200)] = 40


Slot = Annotated[
    DigitsSlot | NumberSlot | DateSlot | TimeSlot | ChoiceSlot | TextSlot,
    Field(discriminator="type"),
]


class TransferAction(Part):
    """Hand the caller to an entry of the agent's ``transfers``."""

    transfer: Name
    briefing: Text | None = None
    """What whoever is there is told of the caller first; placeholders as in answers."""


Action = Literal["hangup"] | TransferAction


class GiveUp(Part):
    """What is said and done when it can't go on."""

    say: Texts
    action: Action = "hangup"


class Intent(Part):
    """Something a caller may want."""

    title: Text | None = None
    """How a question names it: ``Did you mean TITLE?``; without one it is never offered."""

    examples: Texts = ()
    """What callers say for it; may hold the intent's own slots."""

    states: tuple[Name, ...] = ()
    """Where it is understood; empty: everywhere."""

    slots: tuple[Name, ...] = ()
    """Filled in this order before it is answered."""

    confirm: Texts = ()
    """Asked before it is answered; the caller says yes or no."""

    declined: Texts = ()
    """Said when the caller says no."""

    answers: Texts = ()
    follow_up: Texts | None = None
    """Asked after the answer; None: the dialogue's own; an empty list: nothing."""

    action: Action | None = None
    """Done once the answer has been heard."""

    next: Name | None = None
    """State from here on; None: stay."""

    repeat: bool = False
    """It asks to hear the last answer again."""

    @model_validator(mode="after")
    def _does_something(self) -> Intent:
        if not (self.answers or self.action or self.repeat or self.follow_up):
            raise ValueError("says and does nothing; give it answers, action, follow_up or repeat")
        return self


class State(Part):
    """A place in the conversation."""

    prompt: Texts = ()
    """The open question here, asked again after a misunderstanding."""

    dtmf: dict[str, Name] = {}
    """Key → intent; looked up before the dialogue's own."""

    fallbacks: Texts = ()
    """Instead of the dialogue's own."""


class DialogueFile(Part):
    """The whole dialogue."""

    start: Name | None = None
    """First state; None: the first one listed, or none at all."""

    states: dict[Name, State] = {}
    slots: dict[Name, Slot] = {}
    intents: Annotated[dict[Name, Intent], Field(min_length=1)]
    dtmf: dict[str, Name] = {}
    """Key → intent, everywhere."""

    follow_up: Texts = ()
    """Asked after an answer that has no question of its own."""

    fallbacks: Annotated[Texts, Field(min_length=1)]
    """Said one after the other while nothing is understood; then ``give_up``."""

    unheard: Annotated[Texts, Field(min_length=1)] = ("Sorry, I didn't catch that.",)
    """Said when the caller spoke but no words came of it."""

    check: Text = "Did you want {first}?"
    clarify: Text = "Did you mean {first}, or {second}?"
    ending: Annotated[Texts, Field(min_length=1)] = ("Did you want to end the call?",)
    """Asked before hanging up on words that the recognizer is not sure of."""

    give_up: GiveUp
    yes: Texts = (
        "yes",
        "yeah",
        "yep",
        "yes please",
        "correct",
        "that's right",
        "right",
        "sure",
        "okay",
        "exactly",
        "yes it is",
        "that is correct",
    )
    no: Texts = ("no", "nope", "no thanks", "wrong", "that's wrong", "incorrect", "not right")
    accept: Score = 0.66
    """Score from which an intent is taken."""

    maybe: Score = 0.5
    """Score from which it is asked about."""

    margin: Score = 0.06
    """Two intents closer than this are asked about."""

    @property
    def start_state(self) -> str | None:
        """The state a call begins in."""
        return self.start or next(iter(self.states), None)


def placeholders(text: str) -> set[str]:
    """Names between braces in ``text``.

    Raises ``ValueError`` for a brace that belongs to no placeholder.
    """
    rest = PLACEHOLDER.sub("", text)
    if "{" in rest or "}" in rest:
        raise ValueError(f"has a brace that is no placeholder: {text!r}")
    return set(PLACEHOLDER.findall(text))


def template_problems(key: str, texts: Iterable[str], allowed: set[str]) -> list[tuple[str, str]]:
    """What is wrong with the placeholders of ``texts``, which stand at ``key``."""
    problems = []
    for text in texts:
        try:
            names = placeholders(text)
        except ValueError as error:
            problems.append((key, str(error)))
            continue
        for name in sorted(names - allowed):
            problems.append((key, f"uses {{{name}}}; placeholders here: {_choices(allowed)}"))
    return problems


def spoken_problems(
    key: str, texts: Iterable[str], allowed: set[str] | None
) -> list[tuple[str, str]]:
    """What is wrong with ``texts`` that are spoken: speech markup and, with ``allowed``,
    placeholders."""
    texts = tuple(texts)
    markup = [(key, message) for text in texts for message in markup_problems(text)]
    return markup if allowed is None else template_problems(key, texts, allowed) + markup


def unmarked_problems(key: str, texts: Iterable[str]) -> list[tuple[str, str]]:
    """Speech markup in ``texts`` that callers say."""
    return [
        (key, f"{tag} is speech markup, but this is what callers say")
        for text in texts
        for tag in tags_of(text)
    ]


def _choices(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none defined"


class Checker:
    """Collects what doesn't fit together: (dotted key, message) pairs."""

    def __init__(
        self, dialogue: DialogueFile, transfers: Iterable[str], variables: Iterable[str]
    ) -> None:
        """Check ``dialogue`` against the agent's transfer list and variables."""
        self._dialogue = dialogue
        self._transfers = set(transfers)
        self._variables = set(variables) | set(BUILT_IN)
        self.problems: list[tuple[str, str]] = []

    def run(self) -> list[tuple[str, str]]:
        """All problems."""
        dialogue = self._dialogue
        everything = self._variables | set(dialogue.slots)
        self._known("start", dialogue.start, dialogue.states, "state")
        self._keys("dtmf", dialogue.dtmf)
        self._texts("follow_up", dialogue.follow_up, everything)
        self._texts("fallbacks", dialogue.fallbacks, self._variables)
        self._texts("unheard", dialogue.unheard, self._variables)
        self._texts("check", (dialogue.check,), {"first"})
        self._texts("clarify", (dialogue.clarify,), {"first", "second"})
        self._texts("ending", dialogue.ending, self._variables)
        self._texts("give_up.say", dialogue.give_up.say, self._variables)
        self._action("give_up.action", dialogue.give_up.action)
        for name, state in dialogue.states.items():
            self._keys(f"states.{name}.dtmf", state.dtmf)
            self._texts(f"states.{name}.prompt", state.prompt, everything)
            self._texts(f"states.{name}.fallbacks", state.fallbacks, self._variables)
        for name, slot in dialogue.slots.items():
            if isinstance(slot, ChoiceSlot):
                self._texts(f"slots.{name}.options", slot.options, None)
                for value, meaning in slot.options.items():
                    self._said(f"slots.{name}.options.{value}", meaning)
            self._texts(f"slots.{name}.ask", slot.ask, everything)
            self._texts(f"slots.{name}.retry", slot.retry, everything)
        for name, intent in dialogue.intents.items():
            self._intent(f"intents.{name}", intent, everything)
        self._same_example_twice()
        return self.problems

    def _intent(self, key: str, intent: Intent, everything: set[str]) -> None:
        for slot in intent.slots:
            self._known(f"{key}.slots", slot, self._dialogue.slots, "slot")
        for state in intent.states:
            self._known(f"{key}.states", state, self._dialogue.states, "state")
        self._known(f"{key}.next", intent.next, self._dialogue.states, "state")
        self._action(f"{key}.action", intent.action)
        self.problems += template_problems(f"{key}.examples", intent.examples, set(intent.slots))
        self._said(f"{key}.examples", intent.examples)
        self._texts(f"{key}.title", (intent.title or "",), None)
        for field in ("confirm", "declined", "answers", "follow_up"):
            self._texts(f"{key}.{field}", getattr(intent, field) or (), everything)

    def _known(self, key: str, name: str | None, known: Iterable[str], what: str) -> None:
        if name is not None and name not in known:
            self.problems.append((key, f"is {name!r}; {what}s: {_choices(known)}"))

    def _action(self, key: str, action: Action | None) -> None:
        if isinstance(action, TransferAction):
            self._known(f"{key}.transfer", action.transfer, self._transfers, "transfer")
            everything = self._variables | set(self._dialogue.slots)
            self._texts(f"{key}.briefing", (action.briefing or "",), everything)

    def _keys(self, key: str, dtmf: Mapping[str, str]) -> None:
        for pressed, intent in dtmf.items():
            if len(pressed) != 1 or pressed not in KEYS:
                self.problems.append((f"{key}.{pressed}", f"is no key; keys: {' '.join(KEYS)}"))
            self._known(f"{key}.{pressed}", intent, self._dialogue.intents, "intent")

    def _texts(self, key: str, texts: Iterable[str], allowed: set[str] | None) -> None:
        """Texts that are spoken; without ``allowed`` they are no templates."""
        self.problems += spoken_problems(key, texts, allowed)

    def _said(self, key: str, texts: Iterable[str]) -> None:
        self.problems += unmarked_problems(key, texts)

    def _same_example_twice(self) -> None:
        seen: dict[str, str] = {}
        for name, intent in self._dialogue.intents.items():
            for example in intent.examples:
                plain = " ".join(re.findall(r"[a-z0-9{}_]+", example.lower()))
                other = seen.setdefault(plain, name)
                first, second = self._dialogue.intents[other], intent
                apart = (
                    first.states and second.states and not set(first.states) & set(second.states)
                )
                if other != name and not apart and bool(first.states) == bool(second.states):
                    self.problems.append(
                        (f"intents.{name}.examples", f"{example!r} is also an example of {other}")
                    )


def all_examples(dialogue: DialogueFile) -> Iterator[tuple[Intent, str]]:
    """Every example with its intent."""
    for intent in dialogue.intents.values():
        for example in intent.examples:
            yield intent, example
