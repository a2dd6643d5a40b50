"""The embedded dialogue, conversation by conversation."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ringtrue.config.agent_schema import Agent, load_agents, parse_agent
from ringtrue.streaming.errors import LanguageError
from ringtrue.streaming.llm.actions import Hangup, Transfer
from ringtrue.streaming.llm.dialogue import Dialogue
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
from ringtrue.streaming.llm.dialogue_turn import SURE_TO_END
from ringtrue.streaming.turns.expect import Expect

NOW = datetime(2026, 11, 21, 10, 5)
DIALOGUES = {name: Dialogue(agent) for name, agent in load_agents().items()}


@dataclass
class Talk:
    """One call."""

    dialogue: Dialogue
    state: DialogueState = field(init=False)
    replies: list[Reply] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state = self.dialogue.start()
        self.hear(Event.START)

    def hear(self, heard: Input) -> Reply:
        reply = self.dialogue.reply(heard, self.state, NOW)
        self.state = reply.state
        self.replies.append(reply)
        return reply

    def say(self, text: str) -> Reply:
        return self.hear(Spoken(text))

    def key(self, keys: str) -> Reply:
        return self.hear(Keyed(keys))


def call(name: str) -> Talk:
    return Talk(DIALOGUES[name])


def test_the_agent_speaks_first() -> None:
    for name, dialogue in DIALOGUES.items():
        assert call(name).replies[0].text.startswith(dialogue.agent.greeting[0][:12])


def test_reply_is_pure() -> None:
    dialogue = DIALOGUES["reception"]
    state = dialogue.start()
    before = repr(state), dict(state.slots), dict(state.variants)
    first = dialogue.reply(Spoken("where is my order 12345"), state, NOW)
    again = dialogue.reply(Spoken("where is my order 12345"), state, NOW)
    assert first == again
    assert (repr(state), dict(state.slots), dict(state.variants)) == before


def test_transfer_follows_the_words_that_announce_it() -> None:
    reply = call("reception").say("put me through to sales please")
    assert "sales" in reply.text
    assert reply.actions == (Transfer("sales"),)


def test_goodbye_hangs_up() -> None:
    reply = call("reception").say("goodbye")
    assert "oodbye" in reply.text
    assert reply.actions == (Hangup(),)


@pytest.mark.parametrize("name", ["reception", "reminder", "demo"])
def test_a_call_is_not_ended_on_words_that_may_be_others(name: str) -> None:
    doubted = Spoken("goodbye", SURE_TO_END - 0.01)
    talk = call(name)
    asked = talk.hear(doubted)
    assert asked.actions == ()
    assert asked.text == "Did you want to end the call?"
    assert talk.dialogue.expects(talk.state) is Expect.YES_NO
    ended = talk.say("yes")
    assert ended.actions == (Hangup(),)
    assert "oodbye" in ended.text

    talk = call(name)
    talk.hear(doubted)
    assert talk.hear(doubted).actions == (Hangup(),), "said twice, it is meant"

    talk = call(name)
    talk.hear(doubted)
    stays = talk.say("no")
    assert stays.actions == ()
    assert stays.text, "the caller hears that the call goes on"
    assert talk.state.waiting is None

    for sure in (Spoken("goodbye", SURE_TO_END), Spoken("goodbye")):
        assert call(name).hear(sure).actions == (Hangup(),)


def test_a_key_ends_the_call_whatever_was_heard_before() -> None:
    talk = call("demo")
    assert talk.key("#").actions == (Hangup(),)


def test_slot_is_asked_retried_confirmed_corrected_and_answered() -> None:
    talk = call("reception")
    assert "order number" in talk.say("where is my order").text
    assert talk.state.waiting == Filling("order_status", "order_number")
    assert "five to eight digits" in talk.say("one two three").text
    assert "1 2 3 4 5" in talk.say("one two three four five").text
    assert talk.state.waiting == Confirming("order_status")
    assert "5 5 5 1 2" in talk.say("no it is five five five one two").text
    reply = talk.say("yes that's right")
    assert "5 5 5 1 2" in reply.text
    assert reply.text.endswith("?")
    assert talk.state.waiting is None
    assert talk.state.slots["order_number"].value == "55512"


def test_slot_is_taken_from_the_first_utterance() -> None:
    assert "1 2 3 4 5 6" in call("reception").say("the status of order 123456").text


def test_declining_asks_again() -> None:
    talk = call("reception")
    talk.say("the status of order 123456")
    reply = talk.say("no")
    assert "Let's try that again." in reply.text
    assert talk.state.waiting == Filling("order_status", "order_number")
    assert "order_number" not in talk.state.slots


def test_keys_choose_fill_and_confirm() -> None:
    talk = call("reception")
    assert talk.key("4").intent == "order_status"
    assert "1 2 3 4 5" in talk.key("12345#").text
    assert talk.key("1").intent == "order_status"
    assert talk.state.waiting is None
    assert talk.key("2").actions == (Transfer("support"),)


def test_unknown_key_is_a_miss() -> None:
    talk = call("reception")
    assert talk.key("7").intent is None
    assert talk.state.misses == 1


def test_too_many_failed_answers_give_up() -> None:
    talk = call("reception")
    talk.say("where is my order")
    talk.say("banana")
    talk.say("banana")
    assert talk.say("banana").actions == (Transfer("operator"),)


def test_another_wish_is_understood_while_a_slot_is_open() -> None:
    talk = call("reception")
    talk.say("where is my order")
    assert talk.say("put me through to billing").actions == (Transfer("billing"),)


def test_fallbacks_escalate_and_end() -> None:
    talk = call("reception")
    texts = [talk.say("purple monkeys").text for _ in range(3)]
    assert len(set(texts)) == 3
    reply = talk.say("purple monkeys")
    assert reply.actions == (Transfer("operator"),)


def test_understanding_resets_the_fallbacks() -> None:
    talk = call("reception")
    first = talk.say("purple monkeys").text
    talk.say("opening hours")
    assert talk.say("purple monkeys").text == first


def test_two_wishes_are_asked_about() -> None:
    talk = call("reception")
    reply = talk.say("i have a question about billing and sales")
    assert "the sales team" in reply.text
    assert "the billing department" in reply.text
    assert isinstance(talk.state.waiting, Clarifying)
    assert talk.say("billing").actions == (Transfer("billing"),)


@pytest.mark.parametrize(("answer", "index"), [("the first one", 0), ("the second one please", 1)])
def test_clarification_by_position(answer: str, index: int) -> None:
    talk = call("reception")
    talk.say("billing or sales")
    waiting = talk.state.waiting
    assert isinstance(waiting, Clarifying)
    assert talk.say(answer).intent == waiting.intents[index]


def test_a_weak_match_is_checked() -> None:
    talk = call("reception")
    reply = talk.say("speak to a purse on")
    assert reply.text == "Did you want a colleague?"
    assert talk.say("yes").actions == (Transfer("operator"),)


def test_a_weak_match_denied_is_a_miss() -> None:
    talk = call("reception")
    talk.say("speak to a purse on")
    assert talk.say("no").intent is None
    assert talk.state.misses == 1


def test_repeat_says_the_same_again_and_changes_nothing() -> None:
    talk = call("reception")
    hours = talk.say("opening hours").text
    assert talk.say("say that again").text.endswith(hours)
    assert talk.say("what did you say").text.endswith(hours)


def test_repeat_keeps_the_open_question_open() -> None:
    talk = call("reception")
    talk.say("where is my order")
    talk.say("sorry what")
    assert talk.state.waiting == Filling("order_status", "order_number")


def test_unheard_asks_the_open_question_again() -> None:
    talk = call("reception")
    question = talk.say("where is my order").text
    assert talk.hear(Event.UNHEARD).text.endswith(question)


def test_variants_are_never_repeated_in_a_row() -> None:
    talk = call("demo")
    jokes = [talk.say("tell me a joke").text for _ in range(9)]
    assert all(a != b for a, b in zip(jokes, jokes[1:], strict=False))
    answers = [talk.say(text).text for text in ("a joke", "yes", "yes", "another one", "yes")]
    assert all(a != b for a, b in zip(answers, answers[1:], strict=False))


def test_calls_begin_with_different_variants() -> None:
    dialogue = DIALOGUES["demo"]
    greetings = {
        dialogue.reply(Event.START, dialogue.start(seed=seed), NOW).text for seed in range(4)
    }
    assert len(greetings) == 2


def test_states_decide_what_yes_and_no_mean() -> None:
    talk = call("reminder")
    assert talk.say("no").text == "Would you like another day instead?"
    assert "Which day" in talk.say("yes").text
    talk.say("next tuesday")
    assert "Tuesday, the 24th of November at 3:30 PM" in talk.say("half past three").text
    assert talk.say("yes").text.endswith("Is there anything else?")
    assert talk.say("no").actions == (Hangup(),)


def test_confirmation_of_an_intent_without_slots_can_be_declined() -> None:
    talk = call("reminder")
    assert "really want to cancel" in talk.say("cancel the appointment").text
    assert "stays as it is" in talk.say("no").text
    assert "confirmed" in talk.say("yes").text or "see you" in talk.replies[-1].text


def test_opting_out_ends_the_call() -> None:
    for heard in (Spoken("stop calling me"), Keyed("9")):
        reply = call("reminder").hear(heard)
        assert reply.actions == (Hangup(),)
        assert reply.intent == "opt_out"


def test_variables_of_the_call_replace_the_agents() -> None:
    dialogue = DIALOGUES["reminder"]
    state = dialogue.start(variables={"customer": "Ms. Lane"})
    assert "Ms. Lane" in dialogue.reply(Event.START, state, NOW).text
    with pytest.raises(LanguageError, match="'costumer'; variables: appointment, company"):
        dialogue.start(variables={"costumer": "x"})


def test_time_and_date_are_the_agents() -> None:
    talk = call("demo")
    assert "10:05 AM" in talk.say("what time is it").text
    assert "Saturday, the 21st of November" in talk.say("what day is it").text


def test_free_text_slot() -> None:
    talk = call("demo")
    talk.say("do you know my name")
    assert "anna" in talk.say("anna").text
    talk.say("do you know my name")
    assert talk.say("i have to go").actions == (Hangup(),)


def test_what_the_caller_said_is_not_in_the_repr() -> None:
    talk = call("reception")
    talk.say("the status of order 987654")
    assert "9 8 7" not in repr(talk.replies[-1])
    assert "987654" not in repr(talk.state)
    assert "987654" not in repr(Spoken("987654")) + repr(Keyed("987654"))


def test_an_agent_without_dialogue_is_refused() -> None:
    with pytest.raises(LanguageError, match="'bare' has no dialogue"):
        Dialogue(Agent(name="bare", title="Bare", greeting=("Hello.",)))


def test_choice_slot_and_follow_up() -> None:
    agent = parse_agent(
        yaml.safe_dump(
            {
                "name": "shop",
                "title": "Shop",
                "greeting": "Hello.",
                "dialogue": {
                    "slots": {
                        "size": {
                            "type": "choice",
                            "ask": "Which size?",
                            "options": {"small": ["little"], "large": ["big"]},
                        }
                    },
                    "intents": {
                        "order": {
                            "examples": ["a pizza", "a {size} pizza"],
                            "slots": ["size"],
                            "answers": "One {size} pizza.",
                        }
                    },
                    "fallbacks": "What?",
                    "give_up": {"say": "Bye."},
                },
            }
        ),
        "x",
    )
    talk = Talk(Dialogue(agent))
    assert talk.say("a pizza please").text == "Which size?"
    assert talk.say("uh the big one").text == "One large pizza."
    assert talk.say("a little pizza").text == "One small pizza."


inputs = st.one_of(
    st.sampled_from(
        [
            "yes",
            "no",
            "sales",
            "order",
            "12345",
            "one two three four five",
            "billing or sales",
            "say that again",
            "purple monkeys",
            "next tuesday",
            "half past three",
            "first",
            "",
        ]
    ).map(Spoken),
    st.text(max_size=40).map(Spoken),
    st.text("0123456789*#", max_size=9).map(Keyed),
    st.sampled_from(Event),
)


@given(st.sampled_from(sorted(DIALOGUES)), st.lists(inputs, max_size=12))
@settings(max_examples=200, deadline=None)
def test_any_conversation_is_answered(name: str, heard: list[Input]) -> None:
    talk = call(name)
    for item in heard:
        reply = talk.hear(item)
        assert reply.text.strip()
        assert "{" not in reply.text
        for action in reply.actions:
            if isinstance(action, Transfer):
                assert action.target in talk.dialogue.agent.transfers


def test_only_whole_answers_are_sure_to_be_complete() -> None:
    talk = call("reception")
    dialogue = talk.dialogue
    assert dialogue.completes("what are your opening hours", talk.state)
    assert not dialogue.completes("what are", talk.state)
    assert not dialogue.completes("", talk.state)
    talk.say("where is my order")
    assert not dialogue.completes("one two three four five", talk.state)
    talk.say("one two three four five")
    assert dialogue.completes("yes", talk.state)


def test_a_stray_no_in_a_longer_sentence_does_not_end_the_call() -> None:
    talk = call("reception")
    reply = talk.say("what are your opening no")
    assert reply.actions == ()
    assert "opening hours" in reply.text
    assert call("reception").say("yes that's right").actions == ()
    assert call("reception").say("no").intent == "nothing_more"
    assert call("reception").say("that's it").intent == "nothing_more"
