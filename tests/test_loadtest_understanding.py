"""What the agent said is recognized among all that it could say."""

from __future__ import annotations

import pytest

from ringtrue.config.agent_schema import Agent, load_agent, shipped_agents
from ringtrue.loadtest.ear import find_speech, utterances
from ringtrue.loadtest.prompts import load_prompts
from ringtrue.loadtest.understanding import match, topics_of, understand

RATE = 8000


@pytest.fixture(scope="module")
def agent() -> Agent:
    return load_agent(shipped_agents() / "reception.yaml")


def test_topics_hold_everything_with_variables_filled(agent: Agent) -> None:
    topics = topics_of(agent)
    assert agent.dialogue is not None
    for name, intent in agent.dialogue.intents.items():
        assert len(topics.get(name, ())) == len(intent.answers)
    said = [text for texts in topics.values() for text in texts]
    for name, value in agent.variables.items():
        assert not any(f"{{{name}}}" in text for text in said)
        assert any(value in text for text in said)


def test_every_text_is_its_own_best_match(agent: Agent) -> None:
    topics = topics_of(agent)
    for topic, texts in topics.items():
        for text in texts:
            found = match(text.replace("{order_number}", "4 7 1 1 8"), topics)
            if len(text.split()) >= 4:
                assert topic in found.topics, text


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        ("we're open monday to friday from nine am to six pm and can i help", "hours"),
        ("i heard four seven one one eight is that right", "order_status.confirm"),
        ("thank you order four seven one one eight is noted i can't", "order_status"),
        ("can do for calling meridian supplies goodbye", "goodbye"),
    ],
)
def test_misheard_and_cut_off_answers_are_found(agent: Agent, text: str, topic: str) -> None:
    assert topic in match(text, topics_of(agent)).topics


@pytest.mark.parametrize(
    "text", ["", "sure", "i can i can't or billing eight i there understand", "four seven one"]
)
def test_what_the_agent_never_says_is_nothing(agent: Agent, text: str) -> None:
    assert match(text, topics_of(agent)).topics == ()


async def test_speech_is_told_apart() -> None:
    prompts = load_prompts("awb")
    names = ["opening_hours", "order_number", "billing", "sales"]
    pcm = b"".join(prompts[name].pcm + bytes(2 * RATE) for name in names)
    spoken = utterances(find_speech(pcm, RATE), RATE)
    topics = {name: [prompt.text] for name, prompt in prompts.items()}
    found = await understand(pcm, RATE, spoken, topics)
    assert [words.topics for words in found] == [(name,) for name in names]
