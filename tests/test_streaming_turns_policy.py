"""How long a pause may be: by the model, by what was asked and by who speaks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ringtrue.config.agent_schema import load_agents
from ringtrue.streaming.llm.dialogue import Dialogue
from ringtrue.streaming.llm.dialogue_state import Clarifying, Confirming, Filling
from ringtrue.streaming.llm.embedded import local_now
from ringtrue.streaming.turns.expect import Expect, expectation
from ringtrue.streaming.turns.policy import LEAST_FACTOR, MOST_FACTOR, Pauses, TurnPolicy

POLICY = TurnPolicy()


def test_yes_or_no_waits_least() -> None:
    assert POLICY.wait(0.0, Expect.YES_NO) == POLICY.yes_no_seconds
    assert POLICY.wait(0.9, Expect.YES_NO) == 0.0
    assert POLICY.wait(0.4, Expect.YES_NO) == pytest.approx(POLICY.wait(0.4))


@pytest.mark.parametrize("expect", [Expect.DIGITS, Expect.SPELLING])
def test_groups_are_waited_for_until_there_are_enough(expect: Expect) -> None:
    least = POLICY.digits_seconds if expect is Expect.DIGITS else POLICY.spelling_seconds
    for unsure in (False, None):
        assert POLICY.wait(0.99, expect, suffices=unsure) == least
        assert POLICY.wait(0.99, expect, suffices=unsure, factor=1.5) == 1.5 * least
    assert POLICY.wait(0.99, expect, suffices=True) == 0.0
    assert POLICY.wait(0.0, expect, suffices=True) == POLICY.incomplete_seconds


def test_digits_that_are_enough_are_waited_after_for_less_where_the_model_is_in_doubt() -> None:
    def wait(probability: float, factor: float = 1.0) -> float:
        return POLICY.wait(probability, Expect.DIGITS, suffices=True, factor=factor)

    assert wait(POLICY.doubtful) == wait(0.2) == POLICY.enough_digits_seconds
    assert wait(0.2, factor=1.5) == pytest.approx(1.5 * POLICY.enough_digits_seconds)
    assert wait(0.45) == pytest.approx(POLICY.wait(0.45))  # less than that anyway
    assert wait(POLICY.doubtful - 0.01) > 0.9
    assert POLICY.wait(0.2, Expect.SPELLING, suffices=True) == pytest.approx(POLICY.wait(0.2))


def test_callers_who_pause_long_are_given_time_within_bounds() -> None:
    pauses = Pauses()
    assert pauses.factor == 1.0
    for _ in range(20):
        pauses.observe(1.5)
    assert pauses.factor == MOST_FACTOR
    for _ in range(20):
        pauses.observe(0.05)
    assert pauses.factor == LEAST_FACTOR
    pauses.observe(60.0)
    pauses.observe(-1.0)
    assert pauses.factor == LEAST_FACTOR
    assert pauses.seen == 40


@pytest.mark.parametrize(
    ("text", "language", "expect"),
    [
        ("How can I help?", "en", Expect.OPEN),
        ("Thank you. Is that right?", "en", Expect.YES_NO),
        ("I heard 1 2 3. Is that correct?", "en", Expect.YES_NO),
        ("Would you like tea or coffee?", "en", Expect.OPEN),
        ("What is your order number?", "en", Expect.DIGITS),
        ("Please give me the number. You can say it or key it in.", "en", Expect.DIGITS),
        ("Could you spell your last name?", "en", Expect.SPELLING),
        ("What is your e-mail address?", "en", Expect.SPELLING),
        ("We close at six.", "en", Expect.OPEN),
        ("The number is 5 5 5. Anything else?", "en", Expect.OPEN),
        ("Wie ist Ihre Kundennummer?", "de", Expect.DIGITS),
        ("Können Sie das bitte buchstabieren?", "de-DE", Expect.SPELLING),
        ("Ist das richtig?", "de", Expect.YES_NO),
        ("Quel est votre numéro de commande ?", "fr", Expect.DIGITS),
        ("Voulez-vous continuer ?", "fr", Expect.YES_NO),
        ("¿Es correcto?", "es", Expect.YES_NO),
        ("Qual è il suo numero?", "it", Expect.DIGITS),
        ("Is that right?", "ja", Expect.OPEN),
        ("", "en", Expect.OPEN),
    ],
)
def test_what_words_ask_for(text: str, language: str, expect: Expect) -> None:
    assert expectation(text, language) is expect


def test_a_dialogue_knows_what_it_waits_for() -> None:
    dialogue = Dialogue(load_agents()["reception"])
    start = dialogue.start()
    assert dialogue.expects(start) is Expect.OPEN
    assert dialogue.suffices("anything", start, local_now()) is None

    def waiting(what: Filling | Confirming | Clarifying) -> tuple[Expect, bool | None]:
        state = replace(start, waiting=what)
        return dialogue.expects(state), dialogue.suffices("one two three", state, local_now())

    assert waiting(Filling("order_status", "order_number")) == (Expect.DIGITS, False)
    assert waiting(Confirming("order_status")) == (Expect.YES_NO, None)
    assert waiting(Clarifying(("hours",))) == (Expect.YES_NO, None)
    assert waiting(Clarifying(("hours", "sales"))) == (Expect.OPEN, None)


def test_digits_suffice_from_the_least_and_are_surely_all_at_the_most() -> None:
    dialogue = Dialogue(load_agents()["reception"])
    state = replace(dialogue.start(), waiting=Filling("order_status", "order_number"))
    assert dialogue.suffices("one two three four five", state, local_now()) is True
    assert not dialogue.completes("one two three four five", state)
    assert dialogue.completes("one two three four five six seven eight", state)
