"""The caller in a browser, as far as it goes without a target."""

from __future__ import annotations

import asyncio

import pytest

from peers.loopback import ensure_ice_address
from ringtrue.loadtest.browser import BrowserCall, BrowserError, BrowserPhone
from ringtrue.loadtest.caller import VirtualCaller
from ringtrue.loadtest.calling import CallerOptions
from ringtrue.streaming.ports import EndReason


async def never(_: VirtualCaller) -> None:
    raise AssertionError("nobody answers")


async def test_a_target_that_is_not_there_fails_the_call_and_leaves_nothing() -> None:
    async with BrowserPhone(agent="demo") as phone:
        result = await phone.call("http://127.0.0.1:9", never)
    assert not result.ok
    assert "can't be asked" in result.detail


async def test_it_offers_opus_and_the_events_channel() -> None:
    ensure_ice_address()
    call = BrowserCall(CallerOptions(), "demo")
    try:
        offer = await call.offer()
        assert "opus/48000" in offer
        assert "m=application" in offer
        assert "a=candidate" in offer
        with pytest.raises(BrowserError, match="can't be used|no connection"):
            await asyncio.wait_for(call.accept("v=0\r\n"), 10)
    finally:
        await call.close()
    assert await call.ended() is EndReason.ERROR
    await call.close()
