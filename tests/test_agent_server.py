"""The server as a whole: what it is made of, who answers, how it stops, what it survives."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from fakes.calls import ScriptedCall
from peers.server import running_server
from ringtrue.agent.loopback import loopback_server, on_loopback
from ringtrue.agent.server import AgentChoice, Server
from ringtrue.config.agent_schema import AgentError
from ringtrue.config.errors import ConfigError
from ringtrue.config.settings import Settings, load_settings
from ringtrue.loadtest.caller import CallResult, Failure, VirtualCaller
from ringtrue.loadtest.phone import Phone
from ringtrue.loadtest.ports import free_port
from ringtrue.streaming.errors import RecognizerError
from ringtrue.streaming.ports import EndReason
from ringtrue.telephony.rtp.ports import PortPool
from ringtrue.telephony.rtp.session import session_factory
from ringtrue.telephony.sip.endpoint import SipEndpoint
from ringtrue.telephony.sip.errors import CallFailedError
from ringtrue.telephony.sip.handles import ServerInvite

TORTURE = Path(__file__).resolve().parents[2] / "shared" / "rfc4475"

BROKEN = (
    b"",
    b"\0" * 200,
    b"\r\n\r\n",
    b"SIP/2.0 200 OK\r\n\r\n",
    b"INVITE sip:demo@127.0.0.1 SIP/2.0\r\n",
    b"INVITE sip:demo@127.0.0.1 SIP/2.0\r\nContent-Length: 99999\r\nVia: x\r\n\r\nv=0",
    b"INVITE \xff\xfe SIP/7.0\r\nVia: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bK1\r\n\r\n",
)


def settings(**changed: Any) -> Settings:
    """The shipped settings with some changed, as a file would."""
    environ = {f"RINGTRUE_{key}": str(value) for key, value in changed.items()}
    return load_settings(environ=environ)


@asynccontextmanager
async def client(codecs: tuple[str, ...] = ("PCMU",)) -> AsyncIterator[tuple[SipEndpoint, Any]]:
    """A SIP endpoint that calls, and the media it calls with."""

    async def refuse(invite: ServerInvite) -> None:
        await invite.reject(486)

    async with SipEndpoint("127.0.0.1", 0, on_invite=refuse) as endpoint:
        yield endpoint, session_factory(PortPool("127.0.0.1"), codecs=codecs)


async def greeted(caller: VirtualCaller) -> None:
    """Hang up as soon as the agent is heard."""
    await caller.wait_for_agent_to_start()
    await caller.hangup()


async def idle(server: Server) -> None:
    """Until the server is done with every call."""
    async with asyncio.timeout(5):
        while len(server.calls):
            await asyncio.sleep(0.01)


async def normal_call(server: Server, transport: str = "") -> CallResult:
    async with Phone() as phone:
        target = f"sip:demo@127.0.0.1:{server.sip_port}{transport}"
        return await phone.call(target, greeted)


def bindable(port: int, kind: socket.SocketKind) -> bool:
    """Whether nobody holds ``port``."""
    with socket.socket(socket.AF_INET, kind) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


# -- who answers ---------------------------------------------------------------------------------


def test_who_answers() -> None:
    choice = AgentChoice(settings(SIP__ROUTES='{"4930123": "reminder"}', AGENTS__DEFAULT="demo"))
    assert choice.dialled("sip:4930123@example.com").name == "reminder"
    assert choice.dialled("sip:reception@example.com;transport=tcp").name == "reception"
    assert choice.dialled("sip:somebody@example.com").name == "demo"
    assert choice.dialled("sip:example.com").name == "demo"
    assert choice.dialled("tel:+4930123").name == "demo"
    assert choice.dialled("no uri \0").name == "demo"
    assert choice.named("reminder").name == "reminder"
    assert choice.named(None).name == choice.named("nobody").name == "demo"


def test_a_default_that_is_no_agent() -> None:
    with pytest.raises(ConfigError, match="agents.default is 'nobody'; agents: demo, reception"):
        AgentChoice(settings(AGENTS__DEFAULT="nobody"))


def test_a_route_to_no_agent() -> None:
    with pytest.raises(ConfigError, match="sip.routes.1 is 'sales'; agents: demo, reception"):
        AgentChoice(settings(SIP__ROUTES='{"1": "sales"}'))


def test_an_agent_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: [\n")
    with pytest.raises(AgentError, match=r"a\.yaml"):
        AgentChoice(settings(AGENTS__DIR=tmp_path))


# -- starting ------------------------------------------------------------------------------------


async def test_it_serves_sip_and_the_web_until_stopped() -> None:
    async with loopback_server(settings()) as server:
        assert server.ready
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.http_port}") as web:
            assert (await web.get("/healthz")).json() == {"status": "ok"}
            assert (await web.get("/readyz")).json() == {"status": "ready", "calls": 0}
            page = await web.get("/")
            assert page.status_code == 200
            assert page.headers["content-type"].startswith("text/html")
            assert (await web.post("/twilio/voice")).status_code == 404
            metrics = await web.get("/metrics")
            assert metrics.headers["content-type"].startswith("text/plain")
            for part in ("media", "graph", "synthesis", "recognizer"):
                assert f'ringtrue_cpu_seconds_total{{part="{part}"}}' in metrics.text
            result = await normal_call(server)
            assert result.ok, result.detail
            record = await server.calls.last_record()
            assert record is not None
            assert record.outcome == "caller_hung_up"
            counted = 'ringtrue_calls_total{outcome="caller_hung_up",transport="sip"} 1.0'
            assert counted in (await web.get("/metrics")).text
        sip, http = server.sip_port, server.http_port
        assert sip is not None
        assert http is not None
    assert not server.ready
    assert bindable(sip, socket.SOCK_DGRAM)
    assert bindable(sip, socket.SOCK_STREAM)
    assert bindable(http, socket.SOCK_STREAM)


async def test_only_what_is_enabled_is_served() -> None:
    off = settings(HTTP__METRICS="false", WEBRTC__ENABLED="false")
    async with (
        loopback_server(off) as server,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.http_port}") as web,
    ):
        for path in ("/metrics", "/", "/docs", "/redoc", "/openapi.json"):
            assert (await web.get(path)).status_code == 404, path
        assert (await web.get("/healthz")).status_code == 200
    without = on_loopback(settings(WEBRTC__ENABLED="false"))
    sip = without.sip.model_copy(update={"tcp": False})
    without = without.model_copy(
        update={"http": without.http.model_copy(update={"enabled": False}), "sip": sip}
    )
    async with Server(without) as server:
        assert server.http_port is None
        assert (await normal_call(server)).ok


@pytest.mark.parametrize(
    ("section", "kind"),
    [("sip", socket.SOCK_DGRAM), ("sip", socket.SOCK_STREAM), ("http", socket.SOCK_STREAM)],
)
async def test_a_port_that_is_taken(section: str, kind: socket.SocketKind) -> None:
    """A clear error, and nothing of what was started before it stays."""
    with socket.socket(socket.AF_INET, kind) as holder:
        holder.bind(("127.0.0.1", 0))
        if kind is socket.SOCK_STREAM:
            holder.listen()
        port = holder.getsockname()[1]
        given = on_loopback(settings())
        part = getattr(given, section).model_copy(update={"port": port})
        server = Server(given.model_copy(update={section: part}))
        name = section.upper()
        said = f"{name} can't listen on 127.0.0.1 port {port}: .*in use"
        with pytest.raises(OSError, match=said):
            async with server:
                pytest.fail("started on a port that is taken")
        assert not server.ready
        if section == "http":
            assert server.sip_port is not None
            assert bindable(server.sip_port, socket.SOCK_DGRAM)


async def test_engines_that_cannot_load(tmp_path: Path) -> None:
    grammar = tmp_path / "menu.jsgf"
    grammar.write_text("this is no grammar")
    bad = settings(STT__MODEL="jsgf", STT__FILE=grammar)
    with pytest.raises(RecognizerError):
        async with loopback_server(bad):
            pytest.fail("started without a recognizer")


# -- calls ---------------------------------------------------------------------------------------


async def test_calls_that_are_not_taken_and_a_call_over_tcp() -> None:
    """Each refusal is followed by a call that works: no place was lost."""
    given = settings(SIP__CODECS="PCMU", SERVER__MAX_CALLS="1")
    async with loopback_server(given) as server:
        target = f"sip:demo@127.0.0.1:{server.sip_port}"

        async def refused(codecs: tuple[str, ...]) -> CallFailedError:
            async with client(codecs) as (endpoint, media):
                outgoing = await endpoint.call(target, media)
                with pytest.raises(CallFailedError) as caught:
                    await outgoing.answered()
                return caught.value

        for _ in range(3):
            assert (await refused(("G722",))).status == 488
        assert len(server.calls) == 0
        result = await normal_call(server, ";transport=tcp")
        assert result.ok, result.detail
        await idle(server)
        async with client() as (endpoint, media):
            call = await (await endpoint.call(target, media)).answered()
            full = await refused(("PCMU",))
            assert full.status == 503
            assert full.retry_after is not None
            assert full.retry_after > 0
            await call.hangup()
        await idle(server)
        result = await normal_call(server)
        assert result.ok, result.detail
        await idle(server)
        assert server._pool is not None
        assert server._pool.in_use == 0
        assert [record.outcome for record in server.calls.records] == ["caller_hung_up"] * 3


async def test_broken_messages_and_then_a_call() -> None:
    messages = list(BROKEN)
    if (TORTURE / "index.json").is_file():
        cases = json.loads((TORTURE / "index.json").read_text())["cases"]
        messages += [
            (TORTURE / case["file"]).read_bytes()
            for case in cases
            if case["verdict"] in ("reject", "drop") and not case["liberal_accept_ok"]
        ]
    async with loopback_server(settings()) as server:
        assert server.sip_port is not None
        address = ("127.0.0.1", server.sip_port)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for message in messages:
                sender.sendto(message[:65000], address)
        for message in messages:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(message)
            writer.close()
            await asyncio.gather(reader.read(), writer.wait_closed(), return_exceptions=True)
        result = await normal_call(server)
        assert result.ok, result.detail
        assert server._sip is not None
        assert server._sip.sizes()["calls"] == 0


async def test_a_web_call_that_finds_no_room_is_rejected() -> None:
    server = Server(on_loopback(settings(SERVER__MAX_CALLS="1")))
    assert server.calls.reserve() is None
    call = ScriptedCall()
    await server.answer(call, "demo")
    assert call.hung_up == [EndReason.REJECTED]
    server.calls.release()
    await server.engines.close()


async def test_a_browsers_call_that_never_connects_is_ended_with_the_server() -> None:
    class Unconnected(ScriptedCall):
        async def connected(self) -> bool:
            await asyncio.Event().wait()
            return True

    server = Server(on_loopback(settings()))
    assert server.calls.reserve() is None
    call = Unconnected()
    server.run_when_connected(call, "demo")  # type: ignore[arg-type]
    await asyncio.sleep(0)
    assert len(server.calls) == 1
    await server._end_tasks()
    assert call.hung_up == [EndReason.SHUTDOWN]
    assert len(server.calls) == 0
    await server.engines.close()


# -- stopping ------------------------------------------------------------------------------------


async def test_media_health_and_refusals_go_on_while_draining() -> None:
    given = on_loopback(settings())
    given = given.model_copy(
        update={"server": given.server.model_copy(update={"drain_seconds": 20.0})}
    )
    server = Server(given)
    await server.start()
    stopping: asyncio.Task[None] | None = None
    seen: dict[str, Any] = {}

    async def through_the_end(caller: VirtualCaller) -> None:
        nonlocal stopping
        await caller.wait_for_agent_to_start()
        stopping = asyncio.get_running_loop().create_task(server.close())
        await asyncio.sleep(0.2)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.http_port}") as web:
            seen["ready"] = (await web.get("/readyz")).status_code
            seen["health"] = (await web.get("/healthz")).status_code
        seen["second"] = await normal_call(server)
        sent = caller.line.position
        await caller.pause(1.0)
        seen["heard"] = caller.line.position - sent
        seen["speaking"] = caller.line.agent_speaking
        seen["stopped"] = stopping.done()
        await caller.hangup()

    async with Phone() as phone:
        result = await phone.call(f"sip:reception@127.0.0.1:{server.sip_port}", through_the_end)
    assert result.ok, result.detail
    assert stopping is not None
    async with asyncio.timeout(8):
        await stopping
    assert seen["ready"] == 503
    assert seen["health"] == 200
    assert seen["second"].failure is Failure.NOT_ANSWERED
    assert "503" in seen["second"].detail
    assert seen["speaking"], "the greeting stopped with the draining"
    assert not seen["stopped"]
    assert [record.outcome for record in server.calls.records] == ["caller_hung_up"]
    assert server.calls.records[0].underruns <= 2


async def test_sigterm_lets_a_call_finish(tmp_path: Path) -> None:
    with running_server(tmp_path, {"SERVER__DRAIN_SECONDS": "30"}) as server:

        async def through_the_end(caller: VirtualCaller) -> None:
            await caller.wait_for_agent_to_start()
            server.process.send_signal(signal.SIGTERM)
            await caller.pause(1.5)
            with pytest.raises(urllib.error.HTTPError, match="503"):
                server.get("/readyz")
            assert server.process.poll() is None
            await caller.hangup()

        async with Phone() as phone:
            result = await phone.call(f"sip:reception@127.0.0.1:{server.sip_port}", through_the_end)
        assert result.ok, result.detail
        assert server.process.wait(10) == 0
        (record,) = server.records()
    assert record["outcome"] == "caller_hung_up"
    assert record["duration_ms"] > 1500
    assert '"event": "server.stopped"' in server.log.read_text()
    assert "Traceback" not in server.log.read_text()


async def test_sigterm_ends_a_call_that_does_not_finish(tmp_path: Path) -> None:
    with running_server(tmp_path, {"SERVER__DRAIN_SECONDS": "1"}) as server:
        began = 0.0

        async def stay(caller: VirtualCaller) -> None:
            nonlocal began
            await caller.wait_for_agent_to_start()
            server.process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            assert await caller.expect_hangup(10) is EndReason.CALLER_HUNG_UP

        async with Phone() as phone:
            result = await phone.call(f"sip:reception@127.0.0.1:{server.sip_port}", stay)
        assert result.ok, result.detail
        assert server.process.wait(10) == 0
        (record,) = server.records()
    assert record["outcome"] == "shutdown"


def test_a_process_whose_port_is_taken_says_so(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        with (
            pytest.raises(
                AssertionError, match=f"SIP can't listen on 127.0.0.1 port {port}: .*in use"
            ),
            running_server(tmp_path, {"SIP__PORT": str(port)}) as server,
        ):
            pytest.fail(f"serves on {server.sip_port}")


def _has_worker(pid: int) -> bool:
    """Whether the process has started a recognizer (imports start short-lived helpers before)."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        try:
            if b"recognizers.worker" in Path(f"/proc/{child}/cmdline").read_bytes():
                return True
        except OSError:
            continue
    return False


def test_a_process_that_gets_sigterm_while_loading_stops(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if "RINGTRUE_" not in k} | {
        "RINGTRUE_SIP__HOST": "127.0.0.1",
        "RINGTRUE_SIP__PORT": str(free_port()),
        "RINGTRUE_HTTP__HOST": "127.0.0.1",
        "RINGTRUE_HTTP__PORT": str(free_port()),
        "RINGTRUE_LOGGING__FORMAT": "json",
    }
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ringtrue.agent.cli", "serve"],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            deadline = time.monotonic() + 30
            while not _has_worker(process.pid) and time.monotonic() < deadline:
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, (tmp_path / "log").read_text()
        finally:
            process.kill()
            process.wait(5)
