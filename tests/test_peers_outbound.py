"""The running server calls sipp and baresip, by its command and over HTTP."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from command_line import Ran, restored_logs, run_command
from speech import pause, say

from peers.baresip import baresip, needs_baresip
from peers.compare import compare, read_wav, write_wav
from peers.greetings import rendered_greetings
from peers.server import RunningServer, running_server
from ringtrue.agent.outbound import with_variables
from ringtrue.config.agent_schema import load_agents
from ringtrue.loadtest.ports import free_port, free_span
from ringtrue.telephony.codecs.g711 import UlawCodec

SIPP = shutil.which("sipp")
SCENARIOS = Path(__file__).parent / "peers" / "sipp"

HEARD_SECONDS = 2.0
RULES = {
    "OUTBOUND__ENABLED": "true",
    "OUTBOUND__TENANTS__DEFAULT__URIS": "sip:*@127.0.0.1:*",
}


@dataclass
class Desk:
    """The server, and a key to place calls with."""

    server: RunningServer
    key: str
    audit: Path

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.request(
            method, f"{self.server.url}/v1{path}", headers=headers, timeout=40, **options
        )

    def place(self, port: int, **changes: Any) -> dict[str, Any]:
        order = {"to": f"sip:bob@127.0.0.1:{port}", "agent": "reminder"} | changes
        answer = self.ask("POST", "/calls", json=order)
        assert answer.status_code == 202, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def until(self, placed: dict[str, Any], *states: str) -> dict[str, Any]:
        """The call once it is in one of ``states``."""
        deadline = time.monotonic() + 40
        while placed["state"] not in states:
            assert time.monotonic() < deadline, self.server.log.read_text()[-2000:]
            query = {"after": placed["version"], "wait": 10}
            placed = self.ask("GET", f"/calls/{placed['id']}", params=query).json()
        return placed

    def record(self, placed: dict[str, Any]) -> dict[str, Any]:
        """What is written of it."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            for record in self.server.records():
                if record["call_id"] == placed["call"]:
                    return record
            time.sleep(0.1)
        raise AssertionError(f"no record of {placed}")

    def ringtrue(self, *arguments: object) -> Ran:
        """``ringtrue call`` as a user has it."""
        with restored_logs(), pytest.MonkeyPatch.context() as patch:
            patch.setenv("RINGTRUE_API_KEY", self.key)
            patch.setenv("RINGTRUE_HTTP__PORT", str(self.server.http_port))
            return run_command("call", *arguments)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("server")
    voices = {"VOICES__DIR": str(folder / "voices"), "AUDIT__DIR": str(folder / "audit")}
    with running_server(folder, voices | RULES) as server:
        with restored_logs(), pytest.MonkeyPatch.context() as patch:
            for name, value in voices.items():
                patch.setenv(f"RINGTRUE_{name}", value)
            made = run_command("keys", "create", "--label", "test", "--scope", "calls:place")
        assert made.code == 0, made.err
        yield Desk(server, made.out.strip().splitlines()[-1], folder / "audit")


@contextmanager
def callee(folder: Path, scenario: str, *, status: int = 486) -> Iterator[int]:
    """sipp taking one call by ``scenario``, which it has to follow to its end.

    ``status`` is what a scenario refuses with that has no status of its own.
    """
    if SIPP is None:
        pytest.skip("sipp (Debian: sip-tester) is not installed")
    folder.mkdir(exist_ok=True)
    script = (SCENARIOS / f"{scenario}.xml").read_text()
    (folder / "scenario.xml").write_text(script.replace("[status]", str(status)))
    tone = (6000 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)).astype("<i2")
    (folder / "early.ulaw").write_bytes(UlawCodec().encode(tone.tobytes()))
    port = free_port()
    process = subprocess.Popen(
        [
            *(SIPP, "-sf", "scenario.xml", "-i", "127.0.0.1"),
            *("-mi", "127.0.0.1", "-p", str(port), "-mp", str(free_span(10)), "-nostdin"),
            *("-m", "1", "-timeout", "30", "-timeout_error", "-trace_err"),
            *("-error_file", "errors"),
        ],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=(folder / "out").open("wb"),
        stderr=subprocess.STDOUT,
    )
    try:
        time.sleep(0.2)
        assert process.poll() is None, (folder / "out").read_text(errors="replace")[-2000:]
        yield port
        ended = process.wait(20)
        errors = folder / "errors"
        said = errors.read_text(errors="replace") if errors.is_file() else ""
        assert ended == 0, said + (folder / "out").read_text(errors="replace")[-2000:]
    finally:
        process.kill()
        process.wait(5)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(486, "busy"), (603, "declined"), (480, "no_answer"), (404, "unreachable")],
)
def test_a_callee_that_refuses(desk: Desk, tmp_path: Path, status: int, outcome: str) -> None:
    with callee(tmp_path, "callee_refuses", status=status) as port:
        placed = desk.until(desk.place(port), "ended", "failed")
    assert (placed["state"], placed["outcome"]) == ("failed", outcome)
    assert (placed["sip_status"], placed["retry_after"]) == (status, 7)
    record = desk.record(placed)
    assert (record["outcome"], record["sip_status"]) == (outcome, status)
    assert record["direction"] == "outbound"
    assert record["sip_reason"] == "Sorry ***67", "numbers in a far end's words are masked"


def test_a_refusal_is_told_counted_and_audited(desk: Desk) -> None:
    ran = desk.ringtrue("tel:+19002345678", "--agent", "reminder")
    assert ran.code == 1
    assert "refused (premium)" in ran.err
    wrong = desk.ringtrue("sip:bob@127.0.0.1", "--agent", "nobody", "--json")
    assert (wrong.code, wrong.json()["type"]) == (1, "urn:ringtrue:problem:no-such-agent")
    page = desk.server.get("/metrics")
    assert 'ringtrue_calls_refused_total{reason="outbound_premium"} 1.0' in page
    entries = b"".join(f.read_bytes() for f in desk.audit.rglob("*") if f.is_file())
    assert b"call.refused" in entries
    assert b"2345678" not in entries


def test_a_callee_that_lets_it_ring(desk: Desk, tmp_path: Path) -> None:
    with callee(tmp_path, "callee_rings") as port:
        ran = desk.ringtrue(
            f"sip:bob@127.0.0.1:{port}", "--agent", "reminder", "--ring-seconds", 5, "--wait"
        )
    assert ran.code == 1, ran.err
    assert "no_answer" in ran.out
    assert "ringing" in ran.err


def test_a_callee_that_plays_before_it_answers(desk: Desk, tmp_path: Path) -> None:
    """183 with 100rel, PRACK, music, 200 without a description: listened to, then spoken to."""
    with callee(tmp_path, "callee_early") as port:
        placed = desk.until(desk.place(port), "ended", "failed")
    assert (placed["state"], placed["ended"]) == ("ended", "caller_hung_up"), placed
    assert placed["early_media_ms"] >= 300
    record = desk.record(placed)
    assert record["early_media_ms"] == placed["early_media_ms"]
    assert record["setup_ms"] >= 500
    assert record["frames_sealed"] > 25


def test_baresip_is_greeted_held_and_told_the_rest(desk: Desk, tmp_path: Path) -> None:
    """By the command; on hold it hears the music, and then the greeting goes on."""
    needs_baresip()
    source = tmp_path / "source.wav"
    write_wav(source, np.concatenate([pause(9.0), say("No.", 8000, "rms"), pause(9.0)]), 8000)
    options = {"seconds": 30, "account": ";answermode=auto"}
    with baresip(tmp_path / "phone", source, "PCMU", **options) as phone:  # type: ignore[arg-type]
        target = f"sip:alice@127.0.0.1:{phone.sip_port}"
        ran = desk.ringtrue(target, "--agent", "reminder", "--var", "customer=Ms Rivera", "--json")
        assert ran.code == 0, ran.err
        placed = desk.until(ran.json(), "answered", "failed")
        assert placed["state"] == "answered", (placed, phone.log)
        time.sleep(HEARD_SECONDS + 0.8)
        held = desk.ask("POST", f"/calls/{placed['id']}/hold")
        assert held.status_code == 200, held.text
        assert held.json()["on_hold"]
        time.sleep(1.5)
        assert desk.ask("POST", f"/calls/{placed['id']}/resume").status_code == 200
        time.sleep(1.0)
        ended = desk.ask("DELETE", f"/calls/{placed['id']}")
        assert ended.status_code == 200
        placed = desk.until(ended.json(), "ended")
        phone.command("quit")
        phone.wait(10)
    assert placed["ended"] == "cancelled"
    record = desk.record(placed)
    assert record["refused"] == {}
    assert record["underruns"] == 0
    said = 1000 * (HEARD_SECONDS + 1.8)
    assert said - 800 < record["turns"][0]["heard_ms"] < said + 800, "nothing is said on hold"
    assert record["duration_ms"] > said + 1000
    assert phone.log.count("got re-INVITE") == 2
    heard, rate = read_wav(phone.recording())  # it records until the first change
    agent = with_variables(load_agents()["reminder"], {"customer": "Ms Rivera"})
    greetings = asyncio.run(rendered_greetings(agent, rate))
    cut = (greeting[: int(HEARD_SECONDS * rate)] for greeting in greetings)
    found = max((compare(part, heard, rate) for part in cut), key=lambda d: d.correlation)
    assert found.correlation > 0.99
    assert found.lost_blocks == 0
