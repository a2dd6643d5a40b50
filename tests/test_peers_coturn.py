"""Chromium converses through coturn alone, and comes back when the relay dies under the call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aioice import stun
from aioice.turn import create_turn_endpoint

from peers.chromium import browser_caller, chromium, find_chromium
from peers.coturn import Coturn
from peers.server import running_server
from ringtrue.telephony.webrtc.relay import relay_server

SECRET = "north-wind-and-sun"
AWAY_SECONDS = 3.0
"""How long there is no relay: the agent waits by then, and the call has not been given up."""


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Coturn]:
    held = Coturn(tmp_path / "coturn", SECRET)
    held.start()
    try:
        yield held
    finally:
        held.kill()


async def test_a_call_through_a_relay_survives_the_relay(relay: Coturn, tmp_path: Path) -> None:
    find_chromium()
    settings = {
        "SIP__ENABLED": "false",
        "WEBRTC__TURN__URLS": relay.url,
        "WEBRTC__TURN__SECRET": SECRET,
        "WEBRTC__RELAY_ONLY": "true",
    }
    with running_server(tmp_path / "server", settings) as server:
        async with chromium() as browser, browser_caller(browser) as caller:
            await caller.open(server.url)
            await caller.call("reception")
            await caller.heard()
            assert (await caller.selected())[0]["candidateType"] == "relay"
            await asyncio.to_thread(relay.kill)
            await asyncio.sleep(AWAY_SECONDS)
            assert await caller.error() == "Reconnecting…"
            await asyncio.to_thread(relay.start)
            await caller.page.wait_for_selector("#error", state="hidden")
            await caller.heard()
            assert (await caller.selected())[0]["candidateType"] == "relay"
            lines = await caller.transcript()
            await caller.hang_up()
            await caller.wait_for_state("ended")
        (record,) = server.wait_for_records(1)
    assert [kind for kind, _ in lines] == ["agent"]  # it went on, and didn't begin again
    assert record["outcome"] == "caller_hung_up"
    assert record["media"]["interruptions"] == 1
    assert record["refused"] == {}
    assert record["errors"] == {}


async def test_credentials_that_expired_open_no_relay(relay: Coturn) -> None:
    now = time.time()

    async def allocate(ttl: float) -> None:
        server = relay_server([relay.url], SECRET, user="caller", now=now, ttl=ttl)
        assert server.credential is not None
        assert server.username is not None
        transport, _ = await create_turn_endpoint(
            asyncio.DatagramProtocol,
            server_addr=(relay.host, relay.port),
            username=server.username,
            password=server.credential.get_secret_value(),
        )
        transport.close()

    await allocate(60)
    with pytest.raises(stun.TransactionFailed, match="401|Unauthorized|Unauthorised"):
        await allocate(-60)
