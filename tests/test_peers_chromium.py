"""Chromium calls the running server from its page, talks to it, and reads its own statistics."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from speech import pause, say

from peers.chromium import BrowserCaller, browser_caller, chromium, find_chromium, write_microphone
from peers.loopback import ensure_ice_address
from peers.marks import server_keys, sessions_in
from peers.server import RunningServer, running_server
from ringtrue.config.agent_schema import load_agents

RATE = 16000
GREETING_SECONDS = 13.0
"""The reception's greeting takes 9.1 s; the rest is what the call may take to be up."""

ANSWER_SECONDS = 4.0
"""After which the caller interrupts an answer of 7.4 s."""

UNDERSTOOD_SECONDS = 75.0
"""What the caller says comes around every 32 s: one whom a busy machine made inaudible asks again,
as people do."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    find_chromium()
    ensure_ice_address()
    # what a late machine says before an answer: tests/test_agent_budget.py
    settings = {"SIP__ENABLED": "false", "BUDGET__OPENERS": "false"}
    with running_server(tmp_path_factory.mktemp("server"), settings) as running:
        yield running


@pytest.fixture(scope="module")
def microphone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Silence for the greeting, a question, a while for the answer, and a question into it."""
    line = [
        pause(GREETING_SECONDS, RATE),
        say("What are your opening hours?", RATE, "rms"),
        pause(ANSWER_SECONDS, RATE),
        say("Where is my order?", RATE, "rms"),
        pause(12, RATE),
    ]
    pcm = np.concatenate(line).astype("<i2").tobytes()
    return write_microphone(tmp_path_factory.mktemp("line") / "microphone.wav", pcm, RATE)


async def shown(caller: BrowserCaller, selector: str) -> None:
    await caller.page.wait_for_selector(selector, timeout=1000 * UNDERSTOOD_SECONDS)


def of_kind(stats: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = [entry for entry in stats if entry["type"] == kind and entry.get("kind") == "audio"]
    return found


async def test_a_conversation_in_the_browser(
    server: RunningServer, microphone: Path, tmp_path: Path
) -> None:
    agent = load_agents()["reception"]
    assert agent.dialogue is not None
    answers = [text.format(**agent.variables) for text in agent.dialogue.intents["hours"].answers]
    async with chromium(microphone) as browser, browser_caller(browser) as caller:
        await caller.open(server.url)
        await caller.call("reception")
        await caller.record()
        await caller.wait_for_state("speaking")
        await shown(caller, "#transcript .caller:not(.partial):has-text('opening hours')")
        await shown(caller, "#transcript .interrupted")
        await shown(caller, "#transcript .caller:not(.partial):has-text('order')")
        await shown(caller, "#transcript .agent:last-child:has-text('order number')")
        await shown(caller, "#latency tr:nth-child(2)")
        lines = await caller.transcript()
        received = await caller.received()
        stats = await caller.stats()
        figure = await caller.page.inner_text("#figure")
        recording = tmp_path / "call.webm"
        recording.write_bytes(await caller.recorded())
        await caller.hang_up()
        await caller.wait_for_state("ended")
        assert await caller.page.inner_text("#state") == "You hung up"
        assert (await caller.transcript())[:-1] == lines[:-1]
        assert not caller.problems
    (record,) = server.wait_for_records(1)

    greeting = lines[0][1]
    conversation = lines[-4:]
    assert [kind for kind, _ in conversation] == ["caller", "agent interrupted", "caller", "agent"]
    question, answer, interruption, _ = [text for _, text in conversation]
    assert greeting == agent.openings()[0].format(**agent.variables)
    assert question == "what are your opening hours"
    assert answer
    assert any(text.startswith(answer) and text != answer for text in answers)
    assert interruption == "where is my order"

    # the agent's audio, as the browser decoded it
    assert received.packets > 0.9 * 50 * GREETING_SECONDS
    assert received.lost == 0
    assert received.energy > 0.1
    assert received.concealed_seconds < 0.02 * received.seconds
    # the caller's, as the browser sent it and the server confirmed
    assert of_kind(stats, "media-source")["totalAudioEnergy"] > 0.1
    assert of_kind(stats, "outbound-rtp")["packetsSent"] > 0.9 * 50 * GREETING_SECONDS
    assert of_kind(stats, "remote-inbound-rtp")["packetsLost"] == 0

    assert record["transport"] == "webrtc"
    assert record["outcome"] == "caller_hung_up"
    assert record["rate"] == RATE
    turns = record["turns"]
    assert len(turns) == len([kind for kind, _ in lines if kind.startswith("agent")])
    assert [turn["interrupted_at_ms"] is not None for turn in turns[-2:]] == [True, False]
    latencies = [turn["intervals_ms"]["turn_latency"] for turn in turns[1:]]
    assert figure.startswith(f"{round(latencies[-1])} ms")
    assert record["packets_received"] > 0.9 * 50 * GREETING_SECONDS
    assert record["packets_lost"] == 0
    assert record["refused"] == {}
    assert record["errors"] == {}
    spoken = sum(turn["heard_ms"] for turn in turns) / 20
    assert record["underruns"] <= 0.01 * spoken
    assert record["inbound_dropped"] == 0
    assert record["standing_delay_in_ms"] > 0
    assert "standing_delay_out_ms" in record
    # what the page recorded, coded by Opus a second time, names the call
    assert sessions_in(recording, server_keys()) == [record["watermark"]]


async def test_a_stopping_server_says_goodbye_to_the_page(tmp_path: Path) -> None:
    find_chromium()
    ensure_ice_address()
    settings = {"SIP__ENABLED": "false", "SERVER__DRAIN_SECONDS": "0"}
    with running_server(tmp_path / "server", settings) as server:
        async with chromium() as browser, browser_caller(browser) as caller:
            await caller.open(server.url)
            await caller.call("demo")
            await caller.wait_for_state("speaking")
            server.process.send_signal(signal.SIGTERM)
            await caller.wait_for_state("ended")
            assert await caller.page.inner_text("#state") == "The server is shutting down"
            assert await caller.page.is_enabled("#call")
            await asyncio.to_thread(server.process.wait, 20)
        assert server.process.returncode == 0
        (record,) = server.wait_for_records(1)
    assert record["outcome"] == "shutdown"
    assert record["agent"] == "demo"
