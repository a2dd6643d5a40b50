"""Two workers behind one address: one killed, a voice withdrawn, a drain, and whose calls end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Final, cast

import httpx
import pytest
import yaml
from library_links import NAME, PURPOSE, candidate, statement
from test_voices_embedded import model

from peers.loopback import ensure_ice_address
from peers.server import RunningServer, running_server
from ringtrue.agent.audit.verifying import verify
from ringtrue.agent.voice_library import open_voices
from ringtrue.config.agent_schema import shipped_agents
from ringtrue.config.settings import Settings, load_settings
from ringtrue.loadtest.browser import BrowserPhone
from ringtrue.loadtest.caller import CallResult, VirtualCaller
from ringtrue.loadtest.calling import Calling
from ringtrue.loadtest.phone import Phone
from ringtrue.loadtest.twilio import TwilioPhone
from ringtrue.streaming.ports import EndReason
from ringtrue.voices.keys.signing import Signer
from ringtrue.voices.library import utc_now

CALLS = 8
WITHDRAWN = 2.0
"""Seconds within which every worker takes a voice back; how fast it really is, benches measure."""

SCOPES: Final = ("voices:write", "calls:place")
GREETING = (
    "Hello, this is the automated voice of Example, and it was made with the consent of a person. "
    "It reads this long greeting to the end, so that there is time to take it back."
)


def health(server: RunningServer) -> list[dict[str, Any]]:
    workers: list[dict[str, Any]] = json.loads(server.get("/healthz"))["workers"]
    return workers


async def until_calls(server: RunningServer, wanted: int) -> list[dict[str, Any]]:
    """The workers, once they have so many calls between them."""
    async with asyncio.timeout(20):
        while True:
            workers = await asyncio.to_thread(health, server)
            if sum(worker["calls"] for worker in workers) == wanted:
                return workers
            await asyncio.sleep(0.1)


def ready(server: RunningServer) -> int:
    try:
        with urllib.request.urlopen(f"{server.url}/readyz", timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


class Callers:
    """Callers of one kind that wait to be told to hang up."""

    def __init__(self, phone: Calling, target: str) -> None:
        self._phone, self._target = phone, target
        self.go = asyncio.Event()
        self.tasks: list[asyncio.Task[CallResult]] = []

    async def _stay(self, caller: VirtualCaller) -> None:
        await caller.wait_for_agent_to_start()
        ended = asyncio.create_task(caller.expect_hangup(within=60))
        told = asyncio.create_task(self.go.wait())
        await asyncio.wait([ended, told], return_when=asyncio.FIRST_COMPLETED)
        for task in (ended, told):
            task.cancel()
        await asyncio.gather(ended, told, return_exceptions=True)
        if self.go.is_set():
            await caller.hangup()

    def add(self, transport: str = "") -> asyncio.Task[CallResult]:
        call = self._phone.call(self._target + transport, self._stay, answer_within=20)
        self.tasks.append(asyncio.create_task(call))
        return self.tasks[-1]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the server keeps its keys and its audit log."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data" / "ringtrue"


async def test_a_killed_worker_loses_its_own_calls_only(tmp_path: Path, data: Path) -> None:
    ensure_ice_address()
    settings = {
        "TWILIO__ENABLED": "true",
        "TWILIO__AUTH_TOKEN": "secret",
        "SERVER__WORKERS": "2",
        "SERVER__DRAIN_SECONDS": "60",
        "ADMISSION__ENABLED": "false",
    }
    with running_server(tmp_path, settings) as server:
        sip = f"sip:demo@127.0.0.1:{server.sip_port}"
        async with Phone() as phone:
            await _kill_one(Callers(phone, sip), server)
        await _call_by_web(server)
        async with Phone() as phone:
            await _stop(Callers(phone, sip), server)
        assert await asyncio.to_thread(server.process.wait, 20) == 0
    report = verify(data / "audit", [Signer.load(data / "keys" / "audit.pem").public])
    assert report.good, report.problems
    assert len(report.logs) == 2


async def _kill_one(callers: Callers, server: RunningServer) -> None:
    """Eight calls on both workers, four of them lost; then both take calls again."""
    for number in range(CALLS):
        callers.add(";transport=tcp" if number % 4 == 3 else "")
    workers = await until_calls(server, CALLS)
    assert [worker["calls"] for worker in workers] == [CALLS // 2, CALLS // 2]
    await asyncio.sleep(0.2)

    os.kill(workers[0]["pid"], signal.SIGKILL)
    ended, going = await asyncio.wait(callers.tasks, timeout=3)
    results = [task.result() for task in ended]
    assert [result.ended for result in results] == [EndReason.CALLER_HUNG_UP] * (CALLS // 2)

    newcomer = callers.add()
    await until_calls(server, CALLS // 2 + 1)
    async with asyncio.timeout(60):
        while (await asyncio.to_thread(health, server))[0]["state"] != "ready":
            await asyncio.sleep(0.1)
    callers.add()
    workers = await until_calls(server, CALLS // 2 + 2)
    assert (workers[0]["restarts"], workers[0]["calls"]) == (1, 1)
    metrics = await asyncio.to_thread(server.get, "/metrics")
    assert f"ringtrue_workers_calls_ended_total {CALLS / 2}" in metrics
    assert 'ringtrue_workers{state="ready"} 2.0' in metrics

    callers.go.set()
    for result in await asyncio.gather(*going, newcomer, callers.tasks[-1]):
        assert result.ok, result.detail
        assert result.stats.packets_lost == 0
    await until_calls(server, 0)


async def _call_by_web(server: RunningServer) -> None:
    """Tokens and streams find the worker that they are for."""
    async with BrowserPhone(agent="demo") as browser, TwilioPhone("secret") as twilio:
        browsers, carrier = Callers(browser, server.url), Callers(twilio, server.url)
        for number in range(2):
            carrier.add()
            workers = await until_calls(server, number + 1)
        assert [worker["calls"] for worker in workers] == [1, 1]
        for _ in range(3):
            browsers.add()
        await until_calls(server, 5)
        for callers in (browsers, carrier):
            callers.go.set()
            for result in await asyncio.gather(*callers.tasks):
                assert result.ok, result.detail
    await until_calls(server, 0)


async def _stop(callers: Callers, server: RunningServer) -> None:
    """SIGTERM lets calls go on and takes no more; a second one ends them with BYE."""
    first, second = callers.add(), callers.add()
    await until_calls(server, 2)
    server.process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(5):
        while await asyncio.to_thread(ready, server) != 503:
            await asyncio.sleep(0.05)
    refused = (await callers.add()).refused
    assert refused is not None
    assert refused.status == 503
    assert refused.retry_after is not None
    assert not first.done()
    assert not second.done()

    server.process.send_signal(signal.SIGTERM)
    results = await asyncio.gather(first, second)
    assert {result.ended for result in results} == {EndReason.CALLER_HUNG_UP}


def with_cloned_voice(folder: Path) -> dict[str, str]:
    """Settings of a server whose agent ``ada`` speaks with a cloned voice."""
    agents = folder / "agents"
    agents.mkdir()
    agent = yaml.safe_load((shipped_agents() / "demo.yaml").read_text())
    agent |= {
        "name": "ada",
        "voice": NAME,
        "fallback_voice": "rms",
        "purpose": PURPOSE,
        "greeting": GREETING,
        "disclosure": {"in_greeting": True},
    }
    (agents / "ada.yaml").write_text(yaml.safe_dump(agent))
    return {
        "AGENTS__DIR": str(agents),
        "AGENTS__DEFAULT": "ada",
        "VOICES__DIR": str(folder / "voices"),
    }


async def admitted(settings: Settings) -> tuple[str, str]:
    """The id of the agent's voice, and a key that may withdraw it."""
    async with open_voices(settings) as library:
        (engine,) = library.engines
        cloned = candidate(engine=engine, state=model().to_bytes())
        voice, _ = await library.admit("default", cloned, statement(), utc_now())
        keys = library.store.api_keys
        issued = await keys.create("default", label="test", scopes=SCOPES, now=utc_now())
        return voice.id, issued.token


async def test_a_withdrawal_reaches_every_worker_and_a_drain_cuts_no_call(
    tmp_path: Path, data: Path
) -> None:
    values = with_cloned_voice(tmp_path)
    values |= {
        "SERVER__WORKERS": "2",
        "SERVER__DRAIN_SECONDS": "60",
        "ADMISSION__ENABLED": "false",
        "OUTBOUND__ENABLED": "true",
        "OUTBOUND__TENANTS__DEFAULT__URIS": "sip:*@127.0.0.1:*",
    }
    environ = dict(os.environ) | {f"RINGTRUE_{key}": value for key, value in values.items()}
    voice, token = await admitted(load_settings(environ=environ))
    with running_server(tmp_path, values) as server:
        async with Phone() as phone:
            callers = Callers(phone, f"sip:ada@127.0.0.1:{server.sip_port}")
            calls = [callers.add(), callers.add()]
            workers = await until_calls(server, 2)
            assert [worker["calls"] for worker in workers] == [1, 1]
            await asyncio.sleep(0.5)
            await _place(server, token)
            await _withdraw(server, voice, token)

            server.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(5):
                while await asyncio.to_thread(ready, server) != 503:
                    await asyncio.sleep(0.05)
            assert not any(call.done() for call in calls)
            assert server.process.poll() is None
            callers.go.set()
            for result in await asyncio.gather(*calls):
                assert result.ok, result.detail
        assert await asyncio.to_thread(server.process.wait, 20) == 0
    records = [record for record in server.records() if record["direction"] == "inbound"]
    assert [record["voice_revoked"] for record in records] == ["withdrawn"] * 2
    assert [record["outcome"] for record in records] == [EndReason.CALLER_HUNG_UP] * 2
    assert [record["refused"].get("consent", 0) for record in records] == [0, 0]


class BusyCallee(asyncio.DatagramProtocol):
    """Refuses calls (RFC 3261 §8.2.6), once it is told to."""

    def __init__(self) -> None:
        self.refusing = asyncio.Event()
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if not data.startswith(b"INVITE") or not self.refusing.is_set():
            return  # the INVITE comes again
        kept = ("via:", "from:", "call-id:", "cseq:")
        lines = data.decode().split("\r\n")
        to = next(line for line in lines if line.lower().startswith("to:"))
        answer = ["SIP/2.0 486 Busy Here", *(x for x in lines if x.lower().startswith(kept))]
        assert self._transport is not None
        text = "\r\n".join([*answer, f"{to};tag=busy", "Content-Length: 0", "", ""])
        self._transport.sendto(text.encode(), addr)


async def _place(server: RunningServer, token: str) -> None:
    """Each worker places one of two calls, and is the one that is asked for it."""
    loop = asyncio.get_running_loop()
    transport, callee = await loop.create_datagram_endpoint(BusyCallee, local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    order = {"to": f"sip:bob@127.0.0.1:{port}", "agent": "ada"}
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=20) as web:
        placed = [(await web.post("/v1/calls", json=order)).json() for _ in range(2)]
        assert {call["id"].partition("~")[2] for call in placed} == {"w0", "w1"}
        callee.refusing.set()
        for call in placed:
            state = call
            async with asyncio.timeout(20):
                while state["state"] != "failed":
                    query = {"after": state["version"], "wait": 5}
                    state = (await web.get(f"/v1/calls/{call['id']}", params=query)).json()
            assert state["outcome"] == "busy"
    transport.close()


async def _withdraw(server: RunningServer, voice: str, token: str) -> None:
    """By a request to one worker; both calls lose the voice."""
    request = urllib.request.Request(
        f"{server.url}/v1/voices/{voice}/withdraw",
        b"",
        {"Authorization": f"Bearer {token}"},
        method="POST",
    )

    def asked() -> int:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return int(answer.status)

    assert await asyncio.to_thread(asked) == 200
    async with asyncio.timeout(WITHDRAWN):
        while True:
            metrics = await asyncio.to_thread(server.get, "/metrics")
            if 'ringtrue_voices_revoked_total{reason="withdrawn"} 2.0' in metrics:
                return
            await asyncio.sleep(0.05)
