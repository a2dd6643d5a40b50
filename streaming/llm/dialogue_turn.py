"""One reply of the embedded dialogue in the making: from what was heard to what is said and done.

The situations (nothing said yet, keys, a slot being filled, something to confirm or to clear up, an
open question) each have a method; they end in one of the few things an agent can do about them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final, Protocol

from ringtrue.config.agent_dialogue import PLACEHOLDER, DialogueFile, TextSlot, TransferAction
from ringtrue.config.agent_schema import Action, Agent
from ringtrue.streaming.llm.actions import CallAction, Hangup, Transfer
from ringtrue.streaming.llm.dialogue_state import (
    Clarifying,
    Confirming,
    DialogueState,
    Event,
    Filling,
    Input,
    Keyed,
    Reply,
    Spoken,
)
from ringtrue.streaming.llm.matching import Match, Matcher, tokens
from ringtrue.streaming.llm.slots import parse_keys, parse_slot, say_date, say_time

CERTAIN: Final = 0.9
"""Score from which another intent is taken although the dialogue waits for an answer."""

SURE_TO_END: Final = 0.8
"""The recognizer's confidence from which a call is ended on what it heard, unasked."""

EITHER: Final = 0.4
"""Score that is enough when the caller was given two intents to choose from."""

YES: Final = "yes"
NO: Final = "no"


class Compiled(Protocol):
    """What a dialogue's file was made into."""

    @property
    def agent(self) -> Agent:
        """Whose dialogue it is."""
        ...

    @property
    def file(self) -> DialogueFile:
        """As it was written."""
        ...

    @property
    def matcher(self) -> Matcher:
        """Finds intents by their examples."""
        ...

    @property
    def answers(self) -> Matcher:
        """Finds :data:`YES` and :data:`NO`."""
        ...

    @property
    def titles(self) -> Matcher:
        """Finds intents that the caller was offered by their titles."""
        ...


class ReplyTurn:
    """One reply in the making; used once."""

    def __init__(self, dialogue: Compiled, state: DialogueState, now: datetime) -> None:
        """Begin in ``state``; ``now`` is the agent's local time."""
        self._dialogue = dialogue
        self._file = dialogue.file
        self._state = state
        self._now = now
        self._slots = dict(state.slots)
        self._variants = dict(state.variants)
        self._sure = True

    def answer(self, heard: Input) -> Reply:
        """What is said and done about ``heard``."""
        if heard is Event.START:
            return self._start()
        if heard is Event.UNHEARD:
            return self._miss(self._file.unheard)
        if isinstance(heard, Keyed):
            return self._keyed(heard.keys)
        assert isinstance(heard, Spoken)
        self._sure = heard.confidence is None or heard.confidence >= SURE_TO_END
        waiting = self._state.waiting
        if isinstance(waiting, Filling):
            return self._filling(heard.text, waiting)
        if isinstance(waiting, Confirming):
            return self._confirming(heard.text, waiting)
        if isinstance(waiting, Clarifying):
            return self._clarifying(heard.text, waiting)
        return self._open(heard.text)

    # What the caller may have meant.

    def _open(self, text: str) -> Reply:
        ranked = self._dialogue.matcher.rank(text, self._available())
        if not ranked or ranked[0].score < self._file.maybe:
            return self._fallback()
        rivals = self._rivals(ranked)
        if rivals:
            return self._clarify(rivals)
        if ranked[0].score < self._file.accept:
            if self._file.intents[ranked[0].name].title is None:
                return self._fallback()
            return self._clarify((ranked[0].name,))
        return self._begin(ranked[0].name, text)

    def _rivals(self, ranked: Sequence[Match]) -> tuple[str, ...]:
        """The first two if they are too close to tell apart and both can be asked about."""
        if len(ranked) < 2 or ranked[0].score - ranked[1].score >= self._file.margin:
            return ()
        first, second = ranked[0].name, ranked[1].name
        intents = self._file.intents
        # What belongs to this place in the conversation is meant before what is always possible.
        if bool(intents[first].states) != bool(intents[second].states):
            return ()
        if intents[first].title is None or intents[second].title is None:
            return ()
        return first, second

    def _available(self) -> list[str]:
        here = self._state.name
        names = [n for n, i in self._file.intents.items() if not i.states or here in i.states]
        return sorted(names, key=lambda name: not self._file.intents[name].states)

    def _other_intent(self, text: str) -> str | None:
        """An intent so clearly meant that it comes before the answer being waited for."""
        ranked = self._dialogue.matcher.rank(text, self._available())
        return ranked[0].name if ranked and ranked[0].score >= CERTAIN else None

    def _yes_or_no(self, text: str) -> str | None:
        ranked = self._dialogue.answers.rank(text)
        if not ranked or ranked[0].score < self._file.accept:
            return None
        if len(ranked) > 1 and ranked[0].score == ranked[1].score:
            first = tokens(text)[0]
            return NO if first in ("no", "nope") else None
        return ranked[0].name

    # The situations.

    def _start(self) -> Reply:
        greeting = self._variant(self._dialogue.agent.greeting)
        return self._done(greeting, question=self._prompt(self._state.name))

    def _keyed(self, keys: str) -> Reply:
        waiting = self._state.waiting
        pressed = keys.rstrip("#") or keys
        if isinstance(waiting, Filling):
            value = parse_keys(self._file.slots[waiting.slot], keys)
            if value is not None:
                self._slots[waiting.slot] = value
                return self._advance(waiting.intent)
        if isinstance(waiting, Confirming) and pressed in ("1", "2"):
            return self._confirmed(waiting, yes=pressed == "1")
        if isinstance(waiting, Clarifying) and pressed in ("1", "2"):
            chosen = int(pressed) - 1
            if chosen < len(waiting.intents):
                return self._begin(waiting.intents[chosen], "")
            return self._fallback()
        here = self._file.states.get(self._state.name or "")
        intent = (here.dtmf.get(pressed) if here else None) or self._file.dtmf.get(pressed)
        if intent is not None:
            return self._begin(intent, "")
        if isinstance(waiting, Filling):
            return self._retry(waiting)
        return self._fallback()

    def _filling(self, text: str, waiting: Filling) -> Reply:
        slot = self._file.slots[waiting.slot]
        other = self._other_intent(text)
        value = parse_slot(slot, text, self._now)
        if other is not None and other != waiting.intent:
            leaves = value is None or isinstance(slot, TextSlot)
            if leaves:
                return self._begin(other, text)
        if value is None:
            return self._retry(waiting)
        self._slots[waiting.slot] = value
        return self._advance(waiting.intent)

    def _confirming(self, text: str, waiting: Confirming) -> Reply:
        verdict = self._yes_or_no(text)
        if verdict == NO and self._corrected(text, waiting.intent):
            return self._advance(waiting.intent)
        if verdict is not None:
            return self._confirmed(waiting, yes=verdict == YES)
        if self._corrected(text, waiting.intent):
            return self._advance(waiting.intent)
        other = self._other_intent(text)
        if other == waiting.intent and not self._file.intents[other].confirm:
            return self._fulfil(other)  # said twice, it is meant
        if other is not None:
            return self._begin(other, text)
        if waiting.failed + 1 >= len(self._file.fallbacks) + 1:
            return self._give_up()
        again = replace(waiting, failed=waiting.failed + 1)
        return self._miss(self._file.unheard, waiting=again)

    def _corrected(self, text: str, name: str) -> bool:
        """Take a new value for the intent's only slot out of ``no, it's ...``."""
        slots = self._file.intents[name].slots
        if len(slots) != 1 or isinstance(self._file.slots[slots[0]], TextSlot):
            return False
        value = parse_slot(self._file.slots[slots[0]], text, self._now)
        if value is None:
            return False
        self._slots[slots[0]] = value
        return True

    def _confirmed(self, waiting: Confirming, *, yes: bool) -> Reply:
        intent = self._file.intents[waiting.intent]
        if yes:
            return self._fulfil(waiting.intent)
        declined = self._variant(intent.declined)
        for slot in intent.slots:
            self._slots.pop(slot, None)
        if intent.slots:
            return self._ask(Filling(waiting.intent, intent.slots[0]), before=declined)
        question = self._variant(self._file.follow_up)
        question = question or self._prompt(self._state.name)
        said = _joined(declined, question) or self._variant(self._file.fallbacks[:1])
        return self._done(said, question=question, intent=waiting.intent)

    def _clarifying(self, text: str, waiting: Clarifying) -> Reply:
        if len(waiting.intents) == 1:
            verdict = self._yes_or_no(text)
            if verdict == YES:
                return self._begin(waiting.intents[0], "")
            if verdict == NO and len(tokens(text)) <= 3:
                return self._fallback()
            return self._open_after(text)
        words = tokens(text)
        for position, names in ((1, ("second", "latter", "two")), (0, ("first", "former", "one"))):
            if any(name in words for name in names):
                return self._begin(waiting.intents[position], "")
        ranked = self._dialogue.titles.rank(text, waiting.intents)
        apart = len(ranked) < 2 or ranked[0].score - ranked[1].score >= self._file.margin
        if ranked and apart and ranked[0].score >= EITHER:
            return self._begin(ranked[0].name, text)
        return self._open_after(text)

    def _open_after(self, text: str) -> Reply:
        """As if nothing was asked, but without asking which was meant a second time."""
        ranked = self._dialogue.matcher.rank(text, self._available())
        if ranked and ranked[0].score >= self._file.accept:
            return self._begin(ranked[0].name, text)
        return self._fallback()

    # What the agent does about it.

    def _begin(self, name: str, text: str) -> Reply:
        intent = self._file.intents[name]
        if intent.repeat:
            said = self._state.said
            return self._done(
                _joined(self._variant(intent.answers), said),
                said=said,
                question=self._state.question,
                waiting=self._state.waiting,
                intent=name,
            )
        for slot in intent.slots:
            self._slots.pop(slot, None)
            kind = self._file.slots[slot]
            value = None if isinstance(kind, TextSlot) else parse_slot(kind, text, self._now)
            if value is not None:
                self._slots[slot] = value
        return self._advance(name)

    def _advance(self, name: str) -> Reply:
        """Ask for what is missing, then for confirmation, then answer."""
        intent = self._file.intents[name]
        for slot in intent.slots:
            if slot not in self._slots:
                return self._ask(Filling(name, slot))
        if intent.confirm:
            question = self._variant(intent.confirm)
            return self._done(question, question=question, waiting=Confirming(name), intent=name)
        if intent.action == "hangup" and not self._sure:
            question = self._variant(self._file.ending)
            return self._done(question, question=question, waiting=Confirming(name), intent=name)
        return self._fulfil(name)

    def _fulfil(self, name: str) -> Reply:
        intent = self._file.intents[name]
        place = intent.next or self._state.name
        answer = self._variant(intent.answers)
        question = "" if intent.action is not None else self._follow_up(name)
        if not question and intent.next is not None and intent.action is None:
            question = self._prompt(intent.next)
        actions = () if intent.action is None else (self._action(intent.action),)
        return self._done(
            _joined(answer, question),
            question=question or self._prompt(place),
            name=place,
            actions=actions,
            intent=name,
        )

    def _ask(self, waiting: Filling, before: str = "") -> Reply:
        slot = self._file.slots[waiting.slot]
        question = self._variant(slot.ask)
        return self._done(
            _joined(before, question), question=question, waiting=waiting, intent=waiting.intent
        )

    def _retry(self, waiting: Filling) -> Reply:
        slot = self._file.slots[waiting.slot]
        failed = waiting.failed + 1
        if failed >= slot.attempts:
            return self._give_up()
        again = replace(waiting, failed=failed)
        if slot.retry:
            question = self._filled(slot.retry[min(failed, len(slot.retry)) - 1])
        else:
            sorry = self._variant(self._file.unheard)
            question = _joined(sorry, self._variant(slot.ask))
        return self._done(question, said=self._state.said, question=question, waiting=again)

    def _clarify(self, names: tuple[str, ...]) -> Reply:
        titles = [self._file.intents[name].title or "" for name in names]
        if len(names) == 1:
            question = self._file.check.replace("{first}", titles[0])
        else:
            question = self._file.clarify.replace("{first}", titles[0])
            question = question.replace("{second}", titles[1])
        return self._done(question, question=question, waiting=Clarifying(names))

    def _fallback(self) -> Reply:
        here = self._file.states.get(self._state.name or "")
        texts = here.fallbacks if here and here.fallbacks else self._file.fallbacks
        if self._state.misses >= len(texts):
            return self._give_up()
        text = self._filled(texts[self._state.misses])
        return self._done(
            text,
            said=self._state.said,
            question=self._prompt(self._state.name) or self._state.question,
            misses=self._state.misses + 1,
        )

    def _miss(
        self,
        texts: tuple[str, ...],
        *,
        waiting: Filling | Confirming | Clarifying | None = None,
    ) -> Reply:
        """Nothing came of it: say so, ask again, stay where we are."""
        question = self._state.question
        return self._done(
            _joined(self._variant(texts), question),
            said=self._state.said,
            question=question,
            waiting=waiting or self._state.waiting,
            misses=self._state.misses,
        )

    def _give_up(self) -> Reply:
        end = self._file.give_up
        text = self._variant(end.say)
        return self._done(text, actions=(self._action(end.action),))

    def _action(self, action: Action) -> CallAction:
        if not isinstance(action, TransferAction):
            return Hangup()
        return Transfer(action.transfer, self._filled(action.briefing or ""))

    def _follow_up(self, name: str) -> str:
        intent = self._file.intents[name]
        if intent.follow_up is not None:
            return self._variant(intent.follow_up)
        return self._variant(self._file.follow_up)

    def _prompt(self, name: str | None) -> str:
        state = self._file.states.get(name or "")
        return self._variant(state.prompt) if state else ""

    def _variant(self, texts: tuple[str, ...]) -> str:
        if not texts:
            return ""
        last = self._variants.get(texts, self._state.seed % len(texts) - 1)
        self._variants[texts] = (last + 1) % len(texts)
        return self._filled(texts[self._variants[texts]])

    def _filled(self, text: str) -> str:
        values = {
            "time": say_time(self._now.hour, self._now.minute),
            "date": say_date(self._now.date()),
            "weekday": say_date(self._now.date()).partition(",")[0],
            **self._state.variables,
            **{name: value.spoken for name, value in self._slots.items()},
        }
        return PLACEHOLDER.sub(lambda match: values.get(match.group(1), ""), text)

    def _done(
        self,
        text: str,
        *,
        said: str | None = None,
        question: str = "",
        name: str | None = None,
        waiting: Filling | Confirming | Clarifying | None = None,
        misses: int = 0,
        actions: tuple[CallAction, ...] = (),
        intent: str | None = None,
    ) -> Reply:
        state = replace(
            self._state,
            name=name or self._state.name,
            waiting=waiting,
            misses=misses,
            slots=self._slots,
            variants=self._variants,
            said=text if said is None else said,
            question=question,
        )
        return Reply(text, state, actions, intent)


def _joined(*parts: str) -> str:
    return " ".join(part for part in parts if part)
