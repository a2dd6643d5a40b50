"""Lines made beforehand: kept in memory, without seal or licence, and forgotten with the voice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from library_links import NAME, PURPOSE, TENANT, Shelves, admit

from fakes.scripted_stream import ScriptedStream
from fakes.scripted_voices import CLONED, NumberedEngine, NumberedStream, ScriptedLicence
from ringtrue.streaming.budget.lines import MAX_LINES, MAX_SECONDS, Lines
from ringtrue.streaming.errors import SynthesisError
from ringtrue.streaming.ports import SpeechChunk, SynthesisStream
from ringtrue.voices.lease import ConsentLostError
from ringtrue.voices.library import utc_now
from store_links import Urls

LEASE = {"tenant": TENANT, "voice": NAME, "agent": "reception", "purpose": PURPOSE}
RATE = 8000


async def made(stream: SynthesisStream | None) -> list[SpeechChunk]:
    assert stream is not None
    return [chunk async for chunk in stream.frames()]


@pytest.mark.virtual_time
async def test_a_line_is_made_once_and_said_again_as_it_was() -> None:
    engine, lines = NumberedEngine(), Lines()
    say = partial(engine.open, "stock")
    await asyncio.gather(*(lines.learn(say, ["w1 w2", "w3"], RATE) for _ in range(3)))
    assert sorted(stream.fed[0] for stream in engine.streams) == ["w1 w2", "w3"]
    stream = say(RATE)
    stream.feed("w1 w2")
    stream.finish()
    assert await made(lines.recall("w1 w2", RATE)) == await made(stream)
    assert lines.knows("w3", RATE)
    assert not lines.knows("w3", 16000)
    assert lines.recall("w4", RATE) is None


@pytest.mark.virtual_time
async def test_what_is_kept_has_no_licence() -> None:
    lines = Lines()
    await lines.learn(lambda _: NumberedStream(CLONED, ScriptedLicence(), 0.0), ["w1"], RATE)
    chunks = await made(lines.recall("w1", RATE))
    assert chunks
    assert all(chunk.licence is None for chunk in chunks)


@pytest.mark.virtual_time
async def test_what_is_forgotten_while_it_is_made_is_not_kept() -> None:
    lines = Lines()
    learning = asyncio.ensure_future(
        lines.learn(partial(NumberedEngine(work=1.0).open, "stock"), ["w1"], RATE)
    )
    await asyncio.sleep(0.5)
    lines.forget()
    await learning
    assert not lines.knows("w1", RATE)


class Broken(ScriptedStream):
    """Fails on its second line, and never ends its third."""

    def say(self, phrase: str, said: int) -> Iterator[SpeechChunk]:
        if phrase == "fails":
            raise SynthesisError("broken")
        yield SpeechChunk(bytes(2 * int((MAX_SECONDS + 1) * RATE)))


@pytest.mark.virtual_time
async def test_what_cannot_be_made_or_is_too_long_is_only_not_known() -> None:
    lines = Lines()
    await lines.learn(lambda _: Broken(0.0), ["fails"], RATE)
    await lines.learn(lambda _: Broken(0.0), ["goes on and on"], RATE)
    assert not lines.knows("fails", RATE)
    assert not lines.knows("goes on and on", RATE)


@pytest.mark.virtual_time
async def test_there_is_a_limit() -> None:
    engine, lines = NumberedEngine(0.0), Lines()
    await lines.learn(partial(engine.open, "stock"), [f"w{n}" for n in range(200)], RATE)
    assert len(engine.streams) == MAX_LINES


@pytest.fixture
def shelves(tmp_path: Path) -> Shelves:
    return Shelves(Urls(f"sqlite:///{tmp_path}/voices.db", f"sqlite:///{tmp_path}/keys/keys.db"))


async def test_calls_of_one_voice_share_its_lines_each_under_its_own_licence(
    shelves: Shelves,
) -> None:
    async with shelves.open() as library:
        await admit(library)
        first, second = await library.lease(**LEASE), await library.lease(**LEASE)
        await first.learn(["w1 w2"], RATE)
        assert second.knows("w1 w2", RATE)
        for lease in (first, second):
            chunks = await made(lease.recall("w1 w2", RATE))
            assert all(chunk.licence is lease.licence for chunk in chunks)
        first.close()
        assert not first.knows("w1 w2", RATE)
        with pytest.raises(ConsentLostError):
            first.recall("w1 w2", RATE)
        assert second.knows("w1 w2", RATE)
        second.close()


@pytest.mark.parametrize("how", ["withdrawn", "erased", "distrusted"])
async def test_lines_go_with_the_right_to_speak(shelves: Shelves, how: str) -> None:
    async with shelves.open() as library:
        await admit(library)
        lease = await library.lease(**LEASE)
        lines = lease._Lease__lines
        await lease.learn(["w1"], RATE)
        speaking = lease.recall("w1", RATE)
        assert speaking is not None
        if how == "withdrawn":
            await library.withdraw(TENANT, NAME, asked_by="Ada", now=utc_now())
        elif how == "erased":
            await library.erase(TENANT, NAME, utc_now())
        else:
            lease.distrust()
        async with asyncio.timeout(2):
            while lease.lost is None:
                await asyncio.sleep(0.01)
        assert not lines.knows("w1", RATE)
        assert not lease.knows("w1", RATE)
        with pytest.raises(SynthesisError):
            await made(speaking)
        lease.close()
