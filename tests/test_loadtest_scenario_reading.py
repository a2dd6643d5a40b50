"""Scenario files: what they may hold, and what is said of those that are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringtrue.loadtest.caller import QUIET_MS
from ringtrue.loadtest.scenario.reading import (
    ScenarioError,
    find_scenario,
    load_scenario,
    parse_scenario,
    shipped_scenarios,
)
from ringtrue.loadtest.scenario.steps import flattened

GOOD = """
name: short
title: A short call
steps:
  - hear:
  - say: opening_hours
  - wait: [0.1, 0.5]
  - repeat:
      times: 3
      steps:
        - say: {text: Hello there.}
        - hear: 2000
  - say: {prompt: goodbye, answered: false}
  - press: 47
  - hang_up:
"""


def problems(text: str) -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        parse_scenario(text, "x.yaml")
    return [str(problem) for problem in caught.value.problems]


def test_short_forms_are_what_they_stand_for() -> None:
    scenario = parse_scenario(GOOD, "x.yaml")
    kinds = [step.kind for step in flattened(scenario.steps)]
    assert kinds == ["hear", "say", "wait", *["say", "hear"] * 3, "say", "press", "hang_up"]
    steps = flattened(scenario.steps)
    assert steps[1].does.prompt == "opening_hours"
    assert steps[2].does.seconds == (0.1, 0.5)
    assert steps[4].does.begin_ms == 2000
    assert steps[-2].does == "47"
    assert steps[4].does.quiet_ms == QUIET_MS
    assert scenario.turns == 4
    assert scenario.greeted


def test_who_waits_for_more_than_an_opener_says_how_long() -> None:
    scenario = parse_scenario(GOOD.replace("hear: 2000", "hear: {quiet_ms: 4000}"), "x.yaml")
    assert flattened(scenario.steps)[4].does.quiet_ms == 4000


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("opening_hours", "opening_hour", "x.yaml:6"),
        ("opening_hours", "opening_hour", "closing_time"),
        ("- press: 47", "- press: x", "allowed: 1 to 32 of"),
        ("times: 3", "time: 3", "did you mean times?"),
        ("- hang_up:", "- hangup:", "did you mean hang_up?"),
        ("{text: Hello there.}", "{text: Hello, prompt: yeah}", "exactly one of"),
        ("[0.1, 0.5]", "[0.5, 0.1]", "must not be above"),
        ("times: 3", "times: 200\n      steps: []", "given twice"),
        ("name: short", "name: Short!", "name: is 'Short!'"),
        ("title:", "network: {up: {loss: 2}}\ntitle:", "below 1"),
        ("title:", "caller: {codecs: [G729]}\ntitle:", "did you mean G722?"),
        ("title:", "expect: {says: {billing: x}}\ntitle:", "which no step says"),
        ("title:", "faults: [{at: 1, kind: llm}]\ntitle:", "needs serve.llm"),
        ("title:", "faults: [{at: 1, kind: redis_dies}]\ntitle:", "needs serve.redis"),
        ("title:", "direction: outbound\ntitle:", "needs transports: [sip]"),
        ("- hear:\n", "- hold: 3\n", "needs transports: [sip]"),
    ],
)
def test_what_is_wrong_is_named_with_its_line_and_what_is_allowed(
    old: str, new: str, said: str
) -> None:
    assert old in GOOD
    assert said in "\n".join(problems(GOOD.replace(old, new, 1)))


def test_every_problem_is_listed() -> None:
    assert len(problems(GOOD.replace("short", "!").replace("hear: 2000", "hear: -1"))) == 2


def test_a_script_without_end_is_refused() -> None:
    text = GOOD.replace("times: 3", "times: 200").replace(
        "- hear: 2000", "- hear: 2000\n        - wait: 1"
    )
    assert "over 500 steps" in problems(text)[0]


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD.replace("say: opening_hours", "say: {wav: hello.wav}"))
    (_, first, *_) = flattened(load_scenario(path).steps)
    assert first.does.wav == tmp_path / "hello.wav"
    assert find_scenario(str(path)) == path


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="nothing.yaml"):
        load_scenario(tmp_path / "nothing.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ScenarioError, match="not UTF-8"):
        load_scenario(tmp_path / "binary.yaml")


def test_the_shipped_scenarios_are_whole() -> None:
    names = shipped_scenarios()
    assert {
        "reception", "reminder", "webrtc-demo", "barge-in-storm", "silence", "noisy-line",
        "slow-llm", "dead-llm", "dying-redis", "revoked-voice", "stalled-recognizer",
        "disk-full", "killed-worker", "questions", "fifty",
    } <= set(names)  # fmt: skip
    for name in names:
        assert load_scenario(find_scenario(name)).name == name


def test_an_unknown_name_lists_those_there_are() -> None:
    with pytest.raises(ScenarioError, match="barge-in-storm"):
        find_scenario("no-such")
