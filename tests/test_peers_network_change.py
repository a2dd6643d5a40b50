"""Chromium's own network changes in the middle of a call: another interface, another address."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from peers.chromium import browser_caller, chromium, find_chromium
from peers.network import machine
from peers.server import running_server
from ringtrue.telephony.webrtc.calls import RECONNECT_SECONDS


async def test_a_call_goes_on_over_another_network(tmp_path: Path) -> None:
    program = find_chromium()
    with machine() as laptop:
        settings = {"SIP__ENABLED": "false", "HTTP__HOST": "0.0.0.0"}
        with running_server(tmp_path / "server", settings) as server:
            origin = f"http://{laptop.ours(1)}:{server.http_port}"
            async with (
                chromium(command=laptop.command(tmp_path, program), trusted=origin) as browser,
                browser_caller(browser) as caller,
            ):
                await caller.open(origin)
                await caller.call("reception")
                await caller.heard()
                assert (await caller.selected())[0]["address"] == laptop.address(1)
                laptop.plug(2)
                laptop.unplug(1)
                try:
                    async with asyncio.timeout(RECONNECT_SECONDS):
                        await caller.page.wait_for_selector("#error:has-text('Reconnecting')")
                        await caller.page.wait_for_selector("#error", state="hidden")
                except TimeoutError:
                    told = await caller.page.locator("#error").text_content()
                    pytest.fail(f"the page says {told!r}, sending by {await caller.selected()}")
                assert (await caller.selected())[0]["address"] == laptop.address(2)
                await caller.heard()
                lines = await caller.transcript()
                await caller.hang_up()
                await caller.wait_for_state("ended")
            (record,) = server.wait_for_records(1)
    assert [kind for kind, _ in lines] == ["agent"]  # it went on, and didn't begin again
    assert record["outcome"] == "caller_hung_up"
    assert record["media"]["interruptions"] == 1
    assert record["refused"] == {}
    assert record["errors"] == {}
