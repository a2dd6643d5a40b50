"""``ringtrue call tel:+…`` over Twilio: the running server, and Twilio's side on the wire."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import pytest
from command_line import Ran, restored_logs, run_command

from fakes.twilio_api import ACCOUNT, AUTH, ApiCall, TwilioApi, told, twilio_api
from peers.server import RunningServer, running_server
from ringtrue.loadtest.ports import free_port

TO, FROM = "+12015550123", "+12015550100"
HEARD_SECONDS = 1.0


def settings_of(folder: Path, api: TwilioApi, port: int) -> dict[str, str]:
    return {
        "VOICES__DIR": str(folder / "voices"),
        "AUDIT__DIR": str(folder / "audit"),
        "SIP__ENABLED": "false",
        "HTTP__PORT": str(port),
        "HTTP__PUBLIC_URL": f"http://127.0.0.1:{port}",
        "TWILIO__ENABLED": "true",
        "TWILIO__AUTH_TOKEN": AUTH,
        "TWILIO__ACCOUNT_SID": ACCOUNT,
        "TWILIO__API_URL": api.url,
        "OUTBOUND__ENABLED": "true",
        "OUTBOUND__TRUNKS": json.dumps({"main": {"provider": "twilio", "rates": {"+1": 0.01}}}),
        "OUTBOUND__TENANTS": json.dumps({"default": {"countries": ["US"], "callers": [FROM]}}),
    }


async def answered(api: TwilioApi, call: ApiCall) -> None:
    """Somebody answers, listens for a while, and hangs up."""
    await api.callback(call, "ringing")
    async with api.answer(call) as caller:
        async with asyncio.timeout(20):
            while sum(byte not in (0x7F, 0xFF) for byte in caller.heard) < 8000 * HEARD_SECONDS:
                await asyncio.sleep(0.05)
        await caller.hang_up()


async def test_the_command_calls_over_twilio(tmp_path: Path) -> None:
    async with twilio_api() as api:
        api.plot = answered
        port = free_port()
        settings = settings_of(tmp_path, api, port)
        with running_server(tmp_path / "server", settings) as server:
            key = await asyncio.to_thread(made_key, settings)
            ran = await asyncio.to_thread(call, server, key, "--wait")
            assert ran.code == 0, ran.err
            assert "answered" in ran.err
            (record,) = server.wait_for_records(1)
            (order,) = api.calls
            await order.ended.wait()

            api.plot = told("ringing", "busy")
            refused = await asyncio.to_thread(call, server, key, "--wait")
            assert refused.code == 1
            assert "busy" in refused.out + refused.err
            api.refusals = [(400, {"code": 21211, "message": TO, "status": 400}, {})]
            unreachable = await asyncio.to_thread(call, server, key, "--wait")
            assert unreachable.code == 1
            assert "unreachable" in unreachable.out + unreachable.err
            records = server.wait_for_records(3)
            elsewhere = await ordered(server, key, to="+442079460123")
            assert elsewhere["reason"] == "not_allowed"
            metrics = server.get("/metrics")
        log = server.log.read_text()
    assert (record["transport"], record["direction"]) == ("twilio", "outbound")
    assert record["outcome"] == "caller_hung_up"
    assert record["refused"] == {}
    assert record["errors"] == {}
    assert record["setup_ms"] > 0
    assert [found["outcome"] for found in records[1:]] == ["busy", "unreachable"]
    assert {found["transport"] for found in records} == {"twilio"}
    assert 'outcome="busy"' in metrics
    assert TO.removeprefix("+") not in log
    assert AUTH not in log


def made_key(settings: dict[str, str]) -> str:
    with restored_logs(), pytest.MonkeyPatch.context() as patch:
        for name in ("VOICES__DIR", "AUDIT__DIR"):
            patch.setenv(f"RINGTRUE_{name}", settings[name])
        made = run_command("keys", "create", "--label", "test", "--scope", "calls:place")
    assert made.code == 0, made.err
    return made.out.strip().splitlines()[-1]


def call(server: RunningServer, key: str, *options: str) -> Ran:
    with restored_logs(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("RINGTRUE_API_KEY", key)
        patch.setenv("RINGTRUE_HTTP__PORT", str(server.http_port))
        return run_command("call", f"tel:{TO}", "--agent", "reminder", *options)


async def ordered(server: RunningServer, key: str, to: str) -> dict[str, str]:
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"}) as client:
        answer = await client.post(f"{server.url}/v1/calls", json={"to": to, "agent": "reminder"})
    found: dict[str, str] = answer.json()
    return found
