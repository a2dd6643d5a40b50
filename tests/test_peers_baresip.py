"""baresip calls the running server with each codec and hears what the agent says, whole.

What it recorded names the call, to who has the watermark's key.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
from real_speech import prompt
from speech import pause, say
from test_peers_transfer import until

from peers.baresip import baresip, needs_baresip
from peers.compare import compare, read_wav, write_wav
from peers.greetings import rendered_greetings
from peers.marks import server_keys, sessions
from peers.server import RunningServer, running_server
from ringtrue.config.agent_schema import load_agents

RATES = {"PCMU": 8000, "PCMA": 8000, "G722": 16000}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    needs_baresip()
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@dataclass(frozen=True)
class Greeted:
    """A call that heard the greeting out and hung up."""

    recording: np.ndarray
    rate: int
    greetings: list[np.ndarray]
    record: dict[str, Any]
    log: str


@pytest.fixture(scope="module")
def greeted(
    server: RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Greeted]:
    """Calls with a codec; once, however often it is asked for."""

    @cache
    def call(codec: str) -> Greeted:
        folder = tmp_path_factory.mktemp(codec)
        rate = RATES[codec]
        greetings = asyncio.run(rendered_greetings(load_agents()["reception"], rate))
        seconds = max(len(g) for g in greetings) / rate + 2.5
        source = folder / "source.wav"
        write_wav(source, pause(seconds, rate), rate)
        calls = len(server.records())
        target = f"sip:reception@127.0.0.1:{server.sip_port}"
        with baresip(folder / "phone", source, codec, target, seconds=int(seconds) + 5) as phone:
            phone.wait(seconds + 15)
        recording, recorded_rate = read_wav(phone.recording())
        record = server.wait_for_records(calls + 1)[-1]
        return Greeted(recording, recorded_rate, greetings, record, phone.log)

    return call


@pytest.mark.parametrize("codec", RATES)
def test_the_greeting_arrives_whole(greeted: Callable[[str], Greeted], codec: str) -> None:
    call = greeted(codec)
    assert call.rate == RATES[codec], call.log
    found = max(
        (compare(g, call.recording, call.rate) for g in call.greetings),
        key=lambda d: d.correlation,
    )
    assert found.lost_blocks == 0
    assert found.correlation > 0.99
    assert found.snr_db > 25
    assert call.record["outcome"] == "caller_hung_up"
    assert call.record["rate"] == call.rate
    assert call.record["underruns"] == 0
    assert call.record["refused"] == {}
    assert call.record["packets_lost"] == 0


@pytest.mark.parametrize("codec", RATES)
def test_the_recording_names_its_call(greeted: Callable[[str], Greeted], codec: str) -> None:
    call = greeted(codec)
    assert sessions(call.recording, call.rate, server_keys()) == [call.record["watermark"]]


def test_two_calls_in_one_file_are_both_named_and_a_person_is_not(
    greeted: Callable[[str], Greeted],
) -> None:
    one, two = greeted("PCMU"), greeted("G722")
    person = prompt("en_US_f_Allison", "vm-tooshort").astype(float)
    file = [soxr.resample(one.recording, one.rate, two.rate), person, two.recording]
    keys = server_keys()
    assert sessions(np.concatenate(file), two.rate, keys) == [
        one.record["watermark"],
        two.record["watermark"],
    ]
    assert sessions(np.tile(person, 2), two.rate, keys) == []


def test_a_question_is_answered(server: RunningServer, tmp_path: Path) -> None:
    greetings = asyncio.run(rendered_greetings(load_agents()["reception"], 8000))
    lead = max(len(g) for g in greetings) / 8000 + 1
    question = say("What are your opening hours?", 8000, "rms")
    source = tmp_path / "source.wav"
    write_wav(source, np.concatenate([pause(lead), question, pause(5)]), 8000)
    calls = len(server.records())
    target = f"sip:reception@127.0.0.1:{server.sip_port}"
    with baresip(tmp_path / "phone", source, "PCMU", target, seconds=40) as phone:
        phone.wait(45)
    record = server.wait_for_records(calls + 1)[-1]
    answered = record["turns"][1]
    assert "turn_latency" in answered["intervals_ms"], record
    assert answered["heard_ms"] > 2000 or record["outcome"] == "caller_hung_up"
    recording, _ = read_wav(phone.recording())
    tail = recording[int((lead + len(question) / 8000) * 8000) :]
    assert np.sqrt(np.mean(tail[: 8000 * 4] ** 2)) > 0.01


def test_a_phone_holds_and_hears_the_rest_when_it_is_back(
    server: RunningServer, tmp_path: Path
) -> None:
    """Its re-INVITEs (sendonly, then sendrecv): the greeting rests, and goes on where it was."""
    greetings = asyncio.run(rendered_greetings(load_agents()["reception"], 8000))
    seconds = max(len(g) for g in greetings) / 8000 + 5
    source = tmp_path / "source.wav"
    write_wav(source, pause(seconds), 8000)
    calls = len(server.records())
    target = f"sip:reception@127.0.0.1:{server.sip_port}"
    with baresip(tmp_path / "phone", source, "PCMU", target, seconds=40) as phone:
        until(lambda: "Call established" in phone.log, phone.folder / "log")
        time.sleep(2)
        phone.command("hold")
        time.sleep(1.5)
        phone.command("resume")
        phone.wait(45)
    record = server.wait_for_records(calls + 1)[-1]
    assert (record["outcome"], record["errors"], record["refused"]) == ("caller_hung_up", {}, {})
    assert len(record["digests"]) == 2, "what was said before the hold, and after it"
    whole = [len(greeting) / 8 for greeting in greetings]
    assert any(record["turns"][0]["heard_ms"] == pytest.approx(ms, abs=25) for ms in whole)
