"""baresip is handed over by REFER: in vain, and the agent is back; then to another phone."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from speech import pause, say

from peers.baresip import baresip, needs_baresip
from peers.compare import read_wav, write_wav
from peers.server import running_server

AGENT = """
name: switchboard
title: Switchboard
greeting: Hello.
transfers:
  nobody: {{to: "sip:nobody@127.0.0.1:{desk}", title: nobody}}
  desk: {{to: "sip:alice@127.0.0.1:{desk}", title: the desk}}
transferring: {{failed: Sorry, seconds: 20}}
dialogue:
  intents:
    nobody: {{examples: [get me nobody], answers: Fine, action: {{transfer: nobody}}}}
    desk: {{examples: [get me the desk], answers: Fine, action: {{transfer: desk}}}}
  dtmf: {{"1": nobody, "2": desk}}
  fallbacks: [Pardon]
  give_up: {{say: Goodbye}}
"""


def until(true: Callable[[], bool], log: Path, seconds: float = 20) -> None:
    """Wait for it; ``log`` explains why it didn't come."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.1)


def test_a_phone_is_handed_over(tmp_path: Path) -> None:
    needs_baresip()
    silence, words = tmp_path / "silence.wav", tmp_path / "words.wav"
    write_wav(silence, pause(60), 8000)
    write_wav(words, np.tile(say("This is the desk.", 8000, "rms"), 20), 8000)
    agents = tmp_path / "agents"
    agents.mkdir()
    with baresip(tmp_path / "desk", words, "PCMU", seconds=90, account=";answermode=auto") as desk:
        text = AGENT.format(desk=desk.sip_port)
        (agents / "switchboard.yaml").write_text(text)
        settings = {"AGENTS__DIR": str(agents), "AGENTS__DEFAULT": "switchboard"}
        with running_server(tmp_path / "server", settings) as server:
            target = f"sip:switchboard@127.0.0.1:{server.sip_port}"
            with baresip(tmp_path / "phone", silence, "PCMU", target, seconds=60) as phone:

                def logged(event: str) -> Callable[[], bool]:
                    return lambda: f'"event": "{event}"' in server.log.read_text()

                until(logged("dialogue.reply"), server.log)
                phone.command("sndcode", "1#")
                until(logged("call.transfer"), server.log)
                time.sleep(2)  # the apology
                phone.command("sndcode", "2#")
                (record,) = server.wait_for_records(1)
                time.sleep(2)  # the two phones talk
                assert phone.process.poll() is None
    assert record["outcome"] == "transferred"
    assert [(t["to"], t["outcome"], t["sip_status"]) for t in record["transfers"]] == [
        ("nobody", "transfer_failed", 404),
        ("desk", "transferred", 200),
    ]
    failed, done = record["transfers"]
    said = [
        turn
        for turn in record["turns"]
        if failed["ended_at_ms"] < turn["at_ms"].get("first_packet", 0) < done["began_at_ms"]
    ]
    assert [turn["heard_ms"] > 200 for turn in said] == [True, True]  # Sorry, and Fine
    assert record["errors"] == {}
    heard = max((tmp_path / "phone" / "rec").glob("*-dec.wav"), key=lambda p: p.stat().st_mtime_ns)
    recording, _ = read_wav(heard)
    assert np.sqrt(np.mean(recording**2)) > 0.01
