"""What a voice said before is given back to the sample, bounded, and forgotten with its consent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from library_links import NAME, PURPOSE, TENANT, Shelves, admit

from ringtrue.streaming.ports import SpeechChunk
from ringtrue.voices.embedded import EmbeddedVoice
from ringtrue.voices.engine import Remembering
from ringtrue.voices.library import utc_now
from ringtrue.voices.renderer import Renderer
from ringtrue.voices.said import MAX_SEEN, History, Said
from ringtrue.voices.stock import FliteEngine
from ringtrue.voices.utterance import RenderedStream
from store_links import Urls

GREETING = ("Thank you for calling,", "how can I help you?")


def history(*phrases: str, rate: int = 8000) -> History:
    found = History.of(rate)
    for phrase in phrases:
        found = found.then(phrase)
    return found


def spoken(size: int) -> tuple[SpeechChunk, ...]:
    return (SpeechChunk(bytes(size // 2)), SpeechChunk(bytes(size // 2), phrase_end=True))


def test_what_is_asked_for_twice_is_worth_keeping() -> None:
    said = Said()
    assert not said.asked(history("Hello."))
    assert said.asked(history("Hello."))
    assert said.recall(history("Hello.")) is None
    said.keep(history("Hello."), spoken(100))
    assert said.recall(history("Hello.")) == spoken(100)
    assert said.size == 100


def test_a_phrase_is_another_after_other_words_and_at_another_rate() -> None:
    said = Said()
    said.keep(history("Yes,", "we do."), spoken(100))
    for other in (
        history("we do."),
        history("Yes, we do."),
        history("Yes,", "we do.", rate=16000),
        history("Yes,", "we do.").end(),
        history("Yes,", "we ", "do."),
    ):
        assert said.recall(other) is None
    assert said.recall(history("Yes,", "we do.")) is not None


def test_what_was_not_said_for_longest_goes_first() -> None:
    said = Said(1000)
    for number in range(5):
        said.keep(history(str(number)), spoken(200))
    assert said.recall(history("0")) is not None
    said.keep(history("5"), spoken(200))
    assert [said.recall(history(str(number))) is not None for number in range(6)] == [
        True, False, True, True, True, True,
    ]  # fmt: skip
    assert said.size == 1000


def test_one_phrase_does_not_push_out_the_rest() -> None:
    said = Said(1000)
    said.keep(history("A very long one."), spoken(400))
    assert said.size == 0


def test_what_is_asked_for_is_remembered_for_a_while() -> None:
    said = Said()
    said.asked(history("Hello."))
    for number in range(MAX_SEEN):
        said.asked(history(str(number)))
    assert not said.asked(history("Hello."))


def test_it_forgets() -> None:
    said = Said()
    said.asked(history("Hello."))
    said.keep(history("Hello."), spoken(100))
    said.forget()
    assert said.recall(history("Hello.")) is None
    assert not said.asked(history("Hello."))
    assert said.size == 0


@pytest_asyncio.fixture
async def engine() -> AsyncIterator[FliteEngine]:
    made = FliteEngine(voices=("slt",), threads=1)
    await made.warm()
    yield made
    await made.close()


async def say(engine: FliteEngine, *phrases: str) -> list[SpeechChunk]:
    stream = engine.open("slt", 8000)
    for phrase in phrases:
        stream.feed(phrase)
    stream.finish()
    return [chunk async for chunk in stream.frames()]


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    begun: list[str] = []
    begin = Renderer.begin

    def noted(self: Renderer, phrase: str) -> None:
        begun.append(phrase)
        begin(self, phrase)

    monkeypatch.setattr(Renderer, "begin", noted)
    return begun


async def test_the_third_time_nothing_is_rendered(engine: FliteEngine, rendered: list[str]) -> None:
    first, second = await say(engine, *GREETING), await say(engine, *GREETING)
    assert rendered == [*GREETING, *GREETING]
    rendered.clear()
    assert await say(engine, *GREETING) == first == second
    assert not rendered


async def test_what_follows_sounds_as_if_all_had_been_rendered(
    engine: FliteEngine, rendered: list[str]
) -> None:
    for _ in range(2):
        await say(engine, *GREETING)
    rendered.clear()
    chunks = await say(engine, *GREETING, "It's five.")
    assert rendered == [*GREETING, "It's five."]
    alone = Renderer(await engine.voice("slt"), 8000)
    expected = b""
    for phrase in (*GREETING, "It's five."):
        alone.begin(phrase)
        while not alone.idle:
            expected += alone.next_slice(7).pcm
    expected += alone.finish().pcm
    assert b"".join(chunk.pcm for chunk in chunks) == expected
    ends = [word.end for chunk in chunks for word in chunk.words]
    assert ends == sorted(ends)


async def test_what_others_wait_for_is_made_at_once(engine: FliteEngine) -> None:
    voice = await engine.voice("slt")
    first = engine.open("slt", 8000)
    second = engine.open("slt", 8000)
    for stream in (first, second):
        for phrase in GREETING:
            stream.feed(phrase)
    reading, behind = first.frames(), second.frames()
    for frames in (reading, behind):  # both come to the second phrase, and no further
        async for chunk in frames:
            if chunk.phrase_end:
                break
    await anext(reading)
    assert voice.said.recall(history(*GREETING)) is None
    await anext(behind)
    kept = voice.said.recall(history(*GREETING))
    assert kept is not None
    assert kept[-1].phrase_end
    first.cut()
    second.cut()


async def test_a_stream_that_is_cut_gives_no_more_of_what_is_kept(engine: FliteEngine) -> None:
    for _ in range(2):
        await say(engine, *GREETING)
    stream: RenderedStream = engine.open("slt", 8000)
    stream.feed(GREETING[0])
    heard = []
    async for chunk in stream.frames():
        heard.append(chunk)
        stream.cut()
    assert len(heard) == 1


async def test_what_was_broken_off_is_not_kept(engine: FliteEngine) -> None:
    voice = await engine.voice("slt")
    for _ in range(3):
        stream = engine.open("slt", 8000)
        stream.feed(GREETING[0])
        async for _chunk in stream.frames():
            stream.cut()
    assert voice.said.recall(history(GREETING[0])) is None


async def test_a_cloned_voice_forgets(engine: FliteEngine, rendered: list[str]) -> None:
    voice = EmbeddedVoice(engine, await engine.voice("slt"))
    assert isinstance(voice, Remembering)
    for _ in range(3):
        stream = voice.open(8000)
        stream.feed("Hello.")
        stream.finish()
        assert [chunk async for chunk in stream.frames()]
    assert rendered == ["Hello.", "Hello."]
    voice.forget()
    await say(engine, "Hello.")
    assert rendered == ["Hello.", "Hello.", "Hello."]


@pytest.mark.parametrize("how", ["withdrawn", "distrusted"])
async def test_a_voice_forgets_with_the_right_to_speak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    forgot: list[str] = []
    monkeypatch.setattr(
        "library_links._Prepared.forget", lambda _voice: forgot.append(how), raising=False
    )
    shelves = Shelves(Urls(f"sqlite:///{tmp_path}/voices.db", f"sqlite:///{tmp_path}/keys/keys.db"))
    async with shelves.open() as library:
        await admit(library)
        lease = await library.lease(tenant=TENANT, voice=NAME, agent="reception", purpose=PURPOSE)
        assert not forgot
        if how == "withdrawn":
            await library.withdraw(TENANT, NAME, asked_by="Ada", now=utc_now())
        else:
            lease.distrust()
        async with asyncio.timeout(2):
            while lease.lost is None:
                await asyncio.sleep(0.01)
        assert forgot
        lease.close()
