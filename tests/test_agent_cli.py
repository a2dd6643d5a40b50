"""The command line."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import structlog
from loguru import logger as loguru_logger

from ringtrue.agent import cli


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    structlog.reset_defaults()
    loguru_logger.remove()
    loguru_logger.add(sys.stderr, level="WARNING")
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def ringtrue(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the command with the given arguments; returns its exit status."""

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["ringtrue", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0)

    return run


def test_version(ringtrue: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert ringtrue("version") == 0
    assert capsys.readouterr().out.strip() == version("ringtrue")
    assert ringtrue("version", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"version": version("ringtrue")}


def test_help_names_every_command(ringtrue: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert ringtrue("--help") == 0
    said = capsys.readouterr().out
    for command in ("serve", "demo", "bench", "doctor", "version"):
        assert command in said


def test_an_unknown_command_or_option(ringtrue: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert ringtrue("sing") == 2
    assert "sing" in capsys.readouterr().err
    assert ringtrue("serve", "--sing") == 2
    assert "--sing" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["serve", "demo", "bench", "doctor"])
def test_wrong_settings_are_a_message_and_no_traceback(
    ringtrue: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str
) -> None:
    config = tmp_path / "my.yaml"
    config.write_text("sip:\n  port: 70000\n  host: localhost\n")
    assert ringtrue(command, "--config", config) == 2
    said = capsys.readouterr().err
    assert said.startswith("ringtrue: 2 settings are wrong:")
    assert "sip.port" in said
    assert "70000" in said
    assert "sip.host" in said
    assert "not an IP address, e.g. 0.0.0.0" in said
    assert "my.yaml" in said
    assert "Traceback" not in said


def test_a_settings_file_that_is_not_there(
    ringtrue: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert ringtrue("serve", "--config", tmp_path / "absent.yaml") == 2
    assert "absent.yaml" in capsys.readouterr().err


def test_an_agent_there_is_not(
    ringtrue: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RINGTRUE_AGENTS__DEFAULT", "nobody")
    assert ringtrue("serve") == 2
    said = capsys.readouterr().err
    assert "agents.default is 'nobody'; agents: demo, reception, reminder" in said


@pytest.mark.parametrize("status", [0, 1])
def test_the_demonstrations_outcome_is_the_exit_status(
    ringtrue: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: int
) -> None:
    asked = []

    async def run(settings: object, out: Path) -> int:
        asked.append(out)
        return status

    monkeypatch.setattr("ringtrue.agent.demo.run", run)
    assert ringtrue("demo", "--out", tmp_path) == status
    assert asked == [tmp_path]


def test_the_benchmark_is_asked_for_what_was_given(
    ringtrue: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []

    async def run(
        settings: object, calls: list[int], turns: int, out: Path, *, stand_in: bool, compare: bool
    ) -> int:
        asked.append((calls, turns, out, stand_in, compare))
        return 0

    monkeypatch.setattr("ringtrue.agent.bench.run", run)
    assert ringtrue("bench", "--out", tmp_path) == 0
    assert ringtrue("bench", "--calls", 3, "--calls", 5, "--turns", 2, "--out", tmp_path) == 0
    assert ringtrue("bench", "--stand-in", "--compare", "--out", tmp_path) == 0
    assert asked == [
        ([1, 10], 6, tmp_path, False, False),
        ([3, 5], 2, tmp_path, False, False),
        ([1, 10], 6, tmp_path, True, True),
    ]


def test_doctor_prints_json(ringtrue: Any, capsys: pytest.CaptureFixture[str]) -> None:
    status = ringtrue("doctor", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found
    assert status in (0, 1)
