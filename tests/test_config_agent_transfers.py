"""What an agent's file may say of transfers, and what is wrong with it."""

from __future__ import annotations

import pytest

from ringtrue.config.agent_schema import Agent, AgentError, parse_agent
from ringtrue.config.agent_transfers import ACCEPT, BriefingPolicy

FILE = """
name: desk
title: Desk
language: {language}
greeting: Hello.
transfers:
  sales: {{to: "sip:sales@pbx.example.com", title: the sales team, how: {how}}}
transferring: {transferring}
"""


def load(how: str = "attended", language: str = "en", transferring: str = "{}") -> Agent:
    return parse_agent(
        FILE.format(how=how, language=language, transferring=transferring), "desk.yaml"
    )


@pytest.mark.parametrize("how", ["blind", "attended", "conference"])
def test_how(how: str) -> None:
    assert load(how).transfers["sales"].how == how


def test_it_is_blind_unless_said_otherwise() -> None:
    text = FILE.format(how="x", language="en", transferring="{}").replace(", how: x", "")
    assert parse_agent(text, "desk.yaml").transfers["sales"].how == "blind"


@pytest.mark.parametrize(
    ("transferring", "complaint"),
    [
        ("{hand_over: never}", "transferring.hand_over"),
        ("{seconds: 1}", "transferring.seconds"),
        ("{briefing: {seconds: 500}}", "transferring.briefing.seconds"),
        ("{briefing: {ask: 'For {nobody}?'}}", "transferring.briefing.ask: uses {nobody}"),
        ("{failed: '{briefing}'}", "transferring.failed: uses {briefing}"),
        ("{briefing: {yes: ['<b>yes</b>']}}", "transferring.briefing.yes"),
        ("{introduction: 'Here is {who}.'}", "transferring.introduction: uses {who}"),
        ("{returned: []}", "transferring.returned"),
        ("{notify: true}", "transferring.notify: unknown key"),
    ],
)
def test_what_is_wrong_is_named(transferring: str, complaint: str) -> None:
    with pytest.raises(AgentError) as error:
        load(transferring=transferring)
    assert complaint in str(error.value)


def test_another_way_is_not_known() -> None:
    with pytest.raises(AgentError, match=r"transfers\.sales\.how"):
        load("warm")


def test_an_agent_of_another_language_brings_its_own_words() -> None:
    assert load("blind", "de").language == "de"
    with pytest.raises(AgentError) as error:
        load("attended", "de", "{briefing: {yes: [ja], no: [nein]}}")
    text = str(error.value)
    assert "briefing.ask: must be given for language 'de'" in text
    assert "briefing.yes" not in text
    own = "{briefing: {ask: Ja, accepted: Danke, declined: Gut, unclear: Wie, yes: ja, no: nein}}"
    assert load("attended", "de", own).transferring.briefing.yes == ("ja",)
    with pytest.raises(AgentError, match=r"transferring\.returned: must be given"):
        load("conference", "de", own)


def test_its_recognizer_knows_yes_and_no() -> None:
    assert "put them through" in load().vocabulary()
    assert "put them through" not in load("blind").vocabulary()


def test_the_briefing_of_an_action_is_checked_like_an_answer() -> None:
    dialogue = """
dialogue:
  intents:
    sales: {{examples: [sales], answers: Fine, action: {{transfer: sales, briefing: "{text}"}}}}
  fallbacks: Pardon
  give_up: {{say: Bye}}
"""
    file = FILE.format(how="attended", language="en", transferring="{}")
    assert parse_agent(file + dialogue.format(text="It is urgent"), "desk.yaml").dialogue
    with pytest.raises(AgentError, match=r"action\.briefing: uses \{number\}"):
        parse_agent(file + dialogue.format(text="About {number}"), "desk.yaml")


def test_the_question_is_a_dialogue() -> None:
    made = BriefingPolicy().dialogue()
    assert made.dtmf == {"1": ACCEPT, "2": "decline"}
    assert set(made.intents) == {ACCEPT, "decline"}
