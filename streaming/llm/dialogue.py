"""The embedded dialogue: what an agent answers without a language model.

:class:`Dialogue` is the agent's file, compiled once and shared by all calls;
`DialogueState` is one call's place in it. :meth:`Dialogue.reply` is pure: the same input,
state and time give the same reply, and the state passed in is not changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from ringtrue.config.agent_dialogue import DialogueFile, DigitsSlot, TextSlot
from ringtrue.config.agent_schema import Agent
from ringtrue.streaming.errors import LanguageError
from ringtrue.streaming.llm.dialogue_state import (
    Clarifying,
    Confirming,
    DialogueState,
    Filling,
    Input,
    Reply,
)
from ringtrue.streaming.llm.dialogue_turn import CERTAIN, NO, YES, ReplyTurn
from ringtrue.streaming.llm.matching import Matcher
from ringtrue.streaming.llm.slots import parse_slot, spoken_digits
from ringtrue.streaming.turns.expect import Expect, expectation


class Dialogue:
    """A compiled dialogue."""

    def __init__(self, agent: Agent) -> None:
        """Compile ``agent``'s dialogue; raises :class:`LanguageError` if it has none."""
        if agent.dialogue is None:
            raise LanguageError(
                f"agent {agent.name!r} has no dialogue: add one to its file, "
                "or configure llm.engine as openai or pipecat"
            )
        self.agent = agent
        self.file: DialogueFile = agent.dialogue
        self.matcher = Matcher({n: i.examples for n, i in self.file.intents.items()})
        self.answers = Matcher({YES: self.file.yes, NO: self.file.no})
        self.titles = Matcher(
            {n: (*i.examples, i.title) for n, i in self.file.intents.items() if i.title}
        )

    def start(self, *, variables: Mapping[str, str] | None = None, seed: int = 0) -> DialogueState:
        """The state of a new call. ``variables`` replace the agent's own of the same name.

        Raises :class:`LanguageError` for a variable the agent's file doesn't define.
        """
        given = dict(variables or {})
        if unknown := sorted(set(given) - set(self.agent.variables)):
            known = ", ".join(sorted(self.agent.variables)) or "none defined"
            raise LanguageError(
                f"agent {self.agent.name!r} has no variable {unknown[0]!r}; variables: {known}"
            )
        return DialogueState(
            self.file.start_state, variables={**self.agent.variables, **given}, seed=seed
        )

    def completes(self, text: str, state: DialogueState) -> bool:
        """Whether ``text`` is surely a whole answer here: an example or a yes or no, word for
        word, where no value is being given that might go on; or all the digits there can be."""
        if isinstance(state.waiting, Filling):
            slot = self.file.slots[state.waiting.slot]
            if not isinstance(slot, DigitsSlot):
                return False
            return len("".join(spoken_digits(text))) == slot.max_length
        if isinstance(state.waiting, Confirming | Clarifying):
            ranked = self.answers.rank(text)
            if ranked and ranked[0].score >= CERTAIN:
                return True
        names = [n for n, i in self.file.intents.items() if not i.states or state.name in i.states]
        ranked = self.matcher.rank(text, names)
        return bool(ranked) and ranked[0].score >= CERTAIN

    def expects(self, state: DialogueState) -> Expect:
        """What kind of answer ``state`` waits for."""
        waiting = state.waiting
        if isinstance(waiting, Filling):
            slot = self.file.slots[waiting.slot]
            if isinstance(slot, DigitsSlot):
                return Expect.DIGITS
            spelt = isinstance(slot, TextSlot) and any(
                expectation(ask, self.agent.language) is Expect.SPELLING for ask in slot.ask
            )
            return Expect.SPELLING if spelt else Expect.OPEN
        if isinstance(waiting, Confirming):
            return Expect.YES_NO
        if isinstance(waiting, Clarifying) and len(waiting.intents) == 1:
            return Expect.YES_NO
        return Expect.OPEN

    def suffices(self, text: str, state: DialogueState, now: datetime) -> bool | None:
        """Whether ``text`` gives the value that ``state`` waits for; None where none is, or where
        any text would."""
        waiting = state.waiting
        if not isinstance(waiting, Filling):
            return None
        slot = self.file.slots[waiting.slot]
        return None if isinstance(slot, TextSlot) else parse_slot(slot, text, now) is not None

    def sensitive(self, state: DialogueState) -> bool:
        """Whether ``state`` waits for a slot that is sensitive."""
        waiting = state.waiting
        return isinstance(waiting, Filling) and self.file.slots[waiting.slot].sensitive

    def reply(self, heard: Input, state: DialogueState, now: datetime) -> Reply:
        """Answer ``heard``. ``now`` is the agent's local time, for dates and ``{time}``."""
        return ReplyTurn(self, state, now).answer(heard)
