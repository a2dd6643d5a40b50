"""The Pipecat service: utterances from VAD events, what goes downstream and when."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from pipecat.frames.frames import (
    CancelFrame,
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    InterimTranscriptionFrame,
    STTMetadataFrame,
    STTMuteFrame,
    TranscriptionFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.pipeline.worker import PipelineParams
from pipecat.tests.utils import SleepFrame, run_test
from speech import pause, say

from fakes.graphs import running
from ringtrue.streaming.dismantle import take_apart
from ringtrue.streaming.errors import RecognizerError
from ringtrue.streaming.recognizers.grammar import Grammar
from ringtrue.streaming.recognizers.pool import WorkerPool
from ringtrue.streaming.recognizers.port import Transcript
from ringtrue.streaming.recognizers.service import (
    EarlierTranscriptionFrame,
    NothingRecognizedFrame,
    StreamingRecognizer,
)
from ringtrue.streaming.recognizers.sphinx import SphinxRecognizer
from ringtrue.streaming.recognizers.vocabulary import Vocabulary

RATE = 8000
BLOCK = 2 * RATE // 50


@dataclass
class Scripted:
    """A recognizer and its one stream; finals and failures come from a script."""

    finals: list[Transcript | Exception] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    heard: list[bytes] = field(default_factory=list)
    partials: dict[int, str] = field(default_factory=dict)
    """Partial text by the number of bytes heard in the utterance."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """Held back until set: accepting and finishing."""

    accept_failure: Exception | None = None
    name: str = "scripted"
    finish_p99: float = 0.1

    async def load(self) -> None: ...

    def open(self, rate: int) -> Scripted:
        self.log.append(f"open {rate}")
        self.gate.set()
        return self

    async def start(self) -> None:
        self.log.append("start")
        self.heard.append(b"")

    async def accept(self, pcm: bytes) -> str | None:
        await self.gate.wait()
        if self.accept_failure is not None:
            failure, self.accept_failure = self.accept_failure, None
            raise failure
        self.heard[-1] += pcm
        return self.partials.pop(len(self.heard[-1]), None)

    async def finish(self) -> Transcript:
        self.log.append("finish")
        await self.gate.wait()
        final = self.finals.pop(0)
        if isinstance(final, Exception):
            raise final
        return final

    async def cancel(self) -> None:
        self.log.append("cancel")

    async def close(self) -> None:
        self.log.append("close")


def audio(*values: int) -> list[Frame]:
    """A 20 ms block per value, filled with it."""
    return [
        InputAudioRawFrame(bytes([value % 256]) * BLOCK, RATE, 1)
        for value in values
    ]  # fmt: skip


def started() -> Frame:
    return VADUserStartedSpeakingFrame(start_secs=0.2)


def stopped() -> Frame:
    return VADUserStoppedSpeakingFrame(stop_secs=0.2)


async def drive(
    service: StreamingRecognizer, frames: Sequence[Frame]
) -> tuple[list[Frame], list[Frame]]:
    """Send ``frames``, each given time to be handled; what came out down and up."""
    spaced: list[Frame] = []
    for frame in frames:
        spaced += [frame, SleepFrame(0.01)]
    down, up = await run_test(
        service,
        frames_to_send=spaced,
        pipeline_params=PipelineParams(audio_in_sample_rate=RATE),
        start_timeout=10,
    )
    return list(down), list(up)


def texts(frames: Sequence[Frame]) -> list[tuple[str, bool]]:
    found = [f for f in frames if isinstance(f, TranscriptionFrame)]
    assert all(f.finalized is not isinstance(f, EarlierTranscriptionFrame) for f in found)
    return [(f.text, f.finalized) for f in found]


def nothings(frames: Sequence[Frame]) -> list[tuple[bool, bool]]:
    return [(f.rejected, f.failed) for f in frames if isinstance(f, NothingRecognizedFrame)]


async def test_one_utterance_with_its_preroll() -> None:
    engine = Scripted([Transcript("hello there", 0.9)], partials={4 * BLOCK: "hello"})
    service = StreamingRecognizer(engine, preroll_seconds=0.06)
    down, up = await drive(
        service, [*audio(1, 2, 3, 4, 5), started(), *audio(6, 7), stopped(), *audio(8)]
    )
    assert engine.heard == [b"".join(bytes([v]) * BLOCK for v in (3, 4, 5, 6, 7))]
    assert texts(down) == [("hello there", True)]
    assert [f.text for f in down if isinstance(f, InterimTranscriptionFrame)] == ["hello"]
    assert nothings(down) == []
    assert not any(isinstance(f, InputAudioRawFrame) for f in down)
    assert not any(isinstance(f, ErrorFrame) for f in up)
    assert engine.log == ["open 8000", "start", "finish", "close"]
    kinds = [type(f) for f in down]
    assert kinds.index(VADUserStoppedSpeakingFrame) < kinds.index(TranscriptionFrame)


async def test_latency_is_declared_with_the_vads_pause() -> None:
    service = StreamingRecognizer(Scripted(finish_p99=0.1), vad_stop_seconds=0.2)
    down, _ = await drive(service, [])
    (metadata,) = [f for f in down if isinstance(f, STTMetadataFrame)]
    assert metadata.ttfs_p99_latency == pytest.approx(0.3)


async def test_each_segment_of_a_turn_has_its_own_text() -> None:
    engine = Scripted([Transcript("my number is", 0.9), Transcript("five", 0.9)])
    segment = [started(), *audio(1), stopped()]
    down, _ = await drive(StreamingRecognizer(engine), [*segment, *segment])
    assert texts(down) == [("my number is", True), ("five", True)]


async def test_text_that_comes_after_the_caller_went_on_is_not_final() -> None:
    engine = Scripted([Transcript("my number is", 0.9), Transcript("five", 0.9)])
    service = StreamingRecognizer(engine)

    async def hold_then_answer() -> None:
        while not engine.log:
            await asyncio.sleep(0.001)
        engine.gate.clear()
        while engine.log.count("start") < 1:
            await asyncio.sleep(0.001)
        while service._speaking:
            await asyncio.sleep(0.001)
        while not service._speaking:
            await asyncio.sleep(0.001)
        engine.gate.set()

    script = asyncio.create_task(hold_then_answer())
    down, _ = await drive(
        service, [started(), *audio(1), stopped(), started(), *audio(2), stopped()]
    )
    await script
    assert texts(down) == [("my number is", False), ("five", True)]
    assert [piece[:1] for piece in engine.heard] == [b"\x01", b"\x02"]


@pytest.mark.parametrize("rejected", [True, False])
async def test_nothing_credible_is_no_transcription(rejected: bool) -> None:
    engine = Scripted([Transcript("", 0.1, rejected=rejected)])
    down, _ = await drive(StreamingRecognizer(engine), [started(), *audio(1), stopped()])
    assert texts(down) == []
    assert nothings(down) == [(rejected, False)]


async def test_failure_while_hearing_is_reported_and_the_call_goes_on() -> None:
    engine = Scripted([Transcript("again", 0.9)], accept_failure=RecognizerError("worker is gone"))
    segment = [started(), *audio(1, 2), stopped()]
    down, up = await drive(StreamingRecognizer(engine), [*segment, *segment])
    (error,) = [f for f in up if isinstance(f, ErrorFrame)]
    assert "scripted: worker is gone" in error.error
    assert nothings(down) == [(False, True)]
    assert texts(down) == [("again", True)]


@pytest.mark.parametrize("failure", [RecognizerError("too late"), KeyError("a bug")])
async def test_failure_at_the_end_is_reported_and_the_call_goes_on(failure: Exception) -> None:
    engine = Scripted([failure, Transcript("again", 0.9)])
    segment = [started(), *audio(1), stopped()]
    down, up = await drive(StreamingRecognizer(engine), [*segment, *segment])
    assert len([f for f in up if isinstance(f, ErrorFrame)]) == 1
    assert nothings(down) == [(False, True)]
    assert texts(down) == [("again", True)]


async def test_long_speech_is_cut_into_several_texts() -> None:
    engine = Scripted([Transcript("one", 0.9), Transcript("two", 0.9), Transcript("three", 0.9)])
    service = StreamingRecognizer(engine, preroll_seconds=0, max_utterance_seconds=0.06)
    down, _ = await drive(service, [started(), *audio(*range(8)), stopped()])
    assert texts(down) == [("one", False), ("two", False), ("three", True)]
    assert [len(piece) // BLOCK for piece in engine.heard] == [3, 3, 2]


async def test_stalled_recognizer_loses_the_utterance_not_the_memory() -> None:
    engine = Scripted([Transcript("again", 0.9)])
    service = StreamingRecognizer(engine, preroll_seconds=0, max_queued_seconds=0.1)

    async def stall() -> None:
        while not engine.log:
            await asyncio.sleep(0.001)
        engine.gate.clear()
        while service._speaking is False:
            await asyncio.sleep(0.001)
        while service._speaking:
            assert service._queued_bytes <= 0.1 * 2 * RATE
            await asyncio.sleep(0.001)
        engine.gate.set()

    script = asyncio.create_task(stall())
    down, up = await drive(
        service,
        [started(), *audio(*range(12)), stopped(), started(), *audio(1), stopped()],
    )
    await script
    assert ["behind the call" in f.error for f in up if isinstance(f, ErrorFrame)] == [True]
    assert nothings(down) == [(False, True)]
    assert texts(down) == [("again", True)]


@pytest.mark.virtual_time
@pytest.mark.parametrize("stuck", ["start", "finish"])
async def test_a_text_that_does_not_come_is_not_waited_for(stuck: str) -> None:
    recognizer = Stuck(stuck)
    service = StreamingRecognizer(recognizer, stall_seconds=0.9)
    async with running(service, rate=RATE) as graph:
        await graph.push(started(), *audio(1, 2))
        await asyncio.sleep(0.5)
        stopped_at = asyncio.get_running_loop().time()
        await graph.push(stopped())
        await graph.until(lambda: graph.down(NothingRecognizedFrame))
        (nothing,) = graph.down(NothingRecognizedFrame)
        assert nothing.failed
        assert graph.at(nothing) - stopped_at == pytest.approx(0.9, abs=0.01)
        recognizer.stuck = ""
        recognizer.finals.append(Transcript("hours", 0.9))
        await graph.push(started(), *audio(3), stopped())
        await graph.until(lambda: graph.down(TranscriptionFrame))
        assert [frame.text for frame in graph.down(TranscriptionFrame)] == ["hours"]
        assert len(graph.up(ErrorFrame)) == 1


@pytest.mark.virtual_time
@pytest.mark.parametrize(("takes", "heard"), [(1.6, True), (2.6, False)])
async def test_an_engine_that_works_is_given_more_time_not_all_of_it(
    takes: float, heard: bool
) -> None:
    recognizer = Busy([Transcript("hours", 0.9)], takes)
    service = StreamingRecognizer(recognizer, stall_seconds=0.9)
    async with running(service, rate=RATE) as graph:
        await graph.push(started(), *audio(1, 2))
        await asyncio.sleep(0.5)
        stopped_at = asyncio.get_running_loop().time()
        await graph.push(stopped())
        kind = TranscriptionFrame if heard else NothingRecognizedFrame
        await graph.until(lambda: graph.down(kind))
        waited = graph.at(graph.down(kind)[0]) - stopped_at
        assert waited == pytest.approx(takes if heard else 2.1, abs=0.25)
        assert bool(graph.up(ErrorFrame)) is not heard


class Busy(Scripted):
    """One whose final texts take long, and who says meanwhile that it works."""

    def __init__(self, finals: list[Transcript], takes: float) -> None:
        super().__init__(finals)
        self._takes = takes

    def open(self, rate: int) -> Scripted:
        super().open(rate)
        return self

    @property
    def alive(self) -> bool:
        return True

    async def finish(self) -> Transcript:
        await asyncio.sleep(self._takes)
        return await super().finish()


@dataclass
class Stuck(Scripted):
    """One that never comes back from one of its acts."""

    stuck: str = ""

    def __init__(self, stuck: str) -> None:
        super().__init__()
        self.stuck = stuck

    async def start(self) -> None:
        if self.stuck == "start":
            await asyncio.sleep(3600)
        await super().start()

    async def finish(self) -> Transcript:
        if self.stuck == "finish":
            await asyncio.sleep(3600)
        return await super().finish()


@pytest.mark.virtual_time
async def test_nothing_waits_for_the_text_of_a_call_that_is_over() -> None:
    """A call is hung up while its caller's words are awaited, and taken apart."""
    wrong: list[dict[str, object]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, told: wrong.append(told))
    service = StreamingRecognizer(Busy([Transcript("late", 0.9)], takes=3.0), stall_seconds=0.5)
    async with running(service, rate=RATE) as graph:
        await graph.push(started(), *audio(1), stopped())
        await asyncio.sleep(0.2)
        await service.cancel(CancelFrame())
    take_apart([service])
    await asyncio.sleep(5.0)
    assert not wrong


async def test_muted_caller_is_not_heard() -> None:
    engine = Scripted([Transcript("later", 0.9)])
    down, _ = await drive(
        StreamingRecognizer(engine),
        [
            started(), *audio(1), STTMuteFrame(mute=True), *audio(2), stopped(),
            started(), *audio(3), stopped(),
            STTMuteFrame(mute=False), started(), *audio(4), stopped(),
        ],
    )  # fmt: skip
    assert texts(down) == [("later", True)]
    assert engine.heard == [b"\x01" * BLOCK, b"\x04" * BLOCK]
    assert "cancel" in engine.log


@pytest.mark.virtual_time
async def test_audio_that_comes_by_no_frame_is_heard_as_that_which_does() -> None:
    engine = Scripted([Transcript("later", 0.9)])
    service = StreamingRecognizer(engine)
    service.hear(b"\x01" * BLOCK)
    assert not engine.heard, "nothing is heard before the call begins"
    async with running(service, rate=RATE) as graph:
        await graph.push(STTMuteFrame(mute=True))
        await asyncio.sleep(0.05)
        service.hear(b"\x02" * BLOCK)
        await graph.push(STTMuteFrame(mute=False))
        await asyncio.sleep(0.05)
        service.hear(b"\x03" * BLOCK)
        await graph.push(started())
        await asyncio.sleep(0.05)
        service.hear(b"\x04" * BLOCK)
        await graph.push(stopped())
        await asyncio.sleep(0.05)
    assert engine.heard == [b"\x03" * BLOCK + b"\x04" * BLOCK]


async def test_end_of_the_call_mid_speech_recognizes_what_there_is() -> None:
    engine = Scripted([Transcript("good", 0.9)])
    down, _ = await drive(StreamingRecognizer(engine), [started(), *audio(1)])
    assert texts(down) == [("good", True)]
    assert engine.log[-1] == "close"


async def test_with_pocketsphinx_end_to_end() -> None:
    pool = WorkerPool()
    try:
        recognizer = SphinxRecognizer(
            Grammar(vocabulary=Vocabulary(("where is my order", "cancel my order"))), pool
        )
        await recognizer.load()
        line = pause(0.4).tobytes() + say("where is my order").tobytes() + pause(0.3).tobytes()
        blocks = [
            InputAudioRawFrame(line[i : i + BLOCK], RATE, 1) for i in range(0, len(line), BLOCK)
        ]
        # The VAD confirms late: 0.3 s of the speech have passed already.
        frames = [*blocks[:35], started(), *blocks[35:], stopped()]
        down, up = await drive(StreamingRecognizer(recognizer), frames)
    finally:
        await pool.close()
    assert texts(down) == [("where is my order", True)]
    assert not any(isinstance(f, ErrorFrame) for f in up)
