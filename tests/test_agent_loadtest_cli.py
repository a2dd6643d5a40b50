"""``ringtrue loadtest``: its arguments, its exit codes, and the same report for the same seed."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from command_line import restored_logs, run_command

from ringtrue.agent.loadtest_cli import seconds

SCENARIO = """
name: greeting
title: Callers hear the greeting and ask
steps:
  - interrupt: {prompt: closing_time, after_ms: 500}
  - hear:
  - hang_up:
expect: {greeting_within_ms: 2000, no_gap_over_ms: 120, ends: caller}
slo: {calls: {failed: 0}, expectations: {met: 1}}
"""


@pytest.mark.parametrize(
    ("text", "value"), [("90", 90), ("90s", 90), ("1.5m", 90), ("250ms", 0.25), ("1h", 3600)]
)
def test_times_are_read(text: str, value: float) -> None:
    assert seconds(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "s", "-1", "5 days"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="like 90s"):
        seconds(text)


def test_scenarios_are_listed() -> None:
    ran = run_command("loadtest", "scenarios", "--json")
    assert ran.json()["reception"] == "Inbound calls to the reception"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["reception"], "one of --target, --spawn and --deterministic"),
        (["reception", "--spawn", "--target", "sip:a@b"], "one of --target"),
        (["no-such", "--spawn"], "shipped: barge-in-storm"),
        (["reception", "--target", "tel:1"], "allowed: sip:agent@host:port"),
        (["webrtc-demo", "--target", "sip:a@127.0.0.1:9"], "not for sip"),
        (["reception", "--spawn", "--over", "fax"], "allowed: sip, twilio, webrtc"),
        (["reception", "--target", "ws://127.0.0.1:9"], "RINGTRUE_TWILIO__AUTH_TOKEN"),
        (["reception", "--target", "sip:a@127.0.0.1:9", "--apart"], "--apart needs --spawn"),
        (["reception", "--spawn", "--find-capacity", "--repeats", 2], "--repeats 2: allowed: an"),
        (["reminder", "--target", "sip:a@127.0.0.1:9"], "--api-url"),
    ],
)
def test_what_cannot_be_done_says_why(arguments: list[object], said: str, tmp_path: Path) -> None:
    with restored_logs():
        ran = run_command("loadtest", "run", *arguments, "-o", tmp_path)
    assert ran.code == 2
    assert said in " ".join((ran.err + ran.out).replace("│", " ").split())


def test_a_deterministic_run_is_the_same_twice(tmp_path: Path) -> None:
    path = tmp_path / "greeting.yaml"
    path.write_text(SCENARIO)

    def ran(name: str, seed: int) -> bytes:
        with restored_logs():
            done = run_command(
                "loadtest", "run", path, "--deterministic", "--calls", 2, "--seed", seed,
                "-o", tmp_path / name,
            )  # fmt: skip
        assert done.code == 0, done.out + done.err
        assert "2 calls, 0 failed" in done.out
        return (tmp_path / name / "report.json").read_bytes()

    first = ran("first", 1)
    assert ran("again", 1) == first
    assert b'"deterministic": true' in first
    assert (tmp_path / "first" / "report.html").exists()
    assert (tmp_path / "first" / "junit.xml").exists()
