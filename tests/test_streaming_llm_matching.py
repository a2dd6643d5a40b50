"""Intents out of what a recognizer heard."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtrue.config.agent_schema import load_agents
from ringtrue.streaming.llm.matching import Matcher, tokens

AGENTS = load_agents()


def matcher(name: str) -> Matcher:
    dialogue = AGENTS[name].dialogue
    assert dialogue is not None
    return Matcher({key: intent.examples for key, intent in dialogue.intents.items()})


RECEPTION = matcher("reception")


def test_tokens_fold_case_accents_and_apostrophes() -> None:
    assert tokens("I'd like a Café-Crème, at 3:30!") == [
        *("id", "like", "a", "cafe", "creme", "at", "3", "30")
    ]
    assert tokens("") == []


@pytest.mark.parametrize("name", sorted(AGENTS))
def test_every_example_finds_its_own_intent(name: str) -> None:
    dialogue = AGENTS[name].dialogue
    assert dialogue is not None
    for place in (*dialogue.states, None):
        here = [n for n, i in dialogue.intents.items() if not i.states or place in i.states]
        here.sort(key=lambda n: not dialogue.intents[n].states)
        for intent in here:
            for example in dialogue.intents[intent].examples:
                if "{" in example:
                    continue
                best = matcher(name).rank(example, here)[0]
                # The same words may mean something else where a state gives them a meaning.
                own = best.name == intent or dialogue.intents[best.name].states
                assert own, (example, best)
                assert best.score >= dialogue.accept, (example, best)


@pytest.mark.parametrize(
    ("heard", "intent"),
    [
        ("when do you open", "hours"),
        ("uh can i speak with two sails", "sales"),
        ("i want to by something", "sales"),
        ("where is my ordered", "order_status"),
        ("hello yes i would like to know where my order is please", "order_status"),
        ("i would like to talk to somebody in billing", "billing"),
        ("they charged me twice", "billing"),
        ("my machine is broke and i need technical support", "support"),
        ("could you repeat that please", "again"),
        ("thank you bye bye", "goodbye"),
        ("no thanks that's all", "nothing_more"),
        ("give me a human", "operator"),
        ("i need help with the invoice", "billing"),
        ("represent ative please", "operator"),
    ],
)
def test_misheard_and_wordy_utterances(heard: str, intent: str) -> None:
    ranked = RECEPTION.rank(heard)
    assert ranked[0].name == intent, ranked[:3]


@pytest.mark.parametrize(
    "heard",
    ["blah blah blah", "the quick brown fox", "purple monkeys dance tonight", "xyzzy", "um uh er"],
)
def test_nonsense_is_not_taken_for_an_intent(heard: str) -> None:
    dialogue = AGENTS["reception"].dialogue
    assert dialogue is not None
    ranked = RECEPTION.rank(heard)
    assert not ranked or ranked[0].score < dialogue.accept, ranked[:3]


def test_only_the_allowed_names_are_ranked() -> None:
    assert {match.name for match in RECEPTION.rank("sales and billing", ["billing"])} == {"billing"}
    assert RECEPTION.rank("sales", ["no such intent"]) == []


@given(st.text(max_size=200))
def test_scores_lie_between_zero_and_one(text: str) -> None:
    ranked = RECEPTION.rank(text)
    assert all(0 < match.score <= 1 + 1e-9 for match in ranked)
    assert [m.score for m in ranked] == sorted((m.score for m in ranked), reverse=True)
