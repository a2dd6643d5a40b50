"""The synthesizer in a graph: order, words in their place, interruption, errors, pace."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from pipecat.frames.frames import (
    AggregatedTextFrame,
    CancelFrame,
    ControlFrame,
    EndFrame,
    ErrorFrame,
    Frame,
    FunctionCallResultFrame,
    InterruptionFrame,
    LLMAssistantPushAggregationFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    MetricsFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.metrics.metrics import TTFBMetricsData

from fakes.graphs import Graph, running
from fakes.scripted_stream import ScriptedStream
from ringtrue.streaming.errors import SynthesisError, UnknownVoiceError
from ringtrue.streaming.phrases import PhraseChunker
from ringtrue.streaming.ports import SpeechChunk, SynthesisStream, WordMark
from ringtrue.streaming.synthesizer import MAX_WAITING, SpeechSynthesizer

RATE = 8000
WORD = 1000
CHUNK = 800


class CountedStream(ScriptedStream):
    """Says each word as 1000 samples of its own value, in chunks of 800."""

    def say(self, phrase: str, said: int) -> Iterator[SpeechChunk]:
        if "broken" in phrase:
            raise SynthesisError("the engine broke")
        words = phrase.split()
        marks = [WordMark(word, said + WORD * n) for n, word in enumerate(words, 1)]
        left = WORD * len(words)
        while left:
            size = min(CHUNK, left)
            left -= size
            said += size
            inside = tuple(mark for mark in marks if said - size < mark.end <= said)
            yield SpeechChunk(b"\1\0" * size, inside, phrase_end=not left)


class ScriptedEngine:
    """Deterministic speech that takes ``work`` seconds a chunk."""

    name = "scripted"
    voices = ("one",)
    speaks_markup = False

    def __init__(self, work: float = 0.001) -> None:
        self.work = work
        self.streams: list[CountedStream] = []
        self.rates: list[int] = []

    async def warm(self) -> None:
        """Nothing to load."""

    def open(self, voice: str, rate: int) -> SynthesisStream:
        if voice not in self.voices:
            raise UnknownVoiceError(voice, self.voices)
        self.rates.append(rate)
        self.streams.append(CountedStream(self.work))
        return self.streams[-1]

    async def close(self) -> None:
        """Nothing to release."""


class Marker(ControlFrame):
    """Some other frame that must keep its place."""


def phrase(text: str) -> AggregatedTextFrame:
    return AggregatedTextFrame(text, "sentence")


def kinds(graph: Graph) -> list[str]:
    """Names of what came out, runs of audio as one; metrics and start-up frames left out."""
    names: list[str] = []
    for frame in graph.exit.frames:
        name = type(frame).__name__.removesuffix("Frame")
        if name in ("Metrics", "UserMuteStarted") or (names and name == names[-1] == "TTSAudioRaw"):
            continue
        names.append(name)
    return names


def spoken(graph: Graph) -> str:
    return " ".join(frame.text for frame in graph.down(TTSTextFrame))


def samples(frames: list[Frame]) -> int:
    return sum(len(frame.audio) // 2 for frame in frames if isinstance(frame, TTSAudioRawFrame))


pytestmark = pytest.mark.virtual_time


async def test_a_response_comes_out_in_order() -> None:
    engine = ScriptedEngine()
    async with running(SpeechSynthesizer(engine, "one"), rate=RATE) as graph:
        await graph.push(LLMFullResponseStartFrame(), phrase("Hello there,"), phrase("friend."))
        await graph.push(LLMFullResponseEndFrame(), Marker())
        await graph.until(lambda: graph.down(Marker))
        assert kinds(graph) == [
            "LLMFullResponseStart",
            "AggregatedText",
            "TTSStarted",
            "TTSAudioRaw",
            "SpokenWord",
            "TTSAudioRaw",
            "SpokenWord",
            "AggregatedText",
            "TTSAudioRaw",
            "SpokenWord",
            "TTSStopped",
            "LLMFullResponseEnd",
            "Marker",
        ]
        assert spoken(graph) == "Hello there, friend."
        assert engine.rates == [RATE]
        audio = graph.down(TTSAudioRawFrame)
        assert {(frame.sample_rate, frame.num_channels) for frame in audio} == {(RATE, 1)}
        contexts = {
            frame.context_id
            for frame in graph.exit.frames
            if isinstance(
                frame, TTSStartedFrame | TTSAudioRawFrame | TTSTextFrame | TTSStoppedFrame
            )
        }
        assert len(contexts) == 1
        announced = [f for f in graph.down(AggregatedTextFrame) if not isinstance(f, TTSTextFrame)]
        assert all(f.will_be_spoken and not f.append_to_context for f in announced)
        assert [w.segment_id for w in graph.down(TTSTextFrame)] == [
            announced[0].id,
            announced[0].id,
            announced[1].id,
        ]


async def test_each_word_stands_exactly_where_it_ended() -> None:
    async with running(SpeechSynthesizer(ScriptedEngine(), "one"), rate=RATE) as graph:
        await graph.push(TTSSpeakFrame("one two three four five six seven"))
        await graph.until(lambda: graph.down(TTSStoppedFrame))
        at = [i for i, frame in enumerate(graph.exit.frames) if isinstance(frame, TTSTextFrame)]
        assert [samples(graph.exit.frames[:i]) for i in at] == [WORD * n for n in range(1, 8)]


MARKUP = 'say <emphasis>this</emphasis> <break time="1s"/><x>slowly</x> &amp; well'


@pytest.mark.parametrize("speaks", [True, False])
@pytest.mark.parametrize("chunked", [True, False])
async def test_markup_reaches_only_engines_that_speak_it(speaks: bool, chunked: bool) -> None:
    engine = ScriptedEngine()
    engine.speaks_markup = speaks
    before = [PhraseChunker()] if chunked else []
    async with running(*before, SpeechSynthesizer(engine, "one"), rate=RATE) as graph:
        await graph.push(TTSSpeakFrame(MARKUP))
        await graph.push(LLMFullResponseStartFrame(), phrase(MARKUP), LLMFullResponseEndFrame())
        await graph.until(lambda: graph.down(LLMFullResponseEndFrame))
        fed = [MARKUP if speaks else "say this slowly & well"] * 2
        assert [text for stream in engine.streams for text in stream.fed] == fed
        announced = [f for f in graph.down(AggregatedTextFrame) if not isinstance(f, TTSTextFrame)]
        assert {frame.text for frame in announced} == {"say this slowly & well"}


@pytest.mark.parametrize("append", [True, False])
async def test_a_lone_utterance_commits_itself_if_it_belongs_to_the_context(append: bool) -> None:
    async with running(SpeechSynthesizer(ScriptedEngine(), "one"), rate=RATE) as graph:
        await graph.push(TTSSpeakFrame("Good morning.", append_to_context=append), Marker())
        await graph.until(lambda: graph.down(Marker))
        assert all(word.append_to_context is append for word in graph.down(TTSTextFrame))
        assert graph.down(TTSStartedFrame)[0].append_to_context is append
        assert bool(graph.down(LLMAssistantPushAggregationFrame)) is append


async def test_a_lone_utterance_does_not_wait_for_an_open_response() -> None:
    async with running(SpeechSynthesizer(ScriptedEngine(), "one"), rate=RATE) as graph:
        await graph.push(LLMFullResponseStartFrame(), phrase("Let me see,"))
        await graph.until(lambda: spoken(graph) == "Let me see,")
        await graph.push(TTSSpeakFrame("one moment please."))
        await graph.until(lambda: spoken(graph).endswith("please."))
        await graph.push(phrase("Found it."), LLMFullResponseEndFrame())
        await graph.until(lambda: graph.down(LLMFullResponseEndFrame))
        assert spoken(graph) == "Let me see, one moment please. Found it."
        assert len(graph.down(TTSStartedFrame)) == len(graph.down(TTSStoppedFrame)) == 3
        assert not graph.down(LLMAssistantPushAggregationFrame)


async def test_interruption_ends_it_and_nothing_follows() -> None:
    engine = ScriptedEngine(work=0.02)
    async with running(SpeechSynthesizer(engine, "one"), rate=RATE) as graph:
        await graph.push(LLMFullResponseStartFrame(), phrase("never " * 50), phrase("ever " * 50))
        await graph.push(TTSSpeakFrame("queued behind"), LLMFullResponseEndFrame())
        await graph.until(lambda: samples(graph.exit.frames) > 4000)
        await graph.push(InterruptionFrame())
        await graph.until(lambda: graph.down(InterruptionFrame))
        cut = len(graph.exit.frames)
        await asyncio.sleep(5)
        assert graph.exit.frames[cut:] == []
        assert isinstance(graph.exit.frames[-1], InterruptionFrame)
        assert all(stream.was_cut for stream in engine.streams)
        await graph.push(LLMFullResponseStartFrame(), phrase("Yes?"), LLMFullResponseEndFrame())
        await graph.until(lambda: graph.down(LLMFullResponseEndFrame))
        assert spoken(graph).endswith("Yes?")
        assert "queued" not in spoken(graph)


async def test_interruption_keeps_frames_that_must_arrive() -> None:
    result = FunctionCallResultFrame("f", "id", {}, "ok")
    async with running(SpeechSynthesizer(ScriptedEngine(0.02), "one"), rate=RATE) as graph:
        await graph.push(TTSSpeakFrame("word " * 50), Marker(), result)
        await graph.until(lambda: samples(graph.exit.frames) > 4000)
        await graph.push(InterruptionFrame())
        await graph.until(lambda: graph.down(FunctionCallResultFrame))
        await asyncio.sleep(1)
        assert not graph.down(Marker)


async def test_an_error_ends_the_utterance_and_the_next_one_works() -> None:
    async with running(SpeechSynthesizer(ScriptedEngine(), "one"), rate=RATE) as graph:
        await graph.push(LLMFullResponseStartFrame(), phrase("All is well,"), phrase("broken"))
        await graph.push(LLMFullResponseEndFrame(), TTSSpeakFrame("and well again."))
        await graph.until(lambda: spoken(graph).endswith("again."))
        await graph.until(lambda: len(graph.down(TTSStoppedFrame)) == 2)
        errors = graph.up(ErrorFrame)
        assert [error.error for error in errors] == ["speech synthesis failed: the engine broke"]
        assert spoken(graph) == "All is well, and well again."
        assert len(graph.down(TTSStartedFrame)) == 2
        assert graph.down(LLMFullResponseEndFrame)


async def test_an_unknown_voice_is_an_error_frame() -> None:
    synthesizer = SpeechSynthesizer(ScriptedEngine(), "two")
    async with running(synthesizer, rate=RATE) as graph:
        await graph.push(TTSSpeakFrame("Hello."))
        await graph.until(lambda: graph.up(ErrorFrame))
        assert "unknown voice 'two'; this engine has: one" in graph.up(ErrorFrame)[0].error
        synthesizer.voice = "one"
        await graph.push(TTSSpeakFrame("Hello."))
        await graph.until(lambda: graph.down(TTSStoppedFrame))
        assert spoken(graph) == "Hello."


async def test_audio_is_never_far_ahead_of_real_time() -> None:
    synthesizer = SpeechSynthesizer(ScriptedEngine(), "one", max_ahead=2.0)
    async with running(synthesizer, rate=RATE) as graph:
        await graph.push(TTSSpeakFrame("word " * 100))
        await graph.until(lambda: graph.down(TTSStoppedFrame), seconds=30)
        first = graph.exit.times[graph.exit.frames.index(graph.down(TTSAudioRawFrame)[0])]
        ahead, total = [], 0.0
        for frame, time in zip(graph.exit.frames, graph.exit.times, strict=True):
            if isinstance(frame, TTSAudioRawFrame):
                total += len(frame.audio) / 2 / RATE
                ahead.append(total - (time - first))
        assert max(ahead) <= 2.0 + 2 * CHUNK / RATE
        assert min(ahead[50:-1]) > 1.5
        assert total == pytest.approx(100 * WORD / RATE)


async def test_frames_pass_while_it_speaks() -> None:
    synthesizer = SpeechSynthesizer(ScriptedEngine(), "one", max_ahead=0.5)
    async with running(synthesizer, rate=RATE) as graph:
        await graph.push(TTSSpeakFrame("word " * 50), Marker())
        await graph.until(lambda: samples(graph.exit.frames) > 4000)
        error = ErrorFrame("unrelated")
        await graph.push(error)
        await graph.until(lambda: error in graph.exit.frames, seconds=0.1)
        assert not graph.down(Marker)
        await graph.until(lambda: graph.down(Marker), seconds=30)
        assert isinstance(graph.exit.frames[-2], LLMAssistantPushAggregationFrame)


async def test_the_end_drains_without_waiting_for_real_time() -> None:
    synthesizer = SpeechSynthesizer(ScriptedEngine(), "one", max_ahead=0.5)
    async with running(synthesizer, rate=RATE) as graph:
        loop = asyncio.get_running_loop()
        await graph.push(LLMFullResponseStartFrame(), phrase("word " * 80))
        begun = loop.time()
        await graph.push(EndFrame())
        await graph.until(lambda: graph.down(EndFrame))
        assert loop.time() - begun < 2.0
        assert samples(graph.exit.frames) == 80 * WORD
        assert len(graph.down(TTSStoppedFrame)) == 1
        assert isinstance(graph.exit.frames[-1], EndFrame)


async def test_cancel_stops_it() -> None:
    engine = ScriptedEngine(work=0.02)
    async with running(SpeechSynthesizer(engine, "one"), rate=RATE) as graph:
        await graph.push(TTSSpeakFrame("word " * 100))
        await graph.until(lambda: samples(graph.exit.frames) > 4000)
        await graph.push(CancelFrame())
        await graph.until(lambda: graph.down(CancelFrame))
        heard = samples(graph.exit.frames)
        await asyncio.sleep(1)
        assert samples(graph.exit.frames) == heard
        assert engine.streams[0].was_cut


async def test_what_waits_is_bounded() -> None:
    engine = ScriptedEngine(work=1000.0)
    async with running(SpeechSynthesizer(engine, "one"), rate=RATE) as graph:
        await graph.push(LLMFullResponseStartFrame())
        await graph.push(*(phrase("more") for _ in range(MAX_WAITING + 5)))
        await graph.until(lambda: len(graph.up(ErrorFrame)) >= 4)
        assert f"more than {MAX_WAITING} phrases" in graph.up(ErrorFrame)[0].error
        await graph.push(InterruptionFrame())
        await graph.until(lambda: graph.down(InterruptionFrame))


@pytest.mark.parametrize("text", ["", "  \n"])
async def test_blank_text_is_not_spoken(text: str) -> None:
    engine = ScriptedEngine()
    async with running(SpeechSynthesizer(engine, "one"), rate=RATE) as graph:
        await graph.push(TTSSpeakFrame(text), phrase(text), Marker())
        await graph.until(lambda: graph.down(Marker))
        assert engine.streams == []


async def test_time_to_first_audio_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SpeechSynthesizer, "metrics_enabled", property(lambda _: True))
    async with running(SpeechSynthesizer(ScriptedEngine(), "one"), rate=RATE) as graph:
        await graph.push(TTSSpeakFrame("Hello there."))
        await graph.until(lambda: graph.down(TTSStoppedFrame))
        data = [item for frame in graph.down(MetricsFrame) for item in frame.data]
        assert [type(item) for item in data].count(TTFBMetricsData) == 1


@pytest.mark.parametrize(
    ("pipeline", "asked", "used"), [(8000, None, 8000), (24000, None, 16000), (8000, 16000, 16000)]
)
async def test_the_rate(pipeline: int, asked: int | None, used: int) -> None:
    engine = ScriptedEngine()
    async with running(SpeechSynthesizer(engine, "one", rate=asked), rate=pipeline) as graph:
        await graph.push(TTSSpeakFrame("Hello."))
        await graph.until(lambda: graph.down(TTSStoppedFrame))
        assert engine.rates == [used]
        assert graph.down(TTSAudioRawFrame)[0].sample_rate == used


def test_rates_are_checked() -> None:
    with pytest.raises(ValueError, match=r"rate must be one of \(8000, 16000\) Hz, got 44100"):
        SpeechSynthesizer(ScriptedEngine(), "one", rate=44100)
