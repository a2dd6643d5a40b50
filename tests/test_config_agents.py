"""Agents' files: what is shipped works, and what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ringtrue.config.agent_dialogue import placeholders
from ringtrue.config.agent_disclosure import LOCALES
from ringtrue.config.agent_schema import (
    Agent,
    AgentError,
    load_agent,
    load_agents,
    parse_agent,
    shipped_agents,
)
from ringtrue.config.agent_turns import turn_words

SMALL = """
name: small
title: Small
greeting: Hello, I am an automated voice.
variables: {company: Acme}
transfers: {desk: {to: "sip:desk@example.com", title: the desk}}
dialogue:
  states: {main: {prompt: "Yes?", dtmf: {"1": hours}}}
  slots: {number: {type: digits, ask: "Which number?"}}
  intents:
    hours: {examples: [opening hours], answers: "We are open at {company}."}
    order: {examples: ["order {number}"], slots: [number], answers: "Order {number}."}
    desk: {examples: [the desk], answers: One moment., action: {transfer: desk}}
  fallbacks: "Sorry?"
  give_up: {say: Goodbye.}
"""


def small() -> dict:  # type: ignore[type-arg]
    """A valid agent as data."""
    data = yaml.safe_load(SMALL)
    assert isinstance(data, dict)
    return data


def problems(data: object) -> dict[str, str]:
    """Key → message of everything wrong with ``data``."""
    with pytest.raises(AgentError) as caught:
        parse_agent(yaml.safe_dump(data, sort_keys=False), "agents/x.yaml")
    assert "agents/x.yaml" in str(caught.value)
    return {problem.key: problem.message for problem in caught.value.problems}


def test_shipped_agents_load() -> None:
    agents = load_agents()
    assert sorted(agents) == ["demo", "reception", "reminder"]
    assert {agent.voice for agent in agents.values()} == {"slt", "awb", "rms"}
    for name, agent in agents.items():
        assert (shipped_agents() / f"{name}.yaml").is_file()
        assert agent.dialogue is not None
        assert agent.prompt
        assert all("automated assistant of" in text for text in agent.openings())


def test_shipped_texts_are_whole_sentences() -> None:
    """YAML cuts an unquoted list item at its comma."""
    for agent in load_agents().values():
        assert agent.dialogue is not None
        texts = [*agent.greeting, *agent.stalls.filler, *agent.stalls.apology]
        texts += [*agent.dialogue.fallbacks, *agent.dialogue.give_up.say]
        for intent in agent.dialogue.intents.values():
            texts += [*intent.answers, *intent.confirm, *intent.declined]
            texts += intent.follow_up or ()
        for text in texts:
            assert text[0].isupper(), text
            assert text[-1] in ".?!", text


def test_vocabulary_holds_examples_answers_and_extra_phrases() -> None:
    reception = load_agents()["reception"]
    words = reception.vocabulary()
    assert len(words) == len(set(words))
    assert "opening hours" in words
    assert "yes please" in words
    assert "good morning" in words
    assert not any("{" in phrase for phrase in words)
    assert any(phrase.startswith("my order number is ") for phrase in words)
    assert all(phrase.strip() for phrase in words)


def test_vocabulary_lets_every_digit_follow_every_other() -> None:
    words = load_agents()["reception"].vocabulary()
    digits = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    pairs = {
        (a, b)
        for phrase in words
        for a, b in zip(phrase.split(), phrase.split()[1:], strict=False)
        if a in digits and b in digits
    }
    assert len(pairs) >= 95


def test_a_small_agent_loads() -> None:
    agent = parse_agent(yaml.safe_dump(small()), "x")
    assert agent.dialogue is not None
    assert agent.dialogue.start_state == "main"
    assert agent.greeting == ("Hello, I am an automated voice.",)


def test_agents_are_frozen() -> None:
    agent = parse_agent(yaml.safe_dump(small()), "x")
    with pytest.raises(ValueError, match="frozen"):
        agent.name = "other"  # type: ignore[misc]


def test_unknown_key_names_the_choices() -> None:
    data = small()
    data["dialogue"]["intents"]["hours"]["answer"] = "x"
    found = problems(data)
    assert "answers" in found["dialogue.intents.hours.answer"]
    assert "follow_up" in found["dialogue.intents.hours.answer"]


def test_unknown_key_inside_a_slot_names_that_slots_keys() -> None:
    data = small()
    data["dialogue"]["slots"]["number"]["minlength"] = 3
    (key,) = found = problems(data)
    assert key == "dialogue.slots.number.minlength"
    assert "min_length" in found[key]


def test_unknown_slot_type_names_the_types() -> None:
    data = small()
    data["dialogue"]["slots"]["number"]["type"] = "digit"
    (message,) = problems(data).values()
    assert "'digits'" in message
    assert "'choice'" in message


@pytest.mark.parametrize(
    ("path", "value", "key", "words"),
    [
        (("intents", "desk", "action", "transfer"), "bar", "intents.desk.action.transfer", "desk"),
        (("intents", "desk", "next"), "nowhere", "intents.desk.next", "main"),
        (("intents", "order", "slots"), ["nope"], "intents.order.slots", "number"),
        (("intents", "hours", "states"), ["nope"], "intents.hours.states", "main"),
        (("states", "main", "dtmf"), {"1": "nope"}, "states.main.dtmf.1", "hours"),
        (("dtmf",), {"12": "hours"}, "dtmf.12", "keys: 0"),
        (("intents", "hours", "answers"), "At {plce}.", "intents.hours.answers", "company"),
        (("fallbacks",), "At {oops", "fallbacks", "brace"),
        (("intents", "desk", "examples"), ["opening hours"], "intents.desk.examples", "hours"),
        (("start",), "nope", "start", "main"),
    ],
)
def test_what_does_not_fit_together_is_named(
    path: tuple[str, ...], value: object, key: str, words: str
) -> None:
    data = small()
    node = data["dialogue"]
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = value
    found = problems(data)
    assert words in found[f"dialogue.{key}"]


def test_several_problems_are_listed_together() -> None:
    data = small()
    data["dialogue"]["intents"]["hours"]["next"] = "a"
    data["dialogue"]["intents"]["desk"]["next"] = "b"
    data["greeting"] = "Hello {nobody}"
    assert len(problems(data)) == 3


def test_missing_and_mistyped_values_are_named() -> None:
    data = small()
    del data["dialogue"]["give_up"]
    data["transfers"]["desk"]["to"] = "the desk"
    found = problems(data)
    assert found["dialogue.give_up"] == "must be given"
    assert "'the desk'" in found["transfers.desk.to"]
    assert "sip:" in found["transfers.desk.to"]


def test_an_intent_that_does_nothing_is_refused() -> None:
    data = small()
    data["dialogue"]["intents"]["hours"] = {"examples": ["opening hours"]}
    assert "give it answers" in problems(data)["dialogue.intents.hours"]


@pytest.mark.parametrize(
    "to", ["sip:a@b.example", "sips:b.example", "tel:+1-555-0100", "+15550100"]
)
def test_transfer_addresses(to: str) -> None:
    data = small()
    data["transfers"]["desk"]["to"] = to
    assert parse_agent(yaml.safe_dump(data, sort_keys=False), "x").transfers["desk"].to == to


def test_what_is_said_where_nobody_takes_the_caller() -> None:
    data = small()
    data["transferring"] = {"failed": ["{place} is out.", "Still out, at {company}."]}
    assert len(parse_agent(yaml.safe_dump(data), "x").transferring.failed) == 2
    data["transferring"] = {"failed": "{plce} is out.", "seconds": 60}
    assert "place" in problems(data)["transferring.failed"]
    data["transferring"] = {"seconds": 1}
    assert "5" in problems(data)["transferring.seconds"]


def test_bad_yaml_names_line_and_file(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("name: [unclosed\n")
    with pytest.raises(AgentError, match=r"line \d+.*bad\.yaml"):
        load_agent(path)


def test_a_missing_file_and_an_empty_directory_are_named(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match=r"none\.yaml"):
        load_agent(tmp_path / "none.yaml")
    with pytest.raises(AgentError, match="no agent"):
        load_agents(tmp_path)


def test_two_files_with_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(small()))
    with pytest.raises(AgentError, match="'small', which another file has too"):
        load_agents(tmp_path)


def test_an_agent_needs_no_dialogue() -> None:
    agent = Agent(name="bare", title="Bare", greeting=("Hello.",))
    assert agent.vocabulary() == (*LOCALES["en"].questions, *turn_words("en").heard)


def test_stray_braces() -> None:
    assert placeholders("{a} and {b_c}") == {"a", "b_c"}
    with pytest.raises(ValueError, match="brace"):
        placeholders("a } b")


def test_spoken_texts_may_hold_markup() -> None:
    data = small()
    data["greeting"] = 'Hello. <break time="300ms"/> <emphasis>I</emphasis> am automated, R&D.'
    data["prompt"] = "Wrap what matters in <important>…</important>."
    data["dialogue"]["intents"]["order"]["answers"] = (
        'Order <say-as interpret-as="digits">{number}</say-as>.'
    )
    parse_agent(yaml.safe_dump(data), "x")


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("greeting", {"greeting": "<brake/> Hello."}),
        ("stalls.filler", {"stalls": {"filler": ["One <brake/> moment."]}}),
        ("variables.company", {"variables": {"company": "Acme<brake/>"}}),
        (
            "transfers.desk.title",
            {"transfers": {"desk": {"to": "+15551234", "title": "<brake/>a"}}},
        ),
    ],
)
def test_unknown_markup_is_named_with_what_is_allowed(key: str, change: dict[str, object]) -> None:
    found = problems(small() | change)
    assert found == {key: "<brake/> is unknown; tags here: break, emphasis, prosody, say-as"}


def test_wrong_markup_inside_the_dialogue_is_named() -> None:
    data = small()
    data["dialogue"]["fallbacks"] = '<prosody rate="300%">Sorry?</prosody>'
    data["dialogue"]["slots"]["number"]["ask"] = "<emphasis>Which number?"
    data["dialogue"]["intents"]["hours"]["title"] = "<x>"
    data["dialogue"]["intents"]["hours"]["examples"] = ["<emphasis>hours</emphasis>"]
    data["phrases"] = ["a <break/> b"]
    found = problems(data)
    assert sorted(found) == [
        "dialogue.fallbacks",
        "dialogue.intents.hours.examples",
        "dialogue.intents.hours.title",
        "dialogue.slots.number.ask",
        "phrases",
    ]
    assert "has rate '300%'; allowed: x-slow" in found["dialogue.fallbacks"]
    assert found["dialogue.slots.number.ask"] == "<emphasis> is never closed"
    assert found["phrases"] == "<break/> is speech markup, but this is what callers say"
