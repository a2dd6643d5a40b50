"""All carriers call the running server at once, and each caller hears the agent."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from peers.carriers import PHONES, SETTINGS, Phone
from peers.server import running_server

SECONDS = 2.0
"""What each caller listens to, loudly enough to be speech."""


def loud(phone: Phone) -> bool:
    pcm = memoryview(bytes(phone.heard)).cast("h")
    return sum(abs(sample) > 500 for sample in pcm) > SECONDS * phone.rate / 4


async def listen(phone: Phone, base: str) -> None:
    """Call, listen, and hang up."""
    url = await phone.ring(base)
    async with connect(url, additional_headers=phone.headers) as websocket:
        for message in phone.start():
            await websocket.send(message)

        async def speak() -> None:
            while True:
                await websocket.send(phone.audio(bytes(phone.rate // 25)))
                await asyncio.sleep(0.02)

        silence = asyncio.create_task(speak())
        try:
            async with asyncio.timeout(20):
                while not loud(phone):
                    for reply in phone.take(await websocket.recv()):
                        await websocket.send(reply)
        finally:
            silence.cancel()
            await asyncio.gather(silence, return_exceptions=True)
        last = phone.end()
        if last is not None:
            await websocket.send(last)
            try:
                async with asyncio.timeout(5):
                    while True:
                        await websocket.recv()
            except ConnectionClosed:
                return


async def test_every_carriers_caller_hears_the_agent(tmp_path: Path) -> None:
    settings = {"SIP__ENABLED": "false"}
    for name, section in SETTINGS.items():
        wanted = {key: value for key, value in section.items() if key != "api_key"}
        if name in ("exotel", "vonage", "genesys"):  # Telnyx's ends calls at Telnyx
            wanted = section
        settings |= {
            f"CARRIERS__{name.upper()}__{key.upper()}": json.dumps(value)
            if isinstance(value, bool)
            else str(value)
            for key, value in wanted.items()
        }
    with running_server(tmp_path / "server", settings) as server:
        phones = [kind() for kind in PHONES]
        await asyncio.gather(*(listen(phone, server.url) for phone in phones))
        records = server.wait_for_records(len(phones))
        log = server.log.read_text()
    assert sorted(record["transport"] for record in records) == sorted(SETTINGS)
    for record in records:
        assert record["outcome"] == "caller_hung_up", record
        assert record["agent"] == "reception"
        assert record["refused"] == {}
        assert record["errors"] == {}
    assert "2015550123" not in log
