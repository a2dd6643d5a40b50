"""baresip calls the running server with each codec and hears what the agent says, whole."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from speech import pause, say

from peers.baresip import baresip, needs_baresip
from peers.compare import compare, read_wav, write_wav
from peers.server import RunningServer, running_server
from ringtrue.config.agent_schema import load_agents
from ringtrue.streaming.phrases import PhraseSplitter, spoken_text
from ringtrue.voices.stock import FliteEngine

RATES = {"PCMU": 8000, "PCMA": 8000, "G722": 16000}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    needs_baresip()
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


async def rendered_greetings(rate: int) -> list[np.ndarray]:
    """The reception's greetings as the engine renders them, phrase by phrase, alone."""
    agent = load_agents()["reception"]
    engine = FliteEngine()
    try:
        await engine.warm()
        renderings = []
        for template in agent.openings():
            greeting = template.format(**agent.variables)
            splitter = PhraseSplitter()
            stream = engine.open(agent.voice, rate)
            for phrase in [*splitter.feed(greeting), *splitter.flush()]:
                stream.feed(spoken_text(phrase))
            stream.finish()
            pcm = b"".join([chunk.pcm async for chunk in stream.frames()])
            renderings.append(np.frombuffer(pcm, np.int16).astype(float) / 32768)
        return renderings
    finally:
        await engine.close()


@pytest.mark.parametrize("codec", ["PCMU", "PCMA", "G722"])
def test_the_greeting_arrives_whole(server: RunningServer, tmp_path: Path, codec: str) -> None:
    rate = RATES[codec]
    greetings = asyncio.run(rendered_greetings(rate))
    seconds = max(len(g) for g in greetings) / rate + 2.5
    source = tmp_path / "source.wav"
    write_wav(source, pause(seconds, rate), rate)
    calls = len(server.records())
    target = f"sip:reception@127.0.0.1:{server.sip_port}"
    with baresip(tmp_path / "phone", source, codec, target, seconds=int(seconds) + 5) as phone:
        phone.wait(seconds + 15)
    recording, recorded_rate = read_wav(phone.recording())
    assert recorded_rate == rate, phone.log
    found = max((compare(g, recording, rate) for g in greetings), key=lambda d: d.correlation)
    assert found.lost_blocks == 0
    assert found.correlation > 0.99
    assert found.snr_db > 25
    record = server.wait_for_records(calls + 1)[-1]
    assert record["outcome"] == "caller_hung_up"
    assert record["rate"] == rate
    assert record["underruns"] == 0
    assert record["refused"] == {}
    assert record["packets_lost"] == 0


def test_a_question_is_answered(server: RunningServer, tmp_path: Path) -> None:
    greetings = asyncio.run(rendered_greetings(8000))
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
