"""Every carrier calls the served endpoints with its documented messages."""

from __future__ import annotations

import asyncio
import json
import math
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import httpx
import pytest
from fastapi import FastAPI
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from peers.agents import AgentServer, ToneAgent
from peers.carriers import (
    CALLER,
    DIALLED,
    EXOTEL,
    PHONES,
    SETTINGS,
    Exotel,
    Genesys,
    Phone,
    Plivo,
    Telnyx,
    Vonage,
)
from peers.http import serving
from peers.webrtc_client import amplitude
from ringtrue.config.carrier_settings import CarriersSettings
from ringtrue.streaming.ports import EndReason, MediaLeg
from ringtrue.telephony.carriers.router import carriers_router

EVERY = pytest.mark.parametrize("kind", PHONES, ids=lambda kind: kind.name)


@pytest.fixture
async def server() -> AsyncIterator[AgentServer]:
    held = AgentServer()
    app = FastAPI()
    settings = CarriersSettings.model_validate(SETTINGS)
    app.include_router(carriers_router(held.answer, settings, full=lambda: held.full, mark="~w1"))
    async with serving(app) as held.url:
        yield held
        assert not [error for agent in held.agents for error in agent.errors]


@pytest.fixture(autouse=True)
def ended_by_rest(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What serializers asked carriers' REST interfaces, which tests don't reach."""
    asked: list[tuple[str, str]] = []

    @asynccontextmanager
    async def answer(method: str, url: str, status: int) -> AsyncIterator[Any]:
        asked.append((method, url))
        yield type("Answer", (), {"status": status})()

    monkeypatch.setattr(
        aiohttp.ClientSession, "post", lambda _, url, **__: answer("POST", url, 200)
    )
    monkeypatch.setattr(
        aiohttp.ClientSession, "delete", lambda _, url, **__: answer("DELETE", url, 204)
    )
    return asked


async def until(condition: Callable[[], Any], seconds: float = 8.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def calling(server: AgentServer, phone: Phone) -> AsyncIterator[ClientConnection]:
    """``phone`` on a call: 600 Hz said in real time, and everything answered."""
    url = await phone.ring(server.url)
    async with connect(url, additional_headers=phone.headers) as websocket:
        for message in phone.start():
            await websocket.send(message)
        tasks = [
            asyncio.create_task(_say(phone, websocket)),
            asyncio.create_task(_take(phone, websocket)),
        ]
        try:
            yield websocket
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert not [found for found in results if isinstance(found, AssertionError)], results


async def _say(phone: Phone, websocket: ClientConnection) -> None:
    samples, at = phone.rate // 50, 0
    loop = asyncio.get_running_loop()
    due = loop.time()
    if isinstance(phone, Genesys):  # sends nothing before it was answered
        await until(lambda: "opened" in phone.types)
    try:
        while True:
            wave = (
                8000 * math.sin(2 * math.pi * 600 * n / phone.rate) for n in range(at, at + samples)
            )
            await websocket.send(phone.audio(struct.pack(f"<{samples}h", *map(int, wave))))
            at += samples
            due += 0.02
            await asyncio.sleep(max(0.0, due - loop.time()))
    except ConnectionClosed:
        return


async def _take(phone: Phone, websocket: ClientConnection) -> None:
    try:
        async for message in websocket:
            for reply in phone.take(message):
                await websocket.send(reply)
    except ConnectionClosed:
        return


@EVERY
async def test_a_call_from_start_to_end(server: AgentServer, kind: type[Phone]) -> None:
    phone = kind()
    async with calling(server, phone) as websocket:
        await until(lambda: amplitude(bytes(phone.heard), 600, phone.rate) > 7000)
        agent, call = server.agents[0], server.calls[0]
        assert isinstance(call.leg, MediaLeg)
        assert (call.transport, call.leg.rate) == (kind.name, phone.rate)
        assert (call.remote, call.local) == (CALLER, DIALLED)
        assert call.id.startswith(f"{kind.name}-")
        assert call.id.endswith("~w1")
        await websocket.send(phone.key("7"))
        await until(lambda: agent.digits == ["7"])
        assert amplitude(bytes(agent.inbound), 600, phone.rate) > 7000
        if phone.marks:
            await until(lambda: (call.leg.heard_position() or 0) > phone.rate // 2)
            assert (call.leg.heard_position() or 0) <= len(phone.heard) // 2
        else:
            assert call.leg.heard_position() is None
        call.leg.clear()
        await until(lambda: phone.clears == 1)
        last = phone.end()
        if last is None:
            await websocket.close()
        else:
            await websocket.send(last)
        assert await asyncio.wait_for(call.ended(), 5) is EndReason.CALLER_HUNG_UP
        await asyncio.wait_for(server.done.wait(), 5)
        assert call.leg.stats.packets_lost == 0
        assert call.ignored <= 1


@EVERY
async def test_the_agent_hangs_up(
    server: AgentServer, kind: type[Phone], ended_by_rest: list[tuple[str, str]]
) -> None:
    server.agent = ToneAgent
    phone = kind()
    async with calling(server, phone) as websocket:
        await until(lambda: amplitude(bytes(phone.heard), 440, phone.rate) > 7000)
        await server.calls[0].hangup()
        await asyncio.wait_for(websocket.wait_closed(), 5)
        assert websocket.close_code == 1000
    assert await server.calls[0].ended() is EndReason.AGENT_HUNG_UP
    expected = {
        "telnyx": [("POST", "https://api.telnyx.com/v2/calls/v3:call/actions/hangup")],
        "plivo": [
            (
                "DELETE",
                "https://api.plivo.com/v1/Account/MAXXXXXXXXXXXXXXXXXX/Call/"
                "12345678-1234-1234-1234-123456789abc/",
            )
        ],
    }
    assert ended_by_rest == expected.get(kind.name, [])
    if isinstance(phone, Genesys):
        assert phone.types[-2:] == ["disconnect", "closed"]


@EVERY
async def test_a_dropped_connection_is_a_lost_far_end(
    server: AgentServer, kind: type[Phone]
) -> None:
    phone = kind()
    async with calling(server, phone) as websocket:
        await until(lambda: server.agents)
        websocket.transport.abort()
        await asyncio.wait_for(server.done.wait(), 5)
    assert server.agents[0].end is EndReason.FAR_END_LOST


@pytest.mark.parametrize("kind", [Telnyx, Plivo, Exotel, Vonage], ids=lambda kind: kind.name)
async def test_a_token_is_good_once_and_for_its_own_carrier(
    server: AgentServer, kind: type[Phone]
) -> None:
    phone = kind()
    url = await phone.ring(server.url)
    assert url.partition("?")[0].endswith("~w1")
    other = "plivo" if kind is not Plivo else "telnyx"
    for wrong in (url.replace(f"/{kind.name}/", f"/{other}/"), url, url + "x"):
        with pytest.raises(InvalidStatus) as refused:
            async with connect(wrong):
                pass
        assert refused.value.response.status_code == 403
    assert not server.calls


@EVERY
async def test_a_stream_that_begins_wrongly_is_closed(
    server: AgentServer, kind: type[Phone]
) -> None:
    first = json.loads(kind().start()[-1])
    broken: list[str | bytes] = ["nonsense", "[]", b"\0", json.dumps({"event": "media"})]
    if kind is not Vonage:
        inner = "parameters" if kind is Genesys else "start"
        broken += [json.dumps(first | {inner: 1}), json.dumps(first | {inner: {}})]
    for message in broken:
        phone = kind()
        url = await phone.ring(server.url)
        async with connect(url, additional_headers=phone.headers) as websocket:
            await websocket.send(message)
            with pytest.raises(ConnectionClosed):
                await asyncio.wait_for(websocket.recv(), 5)
            assert websocket.close_code == 1008
    assert not server.calls


@EVERY
async def test_a_message_that_means_nothing_ends_the_call(
    server: AgentServer, kind: type[Phone]
) -> None:
    phone = kind()
    async with calling(server, phone) as websocket:
        await until(lambda: server.agents)
        await websocket.send("{" * 100)
        await asyncio.wait_for(server.done.wait(), 5)
    assert server.agents[0].end is EndReason.ERROR


async def refused(server: AgentServer, method: str, path: str, **options: Any) -> int:
    async with httpx.AsyncClient() as client:
        return (await client.request(method, f"{server.url}{path}", **options)).status_code


async def test_webhooks_that_no_carrier_signed_are_refused(server: AgentServer) -> None:
    for name in ("telnyx", "plivo", "exotel", "vonage"):
        for method in ("GET", "POST"):
            assert await refused(server, method, f"/{name}/voice") == 403
    body = b"From=%2B1"
    headers = Telnyx().signed(b"From=%2B2")
    assert await refused(server, "POST", "/telnyx/voice", content=body, headers=headers) == 403
    late = Telnyx().signed(body) | {"telnyx-timestamp": str(int(time.time()) - 400)}
    assert await refused(server, "POST", "/telnyx/voice", content=body, headers=late) == 403
    url = f"{server.url}/plivo/voice"
    headers = Plivo().signed(url, {"From": "1"})
    assert await refused(server, "POST", "/plivo/voice", data={"From": "2"}, headers=headers) == 403
    wrong = (EXOTEL[0], "guess")
    assert await refused(server, "GET", "/exotel/voice", auth=wrong) == 403
    claims: list[dict[str, Any]] = [{"iat": 1}, {"api_key": "other"}, {"payload_hash": "0" * 64}]
    for change in claims:
        options: dict[str, Any] = {"headers": Vonage().signed(**change)}
        if "payload_hash" in change:
            options["json"] = {"from": "1"}
        assert await refused(server, "POST", "/vonage/voice", **options) == 403


async def test_a_full_server_says_so_in_each_carriers_words(server: AgentServer) -> None:
    server.full = True
    for kind in (Telnyx, Plivo, Vonage):
        with pytest.raises((AssertionError, ValueError)):  # no stream in the answer
            await kind().ring(server.url)
    assert await refused(server, "GET", "/exotel/voice", auth=EXOTEL) == 503
    phone = Genesys()
    with pytest.raises(InvalidStatus):
        async with connect(await phone.ring(server.url), additional_headers=phone.headers):
            pass


async def test_genesys_is_believed_signed_lately_and_once(server: AgentServer) -> None:
    host, target = server.url.partition("://")[2], "/genesys/audiohook"
    phone = Genesys()
    good = phone.signed(host, target)

    async def knock(headers: dict[str, str]) -> bool:
        try:
            async with connect(f"ws://{host}{target}", additional_headers=headers):
                return True
        except InvalidStatus:
            return False

    assert await knock(good)
    assert not await knock(good)  # the nonce was shown
    assert not await knock({"x-api-key": good["x-api-key"]})
    assert not await knock(phone.signed(host, target, created=str(int(time.time()) - 60)))
    assert not await knock(phone.signed(host, target, nonce="short"))
    assert not await knock(phone.signed(host, "/elsewhere"))
    assert not await knock(phone.signed(host, target) | {"audiohook-session-id": "another"})
    assert not await knock(phone.signed(host, target) | {"x-api-key": "guess"})


async def test_genesys_may_try_the_connection(server: AgentServer) -> None:
    phone = Genesys()
    phone.conversation = "00000000-0000-0000-0000-000000000000"
    url = await phone.ring(server.url)
    async with connect(url, additional_headers=phone.headers) as websocket:
        await websocket.send(phone.start()[0])
        phone.take(await asyncio.wait_for(websocket.recv(), 5))
        await websocket.send(phone.ping())
        phone.take(await asyncio.wait_for(websocket.recv(), 5))
        await websocket.send(phone.end())
        phone.take(await asyncio.wait_for(websocket.recv(), 5))
    assert phone.types == ["opened", "pong", "closed"]
    assert not server.calls
