"""Texts said to their end: nothing lost, nothing waited for, and files that players read."""

from __future__ import annotations

import io
import os
import wave
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from ringtrue.streaming.errors import SynthesisError
from ringtrue.streaming.ports import SpeechChunk
from ringtrue.voices.saying import PHRASES_AHEAD, WavWriter, phrases, said
from ringtrue.voices.stock import FliteEngine
from ringtrue.voices.utterance import MAX_QUEUED


@pytest_asyncio.fixture
async def engine() -> AsyncIterator[FliteEngine]:
    made = FliteEngine(threads=2)
    yield made
    await made.close()


def test_phrases_keep_every_word_and_whole_markup() -> None:
    text = 'Dear <prosody rate="slow">Ada, your order of 3.5 kg & more ships today.</prosody> Bye!'
    cut = phrases(text)
    assert len(cut) > 2
    assert all(part.count("<prosody") == part.count("</prosody>") for part in cut)
    plain = phrases(text, markup=False)
    assert " ".join(plain) == "Dear Ada, your order of 3.5 kg & more ships today. Bye!"
    assert phrases(" ... ") == []
    assert phrases("") == []


async def test_a_text_longer_than_a_stream_holds_is_said_whole(engine: FliteEngine) -> None:
    class Counting:
        """Passes on to a real stream and counts what waits in it."""

        def __init__(self) -> None:
            self.stream = engine.open("slt", 8000)
            self.waiting = self.most = 0

        def feed(self, phrase: str) -> None:
            self.waiting += 1
            self.most = max(self.most, self.waiting)
            self.stream.feed(phrase)

        def finish(self) -> None:
            self.stream.finish()

        def cut(self) -> None:
            self.stream.cut()

        async def frames(self) -> AsyncIterator[SpeechChunk]:
            async for chunk in self.stream.frames():
                self.waiting -= chunk.phrase_end
                yield chunk

    text = "One two three four five, six seven. " * 20
    stream = Counting()
    words = [mark.text async for chunk in said(stream, text) for mark in chunk.words]
    assert words == text.split()
    assert stream.most == PHRASES_AHEAD
    assert len(phrases("Hello there. " * (MAX_QUEUED // 10))) == MAX_QUEUED // 10


async def test_leaving_off_cuts_the_stream(engine: FliteEngine) -> None:
    stream = engine.open("slt", 8000)
    saying = said(stream, "This is going to be left off before its end.")
    await anext(saying)
    await saying.aclose()  # type: ignore[attr-defined]
    with pytest.raises(SynthesisError, match="only once"):
        await anext(stream.frames())


async def test_a_file_plays(engine: FliteEngine, tmp_path: Path) -> None:
    path = tmp_path / "out.wav"
    with path.open("wb") as file:
        writer = WavWriter(file, 16000)
        async for chunk in said(engine.open("slt", 16000), "Hello."):
            writer.write(chunk.pcm)
        writer.close()
    with wave.open(str(path)) as read:
        assert (read.getnchannels(), read.getsampwidth(), read.getframerate()) == (1, 2, 16000)
        assert read.getnframes() == writer.samples > 5000
    assert path.stat().st_size == 44 + 2 * writer.samples


def test_a_pipe_gets_a_header_without_end() -> None:
    source, sink = os.pipe()
    with os.fdopen(sink, "wb") as file:
        writer = WavWriter(file, 8000)
        writer.write(b"\x01\x00" * 80)
        writer.close()
    with os.fdopen(source, "rb") as file:
        data = file.read()
    assert data[4:8] == data[40:44] == b"\xff" * 4
    assert data[44:] == b"\x01\x00" * 80
    with wave.open(io.BytesIO(data)) as read:
        assert read.getframerate() == 8000
