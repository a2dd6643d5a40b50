"""What the doctor says of cloned voices."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from library_links import NAME, PURPOSE, RecordingEngine, admit

from ringtrue.agent import voice_library
from ringtrue.agent.doctor_voices import VOICE_CHECKS
from ringtrue.agent.findings import Check, State
from ringtrue.agent.voice_library import open_voices
from ringtrue.config.agent_schema import shipped_agents
from ringtrue.config.settings import Settings, load_settings
from ringtrue.voices.library import VoiceLibrary, utc_now


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = RecordingEngine()
    monkeypatch.setattr(voice_library, "voice_engines", lambda *_: {engine.id: engine})


def settings(tmp_path: Path, *, named: bool = True, **values: str) -> Settings:
    agents = tmp_path / "agents"
    agents.mkdir(exist_ok=True)
    agent = yaml.safe_load((shipped_agents() / "demo.yaml").read_text())
    if named:
        agent |= {"voice": NAME, "purpose": PURPOSE}
    (agents / "demo.yaml").write_text(yaml.safe_dump(agent))
    base = {"AGENTS__DIR": str(agents), "VOICES__DIR": str(tmp_path / "voices")}
    return load_settings(environ={f"RINGTRUE_{k}": v for k, v in (base | values).items()})


def look(chosen: Settings) -> list[Check]:
    (check,) = VOICE_CHECKS
    found = check(chosen)
    assert isinstance(found, list)
    for one in found:
        assert one.state is State.OK or (one.cost and one.remedy)
    return found


def prepare(chosen: Settings, work: Callable[[VoiceLibrary], Awaitable[Any]]) -> None:
    async def inside() -> None:
        async with open_voices(chosen) as library:
            await work(library)

    asyncio.run(inside())


def test_nothing_is_made_where_nothing_is_wanted(tmp_path: Path) -> None:
    (found,) = look(settings(tmp_path, named=False))
    assert (found.state, found.detail) == (State.OK, "none are named or kept")
    assert not (tmp_path / "voices").exists()


def test_a_voice_that_is_named_and_not_there(tmp_path: Path) -> None:
    (found,) = look(settings(tmp_path))
    assert found.state is State.DEGRADED
    assert "not_found" in found.detail
    assert "stock voice slt" in found.cost
    assert not (tmp_path / "voices").exists()


def test_a_voice_with_consent_and_without(tmp_path: Path) -> None:
    chosen = settings(tmp_path)
    prepare(chosen, lambda library: admit(library, "default"))
    kept, named = look(chosen)
    assert (kept.state, named.state) == (State.OK, State.OK)
    assert "recording-1" in kept.detail
    assert "with consent, until 20" in named.detail
    assert NAME not in named.detail

    async def withdraw(library: VoiceLibrary) -> None:
        await library.withdraw("default", NAME, asked_by="x", now=utc_now())

    prepare(chosen, withdraw)
    _, named = look(chosen)
    assert named.state is State.DEGRADED
    assert "withdrawn" in named.detail


def test_a_library_that_can_not_be_opened(tmp_path: Path) -> None:
    chosen = settings(tmp_path)
    prepare(chosen, lambda library: admit(library, "default"))
    (tmp_path / "voices" / "keys" / "master.keys").unlink()
    (found,) = look(chosen)
    assert found.state is State.MISSING
    assert "master.keys" in found.detail


def test_redis_that_is_away(tmp_path: Path) -> None:
    chosen = settings(tmp_path, VOICES__REDIS_URL=f"unix://{tmp_path}/nobody.sock")
    prepare(chosen, lambda library: admit(library, "default"))
    _, redis, named = look(chosen)
    assert redis.state is State.DEGRADED
    assert named.state is State.OK
