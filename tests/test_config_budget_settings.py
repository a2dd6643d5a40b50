"""The budget's settings: shares that add up, a second model, and an agent's openers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ringtrue.config.agent_openers import OPENERS, WAITING
from ringtrue.config.agent_schema import AgentError, load_agents, parse_agent, shipped_agents
from ringtrue.config.budget_settings import BudgetSettings
from ringtrue.config.errors import SettingsError
from ringtrue.config.settings import OpenAiSettings, load_settings
from ringtrue.streaming.budget.deadline import BudgetPolicy
from ringtrue.streaming.llm.claims import ClaimFilter
from ringtrue.streaming.llm.factory import keeper_policy

RECEPTION = (shipped_agents() / "reception.yaml").read_text()


def settings(folder: Path, text: str) -> Any:
    path = folder / "my.yaml"
    path.write_text(text)
    return load_settings(path, environ={})


def test_the_defaults_are_those_of_the_deadline_itself() -> None:
    policy = keeper_policy(BudgetSettings())
    assert policy.budget == BudgetPolicy()
    assert keeper_policy(load_settings(environ={}).budget) == policy


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "ttfa_seconds: 0.1",
            "ttfa_seconds is 0.1, but the allotments of its stages add up to 0.2",
        ),
        ("allotments: {first_token: 0.6}", "turn_seconds is 0.8, but the allotments of its stages"),
        (
            "allotments: {recognizer: 0.5}",
            "recognizer 0.5 is a part of allotments.endpointing 0.35",
        ),
        ("apology_seconds: 0", "apology_seconds: is 0"),
        ("opener: true", "did you mean openers?"),
    ],
)
def test_what_does_not_add_up_is_named(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(SettingsError, match="budget") as caught:
        settings(tmp_path, f"budget:\n  {text}\n")
    assert told in str(caught.value)


def test_a_slower_model_gets_a_longer_turn(tmp_path: Path) -> None:
    text = "budget: {turn_seconds: 1.2, allotments: {first_token: 0.6}}\n"
    policy = keeper_policy(settings(tmp_path, text).budget)
    assert policy.budget.turn == 1.2


def test_a_key_of_its_own_needs_an_endpoint_of_its_own() -> None:
    fields = {"engine": "openai", "model": "m"}
    with pytest.raises(ValueError, match="api_key is set, but base_url is not"):
        OpenAiSettings.model_validate(fields | {"fallback": {"model": "n", "api_key": "k"}})


def test_shipped_agents_have_openers_in_their_language_and_may_have_their_own() -> None:
    for agent in load_agents().values():
        openers, waiting = agent.fillers()
        assert openers == OPENERS[agent.language]
        assert waiting == WAITING[agent.language]
    own = parse_agent(f"openers: [Right away.]\n{RECEPTION}", "own")
    assert own.fillers() == (("Right away.",), WAITING["en"])
    none = parse_agent(f"openers: []\n{RECEPTION}", "none")
    assert none.fillers()[0] == ()
    other = RECEPTION.replace("language: en", "language: pl", 1)
    with pytest.raises(AgentError):  # a language without texts needs those of the disclosure
        parse_agent(other, "polish")


def test_openers_may_hold_placeholders_and_no_unknown_ones() -> None:
    with pytest.raises(AgentError, match=r"openers"):
        parse_agent('openers: ["One moment at {nowhere}."]\n' + RECEPTION, "wrong")


@pytest.mark.parametrize("language", sorted(OPENERS))
def test_no_text_of_ours_claims_to_be_a_person(language: str) -> None:
    claims = ClaimFilter(language, "")
    for text in (*OPENERS[language], *WAITING[language]):
        claims.feed(text)
        claims.finish()
    assert claims.caught == 0
    assert len(set(OPENERS[language])) == 4
