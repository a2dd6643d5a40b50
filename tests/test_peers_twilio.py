"""Twilio's side of the wire calls the running server: a conversation, and who is kept out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from speech import pause, say
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from fakes.openai_server import Say, openai_server
from peers.compare import Difference, compare
from peers.marks import server_keys, sessions
from peers.server import RunningServer, running_server
from peers.twilio_client import FRAME, Rejected, TwilioCaller, dial, new_sid, ring, signed_headers
from ringtrue.config.agent_schema import Agent, load_agents
from ringtrue.streaming.llm.slots import parse_keys
from ringtrue.streaming.phrases import PhraseSplitter, spoken_text
from ringtrue.streaming.ports import WordMark
from ringtrue.telephony.codecs.g711 import UlawCodec
from ringtrue.voices.stock import FliteEngine

AUTH = "0123456789abcdef0123456789abcdef"
RATE = 8000
SETTINGS = {"TWILIO__ENABLED": "true", "TWILIO__AUTH_TOKEN": AUTH, "SIP__ENABLED": "false"}
AUDIBLE = 300

MARK_SECONDS = 0.25
"""Between two marks lie 60 ms; the rest is what decision and messages take on a busy machine."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """With room for one call."""
    settings = SETTINGS | {"SERVER__MAX_CALLS": "1"}
    with running_server(tmp_path_factory.mktemp("server"), settings) as running:
        yield running


@pytest.fixture
async def engine() -> AsyncIterator[FliteEngine]:
    held = FliteEngine()
    await held.warm()
    yield held
    await held.close()


@pytest.fixture
def agent() -> Agent:
    return load_agents()["reception"]


@dataclass
class Rendering:
    """A text as the engine speaks it and µ-law carries it."""

    samples: np.ndarray
    words: list[WordMark]

    def first(self, seconds: float) -> Rendering:
        return Rendering(self.samples[: int(seconds * RATE)], self.words)


async def rendered(engine: FliteEngine, agent: Agent, text: str, **slots: str) -> Rendering:
    """``text`` spoken phrase by phrase, alone."""
    splitter = PhraseSplitter()
    stream = engine.open(agent.voice, RATE)
    for phrase in [*splitter.feed(text.format(**agent.variables, **slots)), *splitter.flush()]:
        stream.feed(spoken_text(phrase))
    stream.finish()
    chunks = [chunk async for chunk in stream.frames()]
    pcm = UlawCodec().decode(UlawCodec().encode(b"".join(chunk.pcm for chunk in chunks)))
    words = [word for chunk in chunks for word in chunk.words]
    return Rendering(np.frombuffer(pcm, "<i2").astype(float) / 32768, words)


def heard(caller: TwilioCaller, since: int = 0) -> np.ndarray:
    """What the caller heard from sample ``since`` on."""
    return np.frombuffer(caller.heard_pcm(), "<i2")[since:].astype(float) / 32768


def found(rendering: Rendering, caller: TwilioCaller, since: int = 0) -> Difference:
    """Where and how well ``rendering`` is in what was heard from sample ``since`` on.

    What the machine inserted when it held a process up is left out: this is about what was said.
    """
    starved = [at + i - since for at in caller.starved if at >= since for i in range(FRAME)]
    return compare(rendering.samples, np.delete(heard(caller, since), starved), RATE)


def listened_to(rendering: Rendering, caller: TwilioCaller, tail: float = 0.6) -> float:
    """Second of ``rendering`` to which it was heard when speech was dropped for the last time.

    By what was played then, whatever the machine or the agent let pass before.
    """
    stopped = [cut.at for cut in caller.cuts if max(cut.pcm(), default=0) > AUDIBLE][-1]
    heard_last = heard(caller)[stopped - round(tail * RATE) : stopped]
    return compare(heard_last, rendering.samples, RATE).lag_seconds + tail


def is_whole(difference: Difference) -> bool:
    return difference.correlation > 0.99 and difference.lost_blocks == 0


def is_silent(caller: TwilioCaller, seconds: float) -> bool:
    """Whether nothing was audible in the last ``seconds``."""
    tail = heard(caller)[-int(seconds * RATE) :]
    return len(tail) == int(seconds * RATE) and bool(np.abs(tail).max() * 32768 < AUDIBLE)


async def until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def ask(caller: TwilioCaller, question: str) -> None:
    """Say it to the end, and go on when the last sample is on the wire."""
    caller.say(say(question, RATE, "rms").astype("<i2").tobytes())
    await until(lambda: not caller.speaking)
    caller.say(pause(1.5, RATE).tobytes())


async def test_a_conversation(server: RunningServer, engine: FliteEngine, agent: Agent) -> None:
    """Greeting, question, answer, barge-in, keys, goodbye; all of it heard on the wire."""
    dialogue = agent.dialogue
    assert dialogue is not None
    greeting = await rendered(engine, agent, agent.openings()[0])
    hours = [await rendered(engine, agent, text) for text in dialogue.intents["hours"].answers]
    order = dialogue.slots["order_number"]
    which = await rendered(engine, agent, order.ask[0])
    number = parse_keys(order, "54321")
    assert number is not None
    right = await rendered(
        engine,
        agent,
        dialogue.intents["order_status"].confirm[0],
        order_number=number.spoken,
    )
    async with dial(server.url, AUTH) as caller:
        await until(lambda: len(caller.heard) > len(greeting.samples) and is_silent(caller, 0.5))
        assert is_whole(found(greeting, caller))

        asked = len(caller.heard)
        await ask(caller, "What are your opening hours?")
        await until(lambda: not is_silent(caller, 0.5))
        await asyncio.sleep(2.0)
        assert any(is_whole(found(answer.first(1.5), caller, asked)) for answer in hours)

        clears, cut = caller.clears, len(caller.heard)
        await ask(caller, "Where is my order?")
        assert is_silent(caller, 0.3)  # it pauses at once, and gives up once it knows why
        await until(lambda: caller.clears > clears, 3)
        stopped = caller.heard_at_clear
        assert cut < stopped
        await until(
            lambda: len(caller.heard) > stopped + len(which.samples) and not caller.speaking
        )
        await until(lambda: is_silent(caller, 0.7))
        asking = found(which, caller, stopped)
        assert is_whole(asking)
        # between the clear and the next answer not a sample of the one that was cut
        between = heard(caller, stopped)[: int(asking.lag_seconds * RATE)]
        assert np.abs(between).max() * 32768 < AUDIBLE

        keyed = len(caller.heard)
        for digit in "54321#":
            await caller.press(digit)
        await until(lambda: len(caller.heard) > keyed + len(right.samples) + RATE)
        assert is_whole(found(right, caller, keyed))

    (record,) = server.wait_for_records(1)
    assert record["transport"] == "twilio"
    assert record["outcome"] == "caller_hung_up"
    assert record["agent"] == "reception"
    assert len(record["turns"]) == 4
    assert record["interruptions"] == 1
    assert record["turns"][1]["interrupted_at_ms"] is not None
    for turn in record["turns"][1:3]:
        assert turn["intervals_ms"]["turn_latency"] > 0
    assert "ttfa" in record["turns"][3]["intervals_ms"]
    assert record["underruns"] == 0
    assert record["refused"] == {}
    assert record["errors"] == {}
    assert record["packets_lost"] == 0
    assert len(record["digests"]) == 4
    assert sessions(heard(caller), RATE, server_keys()) == [record["watermark"]]


async def test_a_murmur_stops_what_twilio_holds_and_all_of_it_is_said_afterwards(
    engine: FliteEngine, agent: Agent, tmp_path: Path
) -> None:
    """Twilio's playout is 0.6 s behind: the agent pauses for a "mm-hm", and goes on."""
    greeting = await rendered(engine, agent, agent.openings()[0])
    with running_server(tmp_path / "server", SETTINGS) as server:
        async with dial(server.url, AUTH, behind_seconds=0.6) as caller:
            await until(lambda: len(caller.heard) > 3 * RATE)
            hum = np.concatenate([say("mhm", RATE, "rms"), pause(0.3)])
            caller.say(hum.astype("<i2").tobytes())
            await until(lambda: caller.clears == 1, 3)
            stopped = caller.heard_at_clear
            assert caller.dropped_at_clear > 0.2 * RATE, "this much would have sounded on"
            await until(lambda: len(caller.heard) > len(greeting.samples) + 3 * RATE)
            await until(lambda: is_silent(caller, 0.5))
        (record,) = server.wait_for_records(1)
    taking = record["turn_taking"]
    assert (taking["pauses"], taking["resumed"], record["interruptions"]) == (1, 1, 0)
    assert caller.clears == 1
    assert record["refused"] == record["errors"] == {}
    began = found(greeting.first(0.8), caller).lag_seconds
    told = stopped - int(began * RATE)
    tail = heard(caller, stopped)
    again = int(np.flatnonzero(np.abs(tail) * 32768 > AUDIBLE)[0])
    grain = int(0.08 * RATE)  # marks come every 60 ms, and with the network's delay
    rest = Rendering(greeting.samples[told + grain :], [])
    behind = found(rest, caller, stopped)
    assert is_whole(behind)
    assert int(behind.lag_seconds * RATE) - again <= 2 * grain, "hardly anything came twice"
    assert record["turns"][0]["heard_ms"] == pytest.approx(len(greeting.samples) / 8, abs=25)


async def test_the_context_keeps_what_marks_confirmed(
    engine: FliteEngine, agent: Agent, tmp_path: Path
) -> None:
    """Twilio's playout is a second behind when the caller interrupts."""
    behind = 1.0
    greeting = await rendered(engine, agent, agent.openings()[0])
    reply = await rendered(engine, agent, "We open at nine.")
    async with openai_server() as model:
        model.script(Say("We open"), Say(" at nine."))
        settings = SETTINGS | {
            "LLM__ENGINE": "openai",
            "LLM__MODEL": "scripted-1",
            "LLM__BASE_URL": model.base_url,
            "LLM__API_KEY": model.api_key,
        }
        with running_server(tmp_path / "server", settings) as server:
            async with dial(server.url, AUTH, behind_seconds=behind) as caller:
                # The disclosure, which would be said again, takes 4.5 s, and begins within 1.5 s.
                await until(lambda: len(caller.heard) > 6.5 * RATE)
                assert caller.buffered_ms > 800 * behind
                await ask(caller, "What are your opening hours?")
                await until(lambda: len(caller.heard) > caller.heard_at_clear + 4 * RATE)
                assert is_whole(found(reply, caller, caller.heard_at_clear))
            (record,) = server.wait_for_records(1)
    listened = listened_to(greeting, caller)
    (request,) = model.requests
    context = [m["content"] for m in request["messages"] if m["role"] == "assistant"]
    kept = context[-1].split()
    ends = [word.end / RATE for word in greeting.words]
    assert kept == [word.text for word in greeting.words][: len(kept)]
    assert ends[len(kept) - 1] <= listened
    assert ends[len(kept)] > listened - MARK_SECONDS
    # what had been sent by then would have been more
    assert ends[len(kept)] < listened + behind
    first = record["turns"][0]
    assert first["interrupted_at_ms"] is not None
    assert listened - MARK_SECONDS < first["heard_ms"] / 1000 <= listened + 0.02


async def test_a_webhook_that_twilio_did_not_sign_is_refused(server: RunningServer) -> None:
    with pytest.raises(httpx.HTTPStatusError) as refused:
        await ring(server.url, "another-token")
    assert refused.value.response.status_code == 403
    form = {"CallSid": new_sid("CA"), "AccountSid": new_sid("AC"), "From": "+15005550006"}
    headers = signed_headers(AUTH, f"{server.url}/twilio/voice", form)
    async with httpx.AsyncClient() as client:
        changed = await client.post(
            f"{server.url}/twilio/voice", data=form | {"From": "+15005550009"}, headers=headers
        )
        unsigned = await client.post(f"{server.url}/twilio/voice", data=form)
    assert (changed.status_code, unsigned.status_code) == (403, 403)


async def test_a_full_line_is_busy_and_a_used_token_opens_nothing(server: RunningServer) -> None:
    before = len(server.records())
    async with dial(server.url, AUTH) as caller:
        await until(lambda: caller.media_received)
        with pytest.raises(Rejected, match="^busy$"):
            await ring(server.url, AUTH)
        assert 'ringtrue_calls_refused_total{reason="full"} 1.0' in server.get("/metrics")
    server.wait_for_records(before + 1)
    # there is room again, but not for a token that was shown before
    async with connect(caller.dialled.url) as again:
        thief = TwilioCaller(
            again, caller.call_sid, caller.account_sid, new_sid("MZ"), caller.dialled
        )
        await thief.start()
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(again.recv(), 5)
        assert again.close_code == 1008
    assert len(server.records()) == before + 1
    dialled, _, _ = await ring(server.url, AUTH)
    assert dialled.verbs == ["Connect", "Hangup"]


async def test_a_stream_without_a_token_is_closed(server: RunningServer) -> None:
    url = server.url.replace("http", "ws", 1) + "/twilio/media"
    async with connect(url) as stranger:
        await stranger.send(json.dumps({"event": "connected", "protocol": "Call"}))
        start = {
            "accountSid": new_sid("AC"),
            "streamSid": "MZ1",
            "callSid": new_sid("CA"),
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": {},
        }
        await stranger.send(json.dumps({"event": "start", "streamSid": "MZ1", "start": start}))
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(stranger.recv(), 5)
        assert stranger.close_code == 1008
