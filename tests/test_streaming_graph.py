"""The graph as a whole on virtual time: real voice activity, scripted services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np
import pytest
from legs import ScriptedLeg
from pipecat.frames.frames import (
    Frame,
    InputAudioRawFrame,
    InterruptionFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from speech import pause, say

from ringtrue.streaming.clock import TICK, MediaClock
from ringtrue.streaming.gate import FrameKind
from ringtrue.streaming.graph import CallGraph, Services, SharedModels
from ringtrue.streaming.record import CallRecord, Stage

pytestmark = pytest.mark.virtual_time
RATE = 8000


class Stt(FrameProcessor):
    """Understands something 50 ms after each stretch of speech; counts what it hears."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = 0
        self.samples = 0

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            self.blocks += 1
            self.samples += len(frame.audio) // 2
            return
        await self.push_frame(frame, direction)
        if isinstance(frame, VADUserStoppedSpeakingFrame):
            await asyncio.sleep(0.05)
            await self.push_frame(
                TranscriptionFrame(text="hours", user_id="", timestamp="", finalized=True)
            )


class Llm(FrameProcessor):
    """Answers every context with ten words."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[list[dict[str, str]]] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if not isinstance(frame, LLMContextFrame):
            await self.push_frame(frame, direction)
            return
        self.asked.append([dict(m) for m in frame.context.messages])
        await self.push_frame(LLMFullResponseStartFrame())
        for n in range(10):
            await self.push_frame(LLMTextFrame(f"w{n} "))
        await self.push_frame(LLMFullResponseEndFrame())


class Tts(FrameProcessor):
    """Speaks each word as 300 ms of a steady level."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, LLMTextFrame):
            pcm = np.full(2400, 1000, np.int16).tobytes()
            await self.push_frame(TTSAudioRawFrame(audio=pcm, sample_rate=RATE, num_channels=1))
            await self.push_frame(TTSTextFrame(frame.text.strip(), text_type="word"))
            return
        if isinstance(frame, LLMFullResponseStartFrame):
            await self.push_frame(frame, direction)
            await self.push_frame(TTSStartedFrame(context_id="u"))
            return
        if isinstance(frame, LLMFullResponseEndFrame):
            await self.push_frame(TTSStoppedFrame(context_id="u"))
        await self.push_frame(frame, direction)


@dataclass
class Rig:
    """A running call."""

    leg: ScriptedLeg
    graph: CallGraph
    record: CallRecord
    stt: Stt
    llm: Llm


@asynccontextmanager
async def rig() -> AsyncIterator[Rig]:
    leg, stt, llm = ScriptedLeg(RATE), Stt(), Llm()
    record = CallRecord("c", "test", "inbound", "none", RATE, asyncio.get_running_loop().time())
    models = SharedModels(smart_turn=False)
    graph = CallGraph(leg, record, Services(stt=stt, llm=llm, tts=Tts()), models)
    clock = MediaClock()
    await graph.start()
    clock.add(graph.session)
    try:
        yield Rig(leg, graph, record, stt, llm)
    finally:
        clock.remove(graph.session)
        await graph.stop()
        models.close()


def caller(*parts: np.ndarray) -> bytes:
    """What the caller sends."""
    return np.concatenate(parts).astype(np.int16).tobytes()


def speaking(leg: ScriptedLeg) -> list[int]:
    """Ticks in which the agent spoke."""
    return [n for n, frame in enumerate(leg.sent) if frame.kind is FrameKind.SPEECH]


QUESTION = "What are your opening hours please?"


async def test_a_question_is_answered_and_every_moment_is_recorded() -> None:
    async with rig() as r:
        question = say(QUESTION)
        r.leg.play(caller(pause(0.5), question, pause(5)))
        await asyncio.sleep(7)
        ended = 0.5 + len(question) / RATE
        (turn,) = r.record.turns
        assert list(turn.stages) == [
            Stage.SPEECH_ENDED,
            Stage.VAD_STOPPED,
            Stage.TRANSCRIPT,
            Stage.TURN_ENDED,
            Stage.FIRST_AUDIO,
            Stage.FIRST_SEALED,
            Stage.FIRST_PACKET,
        ]
        assert turn.stages[Stage.SPEECH_ENDED] - r.record.answered_at == pytest.approx(
            ended, abs=0.2
        )
        latency = turn.interval("turn_latency")
        assert latency is not None
        assert 0.2 < latency < 0.45
        first = speaking(r.leg)[0] * TICK
        assert first == pytest.approx(ended + latency, abs=0.2)
        assert r.llm.asked[0][-1] == {"role": "user", "content": "hours"}
        assert r.graph.context.messages[-1]["content"].startswith("w0 w1")
        assert len(speaking(r.leg)) == 150


async def test_speaking_over_the_agent_stops_it_and_the_model_knows_what_was_heard() -> None:
    async with rig() as r:
        question = say(QUESTION)
        r.leg.play(caller(pause(0.5), question, pause(1.5), question, pause(5)))
        begin = 0.5 + len(question) / RATE + 1.5
        await asyncio.sleep(begin + len(question) / RATE + 5)
        assert len(r.record.turns) == 2
        first, second = r.record.turns
        assert r.record.interruptions == 1
        assert first.interrupted_at is not None
        cut = first.interrupted_at - r.record.answered_at
        assert begin < cut < begin + 0.6
        ticks = speaking(r.leg)
        stopped = max(n for n in ticks if n * TICK < begin + 1)
        assert stopped * TICK <= cut + 2 * TICK
        words = first.heard_samples // 2400
        heard = " ".join(f"w{n}" for n in range(words))
        assert r.llm.asked[1][-2:] == [
            {"role": "assistant", "content": heard},
            {"role": "user", "content": "hours"},
        ]
        assert second.interval("turn_latency") is not None


async def test_caller_audio_reaches_the_recognizer_in_blocks_and_ends_there() -> None:
    async with rig() as r:
        r.leg.play(caller(pause(6)))
        await asyncio.sleep(6.01)
        assert r.stt.blocks == 100
        assert r.stt.samples == 6 * RATE


async def test_digits_become_one_entry() -> None:
    async with rig() as r:
        await asyncio.sleep(0.1)
        r.leg.press("12")
        r.leg.press("34#")
        await asyncio.sleep(1)
        assert r.llm.asked[0][-1] == {"role": "user", "content": "DTMF: 1234#"}


async def test_an_interruption_from_inside_stops_the_agent_too() -> None:
    async with rig() as r:
        await r.graph.respond()
        await asyncio.sleep(1)
        await r.stt.push_frame(InterruptionFrame())
        await asyncio.sleep(1)
        assert len(speaking(r.leg)) * TICK == pytest.approx(1, abs=0.1)


async def test_a_graph_that_falls_behind_drops_the_oldest_and_counts() -> None:
    async with rig() as r:

        async def stuck(pcm: bytes) -> None:
            await asyncio.sleep(3)

        r.graph.session._hear = stuck
        await asyncio.sleep(0.5)
        r.leg.press("12#")
        await asyncio.sleep(2.5)
        assert r.record.inbound_dropped > 0
        assert len(r.graph.session._blocks) <= 25
        await asyncio.sleep(2)
        assert r.llm.asked[0][-1] == {"role": "user", "content": "DTMF: 12#"}
