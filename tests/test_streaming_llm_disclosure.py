"""What a call's caller was told of the agent, as far as it was heard."""

from __future__ import annotations

import pytest

from ringtrue.config.agent_disclosure import DisclosureFile, texts_of
from ringtrue.streaming.llm.disclosure import MAX_ATTEMPTS, Asked, Disclosure, Told

OPENING = "Hello, this is the automated assistant of Acme, an AI."
AGAIN = "This is the automated assistant of Acme, an AI."


def disclosure(**file: object) -> Disclosure:
    return Disclosure(texts_of(DisclosureFile.model_validate(file), "en", "Acme"))


def hear(one: Disclosure, text: str) -> None:
    for word in text.split():
        one.heard(word)


def test_it_is_said_once_where_it_is_heard() -> None:
    one = disclosure()
    assert one.begins() == OPENING
    assert one.begins() == ""  # it is being said
    hear(one, OPENING + " How can")
    assert one.told is Told.FULLY
    one.interrupted()
    assert one.begins() == ""
    assert one.attempts == 1


def test_talked_over_it_is_said_again() -> None:
    one = disclosure()
    one.begins()
    one.interrupted()
    hear(one, "Hello, this is the")  # playout tells of it once it has been cut
    assert one.told is Told.PARTLY
    assert one.begins() == AGAIN
    one.interrupted()
    assert one.begins() == AGAIN
    hear(one, AGAIN)
    assert one.told is Told.FULLY
    assert one.attempts == 3


def test_two_halves_are_no_whole() -> None:
    one = disclosure()
    one.begins()
    hear(one, "Hello, this is the automated")
    one.interrupted()
    one.begins()
    one.interrupted()
    hear(one, "assistant of Acme, an AI.")
    assert one.told is Told.PARTLY


def test_a_word_that_was_not_heard_counts_even_where_the_rest_was() -> None:
    one = disclosure()
    one.begins()
    hear(one, OPENING.replace("automated ", "") + " How can I help?")
    one.stopped()
    assert one.told is Told.PARTLY
    assert one.begins() == AGAIN


@pytest.mark.parametrize(
    "heard",
    [
        ["Hello, this is the automated assistant of Acme, an A I."],
        ["HELLO", ",", "this is the automated", "assistant of acme an ai"],
    ],
)
def test_how_a_service_divides_the_words_makes_no_difference(heard: list[str]) -> None:
    one = disclosure()
    one.begins()
    for text in ("the end of something before. Hello", *heard):
        one.heard(text)
    assert one.told is Told.FULLY


def test_a_caller_who_never_lets_it_end_is_spared_it_at_last() -> None:
    one = disclosure()
    for _ in range(MAX_ATTEMPTS):
        assert one.begins()
        one.interrupted()
    assert one.begins() == ""
    assert one.told is Told.NONE


def test_the_recording_notice_belongs_to_it() -> None:
    one = disclosure(recorded=True)
    assert one.begins() == f"{OPENING} This call is recorded."
    hear(one, OPENING)
    assert one.told is Told.PARTLY
    hear(one, "This call is recorded.")
    assert one.told is Told.FULLY


def test_a_declared_greeting_is_what_has_to_be_heard() -> None:
    one = disclosure(in_greeting=True, recorded=True)
    one.greets()
    assert one.begins() == ""
    one.said("I'm a <emphasis>robot</emphasis>. ")
    one.heard("I'm")  # before all of it is known
    one.said("Hello.")
    assert one.ends() == "This call is recorded."
    hear(one, "a robot. Hello.")
    assert one.told is Told.PARTLY
    hear(one, "This call is recorded.")
    assert one.told is Told.FULLY


def test_without_a_greeting_a_declared_one_discloses_nothing() -> None:
    one = disclosure(in_greeting=True)
    assert one.begins() == OPENING


def test_a_declared_greeting_that_was_talked_over_is_not_repeated_whole() -> None:
    one = disclosure(in_greeting=True)
    one.greets()
    one.begins()
    one.said("I'm a robot of Acme. Hello.")
    one.ends()
    hear(one, "I'm a robot")
    one.interrupted()
    assert one.begins() == AGAIN


def test_the_answer_is_the_response_or_stands_before_it() -> None:
    one = disclosure()
    one.begins()
    hear(one, "Hello,")
    one.interrupted()
    answer = one.answer()
    assert answer == one.texts.answer
    assert one.begins() == ""  # the response is the answer
    hear(one, answer)
    assert one.told is Told.FULLY
    one.interrupted()
    one.owe_answer()
    assert one.begins() == answer
    assert one.begins() == ""
    assert one.questions == 2


def test_an_answer_that_was_withdrawn_is_forgotten() -> None:
    one = disclosure()
    one.begins()
    one.interrupted()
    one.answer()
    one.withdrawn()
    assert one.begins() == AGAIN


def test_an_interruption_forgets_what_was_owed() -> None:
    one = disclosure()
    one.begins()
    hear(one, OPENING)
    one.owe_answer()
    one.interrupted()
    assert one.begins() == ""


def test_the_question_is_known_with_what_else_was_said() -> None:
    one = disclosure(questions=["is anybody really there"])
    assert one.asked(["hi, um, are you a robot or a human"]) is Asked.ALONE
    more = "are you a robot and when do you open on Monday morning"
    assert one.asked([more]) is Asked.WITH_MORE
    assert one.asked(["are you", "a robot"]) is Asked.ALONE
    assert one.asked(["is anybody really there"]) is Asked.ALONE
    assert one.asked(["anybody there"]) is Asked.NOTHING
    assert one.asked([]) is Asked.NOTHING
