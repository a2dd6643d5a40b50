"""Claims to be a person, caught in a stream however it is cut."""

from __future__ import annotations

import random

import pytest
from phrasebook import sentences

from ringtrue.config.agent_disclosure import LOCALES
from ringtrue.streaming.llm.claims import MAX_HELD, ClaimFilter

CLAIMED = {
    "en": """
        I'm human.|Yes, I am a real person.|Of course, I'm a real human being!|I am not a robot.
        I'm not an AI, I promise.|No, I'm a person.|You are speaking with a real person.
        You're not talking to a machine.|This is not a robot.|I'm definitely not a robot.
        As a human, I understand.|I am <emphasis level="strong">human</emphasis>.|I am **human**.
        I’m a real live person named Bob.|I am h\u200buman, trust me.|I AM A HUMAN.
        You aren't talking to a bot, don't worry.|I am flesh and blood.""",
    "de": """
        Ich bin ein Mensch.|Ja, ich bin eine echte Person.|Ich bin kein Roboter.
        Natürlich bin ich ein Mensch.|Sie sprechen mit einem echten Menschen.
        Sie sprechen nicht mit einer Maschine.|Hier spricht ein Mensch.|Ich bin keine KI.
        I am a real person.""",
    "fr": """
        Je suis une personne.|Oui, je suis un être humain.|Je ne suis pas un robot.
        Vous parlez à une vraie personne.|Vous ne parlez pas à un robot.""",
    "es": """
        Soy una persona.|No soy un robot.|Está hablando con una persona.|Sí, soy humano.
        Usted habla con un ser humano.""",
    "it": """
        Sono una persona.|Non sono un robot.|Sta parlando con una persona.
        Certo, sono un essere umano.""",
}
TRUE = {
    "en": """
        I'm not a human.|I am an AI, not a person.|I'm a human resources assistant.|Are you human?
        I'm a robot.|You are talking to an AI.|I can put you through to a person.
        You will be speaking to a person from billing.|I'm happy to help with 5 < 6 or <b>that</b>.
        You're not speaking with a person but with an AI.|I am, I am sure, not at liberty to say.
        That's 3.5 percent: I'm sure.  Two  spaces, and a trailing one. """,
    "de": """
        Ich bin kein Mensch.|Ich bin eine KI.|Ich bin nicht sicher.|Sie sprechen mit einer KI.
        Ich verbinde Sie mit einem Menschen.""",
    "fr": """
        Je ne suis pas une personne.|Je suis une intelligence artificielle.|Vous parlez à un robot.
        """,
    "es": """
        No soy una persona.|Soy un robot.|No soy humano.|No está hablando con una persona.""",
    "it": """
        Non sono una persona.|Sono un robot.|Sta parlando con una macchina.""",
}
TRUTH = "TRUTH."


def cut(text: str, seed: int) -> list[str]:
    chance, pieces = random.Random(seed), list[str]()
    while text:
        size = chance.choice((1, 2, 3, 5, 9))
        pieces.append(text[:size])
        text = text[size:]
    return pieces


def passed(language: str, pieces: list[str]) -> str:
    one = ClaimFilter(language, TRUTH)
    return "".join([*map(one.feed, pieces), one.finish()])


@pytest.mark.parametrize(("language", "text"), sentences(CLAIMED))
def test_a_claim_is_replaced_with_the_rest_of_its_sentence(language: str, text: str) -> None:
    for seed in range(6):
        assert passed(language, cut(f"{text} We open at nine.", seed)) == "TRUTH. We open at nine."
    assert passed(language, [text]).strip() == TRUTH
    assert passed(language, ["Well then. ", text]).strip() == "Well then. TRUTH."


@pytest.mark.parametrize(("language", "text"), sentences(TRUE))
def test_the_truth_passes_unchanged(language: str, text: str) -> None:
    for seed in range(6):
        assert passed(language, cut(text, seed)) == text


def test_the_products_own_texts_pass() -> None:
    for code, own in LOCALES.items():
        for text in (own.opening, own.again, own.answer, own.truth, own.recording):
            assert passed(code, cut(text, 1)) == text


def test_no_means_no_only_in_its_own_clause() -> None:
    assert passed("es", ["No, soy una persona."]).strip() == "No, TRUTH."
    assert passed("it", ["No, sono una persona vera."]).strip() == "No, TRUTH."


def test_words_go_on_at_once_unless_they_may_be_a_claim() -> None:
    one = ClaimFilter("en", TRUTH)
    assert one.feed("We open at nine ") == "We open at nine "
    assert one.feed("and I") == "and "
    assert one.feed(" am") == ""
    assert one.feed(" glad ") == "I am glad "
    assert one.feed("a <b") == "a "
    assert one.feed("old>word</bold> ") == "<bold>word</bold> "
    assert one.finish() == ""


def test_the_truth_is_said_once_a_response() -> None:
    one = ClaimFilter("en", TRUTH)
    text = "I am human. Really, I'm not a robot. So: what now?"
    assert one.feed(text) + one.finish() == "TRUTH. Really, So: what now?"
    assert one.caught == 2
    assert (one.feed("I am human.") + one.finish()).strip() == TRUTH


def test_what_was_interrupted_is_forgotten() -> None:
    one = ClaimFilter("en", TRUTH)
    one.feed("I am a ")
    one.reset()
    assert one.feed("person") + one.finish() == "person"


def test_nothing_waits_for_ever() -> None:
    one = ClaimFilter("en", TRUTH)
    spaces = " " * (2 * MAX_HELD)
    assert len(one.feed(f"I am{spaces}")) >= MAX_HELD
    assert "<" in one.feed("<a" + "b" * 500)
