"""What is asked of who shall take a caller, and what is made of the answer."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ringtrue.agent.briefing import MAX_BRIEFING, briefing_agent, plain_sentence
from ringtrue.config.agent_schema import Agent, load_agents
from ringtrue.config.agent_transfers import ACCEPT
from ringtrue.config.settings import DialogueSettings, load_settings
from ringtrue.streaming.llm.actions import CallAction, Hangup, Transfer
from ringtrue.streaming.llm.dialogue import Dialogue
from ringtrue.streaming.llm.dialogue_state import Event, Keyed, Spoken
from ringtrue.streaming.llm.factory import build_language

AGENTS = load_agents()
NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)


def briefing(agent: Agent, text: str = "Ms Rivera asks about an invoice") -> Agent:
    name, target = next(iter(agent.transfers.items()))
    assert name
    return briefing_agent(agent, target, text)


@pytest.mark.parametrize("name", [name for name, agent in AGENTS.items() if agent.transfers])
def test_it_is_an_agent_like_any_other(name: str) -> None:
    made = briefing(AGENTS[name])
    checked = Agent.model_validate(made.model_dump())
    assert checked.dialogue == made.dialogue
    assert (made.voice, made.tenant, made.purpose) == (
        AGENTS[name].voice,
        AGENTS[name].tenant,
        AGENTS[name].purpose,
    )


def test_it_tells_who_speaks_and_who_calls() -> None:
    made = briefing(AGENTS["reception"])
    dialogue = Dialogue(made)
    first = dialogue.reply(Event.START, dialogue.start(variables=made.variables), NOW)
    assert first.text.startswith("I have a caller for the sales team. Ms Rivera asks about an")
    (opening,) = made.openings()
    assert opening.startswith("Hello, this is the automated assistant of")
    assert "recorded" not in opening
    settings = load_settings(environ={})
    stage = build_language(DialogueSettings(engine="dialogue"), made, settings.deadlines)
    assert stage.disclosure is not None


def test_who_is_recorded_is_told_so() -> None:
    agent = AGENTS["reception"]
    recorded = agent.model_copy(
        update={"recording": agent.recording.model_copy(update={"enabled": True})}
    )
    made = briefing(recorded)
    assert "This call is recorded." in made.openings()[0]
    assert not made.recording.enabled


@pytest.mark.parametrize(
    ("said", "action"),
    [
        (Spoken("yes"), Transfer(ACCEPT)),
        (Spoken("yes please put them through"), Transfer(ACCEPT)),
        (Keyed("1"), Transfer(ACCEPT)),
        (Spoken("no not now"), Hangup()),
        (Keyed("2"), Hangup()),
    ],
)
def test_the_answer(said: Spoken | Keyed, action: CallAction) -> None:
    dialogue = Dialogue(briefing(AGENTS["reception"]))
    state = dialogue.reply(Event.START, dialogue.start(), NOW).state
    assert dialogue.reply(said, state, NOW).actions == (action,)


def test_what_is_no_answer_is_asked_again_and_then_declined() -> None:
    """So an answering machine never accepts."""
    dialogue = Dialogue(briefing(AGENTS["reception"]))
    state, replies = dialogue.start(), []
    state = dialogue.reply(Event.START, state, NOW).state
    for text in (
        "you have reached the voicemail of john smith",
        "please leave a message after the tone",
        "beep",
        "if you are satisfied with your message hang up",
    ):
        reply = dialogue.reply(Spoken(text), state, NOW)
        state = reply.state
        replies.append(reply.actions)
        if reply.actions:
            break
    assert replies[-1] == (Hangup(),)
    assert Transfer(ACCEPT) not in {action for actions in replies for action in actions}


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("", ""),
        ("Ms Rivera, about an invoice", "Ms Rivera, about an invoice."),
        ("Is it <break time='9s'/> late?", "Is it break time='9s'/ late?"),
        ("{company} & {briefing}\n\x00", "company briefing."),
        ("x" * 1000, "x" * MAX_BRIEFING + "."),
    ],
)
def test_a_briefing_is_words_and_nothing_else(text: str, plain: str) -> None:
    assert plain_sentence(text) == plain
