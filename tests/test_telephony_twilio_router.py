"""The webhook and the media websocket, called by a client that speaks as Twilio does."""

import asyncio
import json
import math
import struct
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from peers.agents import AgentServer, ToneAgent
from peers.http import serving
from peers.twilio_client import (
    Rejected,
    dial,
    new_sid,
    ring,
    signed_headers,
)
from peers.twilio_frames import CONNECTED, START
from ringtrue.streaming.ports import Call, EndReason
from ringtrue.telephony.media_streams.calls import StreamCall
from ringtrue.telephony.twilio.router import twilio_router

AUTH = "0123456789abcdef0123456789abcdef"
PUBLIC = "https://voice.example.com/ringtrue"


@pytest.fixture
async def server(request: pytest.FixtureRequest) -> AsyncIterator[AgentServer]:
    options = getattr(request, "param", {})
    held = AgentServer()
    app = FastAPI()
    app.include_router(
        twilio_router(held.answer, auth_token=AUTH, full=lambda: held.full, **options)
    )
    async with serving(app) as held.url:
        yield held


async def until(condition: Any, seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


def tone(seconds: float, frequency: float) -> bytes:
    wave = (8000 * math.sin(2 * math.pi * frequency * n / 8000) for n in range(int(seconds * 8000)))
    return b"".join(struct.pack("<h", int(value)) for value in wave)


def loudness(pcm: bytes, frequency: float) -> float:
    """Amplitude of ``frequency`` over the loudest half second."""
    wave = np.frombuffer(pcm, "<i2").astype(float)
    if not len(wave):
        return 0.0
    best = 0.0
    for start in range(0, max(1, len(wave) - 4000), 800):
        part = wave[start : start + 4000]
        time = np.arange(len(part)) / 8000
        best = max(best, 2 * abs(np.mean(part * np.exp(-2j * np.pi * frequency * time))))
    return best


async def test_a_call_is_heard_and_answered(server: AgentServer) -> None:
    async with dial(server.url, AUTH, caller="+15005550006") as caller:
        caller.say(tone(1.0, 600))
        await caller.press("5")
        await until(lambda: server.agents and server.agents[0].digits)
        await until(lambda: loudness(caller.heard_pcm(), 600) > 7000)
        call = server.calls[0]
        assert isinstance(call, Call)
        assert (call.remote, call.transport) == ("+15005550006", "twilio")
        assert "5005550006" not in call.id
        assert 0 < (call.leg.heard_position() or 0) <= len(caller.heard) + 160
    await server.done.wait()
    agent = server.agents[0]
    assert agent.end is EndReason.CALLER_HUNG_UP
    assert agent.digits == ["5"]
    assert not agent.errors
    assert loudness(bytes(agent.inbound), 600) > 7000


async def test_marks_tell_what_was_heard_and_clear_empties_twilio(server: AgentServer) -> None:
    server.agent = ToneAgent
    async with dial(server.url, AUTH) as caller:
        await until(lambda: len(caller.marks_returned) >= 5)
        leg = server.calls[0].leg
        await until(lambda: (leg.heard_position() or 0) > 0)
        # What Twilio confirms never runs ahead of what its caller has been played.
        assert (leg.heard_position() or 0) <= len(caller.heard) + 160
        leg.clear()
        await until(lambda: caller.clears == 1)
        before = leg.heard_position() or 0
        await until(lambda: (leg.heard_position() or 0) > before)


async def test_the_agent_hangs_up(server: AgentServer) -> None:
    async with dial(server.url, AUTH) as caller:
        await until(lambda: server.calls)
        await server.calls[0].hangup()
        await asyncio.wait_for(caller.closed_by_server.wait(), 5)
        assert caller.close_code == 1000
        assert caller.dialled.verbs == ["Connect", "Hangup"]
    assert await server.calls[0].ended() is EndReason.AGENT_HUNG_UP


async def test_a_websocket_that_drops_is_a_lost_far_end(server: AgentServer) -> None:
    async with dial(server.url, AUTH) as caller:
        await until(lambda: server.calls)
        caller.websocket.transport.abort()
        await server.done.wait()
    assert server.agents[0].end is EndReason.FAR_END_LOST


async def test_an_agent_that_fails_ends_the_call(server: AgentServer) -> None:
    class Broken(ToneAgent):
        async def run(self) -> None:
            raise RuntimeError("no voice")

    server.agent = Broken
    async with dial(server.url, AUTH) as caller:
        await asyncio.wait_for(caller.closed_by_server.wait(), 5)
    assert await server.calls[0].ended() is EndReason.AGENT_HUNG_UP


async def test_a_hostile_frame_closes_with_1008(server: AgentServer) -> None:
    async with dial(server.url, AUTH) as caller:
        await until(lambda: server.calls)
        await caller.websocket.send('{"event":"media"}')
        await asyncio.wait_for(caller.closed_by_server.wait(), 5)
        assert caller.close_code == 1008
    await server.done.wait()
    assert server.agents[0].end is EndReason.ERROR


async def test_a_full_server_answers_busy(server: AgentServer) -> None:
    server.full = True
    with pytest.raises(Rejected, match="busy"):
        await ring(server.url, AUTH)


@pytest.mark.parametrize("header", [{}, {"X-Twilio-Signature": "c2lnbmF0dXJl"}])
async def test_an_unsigned_webhook_is_refused(server: AgentServer, header: dict[str, str]) -> None:
    async with httpx.AsyncClient() as client:
        response = await client.post(
            f"{server.url}/twilio/voice", data={"CallSid": new_sid("CA")}, headers=header
        )
    assert response.status_code == 403
    assert "Stream" not in response.text


async def test_a_signature_covers_the_form(server: AgentServer) -> None:
    form = {"CallSid": new_sid("CA"), "AccountSid": new_sid("AC"), "From": "+15005550006"}
    headers = signed_headers(AUTH, f"{server.url}/twilio/voice", form)
    async with httpx.AsyncClient() as client:
        changed = form | {"From": "+15005550009"}
        for data in (changed, form | {"Extra": "1"}, {}):
            response = await client.post(f"{server.url}/twilio/voice", data=data, headers=headers)
            assert response.status_code == 403
        response = await client.post(f"{server.url}/twilio/voice", data=form, headers=headers)
        assert response.status_code == 200
        big = {"X": "x" * 40_000}
        response = await client.post(f"{server.url}/twilio/voice", data=big, headers=headers)
        assert response.status_code == 413


@pytest.mark.parametrize("server", [{"public_url": PUBLIC}], indirect=True)
async def test_behind_a_proxy_the_public_url_is_what_counts(server: AgentServer) -> None:
    with pytest.raises(httpx.HTTPStatusError, match="403"):
        await ring(server.url, AUTH)
    dialled, _, _ = await ring(server.url, AUTH, public_url=PUBLIC)
    assert dialled.url == "wss://voice.example.com/ringtrue/twilio/media"


@pytest.mark.parametrize("server", [{"account_sid": "AC" + "0" * 32}], indirect=True)
async def test_another_account_is_refused(server: AgentServer) -> None:
    with pytest.raises(httpx.HTTPStatusError, match="403"):
        await ring(server.url, AUTH)
    await ring(server.url, AUTH, account_sid="AC" + "0" * 32)


async def refused(url: str, *messages: dict[str, Any]) -> int | None:
    """The code the server closes with after ``messages``."""
    async with connect(url) as websocket:
        for message in messages:
            await websocket.send(json.dumps(message))
        try:
            async with asyncio.timeout(8):
                await websocket.recv()
        except ConnectionClosed:
            return websocket.close_code
    return None


async def test_a_stream_without_its_token_is_refused(server: AgentServer) -> None:
    media = server.url.replace("http", "ws") + "/twilio/media"
    assert await refused(media, CONNECTED, START) == 1008
    assert await refused(media, START) == 1008
    assert not server.calls


async def test_a_token_is_good_once_and_for_its_own_call(server: AgentServer) -> None:
    dialled, call_sid, account_sid = await ring(server.url, AUTH)
    own: dict[str, Any] = START["start"] | {
        "callSid": call_sid,
        "accountSid": account_sid,
        "customParameters": dialled.parameters,
    }
    stolen = START | {"start": own | {"callSid": new_sid("CA")}}
    assert await refused(dialled.url, CONNECTED, stolen) == 1008
    assert await refused(dialled.url, CONNECTED, START | {"start": own}) == 1008
    assert not server.calls


async def test_a_silent_websocket_is_closed(
    server: AgentServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringtrue.telephony.twilio.calls.START_TIMEOUT", 0.1)
    media = server.url.replace("http", "ws") + "/twilio/media"
    assert await refused(media) == 1008


async def test_several_callers_at_once(server: AgentServer) -> None:
    async def one(frequency: float) -> float:
        async with dial(server.url, AUTH) as caller:
            caller.say(tone(0.8, frequency))
            await until(lambda: loudness(caller.heard_pcm(), frequency) > 7000)
            others = [f for f in (500, 700, 900) if f != frequency]
            return max(loudness(caller.heard_pcm(), other) for other in others)

    crosstalk = await asyncio.gather(one(500), one(700), one(900))
    assert max(crosstalk) < 1000
    assert len(server.calls) == 3
    await until(lambda: all(agent.end is not None for agent in server.agents))


def test_without_an_auth_token_there_is_no_webhook() -> None:
    async def answer(call: StreamCall) -> None:
        raise AssertionError

    with pytest.raises(ValueError, match="auth_token is empty"):
        twilio_router(answer, auth_token="")
