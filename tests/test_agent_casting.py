"""Who speaks in a call, whatever has become of the library."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from library_links import EMBEDDING, NAME, PURPOSE, RecordingEngine, admit
from test_voices_embedded import model

from ringtrue.agent import casting, voice_library
from ringtrue.agent.casting import Cast, Casting
from ringtrue.agent.voice_library import open_voices
from ringtrue.config.agent_schema import Agent, load_agents
from ringtrue.config.errors import ConfigError
from ringtrue.config.settings import Settings, load_settings
from ringtrue.streaming.errors import RingtrueError
from ringtrue.voices.embedded import ENGINE_ID
from ringtrue.voices.library import Candidate, Statement, utc_now
from ringtrue.voices.stock import FliteEngine

DEMO = load_agents()["demo"]


def agent(**changes: object) -> Agent:
    named = {"voice": NAME, "purpose": PURPOSE, "fallback_voice": "awb"}
    return DEMO.model_copy(update=named | changes)


def settings(tmp_path: Path, **values: str) -> Settings:
    base = {"VOICES__DIR": str(tmp_path / "voices")}
    return load_settings(environ={f"RINGTRUE_{k}": v for k, v in (base | values).items()})


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> RecordingEngine:
    made = RecordingEngine()
    monkeypatch.setattr(voice_library, "voice_engines", lambda *_: {made.id: made})
    return made


@pytest_asyncio.fixture
async def stock() -> AsyncIterator[FliteEngine]:
    made = FliteEngine(threads=1)
    yield made
    await made.close()


async def test_stock_voices_need_no_library(tmp_path: Path, stock: FliteEngine) -> None:
    cast = Cast(settings(tmp_path), [DEMO], stock)
    await cast.open()
    assert await cast.cast(DEMO) == Casting(DEMO.voice)
    assert cast.library is None
    assert not (tmp_path / "voices").exists()
    await cast.close()


async def test_one_voice_for_all_agents(tmp_path: Path, stock: FliteEngine) -> None:
    cast = Cast(settings(tmp_path, TTS__VOICE="slt"), [agent()], stock)
    await cast.open()
    assert await cast.cast(agent()) == Casting("slt")
    await cast.close()


def test_a_cloned_voice_needs_a_purpose(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="purpose must be given"):
        Cast(settings(tmp_path), [agent(purpose=None)], FliteEngine())


async def test_named_voices_are_ready_before_the_first_call(
    tmp_path: Path, stock: FliteEngine, engine: RecordingEngine
) -> None:
    chosen = settings(tmp_path)
    async with open_voices(chosen) as library:
        await admit(library, "default")
    cast = Cast(chosen, [agent()], stock)
    await cast.open()
    assert (len(engine.prepared), engine.opened) == (1, 1)
    made = await cast.cast(agent())
    assert made.lease is not None
    assert (made.stock, made.refused) == ("awb", None)
    assert len(engine.prepared) == 1
    made.close()
    await cast.close()
    assert cast.library is None


async def test_a_library_that_is_away_is_tried_again(
    tmp_path: Path, stock: FliteEngine, engine: RecordingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(casting, "RETRY_SECONDS", 0.05)
    chosen = settings(tmp_path)
    async with open_voices(chosen) as library:
        await admit(library, "default")
    key = tmp_path / "voices" / "keys" / "master.keys"
    key.rename(key.with_suffix(".away"))
    cast = Cast(chosen, [agent()], stock)
    await cast.open()
    assert await cast.cast(agent()) == Casting("awb", refused=casting.UNAVAILABLE)
    key.with_suffix(".away").rename(key)
    async with asyncio.timeout(10):
        while cast.library is None:
            await asyncio.sleep(0.02)
    made = await cast.cast(agent())
    assert made.lease is not None
    made.close()
    await cast.close()


async def test_a_library_that_is_made_later_is_noticed(
    tmp_path: Path, stock: FliteEngine, engine: RecordingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(casting, "RETRY_SECONDS", 0.02)
    chosen = settings(tmp_path)
    cast = Cast(chosen, [DEMO], stock)
    await cast.open()
    await asyncio.sleep(0.1)
    assert cast.library is None
    assert not (tmp_path / "voices").exists()
    async with open_voices(chosen) as library:
        voice, _ = await admit(library, "default")
    async with asyncio.timeout(10):
        while cast.library is None:
            await asyncio.sleep(0.02)
    assert (await cast.library.find("default", NAME)).id == voice.id
    await cast.close()


async def test_where_there_are_to_be_no_voices_nobody_looks(
    tmp_path: Path, stock: FliteEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(casting, "RETRY_SECONDS", 0.01)
    chosen = settings(tmp_path, VOICES__ENABLED="false")
    async with open_voices(chosen):
        pass
    cast = Cast(chosen, [agent()], stock)
    await cast.open()
    await asyncio.sleep(0.1)
    assert cast.library is None
    assert (await cast.cast(agent())).refused == casting.UNAVAILABLE
    await cast.close()


async def test_where_voices_must_be_there_the_start_fails(
    tmp_path: Path, stock: FliteEngine
) -> None:
    chosen = settings(
        tmp_path, VOICES__ENABLED="true", VOICES__MASTER_KEYS_FILE=str(tmp_path / "no")
    )
    cast = Cast(chosen, [agent()], stock)
    with pytest.raises(RingtrueError, match="no"):
        await cast.open()
    await cast.close()


async def test_a_lease_that_takes_too_long_costs_the_voice_and_not_the_call(
    tmp_path: Path, stock: FliteEngine, engine: RecordingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(tmp_path)
    async with open_voices(chosen) as library:
        await admit(library, "default")
    cast = Cast(chosen, [agent()], stock)
    await cast.open()
    assert cast.library is not None

    async def stuck(**_: str) -> None:
        await asyncio.sleep(3600)

    monkeypatch.setattr(casting, "LEASE_SECONDS", 0.05)
    monkeypatch.setattr(cast.library, "lease", stuck)
    assert (await cast.cast(agent())).refused == casting.UNAVAILABLE
    await cast.close()


async def test_the_embedded_engine_speaks_by_lease(tmp_path: Path, stock: FliteEngine) -> None:
    chosen = settings(tmp_path)
    async with open_voices(chosen, stock) as library:
        made = Candidate(NAME, "en", ENGINE_ID, EMBEDDING, model().to_bytes())
        consent = Statement(NAME, "I consent.", "0" * 64, (PURPOSE,), "operator")
        await library.admit("default", made, consent, utc_now())
    cast = Cast(chosen, [agent()], stock)
    await cast.open()
    casted = await cast.cast(agent())
    assert casted.lease is not None
    stream = casted.lease.open(8000)
    stream.feed("Thank you for calling.")
    stream.finish()
    chunks = [chunk async for chunk in stream.frames()]
    assert all(chunk.licence is casted.lease.licence for chunk in chunks)
    assert [mark.text for chunk in chunks for mark in chunk.words][-1] == "calling."
    assert sum(len(chunk.pcm) for chunk in chunks) > 8000
    casted.close()
    await cast.close()


async def test_a_voice_that_could_not_be_told_from_others_does_not_speak(
    tmp_path: Path, stock: FliteEngine
) -> None:
    chosen = settings(tmp_path)
    async with open_voices(chosen, stock) as library:
        made = Candidate(NAME, "en", ENGINE_ID, bytes(1024), model().to_bytes())
        consent = Statement(NAME, "I consent.", "0" * 64, (PURPOSE,), "operator")
        await library.admit("default", made, consent, utc_now())
    cast = Cast(chosen, [agent()], stock)
    await cast.open()
    casted = await cast.cast(agent())
    assert casted.lease is None
    assert casted.refused == casting.UNAVAILABLE
    await cast.close()
