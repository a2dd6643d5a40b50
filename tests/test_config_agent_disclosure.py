"""What an agent's file may say of itself, and what it may not leave out."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from ringtrue.config.agent_disclosure import LOCALES, folded, words_of
from ringtrue.config.agent_schema import Agent, AgentError, parse_agent


def agent(**more: Any) -> Agent:
    data = {"name": "small", "title": "Example", "greeting": "How can I help?", **more}
    return parse_agent(yaml.safe_dump(data), "small.yaml")


def test_every_language_tells_that_an_ai_speaks_and_for_whom() -> None:
    assert sorted(LOCALES) == ["de", "en", "es", "fr", "it"]
    for code, own in LOCALES.items():
        machine = {folded(word) for word in own.machine}
        for text in (own.opening, own.again, own.answer):
            assert "{organisation}" in text, code
            assert machine & set(words_of(text)), text
        said = agent(language=code, organisation="Example Ltd").disclosed()
        assert "Example Ltd" in said.opening
        assert "{" not in said.opening + said.again + said.answer + said.truth


def test_the_opening_precedes_the_greeting() -> None:
    assert agent(organisation="Acme").openings() == (
        "Hello, this is the automated assistant of Acme, an AI. How can I help?",
    )
    assert "of Example, an AI" in agent().openings()[0]  # its title, where nothing else is said
    recorded = agent(disclosure={"recorded": True}).openings()[0]
    assert recorded.endswith("an AI. This call is recorded. How can I help?")


def test_a_greeting_that_discloses_is_declared() -> None:
    own = "You have reached Acme's robot."
    declared = agent(greeting=own, disclosure={"in_greeting": True, "recorded": True})
    assert declared.openings() == (f"{own} This call is recorded.",)
    assert agent(greeting=own).openings()[0].startswith("Hello, this is the automated assistant")


def test_the_operators_own_wording() -> None:
    texts = agent(
        language="de-AT",
        organisation="{company}",
        variables={"company": "Acme"},
        disclosure={"text": "Servus, hier spricht die KI von {organisation}."},
    ).disclosed()
    assert texts.opening == texts.again == "Servus, hier spricht die KI von {company}."
    assert texts.language == "de"
    assert texts.answer == LOCALES["de"].answer.replace("{organisation}", "{company}")


def test_callers_can_be_heard_to_ask() -> None:
    words = agent(disclosure={"questions": ["is anybody really there"]}).vocabulary()
    assert "are you a robot" in words
    assert "is anybody really there" in words


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"disclosure": {"in_greeting": True}}, "greeting: tells nobody that an AI speaks: say"),
        ({"disclosure": {"text": "Hello, this is Acme."}}, "disclosure.text: tells nobody"),
        ({"disclosure": {"answer": "I am Anna."}}, "disclosure.answer: tells nobody"),
        ({"language": "pl"}, "disclosure.text: must be given for language 'pl'; built in: de, en"),
        ({"disclosure": {"enabled": False}}, "unknown key; allowed: in_greeting, text, answer"),
        ({"disclosure": {"text": "An AI of {nobody}."}}, "disclosure.text: uses {nobody}"),
        ({"organisation": "{nobody}"}, "organisation: uses {nobody}"),
        ({"disclosure": {"questions": ["<b>are</b> you"]}}, "is speech markup"),
    ],
)
def test_what_is_wrong_is_named(more: dict[str, Any], problem: str) -> None:
    with pytest.raises(AgentError) as caught:
        agent(**more)
    assert problem in str(caught.value)


def test_another_language_brings_its_own_texts() -> None:
    texts = agent(
        language="pl", disclosure={"text": "Tu asystent AI.", "answer": "Jestem AI."}
    ).disclosed()
    assert texts.truth == texts.answer == "Jestem AI."
    with pytest.raises(AgentError, match=r"disclosure\.recording: must be given"):
        agent(language="pl", disclosure={"text": "AI.", "answer": "AI.", "recorded": True})
