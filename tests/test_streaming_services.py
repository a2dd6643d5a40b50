"""Pipecat services by name: built from settings, refused with reasons, and run over the wire."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from pipecat.frames.frames import (
    AggregatedTextFrame,
    InputAudioRawFrame,
    InterimTranscriptionFrame,
    InterruptionFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.services.cartesia.stt import CartesiaSTTService
from pipecat.services.cartesia.tts import CartesiaTTSService
from pipecat.services.openai.llm import OpenAILLMService
from pipecat.services.openai.tts import OpenAITTSService

from fakes.cartesia_server import SAMPLES_PER_WORD, CartesiaServer, cartesia_server
from fakes.graphs import running
from fakes.openai_server import Say, openai_server
from ringtrue.config.settings import PipecatService
from ringtrue.streaming.llm.hook import LlmHook
from ringtrue.streaming.phrases import PhraseChunker
from ringtrue.streaming.services import (
    ServiceError,
    build_llm,
    build_stt,
    build_tts,
    find_service,
    known_services,
)

RATE = 8000


def stt_settings(server: CartesiaServer) -> dict[str, Any]:
    return {"api_key": server.api_key, "base_url": server.url, "model": "ink-2", "language": "en"}


def tts_settings(server: CartesiaServer) -> dict[str, Any]:
    return {"api_key": server.api_key, "url": f"{server.url}/tts/websocket", "voice": "v-1"}


async def test_recognizer_over_the_wire() -> None:
    async with cartesia_server() as server:
        server.transcripts.append("where is my order")
        stt = build_stt("cartesia", stt_settings(server))
        pcm = bytes(range(256)) * 25
        async with running(stt, rate=RATE) as graph:
            await graph.until(lambda: server.queries)
            await graph.push(VADUserStartedSpeakingFrame())
            for _ in range(3):
                await graph.push(InputAudioRawFrame(audio=pcm, sample_rate=RATE, num_channels=1))
            await graph.until(lambda: len(server.heard) >= 3 * len(pcm))
            await graph.push(VADUserStoppedSpeakingFrame())
            await graph.until(lambda: graph.down(TranscriptionFrame))
            assert [f.text for f in graph.down(TranscriptionFrame)] == ["where is my order"]
            assert [f.text for f in graph.down(InterimTranscriptionFrame)] == ["where"]
        assert bytes(server.heard).startswith(pcm * 3)
        (query,) = server.queries
        assert query["model"] == ["ink-2"]
        assert query["encoding"] == ["pcm_s16le"]
        assert query["sample_rate"] == [str(RATE)]


async def test_synthesizer_over_the_wire_speaks_our_phrases() -> None:
    async with cartesia_server() as server:
        tts = build_tts("cartesia", tts_settings(server))
        async with running(PhraseChunker(), tts, rate=RATE) as graph:
            await graph.push(LLMFullResponseStartFrame())
            for token in ("Of", " course,", " I", " can", " do", " that."):
                await graph.push(LLMTextFrame(token))
            await graph.push(LLMFullResponseEndFrame())
            await graph.until(lambda: graph.down(TTSStoppedFrame))
            kinds = [type(f) for f in graph.exit.frames]
            assert kinds.index(TTSStartedFrame) < kinds.index(TTSAudioRawFrame)
            audio = b"".join(f.audio for f in graph.down(TTSAudioRawFrame))
            assert len(audio) == 6 * SAMPLES_PER_WORD * 2
            assert {f.sample_rate for f in graph.down(TTSAudioRawFrame)} == {RATE}
            words = [f.text for f in graph.down(TTSTextFrame)]
            assert " ".join(words).split() == "Of course, I can do that.".split()  # noqa: SIM905
        spoken = [request["transcript"].strip() for request in server.spoken]
        assert [text for text in spoken if text] == ["Of course,", "I can do that."]
        assert {request["voice"]["id"] for request in server.spoken} == {"v-1"}
        assert {request["output_format"]["sample_rate"] for request in server.spoken} == {RATE}
        assert len({request["context_id"] for request in server.spoken}) == 1


async def test_hosted_synthesis_gets_and_reports_no_markup() -> None:
    async with cartesia_server() as server:
        tts = build_tts("cartesia", tts_settings(server))
        async with running(PhraseChunker(), tts, rate=RATE) as graph:
            await graph.push(LLMFullResponseStartFrame())
            for token in (
                "I can <pro",
                'sody rate="slow">do',
                " that</prosody> &amp; <x>more.</x>",
            ):
                await graph.push(LLMTextFrame(token))
            await graph.push(LLMFullResponseEndFrame())
            await graph.push(TTSSpeakFrame('One <break time="1s"/> moment.'))
            await graph.until(lambda: len(graph.down(TTSStoppedFrame)) == 2)
            words = " ".join(f.text for f in graph.down(TTSTextFrame))
            assert words.split() == "I can do that & more. One moment.".split()  # noqa: SIM905
        spoken = [request["transcript"].strip() for request in server.spoken]
        assert [text for text in spoken if text] == ["I can do that & more.", "One moment."]


async def test_interruption_cancels_synthesis_over_the_wire() -> None:
    async with cartesia_server() as server:
        tts = build_tts("cartesia", tts_settings(server))
        async with running(tts, rate=RATE) as graph:
            await graph.push(LLMFullResponseStartFrame(), AggregatedTextFrame("Hello there.", "x"))
            await graph.until(lambda: graph.down(TTSAudioRawFrame))
            await graph.push(InterruptionFrame())
            await graph.until(lambda: server.cancelled)
        assert server.cancelled == [server.spoken[0]["context_id"]]


async def test_language_model_over_the_wire() -> None:
    async with openai_server() as server:
        server.script(Say("Hi"), Say(" there."))
        llm = build_llm(
            "openai",
            {
                "api_key": server.api_key,
                "base_url": server.base_url,
                "model": "scripted-1",
                "temperature": 0.5,
            },
            prompt="You are brief.",
        )
        context = LLMContext(messages=[{"role": "user", "content": "hello"}])
        async with running(llm) as graph:
            await graph.push(LLMContextFrame(context))
            await graph.until(lambda: graph.down(LLMFullResponseEndFrame))
            assert [f.text for f in graph.down(LLMTextFrame)] == ["Hi", " there."]
            client = llm._client  # type: ignore[attr-defined]
        await client.close()
        (request,) = server.requests
        assert request["temperature"] == 0.5
        assert request["messages"][0]["content"] == "You are brief."


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cartesia", CartesiaTTSService),
        ("cartesia.CartesiaTTSService", CartesiaTTSService),
        ("pipecat:cartesia.tts.CartesiaTTSService", CartesiaTTSService),
        ("pipecat.services.cartesia.tts.CartesiaTTSService", CartesiaTTSService),
        ("pipecat.services.cartesia.tts:CartesiaTTSService", CartesiaTTSService),
        ("openai", OpenAITTSService),
    ],
)
def test_names(name: str, expected: type) -> None:
    assert find_service("tts", name) is expected


def test_every_kind_has_services() -> None:
    for kind in ("stt", "llm", "tts"):
        assert "openai" in known_services(kind)  # type: ignore[arg-type]
    assert find_service("stt", "cartesia") is CartesiaSTTService
    assert find_service("llm", "openai") is OpenAILLMService


def test_an_llm_gets_the_hook() -> None:
    llm = build_llm("ollama", {"model": "llama3"}, prompt="Be brief.")
    assert isinstance(llm, LlmHook)
    assert type(llm).__name__ == "OLLamaLLMService"


def test_settings_from_configuration() -> None:
    section = PipecatService(
        engine="pipecat", service="cartesia", settings={"api_key": "k-secret", "voice": "v"}
    )
    service = build_tts(section.service, section.revealed())
    assert isinstance(service, CartesiaTTSService)
    assert service.settings.voice == "v"  # type: ignore[attr-defined]


def test_aliases_and_conversion() -> None:
    service = build_tts(
        "cartesia",
        {
            "api_key": "k",
            "voice_id": "v-2",
            "sample_rate": "8000",
            "text_aggregation_mode": "token",
        },
    )
    assert service.settings.voice == "v-2"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("build", "name", "settings", "words"),
    [
        (build_stt, "deepgrm", {}, ["'deepgrm'", "did you mean deepgram?", "cartesia"]),
        (build_tts, "cartesia.Nope", {}, ["'Nope'", "CartesiaTTSService"]),
        (build_tts, "no.such.module.Class", {}, ["no.such.module"]),
        (build_tts, "no_such_module:Class", {}, ["no_such_module", "imported"]),
        (build_tts, "cartesia", {}, ["tts.settings.api_key", "must be given"]),
        (
            build_tts,
            "cartesia",
            {"api_key": "k", "voise": "v"},
            ["tts.settings.voise", "did you mean voice?", "sample_rate"],
        ),
        (
            build_tts,
            "cartesia",
            {"api_key": "k", "sample_rate": "fast"},
            ["tts.settings.sample_rate", "'fast'", "int"],
        ),
        (
            build_tts,
            "cartesia",
            {"api_key": "k", "text_aggregation_mode": "sentense"},
            ["'sentense'", "sentence, token", "did you mean sentence?"],
        ),
        (
            build_llm,
            "openai",
            {"api_key": "k", "temperature": "hot"},
            ["llm.settings.temperature", "'hot'", "float"],
        ),
        (
            build_tts,
            "elevenlabs.ElevenLabsHttpTTSService",
            {"api_key": "k"},
            ["aiohttp_session", "configuration can't give"],
        ),
    ],
)
def test_what_is_wrong_is_named(
    build: Callable[..., object], name: str, settings: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ServiceError) as caught:
        build(name, settings)
    for word in words:
        assert word in str(caught.value)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deepgram", None)
    monkeypatch.delitem(sys.modules, "pipecat.services.deepgram.stt", raising=False)
    with pytest.raises(ServiceError, match=r'pip install "pipecat-ai\[deepgram\]"'):
        build_stt("deepgram", {"api_key": "k"})


def test_secrets_are_not_in_errors() -> None:
    with pytest.raises(ServiceError) as caught:
        build_tts("cartesia", {"api_key": ["hunter2"]})
    assert "hunter2" not in str(caught.value)
    assert "tts.settings.api_key" in str(caught.value)
