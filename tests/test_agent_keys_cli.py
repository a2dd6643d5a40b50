"""``ringtrue keys`` on a blank machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Ran, restored_logs, run_command


@pytest.fixture(autouse=True)
def _blank(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("RINGTRUE_VOICES__DIR", str(tmp_path / "voices"))
    with restored_logs():
        yield


def ringtrue(*arguments: object) -> Ran:
    return run_command(*arguments)


def test_a_key_is_made_listed_and_revoked(tmp_path: Path) -> None:
    scopes = ("--scope", "voices:read", "--scope", "voices:speak")
    made = ringtrue("keys", "create", "--label", "desk", *scopes, "--expires-days", 3, "--json")
    assert made.code == 0
    key = made.json()
    assert key["token"].startswith(f"rtk_{key['id']}_")
    assert (key["tenant"], key["scopes"]) == ("default", ["voices:read", "voices:speak"])
    for path in (tmp_path / "voices").rglob("*"):
        if path.is_file():
            assert key["token"].encode() not in path.read_bytes()
            assert path.stat().st_mode & 0o077 == 0, path
    listed = ringtrue("keys", "list", "--json").json()["keys"]
    assert [(item["id"], item["state"]) for item in listed] == [(key["id"], "live")]
    assert "token" not in listed[0]
    assert ringtrue("keys", "revoke", key["id"]).code == 0
    listed = ringtrue("keys", "list", "--tenant", "default", "--json").json()["keys"]
    assert listed[0]["state"] == "revoked"
    assert ringtrue("keys", "list", "--tenant", "other", "--json").json() == {"keys": []}
    assert key["id"] in ringtrue("keys", "list").out


def test_a_key_speaks_as_the_agent_it_was_made_for() -> None:
    scope = ("--label", "desk", "--scope", "voices:speak")
    assert ringtrue("keys", "create", *scope, "--json").json()["agent"] == "api"
    made = ringtrue("keys", "create", *scope, "--agent", "reception", "--json").json()
    assert made["agent"] == "reception"
    assert "reception" in ringtrue("keys", "list").out


def test_only_the_token_is_printed_to_pipe_on() -> None:
    made = ringtrue("keys", "create", "--label", "desk", "--scope", "admin")
    assert made.code == 0
    assert made.out.startswith("rtk_")
    assert len(made.out.split()) == 1
    assert "shown only now" in made.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("create", "--label", "x", "--scope", "voices:sing"), "allowed: voices:read"),
        (("create", "--label", "x", "--scope", "admin", "--tenant", "a b"), "tenant 'a b'"),
        (("create", "--scope", "admin"), "--label"),
        (("create", "--label", "x", "--scope", "admin", "--agent", "*"), "agent '*'"),
        (("revoke", "beef"), "no API key 'beef'"),
    ],
)
def test_what_is_wrong_is_said(arguments: tuple[str, ...], says: str) -> None:
    ran = ringtrue("keys", *arguments)
    assert ran.code == 2
    assert says in ran.err
    assert "Traceback" not in ran.err
    assert json.dumps(ran.out) == '""'
