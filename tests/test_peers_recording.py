"""A real SIP call that is recorded, exported, and compared with what its caller said and heard."""

from __future__ import annotations

import asyncio
import hashlib
import wave
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import yaml
from command_line import restored_logs, run_command

from ringtrue.agent.audit.opening import audit_dir, audit_keys
from ringtrue.agent.audit.searching import call_entries
from ringtrue.agent.audit.verifying import verify
from ringtrue.agent.loopback import loopback_server
from ringtrue.config.settings import load_settings
from ringtrue.loadtest.caller import VirtualCaller
from ringtrue.loadtest.phone import Phone
from ringtrue.loadtest.prompts import load_prompts
from ringtrue.loadtest.recording import Recording

pytestmark = pytest.mark.uvloop
RATE = 8000
FRAME = RATE // 50
Pcm = npt.NDArray[np.float64]


AGENT = """
name: desk
title: Front desk
greeting: Hello.
recording: {enabled: true, keep_days: 7}
disclosure: {text: This is a robot.}
dialogue:
  dtmf: {"4": order}
  slots:
    number: {type: digits, min_length: 3, max_length: 9, ask: "Your number?", sensitive: true}
  intents:
    hours: {examples: [what are your opening hours], answers: "We open at nine in the morning."}
    order: {slots: [number], answers: "A colleague will call you back."}
  fallbacks: Sorry?
  give_up: {say: Goodbye.}
"""


def configured(folder: Path) -> Path:
    """A server whose agent records, but for the numbers it asks for."""
    agents = folder / "agents"
    agents.mkdir()
    (agents / "desk.yaml").write_text(AGENT)
    config = folder / "server.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "agents": {"dir": str(agents), "default": "desk"},
                "voices": {"dir": str(folder / "house")},
                "sip": {"codecs": ["PCMU"]},
            }
        )
    )
    return config


def samples(pcm: bytes) -> Pcm:
    return np.frombuffer(pcm, "<i2").astype(np.float64)


def stereo(path: Path) -> tuple[Pcm, Pcm]:
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getframerate()) == (2, RATE)
        both = samples(file.readframes(file.getnframes())).reshape(-1, 2)
    return both[:, 0], both[:, 1]


WINDOW = RATE // 10


def found_again(part: Pcm, whole: Pcm, start: int = 0) -> float:
    """Share of the audible tenths of a second of ``part``, which begins at ``start`` on the
    caller's clock, that are in ``whole`` at about the same time, nearly the same.

    Jitter buffers shift speech by less than half a second, within a word too, and conceal what
    comes late on a busy machine; audio of anything else is found nowhere.
    """
    found = tried = 0
    for at in range(0, len(part) - WINDOW, WINDOW):
        window = part[at : at + WINDOW]
        if window.std() < 300:
            continue
        near = whole[max(0, start + at - RATE // 2) : start + at + WINDOW + RATE // 2]
        if len(near) <= WINDOW:
            continue
        energy = np.convolve(near**2, np.ones(WINDOW), "valid")
        lag = int(np.argmax(np.correlate(near, window, "valid") / np.sqrt(energy + 1)))
        tried += 1
        found += np.corrcoef(window, near[lag : lag + WINDOW])[0, 1] > 0.95
    assert tried >= 4
    return found / tried


async def test_a_call_is_recorded_as_it_was_heard(tmp_path: Path) -> None:
    config = configured(tmp_path)
    settings = load_settings(config, environ={})
    prompts = load_prompts("rms")
    keyed: list[int] = []

    async def script(caller: VirtualCaller) -> None:
        await caller.hear_out()
        await caller.say(prompts["opening_hours"])
        await caller.hear_out()
        await caller.press("4")
        await caller.hear_out()
        said = await caller.say(prompts["order_number"])
        keyed.extend((said.speech.start, said.speech.end))
        await caller.wait_for_agent_to_start()
        await caller.pause(1)
        await caller.hangup()

    async with loopback_server(settings) as server, Phone() as phone:
        target = f"sip:desk@127.0.0.1:{server.sip_port}"
        result = await phone.call(target, script, name="caller", max_seconds=60)
        record = await server.calls.last_record()
        skipped = server.calls.clock.stats.skipped
    assert result.ok, result.detail
    assert record is not None
    assert record.disclosure == "fully"
    assert result.recording is not None
    out = tmp_path / "call.wav"
    ran = await command("export", record.call_id, "-o", out, "--json", config=config)
    caller, agent = stereo(out)
    sent = agent.astype("<i2")
    compare(result.recording, caller, agent, result.said[0].speech, keyed)
    assert ran["complete"] is True
    assert record.recording is not None
    assert ran["seconds"] == pytest.approx(record.recording["seconds"])
    assert 2 < record.recording["masked_seconds"] < record.recording["seconds"] - 2
    assert record.recording["dropped"] == 0

    listed = await command("list", "--json", config=config)
    assert [one["call"] for one in listed["recordings"]] == [record.call_id]
    await command("erase", record.call_id, "--json", config=config)
    assert (await command("list", "--json", config=config))["recordings"] == []
    with restored_logs():
        gone = await asyncio.to_thread(
            run_command, "recordings", "export", record.call_id, "-o", out, "-c", config
        )
    assert gone.code == 1
    entries = call_entries(audit_dir(settings), record.call_id)
    kinds = [entry["kind"] for entry in entries]
    outputs = [entry["output"] for entry in entries if entry["kind"] == "utterance"]
    assert len(outputs) >= 3
    if not skipped:  # else there is silence where the clock left ticks out
        assert all(sha256(sent[frames_of(output)]) == output["sha256"] for output in outputs)
    assert [kind for kind in kinds if kind.startswith("recording.")] == [
        "recording.begun",
        "recording.ended",
        "recording.exported",
        "recording.erased",
    ]
    assert verify(audit_dir(settings), audit_keys(settings)).problems == []


def frames_of(output: dict[str, Any]) -> slice:
    """Where the audit log says that an utterance's samples lie."""
    return slice(output["first"] * FRAME, (output["last"] + 1) * FRAME)


def sha256(pcm: npt.NDArray[np.int16]) -> str:
    return hashlib.sha256(pcm.tobytes()).hexdigest()


async def command(*arguments: object, config: Path) -> Any:
    with restored_logs():
        ran = await asyncio.to_thread(run_command, "recordings", *arguments, "--config", config)
    assert ran.code == 0, ran.err
    return ran.json()


def compare(heard: Recording, caller: Pcm, agent: Pcm, question: Any, secret: list[int]) -> None:
    """The recording against the caller's own."""
    assert len(caller) == len(agent)
    ear, mouth = samples(heard.agent), samples(heard.caller)
    assert found_again(ear[: question.start], agent) > 0.5
    assert found_again(ear[question.end : secret[0]], agent, question.end) > 0.5
    assert found_again(mouth[question.start : question.end], caller, question.start) > 0.5
    # What was said to the sensitive question is nowhere, nor anything of the caller around it.
    margin = RATE // 4
    assert not caller[secret[0] - margin : secret[1] + margin].any()
    assert agent[secret[1] + RATE // 2 :].any()
    # Before the notice was heard the caller was not recorded.
    assert not caller[: 2 * RATE].any()
