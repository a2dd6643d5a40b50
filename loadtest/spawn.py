"""A target of the run's own: ``ringtrue serve`` on loopback, with what the scenario gives it.

Everything of it lies in one folder and is gone with it: keys, voices, audit log, records. Its
ports are free ones, so that a server of the machine's own isn't in the way.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from ringtrue.loadtest.phones import Access
from ringtrue.loadtest.ports import free_port, free_span
from ringtrue.loadtest.results import Transport
from ringtrue.loadtest.scenario.schema import Scenario
from ringtrue.loadtest.stand_ins.language import MODEL, LanguageStandIn
from ringtrue.loadtest.tool import COMMAND, Installation
from ringtrue.streaming.errors import RingtrueError

READY_SECONDS: Final = 90.0
STOP_SECONDS: Final = 30.0
DRAIN_SECONDS: Final = 3
MEDIA_PORTS: Final = 4000
LOG_BYTES: Final = 64 << 20
"""Of the server's log kept; what comes after is read and dropped."""

RECOGNIZER: Final = "ringtrue.loadtest.stand_ins.recognizer:StandInRecognizer"
PREFIX: Final = "RINGTRUE_"


class SpawnError(RingtrueError):
    """The target could not be started."""


@dataclass(slots=True)
class Spawned:
    """A running target."""

    process: Process
    installation: Installation
    sip_port: int
    http_port: int
    access: Access
    llm: LanguageStandIn | None = None
    redis: Process | None = None
    folder: Path = field(default_factory=Path)

    @property
    def url(self) -> str:
        """Of its web server."""
        return f"http://127.0.0.1:{self.http_port}"

    def target(self, transport: Transport, agent: str) -> str:
        """Its address for callers of a transport."""
        if transport is Transport.TWILIO:
            return f"ws://127.0.0.1:{self.http_port}"
        if transport is Transport.WEBRTC:
            return f"webrtc:{self.url}/{agent}"
        return f"sip:{agent}@127.0.0.1:{self.sip_port}"


@asynccontextmanager
async def spawned(
    scenario: Scenario, folder: Path, seed: int, *, config: Path | None = None
) -> AsyncIterator[Spawned]:
    """A server for ``scenario``, ready for calls; ``config`` is what its settings build upon.

    Raises :class:`SpawnError` with the last of its log where it doesn't come up, and
    :class:`~ringtrue.loadtest.tool.ToolError` where it can't be given a key.
    """
    serve = scenario.serve
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        llm = redis = redis_url = None
        if serve.llm is not None:
            llm = await stack.enter_async_context(LanguageStandIn(serve.llm, seed))
        if serve.redis:
            redis, redis_url = await stack.enter_async_context(_redis(folder))
        sip, http, token = free_port(), free_port(), secrets.token_hex(16)
        settings = _settings(scenario, folder, sip, http, token)
        if llm is not None:
            endpoint = {"engine": "openai", "model": MODEL, "base_url": llm.base_url}
            settings["llm"] = endpoint | {"api_key": "none"}
        if redis_url is not None:
            settings["voices"]["redis_url"] = redis_url
        installation = Installation(config, environment_of(laid_over(settings, serve.settings)))
        key = ""
        if scenario.direction == "outbound":
            key = await _place_key(installation)
        process = await stack.enter_async_context(_server(installation, folder / "server.log"))
        access = Access(token, f"http://127.0.0.1:{http}", key)
        server = Spawned(process, installation, sip, http, access, llm, redis, folder)
        await _until_ready(server)
        yield server


def _settings(
    scenario: Scenario, folder: Path, sip: int, http: int, token: str
) -> dict[str, dict[str, Any]]:
    serve = scenario.serve
    rtp = free_span(MEDIA_PORTS)
    settings: dict[str, dict[str, Any]] = {
        "server": {"drain_seconds": DRAIN_SECONDS, "workers": serve.workers},
        "sip": {
            "host": "127.0.0.1",
            "port": sip,
            "rtp_port_min": rtp,
            "rtp_port_max": rtp + MEDIA_PORTS - 1,
            "callers": {"calls_per_second": 10_000, "calls_at_once": 100_000},
        },
        "http": {"host": "127.0.0.1", "port": http},
        "twilio": {"enabled": True, "auth_token": token},
        "agents": {"default": serve.agent},
        "voices": {"dir": str(folder / "voices")},
        "audit": {"dir": str(folder / "audit"), "local_witness": "off"},
        "records": {"dir": str(folder / "records"), "keep": 100_000},
        "recordings": {"dir": str(folder / "recordings")},
        "logging": {"format": "json"},
    }
    if scenario.serve.cloned_voice:
        # Whose voice it is stands in the settings given, and with it where voices lie.
        del settings["voices"], settings["audit"]
        settings["voices"] = {}
    if serve.agents is not None:
        settings["agents"]["dir"] = str(serve.agents)
    if serve.stand_ins:
        settings["stt"] = {"engine": "pipecat", "service": RECOGNIZER}
    if scenario.direction == "outbound":
        settings["voices"]["enabled"] = True
        tenant = {
            "uris": ["sip:*@127.0.0.1:*"],
            "callers": ["sip:loadtest@127.0.0.1"],
            "max_concurrent": 10_000,
            "max_attempts_per_minute": 100_000,
            "max_minutes_per_day": 1_000_000,
        }
        usage = str(folder / "outbound.json")
        settings["outbound"] = {"enabled": True, "tenants": {"default": tenant},
                                "usage_file": usage}  # fmt: skip
    return settings


def environment_of(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings as variables: ``{a: {b: 1}}`` is ``RINGTRUE_A__B=1``; lists are JSON."""
    found: dict[str, str] = {}

    def spread(path: tuple[str, ...], value: Any) -> None:
        if isinstance(value, Mapping) and value:
            for key, inner in value.items():
                spread((*path, str(key)), inner)
        elif path:
            text = value if isinstance(value, str) else json.dumps(value)
            found[PREFIX + "__".join(path).upper()] = text

    spread((), settings)
    return found


def laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """``above`` upon ``below``, mappings within them likewise."""
    result = dict(below)
    for key, value in above.items():
        under = result.get(key)
        both = isinstance(value, Mapping) and isinstance(under, Mapping)
        result[key] = laid_over(under, value) if both else value  # type: ignore[arg-type]
    return result


async def _place_key(installation: Installation) -> str:
    printed = await installation.run(
        "keys", "create", "--label", "load test", "--scope", "calls:place", "--json"
    )
    try:
        # The first command of an installation says what keys it made, before the answer.
        return str(json.loads(printed[printed.index("{") :])["token"])
    except (ValueError, KeyError, TypeError):
        raise SpawnError("no API key could be made for the load test") from None


@asynccontextmanager
async def _server(installation: Installation, log: Path) -> AsyncIterator[Process]:
    """The process, its log read by us: a full disk is no matter of its output's."""
    environment = installation.environ()
    options = [] if installation.config is None else ["--config", str(installation.config)]
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "serve", *options,
        stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, env=environment, start_new_session=True,
    )  # fmt: skip
    reading = asyncio.create_task(_keep_log(process, log), name="target's log")
    try:
        yield process
    finally:
        await _stop(process)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _keep_log(process: Process, log: Path) -> None:
    assert process.stdout is not None
    kept = 0
    with log.open("wb", buffering=0) as file:
        while data := await process.stdout.read(65536):
            if kept < LOG_BYTES:
                kept += len(data)
                file.write(data)


async def _stop(process: Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _until_ready(server: Spawned) -> None:
    loop = asyncio.get_running_loop()
    limit = loop.time() + READY_SECONDS
    async with httpx.AsyncClient(timeout=2.0) as client:
        while loop.time() < limit and server.process.returncode is None:
            with contextlib.suppress(httpx.HTTPError):
                if (await client.get(f"{server.url}/readyz")).status_code == 200:
                    return
            await asyncio.sleep(0.2)
    log = (server.folder / "server.log").read_bytes()[-2000:].decode(errors="replace")
    raise SpawnError(f"the target is not ready: {' | '.join(log.strip().splitlines()[-3:])}")


@asynccontextmanager
async def _redis(folder: Path) -> AsyncIterator[tuple[Process, str]]:
    port = free_port()
    place = folder / "redis"
    place.mkdir(parents=True, exist_ok=True)
    try:
        process = await asyncio.create_subprocess_exec(
            "redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "",
            "--appendonly", "no", "--dir", str(place),
            stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL,
        )  # fmt: skip
    except FileNotFoundError:
        raise SpawnError("the scenario needs the program redis-server") from None
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            await asyncio.sleep(0.05)
        yield process, f"redis://127.0.0.1:{port}/0"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
