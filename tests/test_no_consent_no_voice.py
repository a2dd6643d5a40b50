"""No consent, no cloned sample: by no command, no HTTP route, no agent's file and no object.

Every state in which a voice may not speak is led down every route that could make it speak; what
counts is that the engine was never asked. A route that is new fails here until it is listed.
"""

from __future__ import annotations

import ast
import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer.main
from command_line import restored_logs, run_command
from fastapi import FastAPI
from fastapi.routing import APIRoute
from library_links import (
    EMBEDDING,
    NAME,
    PURPOSE,
    STATE,
    RecordingEngine,
    admit,
    candidate,
    statement,
)

from ringtrue.agent import cli, voice_library, voices_api, watermark_api
from ringtrue.agent.casting import Cast
from ringtrue.agent.voice_library import open_voices
from ringtrue.agent.voices_api import VoicesApi
from ringtrue.agent.voices_desk import enrolment_desk
from ringtrue.config.agent_schema import Agent, load_agents
from ringtrue.config.settings import Settings, load_settings
from ringtrue.streaming.errors import RingtrueError
from ringtrue.voices.keys.signing import Signer, TrustedKeys
from ringtrue.voices.library import VoiceLibrary, open_library, utc_now
from ringtrue.voices.library_config import library_config
from ringtrue.voices.stock import FliteEngine
from ringtrue.voices.store.profile import BlobKind, Lifecycle, Voice

ROOT = Path(__file__).parent.parent
TENANT = "default"
SCOPES = ("voices:read", "voices:write", "voices:speak", "watermark:detect")


@dataclass
class Place:
    """A library on disk and the engine that everything here speaks with."""

    settings: Settings
    engine: RecordingEngine

    @property
    def silent(self) -> bool:
        """Whether the engine made nothing ready and opened no stream."""
        return not self.engine.prepared and not self.engine.opened

    def run(self, work: Callable[[VoiceLibrary], Awaitable[Any]]) -> Any:
        async def inside() -> Any:
            async with open_voices(self.settings) as library:
                return await work(library)

        return asyncio.run(inside())


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    engine = RecordingEngine()
    monkeypatch.setenv("RINGTRUE_VOICES__DIR", str(tmp_path / "voices"))
    monkeypatch.setattr(voice_library, "voice_engines", lambda *_: {engine.id: engine})
    with restored_logs():
        yield Place(load_settings(), engine)


# -- states in which a voice may not speak ---------------------------------------------------------


async def _unconsented(library: VoiceLibrary) -> Voice:
    voices, now = library.store.voices, utc_now()
    voice = await voices.create(TENANT, name=NAME, language="en", engine="recording-1", now=now)
    await voices.put_blob(TENANT, voice.id, BlobKind.EMBEDDING, EMBEDDING, now)
    await voices.put_blob(TENANT, voice.id, BlobKind.ENGINE_STATE, STATE, now)
    return voice


async def never_consented(library: VoiceLibrary) -> None:
    voice = await _unconsented(library)
    await library.store.voices.set_lifecycle(TENANT, voice.id, Lifecycle.LIVE, utc_now())


async def still_enrolling(library: VoiceLibrary) -> None:
    voice = await _unconsented(library)
    await library.renew(TENANT, voice.id, statement(), utc_now())


async def withdrawn(library: VoiceLibrary) -> None:
    voice, _ = await admit(library, TENANT)
    await library.withdraw(TENANT, voice.id, asked_by="speaker", now=utc_now())


async def its_one_consent_withdrawn(library: VoiceLibrary) -> None:
    voice, consent = await admit(library, TENANT)
    await library.withdraw(
        TENANT, voice.id, asked_by="speaker", now=utc_now(), consent=consent.serial
    )


async def suspended(library: VoiceLibrary) -> None:
    voice, _ = await admit(library, TENANT)
    await library.suspend(TENANT, voice.id, utc_now())


async def frozen(library: VoiceLibrary) -> None:
    voice, _ = await admit(library, TENANT)
    await library.freeze(TENANT, voice.id, reason="reported", asked_by="operator", now=utc_now())


async def erased(library: VoiceLibrary) -> None:
    voice, _ = await admit(library, TENANT)
    await library.erase(TENANT, voice.id, utc_now())


async def expired(library: VoiceLibrary) -> None:
    past = utc_now() - timedelta(days=9)
    await admit(library, TENANT, past, expires=past + timedelta(days=3))


async def not_yet(library: VoiceLibrary) -> None:
    later = utc_now() + timedelta(days=9)
    await admit(library, TENANT, later)


async def for_another_agent(library: VoiceLibrary) -> None:
    await admit(library, TENANT, agents=("somebody-else",))


async def for_another_purpose(library: VoiceLibrary) -> None:
    await admit(library, TENANT, purposes=("audio books",))


async def of_another_tenant(library: VoiceLibrary) -> None:
    await admit(library, "other")


async def another_voiceprint(library: VoiceLibrary) -> None:
    voice, _ = await admit(library, TENANT)
    await library.store.voices.put_blob(
        TENANT, voice.id, BlobKind.EMBEDDING, EMBEDDING[::-1], utc_now()
    )


async def signed_by_a_stranger(library: VoiceLibrary) -> None:
    stranger = Signer.generate()
    config = replace(library.config, signer=stranger, trusted=TrustedKeys([stranger.public]))
    async with open_library(config, library.engines) as other:
        await admit(other, TENANT)


STATES = (
    never_consented,
    still_enrolling,
    withdrawn,
    its_one_consent_withdrawn,
    suspended,
    frozen,
    erased,
    expired,
    not_yet,
    for_another_agent,
    for_another_purpose,
    of_another_tenant,
    another_voiceprint,
    signed_by_a_stranger,
)


LIMITED = (for_another_agent, for_another_purpose)
"""Somebody may speak with the voice, but not who asks here."""


async def consented(library: VoiceLibrary) -> None:
    """The control: what is led down the same routes, and speaks."""
    await admit(library, TENANT)


# -- routes ----------------------------------------------------------------------------------------


def by_lease(place: Place, out: Path) -> None:
    async def work(library: VoiceLibrary) -> None:
        lease = await library.lease(tenant=TENANT, voice=NAME, agent="cli", purpose=PURPOSE)
        stream = lease.open(8000)
        stream.feed("w1")
        stream.finish()
        out.write_bytes(b"".join([chunk.pcm async for chunk in stream.frames()]))
        lease.close()

    with suppress(RingtrueError):
        place.run(work)


def by_say(place: Place, out: Path) -> None:
    run_command("say", "w1", "--voice", NAME, "--purpose", PURPOSE, "-o", out)


def by_say_to_a_pipe(place: Place, out: Path) -> None:
    out.write_bytes(run_command("say", "w1", "--voice", NAME, "--purpose", PURPOSE, "-o", "-").raw)


def by_play(place: Place, out: Path) -> None:
    run_command("voices", "play", NAME, "w1", "--purpose", PURPOSE, "-o", out)


def by_audit(place: Place, out: Path) -> None:
    run_command("voices", "audit")


def by_http(place: Place, out: Path) -> None:
    async def work(library: VoiceLibrary) -> None:
        async with _office(library) as client:
            response = await client.post(
                f"/v1/voices/{NAME}/speech",
                json={"text": "w1", "purpose": PURPOSE},
            )
            if response.status_code == 200:
                out.write_bytes(response.content)

    place.run(work)


def by_an_agents_file(place: Place, out: Path) -> None:
    async def work() -> None:
        stock = FliteEngine()
        agent = speaking_agent()
        cast = Cast(place.settings, [agent], stock)
        try:
            await cast.open()
            casting = await cast.cast(agent)
            if casting.lease is not None:
                out.write_bytes(casting.lease.voice.encode())
            else:
                assert casting.stock == "rms"
                assert casting.refused
            casting.close()
        finally:
            await cast.close()
            await stock.close()

    asyncio.run(work())


ROUTES = (by_lease, by_say, by_say_to_a_pipe, by_play, by_audit, by_http, by_an_agents_file)
UNHEARD = (by_audit,)
"""Speaks to nobody but the judge."""


def speaking_agent() -> Agent:
    named = {"name": "cli", "voice": NAME, "purpose": PURPOSE, "fallback_voice": "rms"}
    return load_agents()["reception"].model_copy(update=named)


class _office:
    """A client of the HTTP interface, with every scope of its tenant."""

    def __init__(self, library: VoiceLibrary) -> None:
        self._library = library
        self.api = VoicesApi(lambda: library, enrolment_desk)
        self.app = FastAPI()
        self.app.mount("/v1", self.api.app)

    async def __aenter__(self) -> httpx.AsyncClient:
        made = await self._library.store.api_keys.create(
            TENANT, label="test", scopes=SCOPES, now=utc_now()
        )
        self._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=self.app),
            base_url="http://test",
            headers={"Authorization": f"Bearer {made.token}"},
        )
        return self._client

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()
        await self.api.close()


@pytest.mark.parametrize("state", STATES)
def test_no_route_speaks(
    place: Place, tmp_path: Path, state: Callable[[VoiceLibrary], Awaitable[None]]
) -> None:
    place.run(state)
    for route in ROUTES:
        if state in LIMITED and route in UNHEARD:
            continue  # the judge asks for what each consent covers
        out = tmp_path / f"{route.__name__}.wav"
        route(place, out)
        assert place.silent, route.__name__
        assert not out.exists() or not out.read_bytes(), route.__name__


@pytest.mark.parametrize("route", ROUTES)
def test_every_route_speaks_with_consent(
    place: Place, tmp_path: Path, route: Callable[[Place, Path], None]
) -> None:
    """Or the test above would prove nothing."""
    place.run(consented)
    out = tmp_path / "out.wav"
    route(place, out)
    assert place.engine.opened == 1 + (route in UNHEARD) * (place.engine.opened - 1)
    assert route in UNHEARD or out.read_bytes()


# -- no route is forgotten -------------------------------------------------------------------------

SPEAKING_COMMANDS = {"say", "voices play", "voices audit"}
OTHER_COMMANDS = {
    *("bench", "demo", "doctor", "serve", "version"),
    "audit show",
    "audit verify",
    "call",  # through an agent's file, as every call
    "evidence verify",
    "incident freeze",
    "incident lift",
    "incident list",
    "keys create",
    "keys list",
    "keys revoke",
    "models fetch",
    "models list",
    "models verify",
    *(f"loadtest {name}" for name in ("report", "run", "scenarios")),  # through calls
    *(f"recordings {name}" for name in ("erase", "expire", "export", "list")),
    *(f"voices {name}" for name in ("challenge", "enrol", "renew", "list", "show", "withdraw")),
    *(f"voices {name}" for name in ("erase", "export-consent", "rewrap-keys")),
    "watermark detect",
    "watermark keys export",
    "watermark keys rotate",
}


def commands(command: Any, path: str = "") -> Iterator[str]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path
        return
    for name, each in inner.items():
        yield from commands(each, f"{path} {name}".strip())


def test_every_command_is_known() -> None:
    assert set(commands(typer.main.get_command(cli.app))) == SPEAKING_COMMANDS | OTHER_COMMANDS


@pytest.mark.parametrize("state", [never_consented, withdrawn, suspended, erased])
def test_no_http_route_at_all_speaks(
    place: Place, state: Callable[[VoiceLibrary], Awaitable[None]]
) -> None:
    """Every route there is, by every method it has, with a body of every field at once."""
    body = {"text": "w1", "purpose": PURPOSE, "name": "Bo", "asked_by": "x"}

    async def work(library: VoiceLibrary) -> set[str]:
        walked = set()
        office = _office(library)
        async with office as client:
            for route in (*voices_api.router.routes, *watermark_api.router.routes):
                assert isinstance(route, APIRoute)
                names = {"voice": NAME, "enrolment": "e" * 32, "search": "e" * 32}
                url = "/v1" + route.path.format(**names)
                for method in route.methods:
                    await client.request(method, url, json=body)
                    walked.add(f"{method} {route.path}")
            described = {
                f"{method.upper()} {path}"
                for path, methods in office.api.app.openapi()["paths"].items()
                for method in methods
            }
        assert described <= walked
        return walked

    place.run(state)
    walked = place.run(work)
    assert "POST /voices/{voice}/speech" in walked
    assert len(walked) >= 10
    assert place.silent


# -- nor any object --------------------------------------------------------------------------------


def _calls(tree: ast.AST, name: str) -> bool:
    return any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == name
        for node in ast.walk(tree)
    )


def _names(tree: ast.AST, name: str) -> bool:
    return any(
        (isinstance(node, ast.Attribute) and node.attr == name)
        or (isinstance(node, ast.Constant) and node.value == name.lower())
        for node in ast.walk(tree)
    )


ROOMS = ("agent", "streaming", "voices", "loadtest")
"""Telephony and configuration know no voices: see test_layout."""


def _product() -> Iterator[tuple[str, ast.AST]]:
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def test_only_the_library_reads_states_and_makes_voices_ready() -> None:
    """An engine that judges what it just cloned asks itself; pocket-tts has another ``prepare``,
    and so has the synthesizer, of what it says next with the voice it was given."""
    of_their_own = {"voices/hosted/engine.py", "voices/pocket/generation.py"}
    of_their_own |= {"streaming/turns/anticipation.py"}
    preparing = {path for path, tree in _product() if _calls(tree, "prepare")}
    assert preparing - of_their_own == {"voices/library.py"}
    reading = {path for path, tree in _product() if _names(tree, "ENGINE_STATE")}
    assert reading == {"voices/library.py", "voices/store/profile.py"}


def test_only_leases_license_speech() -> None:
    def licenses(word: ast.keyword) -> bool:
        taken_off = isinstance(word.value, ast.Constant) and word.value.value is None
        return word.arg == "licence" and not taken_off

    def gives(tree: ast.AST) -> bool:
        return any(
            isinstance(node, ast.Call) and any(map(licenses, node.keywords))
            for node in ast.walk(tree)
        )

    licensing = {path for path, tree in _product() if gives(tree)}
    # A session passes on what its agent says to the calls that are joined to it.
    passing_on = {"streaming/delivery.py", "streaming/session.py", "voices/spoken.py"}
    assert licensing == {"voices/lease.py"} | passing_on
    making = {path for path, tree in _product() if _constructs(tree, "Lease")}
    assert making == {"voices/library.py"}


def test_only_gates_let_speech_out() -> None:
    """Beyond calls and :mod:`ringtrue.voices.spoken`, only judges that keep it to themselves."""
    judges = {"voices/quality/likeness.py", "voices/hosted/likeness.py"}
    saying = {path for path, tree in _product() if _constructs(tree, "said")}
    assert saying - judges == {"voices/spoken.py"}
    gates = {path for path, tree in _product() if _constructs(tree, "Gate")}
    # Stock voices that call an agent to measure it, and noise to measure the gate by.
    measuring = {"loadtest/line.py", "agent/gate_bench.py"}
    assert gates - measuring == {"streaming/session.py", "voices/spoken.py"}


def _constructs(tree: ast.AST, name: str) -> bool:
    return any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
        for node in ast.walk(tree)
    )


def test_no_setting_turns_it_off() -> None:
    settings = load_settings(environ={})
    assert settings.voices.lease_seconds <= 0.5
    for key in type(settings.voices).model_fields:
        assert not any(word in key for word in ("check", "skip", "require", "enforce", "allow"))


def test_a_library_that_can_not_be_opened_costs_the_voice_and_not_the_call(
    place: Place, tmp_path: Path
) -> None:
    place.run(consented)
    key = tmp_path / "voices" / "keys" / "master.keys"
    key.rename(key.with_suffix(".away"))
    begun = time.monotonic()
    by_an_agents_file(place, tmp_path / "out")
    assert time.monotonic() - begun < 10
    assert place.silent
    assert not (tmp_path / "out").exists()


def test_the_configuration_is_read_where_the_commands_read_it(place: Place) -> None:
    config = library_config(place.settings.voices)
    assert str(place.settings.voices.dir) in config.database_url
    assert candidate().engine == place.engine.id
