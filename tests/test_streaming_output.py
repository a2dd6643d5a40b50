"""Output, session and gate together: what leaves is sealed, what was heard is known."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from legs import ScriptedLeg
from pipecat.audio.dtmf.types import KeypadEntry
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    Frame,
    FunctionCallResultFrame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    MixerEnableFrame,
    OutputAudioRawFrame,
    OutputDTMFFrame,
    OutputDTMFUrgentFrame,
    OutputTransportMessageFrame,
    OutputTransportMessageUrgentFrame,
    SpeechOutputAudioRawFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from ringtrue.streaming.clock import TICK, MediaClock
from ringtrue.streaming.gate import FrameKind
from ringtrue.streaming.graph import CallGraph, GraphPolicy, Services, SharedModels
from ringtrue.streaming.record import CallRecord
from ringtrue.streaming.refusals import Refusal, RefusalReport
from ringtrue.streaming.voice_frames import sealed_audio

pytestmark = pytest.mark.virtual_time
ROOT = Path(__file__).parent.parent


class Through(FrameProcessor):
    """Passes everything on; stands where a service would."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)


class Stamp:
    """A watermark stage that sets the lowest bit of every audible sample."""

    id = "stamp"

    def mark(self, pcm: bytes, kind: FrameKind) -> bytes:
        if kind is FrameKind.SILENCE:
            return pcm
        return bytes(np.bitwise_or(np.frombuffer(pcm, np.int16), 1).tobytes())


@dataclass
class Rig:
    """A running graph with nothing but output in it."""

    leg: ScriptedLeg
    graph: CallGraph
    entry: Through
    heard: list[Frame] = field(default_factory=list)
    up: list[Frame] = field(default_factory=list)
    messages: list[Any] = field(default_factory=list)

    async def push(self, *frames: Frame) -> None:
        """Send frames from where the synthesizer stands."""
        for frame in frames:
            await self.entry.push_frame(frame)

    async def speak(self, *words: str, samples: int = 800) -> None:
        """One utterance: each word is ``samples`` of audio."""
        await self.push(LLMFullResponseStartFrame(), TTSStartedFrame(context_id="u"))
        for word in words:
            await self.push(audio(samples), TTSTextFrame(word, text_type="word"))
        await self.push(TTSStoppedFrame(context_id="u"), LLMFullResponseEndFrame())


class Up(Through):
    """Notes what travels upstream."""

    def __init__(self, seen: list[Frame]) -> None:
        super().__init__()
        self._seen = seen

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        if direction is FrameDirection.UPSTREAM:
            self._seen.append(frame)
        await super().process_frame(frame, direction)


def audio(samples: int, rate: int = 8000, cls: type[Any] = TTSAudioRawFrame) -> Any:
    """A frame of even, non-zero samples."""
    pcm = np.full(samples, 1000, np.int16).tobytes()
    return cls(audio=pcm, sample_rate=rate, num_channels=1)


@asynccontextmanager
async def rig(leg: ScriptedLeg | None = None, **options: Any) -> AsyncIterator[Rig]:
    """Run a graph on a scripted leg."""
    leg = leg or ScriptedLeg()
    entry, up, heard = Through(), [], []
    loop = asyncio.get_running_loop()
    record = CallRecord("c1", "test", "inbound", "none", leg.rate, loop.time())
    models = SharedModels(smart_turn=False)
    messages: list[Any] = []
    if options.pop("side_channel", False):
        options["on_message"] = messages.append

    async def on_heard(frame: Frame) -> None:
        heard.append(frame)

    graph = CallGraph(
        leg,
        record,
        Services(stt=Through(), llm=Up(up), tts=entry),
        models,
        policy=GraphPolicy(),
        watermarker=Stamp(),
        on_heard=on_heard,
        **options,
    )
    clock = MediaClock()
    await graph.start()
    clock.add(graph.session)
    try:
        yield Rig(leg, graph, entry, heard, up, messages)
    finally:
        clock.remove(graph.session)
        await graph.stop()
        models.close()


def text(frames: list[Frame]) -> list[str]:
    """Words among ``frames``."""
    return [frame.text for frame in frames if isinstance(frame, TTSTextFrame)]


async def test_words_are_released_as_they_are_heard() -> None:
    async with rig() as r:
        await r.speak("good", "morning", "caller")
        await asyncio.sleep(TICK * 6.5)
        assert text(r.heard) == ["good"]
        await asyncio.sleep(TICK * 5)
        assert text(r.heard) == ["good", "morning"]
        await asyncio.sleep(TICK * 6)
        assert text(r.heard) == ["good", "morning", "caller"]
        assert r.graph.context.messages == [{"role": "assistant", "content": "good morning caller"}]
        kinds = [
            type(f)
            for f in r.up
            if isinstance(f, BotStartedSpeakingFrame | BotStoppedSpeakingFrame)
        ]
        assert kinds == [BotStartedSpeakingFrame, BotStoppedSpeakingFrame]


async def test_an_interruption_stops_within_two_frames_and_keeps_only_what_was_heard() -> None:
    async with rig() as r:
        await r.speak("one", "two", "three", "four")
        await asyncio.sleep(TICK * 12.5)
        sent = len(r.leg.sent)
        await r.push(InterruptionFrame())
        await asyncio.sleep(TICK * 20)
        tail = [frame.kind for frame in r.leg.sent[sent:]]
        assert FrameKind.SPEECH not in tail[2:]
        assert text(r.heard) == ["one", "two"]
        assert r.graph.context.messages == [{"role": "assistant", "content": "one two"}]
        assert r.leg.cleared == 1
        turnless = r.graph.session.record
        assert turnless.interruptions == 1
        await r.speak("again")
        await asyncio.sleep(TICK * 8)
        assert text(r.heard) == ["one", "two", "again"]


async def test_an_interruption_loses_no_frame_that_must_arrive() -> None:
    """A tool's result may stand behind speech; without it the context waits for it forever."""
    async with rig() as r:
        await r.push(TTSStartedFrame(context_id="u"), audio(8000))
        result = FunctionCallResultFrame("look_up", "1", {}, {"status": "done"})
        word = TTSTextFrame("unheard", text_type="word")
        word.interruptible = False
        await r.push(result, word)
        await asyncio.sleep(TICK * 5)
        await r.push(InterruptionFrame())
        await asyncio.sleep(TICK * 5)
        assert result in r.heard
        assert text(r.heard) == []


async def test_a_far_end_with_its_own_buffer_decides_what_was_heard() -> None:
    leg = ScriptedLeg(confirms=True)
    async with rig(leg) as r:
        await r.speak("one", "two")
        await asyncio.sleep(TICK * 15)
        assert text(r.heard) == []
        leg.played = (
            next(i for i, f in enumerate(leg.sent) if f.kind is FrameKind.SPEECH) * 160 + 800
        )
        await r.push(InterruptionFrame())
        await asyncio.sleep(TICK * 2)
        assert text(r.heard) == ["one"]


async def test_audio_at_another_rate_is_brought_to_the_legs() -> None:
    async with rig() as r:
        await r.push(TTSStartedFrame(context_id="u"), audio(2400, 24000), audio(2400, 24000))
        await r.push(TTSStoppedFrame(context_id="u"))
        await asyncio.sleep(TICK * 15)
        spoken = [f for f in r.leg.sent if f.kind is FrameKind.SPEECH]
        assert len(spoken) == 10
        middle = np.frombuffer(spoken[5].pcm, np.int16)
        assert np.abs(middle - 1000).max() < 30


def everything_marked(leg: ScriptedLeg) -> bool:
    """Every sample sent is silence or carries the stamp."""
    for frame in leg.sent:
        samples = np.frombuffer(frame.pcm, np.int16)
        if not (frame.kind is FrameKind.SILENCE and not samples.any()) and not (samples & 1).all():
            return False
    return True


@pytest.mark.parametrize(
    "frame",
    [
        OutputDTMFFrame(buttons=[KeypadEntry.FIVE]),
        OutputDTMFUrgentFrame(buttons=[KeypadEntry.FIVE]),
        audio(1600),
    ],
    ids=["dtmf", "dtmf-urgent", "tts-without-start"],
)
async def test_every_kind_of_audio_passes_the_gate(frame: Frame) -> None:
    async with rig() as r:
        await r.push(frame)
        await asyncio.sleep(TICK * 20)
        assert any(f.kind is not FrameKind.SILENCE for f in r.leg.sent)
        assert everything_marked(r.leg)
        assert len(r.leg.sent) == r.graph.session.gate.stats.sealed


@pytest.mark.parametrize("kind", [OutputAudioRawFrame, SpeechOutputAudioRawFrame])
async def test_audio_that_no_synthesizer_made_is_refused_and_told_once(kind: type[Any]) -> None:
    told: list[RefusalReport] = []
    async with rig(on_refusal=told.append) as r:
        await r.push(audio(1600, cls=kind))
        await asyncio.sleep(TICK * 20)
        assert all(f.kind is FrameKind.SILENCE for f in r.leg.sent)
        assert r.graph.session.gate.stats.refused == {Refusal.UNSEALED: 10}
        assert len(r.leg.sent) == r.graph.session.gate.stats.sealed
        r.graph.session.close(asyncio.get_running_loop().time(), "test")
    assert [(each.reason, each.frames) for each in told] == [("unsealed", 1), ("unsealed", 9)]


async def test_speech_that_comes_late_from_before_an_interruption_is_refused() -> None:
    async with rig() as r:
        await r.speak("one")
        await asyncio.sleep(TICK * 3)
        provenance = r.graph.session.gate.provenance
        late = provenance.utterance()  # of a synthesizer that has not noticed yet
        await r.push(InterruptionFrame())
        await asyncio.sleep(TICK * 3)
        sent = len(r.leg.sent)
        pcm = np.full(800, 1000, np.int16).tobytes()
        frame = sealed_audio(late.seal(pcm, asyncio.get_running_loop().time()))
        await r.graph.session.output.queue_frame(frame)
        await asyncio.sleep(TICK * 10)
        assert all(f.kind is FrameKind.SILENCE for f in r.leg.sent[sent:])
        assert r.graph.session.gate.stats.refused == {Refusal.STALE_TURN: 5}
        await r.speak("two")
        await asyncio.sleep(TICK * 8)
        assert text(r.heard) == ["two"]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: MixerEnableFrame(True), "MixerEnableFrame"),
        (
            lambda: OutputTransportMessageFrame(message={"event": "media", "payload": "AAAA"}),
            "message",
        ),
        (lambda: OutputTransportMessageUrgentFrame(message={"event": "media"}), "message"),
    ],
    ids=["mixer", "message", "urgent-message"],
)
async def test_what_could_go_around_the_gate_ends_at_the_output(make: Any, reason: str) -> None:
    async with rig() as r:
        await r.push(make())
        await asyncio.sleep(TICK * 5)
        assert r.graph.session.output.refused == {reason: 1}
        assert all(f.kind is FrameKind.SILENCE for f in r.leg.sent)


async def test_a_digit_dialled_in_mid_speech_cuts_nothing_off() -> None:
    async with rig() as r:
        await r.push(TTSStartedFrame(context_id="u"), audio(800), TTSTextFrame("one", "word"))
        await asyncio.sleep(TICK * 2)
        await r.push(OutputDTMFUrgentFrame(buttons=[KeypadEntry.FIVE]))
        await asyncio.sleep(TICK)
        await r.push(audio(800), TTSTextFrame("two", "word"), TTSStoppedFrame(context_id="u"))
        await asyncio.sleep(TICK * 30)
        kinds = [f.kind for f in r.leg.sent]
        assert kinds.count(FrameKind.SPEECH) == 10
        assert FrameKind.DIGIT in kinds
        assert text(r.heard) == ["one", "two"]
        assert not r.graph.session.record.errors
        assert r.graph.session.playout.idle


async def test_what_a_clip_at_another_rate_left_over_is_not_spoken_later() -> None:
    async with rig() as r:
        await r.push(audio(2400, 24000))
        await asyncio.sleep(TICK * 10)
        await r.push(TTSStartedFrame(context_id="u"), audio(800), TTSStoppedFrame(context_id="u"))
        await asyncio.sleep(TICK * 10)
        sounding = [f for f in r.leg.sent if f.kind is FrameKind.SPEECH]
        assert len(sounding) == 10
        assert b"".join(f.pcm for f in sounding[5:]) == np.full(800, 1001, np.int16).tobytes()


async def test_a_second_destination_is_refused() -> None:
    async with rig() as r:
        frame = audio(1600)
        frame.transport_destination = "elsewhere"
        await r.push(frame)
        await asyncio.sleep(TICK * 5)
        assert r.graph.session.output.refused == {"destination": 1}
        assert all(f.kind is FrameKind.SILENCE for f in r.leg.sent)


async def test_messages_go_to_the_side_channel_where_there_is_one() -> None:
    async with rig(side_channel=True) as r:
        await r.push(OutputTransportMessageFrame(message={"note": 1}))
        await asyncio.sleep(TICK * 2)
        assert r.messages == [{"note": 1}]


async def test_ending_speaks_what_was_queued_and_its_silence_is_sealed_too() -> None:
    async with rig() as r:
        await r.speak("good", "bye")
        await r.graph.finish()
        assert text(r.heard) == ["good", "bye"]
        assert everything_marked(r.leg)
        assert len(r.leg.sent) == r.graph.session.gate.stats.sealed


async def test_a_dead_far_end_hears_nothing_and_the_clock_goes_on() -> None:
    leg = ScriptedLeg()
    async with rig(leg) as r:
        leg.alive, leg.heard = False, asyncio.get_running_loop().time()
        await asyncio.sleep(11)
        sent = len(leg.sent)
        await r.speak("anyone", "there")
        await asyncio.sleep(TICK * 20)
        assert all(f.kind is FrameKind.SILENCE for f in leg.sent[sent:])
        assert len(leg.sent) - sent == pytest.approx(20, abs=1)
        assert r.graph.session.gate.stats.refused["far_end"] == 10
        assert text(r.heard) == []
        assert r.graph.context.messages == []


async def test_a_full_buffer_holds_the_writer_up_and_loses_nothing() -> None:
    async with rig() as r:
        seconds = 90
        await r.push(TTSStartedFrame(context_id="u"))
        for _ in range(seconds):
            await r.push(audio(8000))
        await r.push(TTSStoppedFrame(context_id="u"))
        await asyncio.sleep(5)
        assert r.graph.session.playout.pending_seconds <= 61
        await asyncio.sleep(seconds)
        assert sum(f.kind is FrameKind.SPEECH for f in r.leg.sent) == seconds * 50
        assert r.graph.session.playout.underruns == 0


def test_the_session_is_the_only_caller_of_a_legs_send() -> None:
    """Read from the source: no other place in the graph's rooms hands frames to a leg."""
    senders = []
    for folder in ("streaming", "agent", "voices"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute)
                    and node.func.attr == "send"
                    and ast.unparse(node.func.value).endswith("leg")
                ):
                    senders.append(f"{path.relative_to(ROOT)}")
    assert senders == ["streaming/session.py"]


def test_no_pipecat_output_transport_is_used() -> None:
    """Its sender would write to a wire by itself."""
    for folder in ("streaming", "telephony", "agent", "voices"):
        for path in (ROOT / folder).rglob("*.py"):
            assert "base_output" not in path.read_text(), path
