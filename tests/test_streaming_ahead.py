"""A first phrase made before it may be said: used whole, or told of as wasted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from anticipating import RATE, WORD, WordEngine, WordStream

from ringtrue.streaming.ahead import MAX_AHEAD_SECONDS, AheadStream, Prepared
from ringtrue.streaming.errors import SynthesisError
from ringtrue.streaming.ports import SpeechChunk

pytestmark = pytest.mark.virtual_time


class Broken(WordStream):
    """Fails after its first word."""

    def say(self, phrase: str, said: int) -> Iterator[SpeechChunk]:
        yield next(super().say(phrase, said))
        raise SynthesisError("it broke")


async def words(stream: AheadStream) -> list[str]:
    return [mark.text async for chunk in stream.frames() for mark in chunk.words]


async def test_what_was_made_comes_first_and_the_rest_follows() -> None:
    inner, wasted = WordStream(0.02), list[float]()
    ahead = AheadStream(inner, "one two", RATE, wasted.append)
    await asyncio.sleep(0.1)
    began = asyncio.get_running_loop().time()
    assert ahead.ready_at == began - 0.08
    ahead.feed("one two")
    ahead.feed("three")
    ahead.finish()
    assert inner.fed == ["one two", "three"]
    assert await words(ahead) == ["one", "two", "three"]
    ahead.cut()
    assert wasted == []


async def test_used_while_it_is_being_made() -> None:
    ahead = AheadStream(WordStream(0.05), "one two three", RATE, pytest.fail)
    await asyncio.sleep(0.06)
    ahead.feed("one two three")
    ahead.finish()
    assert await words(ahead) == ["one", "two", "three"]


async def test_no_more_is_made_than_its_bound() -> None:
    wasted: list[float] = []
    inner = WordStream(0.001)
    ahead = AheadStream(inner, "w " * 100, RATE, wasted.append)
    await asyncio.sleep(5)
    ahead.cut()
    ahead.cut()
    assert wasted == [pytest.approx(MAX_AHEAD_SECONDS, abs=2 * WORD / RATE)]
    assert inner.was_cut
    await asyncio.sleep(0)


async def test_cut_while_it_is_heard_ends_it() -> None:
    ahead = AheadStream(WordStream(0.02), "one two three four", RATE, pytest.fail)
    ahead.feed("one two three four")
    heard = 0
    async for _ in ahead.frames():
        heard += 1
        if heard == 2:
            ahead.cut()
    assert heard == 2


async def test_what_fails_fails_when_it_is_to_be_said() -> None:
    ahead = AheadStream(Broken(0.01), "one two", RATE, pytest.fail)
    await asyncio.sleep(1)
    with pytest.raises(SynthesisError, match="it broke"):
        await words(ahead)


async def test_only_the_phrase_it_was_made_for_and_the_voice_it_was_made_in() -> None:
    engine, wasted, prepared = WordEngine(), list[float](), Prepared()

    def begin() -> AheadStream | None:
        return prepared.begin(
            lambda rate: engine.open("v", rate), "<b>one</b>", RATE,
            speaks_markup=False, licensed=False, on_wasted=wasted.append,
        )  # fmt: skip

    ahead = begin()
    assert ahead is not None
    assert engine.asked == ["one"]
    assert prepared.take("<b>one</b>", licensed=False) == (ahead, False)
    assert prepared.take("<b>one</b>", licensed=False) is None
    ahead.cut()
    for other in ({"markup": "two", "licensed": False}, {"markup": "<b>one</b>", "licensed": True}):
        begin()
        assert prepared.take(str(other["markup"]), licensed=bool(other["licensed"])) is None
        assert engine.streams[-1].was_cut
    begin()
    begin()
    assert [stream.was_cut for stream in engine.streams[-2:]] == [True, False]
    prepared.discard()
    assert len(wasted) == 5
    await asyncio.sleep(0.1)


async def test_a_stream_that_cannot_be_opened_is_not_there() -> None:
    def refuse(rate: int) -> WordStream:
        raise SynthesisError("no")

    prepared = Prepared()
    made = prepared.begin(
        refuse, "one", RATE, speaks_markup=False, licensed=False, on_wasted=pytest.fail
    )
    assert made is None
    assert prepared.take("one", licensed=False) is None
