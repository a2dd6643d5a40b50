"""Calls over SIP whose agent speaks with a cloned voice, and what a withdrawal makes of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from library_links import NAME, PURPOSE, RecordingEngine, admit, candidate, statement

from fakes.scripted_voices import CLONED
from peers.redis import RedisServer, running_redis
from ringtrue.agent import voice_library
from ringtrue.agent.loopback import loopback_server
from ringtrue.agent.server import Server
from ringtrue.config.agent_schema import shipped_agents
from ringtrue.config.settings import Settings, load_settings
from ringtrue.loadtest.caller import CallResult, VirtualCaller
from ringtrue.loadtest.phone import Phone
from ringtrue.streaming.record import CallRecord
from ringtrue.voices.library import VoiceLibrary, open_library, utc_now
from ringtrue.voices.library_config import library_config
from ringtrue.voices.store.profile import Voice

TENANT = "default"
GREETING = (
    "Hello, this is the automated voice of Example, and it was made with the consent of a person. "
    "It reads this long greeting to the end, so that there is time to take it back."
)
LIMIT = 0.5
"""Seconds from a withdrawal to the last of the voice at the caller's ear."""

pytestmark = [
    pytest.mark.keeps("the recognizer's and the engines' threads end with the server"),
    pytest.mark.usefixtures("settled"),
]


@dataclass
class House:
    settings: Settings
    engine: RecordingEngine

    @asynccontextmanager
    async def elsewhere(self) -> AsyncIterator[VoiceLibrary]:
        """The library as another process has it open."""
        config = await asyncio.to_thread(library_config, self.settings.voices)
        async with open_library(config, {self.engine.id: self.engine}) as library:
            yield library

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Server]:
        async with loopback_server(self.settings) as server:
            yield server


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return make_house(tmp_path, monkeypatch)


def make_house(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis_url: str | None = None
) -> House:
    engine = RecordingEngine()
    monkeypatch.setattr(voice_library, "voice_engines", lambda *_: {engine.id: engine})
    agents = tmp_path / "agents"
    agents.mkdir()
    agent = yaml.safe_load((shipped_agents() / "demo.yaml").read_text())
    agent |= {
        "fallback_voice": "rms",
        "name": "ada",
        "voice": NAME,
        "purpose": PURPOSE,
        "greeting": GREETING,
        "disclosure": {"in_greeting": True},
    }
    (agents / "ada.yaml").write_text(yaml.safe_dump(agent))
    environ = {
        "RINGTRUE_ADMISSION__ENABLED": "false",  # the callers share the process
        "RINGTRUE_AGENTS__DIR": str(agents),
        "RINGTRUE_AGENTS__DEFAULT": "ada",
        "RINGTRUE_VOICES__DIR": str(tmp_path / "voices"),
    }
    if redis_url is not None:
        environ["RINGTRUE_VOICES__REDIS_URL"] = redis_url
    return House(load_settings(environ=environ), engine)


async def ada(house: House) -> Voice:
    async with house.elsewhere() as library:
        voice, _ = await library.admit(TENANT, candidate(), statement(), utc_now())
        return voice


def is_cloned(result: CallResult) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """For each 10 ms of what the caller heard, whether it is the engine's steady level."""
    assert result.recording is not None
    pcm = np.frombuffer(result.recording.agent, "<i2").astype(float)
    blocks = pcm[: len(pcm) // 80 * 80].reshape(-1, 80)
    return np.asarray((blocks.mean(axis=1) > 0.8 * CLONED) & (blocks.std(axis=1) < 300))


def is_stock(result: CallResult) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    assert result.recording is not None
    pcm = np.frombuffer(result.recording.agent, "<i2").astype(float)
    blocks = pcm[: len(pcm) // 80 * 80].reshape(-1, 80)
    return np.asarray(blocks.std(axis=1) > 500)


@dataclass
class Ended:
    result: CallResult
    record: CallRecord
    said: str
    """What the LLM was told it said."""


async def call(
    server: Server, during: Callable[[VirtualCaller], Awaitable[None]], name: str = "caller"
) -> Ended:
    """A call whose caller hears the greeting out while ``during`` happens."""
    said: list[str] = []
    calls: list[str] = []

    async def script(caller: VirtualCaller) -> None:
        await caller.wait_for_agent_to_start()
        (graph,) = (
            active.graph
            for active in server.calls._active.values()
            if active.call.remote.endswith(f":{phone._endpoint.port}")
        )
        context, record = graph.context, graph.session.record
        calls.append(record.call_id)
        await during(caller)
        await caller.wait_for_agent_to_finish(within=40)
        await asyncio.sleep(0.3)
        messages = context.get_messages()
        said.extend(str(m["content"]) for m in messages if m["role"] == "assistant")
        await caller.hangup()

    async with Phone() as phone:
        result = await phone.call(f"sip:ada@127.0.0.1:{server.sip_port}", script, name=name)
    assert result.ok, (result.failure, result.detail)
    async with asyncio.timeout(5):
        while not any(record.call_id == calls[0] for record in server.calls.records):
            await asyncio.sleep(0.01)
    (record,) = (record for record in server.calls.records if record.call_id == calls[0])
    return Ended(result, record, " ".join(said))


async def nothing(_: VirtualCaller) -> None:
    """Only listen."""


async def test_the_agent_speaks_with_the_voice_its_file_names(house: House) -> None:
    voice = await ada(house)
    async with house.serving() as server:
        assert house.engine.prepared  # made ready before the first call
        ended = await call(server, nothing)
    assert ended.record.voice == voice.id
    assert ended.record.consent
    assert ended.record.voice_refused is ended.record.voice_revoked is None
    assert ended.said == GREETING
    assert is_cloned(ended.result).sum() > 500
    assert is_stock(ended.result).sum() < 20  # edges of words
    assert house.engine.prepared == house.engine.prepared[:1]


@pytest.mark.parametrize("way", ["withdraw", "suspend", "freeze", "erase"])
async def test_taken_back_by_another_process_the_stock_voice_goes_on(
    house: House, way: str
) -> None:
    voice = await ada(house)
    moments: list[float] = []
    taken = asyncio.Event()
    async with house.serving() as server, house.elsewhere() as library:

        async def during(caller: VirtualCaller) -> None:
            await asyncio.sleep(2.0)
            now = utc_now()
            if way == "withdraw":
                await library.withdraw(TENANT, voice.id, asked_by="speaker", now=now)
            elif way == "suspend":
                await library.suspend(TENANT, voice.id, now)
            elif way == "freeze":
                await library.freeze(TENANT, NAME, reason="misuse", asked_by="ops", now=now)
            else:
                await library.erase(TENANT, voice.id, now)
            moments.append(asyncio.get_running_loop().time())
            moments.append(caller.line.seconds(0))
            taken.set()

        async def call_next() -> Ended:
            await taken.wait()
            await asyncio.sleep(LIMIT)
            return await call(server, nothing, "next")

        async with asyncio.TaskGroup() as group:
            first, following = (group.create_task(c) for c in (call(server, during), call_next()))
        ended, second = first.result(), following.result()
        metric = server.metrics.registry.get_sample_value
        reason = {"withdraw": "withdrawn", "freeze": "frozen"}.get(way, "voice_state")
        assert metric("ringtrue_voices_revoked_total", {"reason": reason}) == 1
    taken_back = moments[0] - moments[1]
    cloned, stock = np.flatnonzero(is_cloned(ended.result)), np.flatnonzero(is_stock(ended.result))
    assert cloned[-1] / 100 - taken_back < LIMIT
    begins = stock[stock > cloned[-1]][0]
    assert (begins - cloned[-1]) / 100 < 0.4
    assert (stock[-1] - begins) / 100 > 1.0
    assert ended.said == GREETING  # every word, none twice
    assert ended.record.voice_revoked == reason
    assert ended.record.refused.get("consent", 0) == 0
    assert ended.record.errors == {}
    # The next call has the stock voice from its first word.
    assert not is_cloned(second.result).any()
    assert second.said == GREETING
    assert second.record.voice == "rms"
    assert second.record.voice_refused in ("withdrawn", "frozen", "voice_state", "not_found")


async def test_without_the_voice_the_call_is_answered_all_the_same(house: House) -> None:
    async with house.serving() as server:
        ended = await call(server, nothing)
        metric = server.metrics.registry.get_sample_value
        assert metric("ringtrue_voices_refused_total", {"reason": "not_found"}) == 1
    assert ended.record.voice_refused == "not_found"
    assert ended.said == GREETING
    assert not house.engine.opened


async def test_a_consent_for_another_agent_is_none(house: House) -> None:
    async with house.elsewhere() as library:
        await admit(library, TENANT, agents=("somebody-else",))
    async with house.serving() as server:
        ended = await call(server, nothing)
    assert ended.record.voice_refused == "agent"
    assert not house.engine.opened


async def test_redis_killed_under_ten_calls_loses_no_call_and_no_audio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis: RedisServer
) -> None:
    house = make_house(tmp_path, monkeypatch, redis.url)
    await ada(house)
    async with house.serving() as server:
        assert server.library is not None
        async with asyncio.timeout(5):
            await server.library.revocations.wait_connected()

        greeted = asyncio.Barrier(10)

        async def during(_: VirtualCaller) -> None:
            if await greeted.wait() == 0:
                redis.kill()

        async def one(number: int) -> Ended:
            await asyncio.sleep(0.3 * number)
            return await call(server, during, f"caller-{number}")

        ended = await asyncio.gather(*(one(number) for number in range(10)))
    for each in ended:
        assert each.said == GREETING
        assert each.record.voice_revoked is None
        assert each.record.refused == {}
        cloned = is_cloned(each.result)
        spoken = np.flatnonzero(cloned)
        inside = cloned[spoken[0] : spoken[-1] + 1]
        assert (~inside).sum() <= 3  # no gap where it was killed
    expected = {int(is_cloned(each.result).sum()) for each in ended}
    assert max(expected) - min(expected) <= 6
