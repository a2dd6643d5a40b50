"""The phone that is called: the target is told to, and the call that comes is the one ordered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from scripted_agent import AgentCall, voice

from ringtrue.loadtest.answering import AnsweringPhone
from ringtrue.loadtest.caller import VirtualCaller
from ringtrue.loadtest.phone import Phone
from ringtrue.streaming.clock import MediaClock
from ringtrue.telephony.rtp.ports import PortPool
from ringtrue.telephony.rtp.session import session_factory
from ringtrue.telephony.sip.endpoint import SipEndpoint
from ringtrue.telephony.sip.handles import ServerInvite

KEY = "a key"


@asynccontextmanager
async def dialler(status: int = 202) -> AsyncIterator[tuple[str, list[dict[str, str]]]]:
    """A web server that places the calls it is told to, by SIP, and greets who answers."""
    orders: list[dict[str, str]] = []
    calls: list[asyncio.Task[None]] = []
    clock = MediaClock()

    async def nobody(invite: ServerInvite) -> None:
        await invite.reject(404)

    async with SipEndpoint("127.0.0.1", 0, on_invite=nobody) as endpoint:

        async def place(to: str) -> None:
            media = session_factory(PortPool("127.0.0.1"), codecs=("PCMU",))
            outgoing = await endpoint.call(to, media)
            call = await outgoing.answered()
            now = asyncio.get_running_loop().time()
            agent = AgentCall(call, [voice(0.3)], delay=0.2, greeting=voice(0.3), now=now)
            clock.add(agent)
            await call.ended()
            clock.remove(agent)

        async def ordered(request: web.Request) -> web.Response:
            if request.headers.get("Authorization") != f"Bearer {KEY}":
                return web.Response(status=401)
            orders.append(await request.json())
            if status == 202:
                calls.append(asyncio.create_task(place(orders[-1]["to"])))
            return web.json_response({}, status=status, headers={"Retry-After": "7"})

        app = web.Application()
        app.router.add_post("/v1/calls", ordered)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        try:
            yield f"http://{host}:{port}", orders
            await asyncio.gather(*calls)
        finally:
            clock.stop()
            await runner.cleanup()


async def hear(caller: VirtualCaller) -> None:
    await caller.wait_for_agent_to_start()
    await caller.hangup()


async def test_each_order_is_answered_by_its_own_caller() -> None:
    async with (
        dialler() as (url, orders),
        AnsweringPhone("127.0.0.1", agent="reminder", url=url, api_key=KEY) as phone,
    ):
        results = await asyncio.gather(*(phone.call("", hear, name=f"c{n}") for n in range(2)))
    assert all(result.ok for result in results), [result.detail for result in results]
    assert [order["agent"] for order in orders] == ["reminder"] * 2
    assert len({order["to"] for order in orders}) == 2


async def test_a_target_that_will_not_call_is_a_refusal() -> None:
    async with (
        dialler(429) as (url, _),
        AnsweringPhone("127.0.0.1", agent="reminder", url=url, api_key=KEY) as phone,
    ):
        result = await phone.call("", hear)
    assert result.refused is not None
    assert (result.refused.status, result.refused.retry_after) == (429, 7)


async def test_a_call_that_never_comes_is_given_up() -> None:
    async with (
        dialler(202) as (url, _),
        AnsweringPhone("127.0.0.1", agent="reminder", url=f"{url}/no", api_key=KEY) as phone,
    ):
        result = await phone.call("", hear, answer_within=0.5)
    assert not result.ok


async def test_a_stranger_is_not_answered() -> None:
    async with (
        AnsweringPhone("127.0.0.1", agent="a", url="http://x", api_key=KEY) as phone,
        Phone() as stranger,
    ):
        result = await stranger.call(f"sip:else@127.0.0.1:{phone.port}", hear)
    assert result.refused is not None
    assert result.refused.status == 404


def test_what_it_needs_is_named() -> None:
    with pytest.raises(ValueError, match="--api-url"):
        AnsweringPhone("127.0.0.1", agent="a", url="", api_key="")
