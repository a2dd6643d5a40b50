"""What the doctor says of cloned voices."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from library_links import NAME, PURPOSE, RecordingEngine, admit

from ringtrue.agent import doctor_voices, voice_library
from ringtrue.agent.doctor import run_checks
from ringtrue.agent.doctor_voices import VOICE_CHECKS
from ringtrue.agent.findings import Check, State
from ringtrue.agent.voice_library import open_voices
from ringtrue.config.agent_schema import shipped_agents
from ringtrue.config.settings import Settings, load_settings
from ringtrue.voices.library import VoiceLibrary, utc_now
from ringtrue.voices.library_config import mark_key_file, mark_keys
from ringtrue.voices.pocket.files import CONFIG, TOKENIZERS, WEIGHTS
from ringtrue.voices.watermark.keyring import rotate_mark_keys


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
    found = run_checks(chosen, VOICE_CHECKS)
    for one in found:
        assert one.state is State.OK or (one.cost and one.remedy)
    return [one for one in found if one.name != "watermark"]


def mark(chosen: Settings) -> Check:
    (found,) = (one for one in run_checks(chosen, VOICE_CHECKS) if one.name == "watermark")
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


def test_the_watermarks_key(tmp_path: Path) -> None:
    chosen = settings(tmp_path, named=False)
    assert "the first start makes" in mark(chosen).detail
    assert not (tmp_path / "voices").exists()
    key = mark_keys(chosen.voices).current
    assert (mark(chosen).state, f"key {key.id} in" in mark(chosen).detail) == (State.OK, True)
    rotate_mark_keys(mark_key_file(chosen.voices))
    assert "1 that marked before" in mark(chosen).detail
    named = settings(tmp_path, VOICES__WATERMARK_KEY_FILE=str(tmp_path / "away.keys"))
    assert (mark(named).state, "away.keys" in mark(named).detail) == (State.MISSING, True)
    mark_key_file(chosen.voices).write_text("nonsense\n")
    assert mark(chosen).state is State.MISSING


def test_the_neural_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_voices, "installed_version", lambda _: "2.1.0")
    model = tmp_path / "model"
    chosen = settings(tmp_path, named=False, VOICES__POCKET__MODEL=str(model))
    *_, found = look(chosen)
    assert (found.name, found.state) == ("pocket voices", State.MISSING)
    assert "is no directory" in found.detail
    model.mkdir()
    for name in (CONFIG, WEIGHTS, TOKENIZERS[0]):
        (model / name).write_bytes(b"x")
    *_, found = look(chosen)
    assert (found.state, "pocket-tts 2.1.0" in found.detail) == (State.OK, True)
    monkeypatch.setattr(doctor_voices, "installed_version", lambda _: "")
    *_, found = look(chosen)
    assert (found.state, "not installed" in found.detail) == (State.MISSING, True)


def test_hosted_services(tmp_path: Path) -> None:
    chosen = settings(
        tmp_path,
        named=False,
        VOICES__HOSTED=json.dumps(
            {
                "good": {"service": "cartesia", "settings": {"api_key": "k"}},
                "bad": {"service": "no.such.Service"},
            }
        ),
    )
    _, *services = look(chosen)
    assert [(one.name, one.state) for one in services] == [
        ("hosted voices good", State.OK),
        ("hosted voices bad", State.MISSING),
    ]
    assert "no.such.Service" in services[1].detail
