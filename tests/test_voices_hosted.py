"""Hosted voices over the vendors' own wire formats: Cartesia's websocket, OpenAI's HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from speech import say as say_by_flite

from fakes.cartesia_server import SAMPLES_PER_WORD, CartesiaServer, cartesia_server
from ringtrue.streaming.errors import SynthesisError
from ringtrue.streaming.ports import SpeechChunk
from ringtrue.voices.engine import Progress, Speech
from ringtrue.voices.errors import CloningError, EngineStateError, EngineUnavailableError
from ringtrue.voices.hosted import HostedEngine, HostedService, choose_engine, engine_names
from ringtrue.voices.hosted.likeness import SENTENCES
from ringtrue.voices.hosted.line import SERVICE_RATE
from ringtrue.voices.hosted.stream import MAX_QUEUED, HostedStream, HostedVoice

SPEECH = Speech(np.zeros(16000, np.float32))
WORD_SECONDS = SAMPLES_PER_WORD / SERVICE_RATE


@pytest.fixture
async def cartesia() -> AsyncIterator[CartesiaServer]:
    async with cartesia_server() as server:
        yield server


def service(server: CartesiaServer, **settings: Any) -> HostedService:
    url = f"{server.url}/tts/websocket"
    return HostedService("cartesia", {"api_key": server.api_key, "url": url, **settings})


@pytest.fixture
async def engine(cartesia: CartesiaServer) -> AsyncIterator[HostedEngine]:
    engine = HostedEngine({"main": service(cartesia)}, keep_seconds=30)
    yield engine
    await engine.close()


async def prepared(engine: HostedEngine, name: str = "main", voice: str = "v-1") -> HostedVoice:
    vendor = {"main": "cartesia", "oa": "openai"}[name]
    state = {"format": "hosted-1", "service": name, "vendor": vendor, "voice": voice}
    return await engine.prepare(json.dumps(state).encode())


async def read(stream: HostedStream) -> list[SpeechChunk]:
    async with asyncio.timeout(20):
        return [chunk async for chunk in stream.frames()]


async def say(voice: HostedVoice, *phrases: str, rate: int = 8000) -> list[SpeechChunk]:
    stream = voice.open(rate)
    for phrase in phrases:
        stream.feed(phrase)
    stream.finish()
    return await read(stream)


@pytest.mark.parametrize("rate", [8000, 16000])
async def test_phrases_are_spoken_in_order_by_the_vendor_s_voice(
    engine: HostedEngine, cartesia: CartesiaServer, rate: int
) -> None:
    phrases = ("Good morning to you.", "...", "This is Example Limited.")
    chunks = await say(await prepared(engine), *phrases, rate=rate)
    assert [request["voice"]["id"] for request in cartesia.spoken if request["transcript"]] == [
        "v-1", "v-1"
    ]  # fmt: skip
    said, words, position = [], [], 0
    for chunk in chunks:
        position += len(chunk.pcm) // 2
        assert all(mark.end <= position for mark in chunk.words)
        words += [mark.text for mark in chunk.words]
        if chunk.phrase_end:
            said.append(" ".join(words))
            words = []
    assert said == [phrases[0], "", phrases[2]]
    assert abs(position / rate - 8 * WORD_SECONDS) < 0.02


async def test_the_audio_is_the_service_s_at_the_call_s_rate(engine: HostedEngine) -> None:
    chunks = await say(await prepared(engine), "one", rate=8000)
    samples = np.frombuffer(b"".join(chunk.pcm for chunk in chunks), "<i2").astype(float)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    peak = np.argmax(spectrum) * 8000 / len(samples)
    assert abs(peak - 200) < 20
    assert abs(np.abs(samples).max() - 8000) < 800


async def test_words_end_where_the_service_says(engine: HostedEngine) -> None:
    chunks = await say(await prepared(engine), "one two three", rate=8000)
    ends = [mark.end / 8000 for chunk in chunks for mark in chunk.words]
    assert len(ends) == 3
    for index, end in enumerate(ends):
        assert abs(end - (index + 1) * WORD_SECONDS) < 0.03


async def test_one_connection_serves_many_utterances(
    engine: HostedEngine, cartesia: CartesiaServer
) -> None:
    voice = await prepared(engine)
    for _ in range(3):
        assert await say(voice, "Hello there.")
    assert len(cartesia.queries) == 1
    await asyncio.gather(say(voice, "One call."), say(voice, "Another call."))
    assert len(cartesia.queries) == 2


async def test_cut_cancels_at_the_service_and_the_connection_is_used_again(
    engine: HostedEngine, cartesia: CartesiaServer
) -> None:
    voice = await prepared(engine)
    stream = voice.open(8000)
    for index in range(20):
        stream.feed(f"This is sentence number {index} of a long story.")
    heard = 0
    async for chunk in stream.frames():
        heard += len(chunk.pcm) // 2
        if heard > 800:
            stream.cut()
    assert heard < 16000
    asked = len(cartesia.spoken)
    assert asked < 10
    chunks = await say(voice, "Hello.")
    words = [mark.text for chunk in chunks for mark in chunk.words]
    assert words == ["Hello."]
    assert len(cartesia.queries) <= 2


async def test_cut_while_waiting_ends_the_reader(engine: HostedEngine) -> None:
    stream = (await prepared(engine)).open(8000)
    task = asyncio.ensure_future(read(stream))
    await asyncio.sleep(0)
    stream.cut()
    stream.cut()
    assert await task == []


async def test_an_idle_connection_is_let_go(cartesia: CartesiaServer) -> None:
    engine = HostedEngine({"main": service(cartesia)}, keep_seconds=0.01)
    voice = await prepared(engine)
    await say(voice, "Hello.")
    lines = voice.lines
    async with asyncio.timeout(10):
        while lines._count:
            await asyncio.sleep(0.01)
    await engine.close()


async def test_a_wrong_key_is_an_error_without_the_key(cartesia: CartesiaServer) -> None:
    engine = HostedEngine({"main": service(cartesia, api_key="sk-wrong")})
    voice = await prepared(engine)
    with pytest.raises(SynthesisError, match="hosted service main") as caught:
        await say(voice, "Hello.")
    assert "sk-wrong" not in str(caught.value)
    assert "sk-wrong" not in repr(service(cartesia, api_key="sk-wrong"))
    await engine.close()


async def test_a_stream_is_read_once_and_bounded(engine: HostedEngine) -> None:
    voice = await prepared(engine)
    stream = voice.open(8000)
    stream.feed("Hello.")
    stream.feed("x" * MAX_QUEUED)
    with pytest.raises(SynthesisError, match=f"more than {MAX_QUEUED} characters"):
        await read(stream)
    with pytest.raises(SynthesisError, match="only once"):
        await read(stream)
    with pytest.raises(ValueError, match="8000, 16000 Hz, got 44100"):
        voice.open(44100)
    assert await say(voice) == []


async def test_after_closing_nothing_speaks(cartesia: CartesiaServer) -> None:
    engine = HostedEngine({"main": service(cartesia)})
    voice = await prepared(engine)
    await say(voice, "Hello.")
    await engine.close()
    with pytest.raises(SynthesisError, match="closed"):
        await say(voice, "Hello.")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hosted-1", "allowed: hosted:main:VOICE_ID"),
        ("hosted:other:v", "no hosted service 'other'; configured: main"),
        ("hosted:main:", "is no voice id"),
        ("hosted:main", "is no voice id"),
        ("hosted:main:a b", "is no voice id"),
        ("nothing", "no engine 'nothing'"),
    ],
)
async def test_an_engine_that_isn_t_there_is_refused(
    engine: HostedEngine, name: str, said: str
) -> None:
    with pytest.raises(CloningError, match=said):
        choose_engine({engine.id: engine}, name)


async def test_without_a_voice_s_id_nothing_is_enrolled(engine: HostedEngine) -> None:
    with pytest.raises(CloningError, match="hosted:SERVICE:VOICE_ID"):
        await engine.clone(SPEECH, lambda _: None)


@pytest.mark.parametrize(
    "state",
    [
        b"", b"x", b"[]", b"null", b"{}", b'{"format": "hosted-1"}', b"[" * 5000,
        b'{"format": "hosted-2", "service": "main", "vendor": "cartesia", "voice": "v"}',
        b'{"format": "hosted-1", "service": "main", "vendor": "cartesia", "voice": "a b"}',
        b'{"format": "hosted-1", "service": "main", "vendor": "cartesia", "voice": 7}',
        b'{"format": "hosted-1", "service": "gone", "vendor": "cartesia", "voice": "v"}',
        b'{"format": "hosted-1", "service": "main", "vendor": "rime", "voice": "v"}',
    ],
)  # fmt: skip
async def test_bytes_that_are_no_state_are_refused(engine: HostedEngine, state: bytes) -> None:
    with pytest.raises(EngineStateError):
        await engine.prepare(state)


async def test_a_setting_the_service_hasn_t_shows_at_the_start(cartesia: CartesiaServer) -> None:
    engine = HostedEngine({"main": service(cartesia, speeed=2)})
    with pytest.raises(EngineUnavailableError, match="speeed is no setting"):
        await engine.warm()
    with pytest.raises(EngineUnavailableError, match="speeed is no setting"):
        await prepared(engine)
    await engine.close()


@dataclass
class SpeechEndpoint:
    """``POST /v1/audio/speech``: https://platform.openai.com/docs/api-reference/audio."""

    base_url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    status: int = 200
    seconds_per_word: float = 0.2
    speaker: str | None = None
    """A Flite voice; None: a tone."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(await request.json())
        if self.status != 200:
            return web.json_response({"error": {"message": "quoted words"}}, status=self.status)
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(self.sound(self.requests[-1]["input"]).astype("<i2").tobytes())
        return response

    def sound(self, text: str) -> np.ndarray:
        """What is heard of ``text``."""
        if self.speaker is not None:
            return say_by_flite(text, 24000, self.speaker)
        times = np.arange(int(len(text.split()) * self.seconds_per_word * 24000)) / 24000
        return 8000 * np.sin(2 * np.pi * 300 * times)


@asynccontextmanager
async def speech_endpoint() -> AsyncIterator[SpeechEndpoint]:
    endpoint = SpeechEndpoint()
    app = web.Application()
    app.router.add_post("/v1/audio/speech", endpoint.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    endpoint.base_url = f"http://{host}:{port}/v1"
    try:
        yield endpoint
    finally:
        await runner.cleanup()


async def test_a_service_over_http_with_a_rate_of_its_own_and_no_word_times() -> None:
    async with speech_endpoint() as endpoint:
        settings = {"api_key": "sk-x", "base_url": endpoint.base_url}
        engine = HostedEngine({"oa": HostedService("openai", settings)})
        voice = await prepared(engine, "oa", "alloy")
        chunks = await say(voice, "one two three", "four five.", rate=8000)
        assert sum(chunk.phrase_end for chunk in chunks) == 2
        assert [mark.text for chunk in chunks for mark in chunk.words] == [
            "one", "two", "three", "four", "five."
        ]  # fmt: skip
        samples = np.frombuffer(b"".join(chunk.pcm for chunk in chunks), "<i2").astype(float)
        assert abs(len(samples) / 8000 - 1.0) < 0.02
        spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
        assert abs(np.argmax(spectrum) - 300 * len(samples) / 8000) < 3
        endpoint.status = 400
        with pytest.raises(SynthesisError, match="hosted service oa failed") as caught:
            await say(voice, "six")
        assert "quoted" not in str(caught.value)
        endpoint.status = 200
        assert await say(voice, "seven")
        await engine.close()


def enrolment(speaker: str) -> Speech:
    text = "I consent to the cloning of my voice. The weather is fine today, and so is the coffee."
    return Speech(say_by_flite(text, 16000, speaker).astype(np.float32) / 32768)


async def test_a_vendor_s_voice_is_taken_if_it_is_the_speaker_s_and_nothing_is_uploaded() -> None:
    async with speech_endpoint() as endpoint:
        endpoint.speaker = "slt"
        settings = {"api_key": "sk-x", "base_url": endpoint.base_url}
        engine = HostedEngine({"oa": HostedService("openai", settings)})
        told: list[Progress] = []
        chosen = choose_engine({engine.id: engine}, "hosted:oa:nova")
        assert chosen.id == "hosted-1"
        state = await chosen.clone(enrolment("slt"), told.append)
        assert json.loads(state) == {
            "format": "hosted-1", "service": "oa", "vendor": "openai", "voice": "nova"
        }  # fmt: skip
        assert "sk-x" not in state.decode()
        assert told[-1].done == 1.0
        assert [request["input"] for request in endpoint.requests] == list(SENTENCES)
        with pytest.raises(CloningError, match="isn't the speaker's: its likeness"):
            await chosen.clone(enrolment("rms"), told.append)
        endpoint.status = 400
        with pytest.raises(CloningError, match="can't be heard: hosted service oa failed"):
            await chosen.clone(enrolment("slt"), told.append)
        await engine.close()


async def test_a_voice_that_is_no_speech_is_not_taken(engine: HostedEngine) -> None:
    chosen = choose_engine({engine.id: engine}, "hosted:main:v-1")
    with pytest.raises(CloningError, match="can't be compared|isn't the speaker's"):
        await chosen.clone(enrolment("slt"), lambda _: None)


async def test_the_names_of_engines_say_how_hosted_ones_are_named(engine: HostedEngine) -> None:
    assert engine_names({engine.id: engine, "embedded-1": engine}) == [
        "embedded-1", "hosted:main:VOICE_ID"
    ]  # fmt: skip
