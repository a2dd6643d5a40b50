"""A call over a line that sends the agent's voice back, on virtual time."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from legs import ScriptedLeg
from lines import spoken
from pipecat.frames.frames import (
    Frame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from fakes.calls import Ears
from ringtrue.streaming.clock import MediaClock
from ringtrue.streaming.gate import FrameKind, SealedFrame
from ringtrue.streaming.graph import CallGraph, GraphPolicy, Services, SharedModels
from ringtrue.streaming.ports import Inbound
from ringtrue.streaming.record import CallRecord

pytestmark = pytest.mark.virtual_time
RATE = 8000
WORD = 2400
WORDS = 40
DELAY_FRAMES = 9
GAIN = 0.4


class LeakyLeg(ScriptedLeg):
    """What is sent comes back 180 ms later, 8 dB softer."""

    def pull(self, now: float) -> Inbound:
        inbound = super().pull(now)
        if len(self.sent) < DELAY_FRAMES:
            return inbound
        back = np.frombuffer(self.sent[-DELAY_FRAMES].pcm, np.int16) * GAIN
        noise = np.random.default_rng(len(self.sent)).normal(scale=4, size=len(back))
        return Inbound(np.rint(back + noise).astype(np.int16).tobytes())


class Speaker(FrameProcessor):
    """Answers with real speech, 300 ms a word."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if not isinstance(frame, LLMContextFrame):
            await self.push_frame(frame, direction)
            return
        await self.push_frame(LLMFullResponseStartFrame())
        await self.push_frame(TTSStartedFrame(context_id="u"))
        for number in range(WORDS):
            pcm = spoken("rms")[number * WORD : (number + 1) * WORD].tobytes()
            await self.push_frame(TTSAudioRawFrame(audio=pcm, sample_rate=RATE, num_channels=1))
            await self.push_frame(TTSTextFrame(f"w{number}", text_type="word"))
        await self.push_frame(TTSStoppedFrame(context_id="u"))
        await self.push_frame(LLMFullResponseEndFrame())


class Silent(FrameProcessor):
    """A synthesizer with nothing to do."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if not isinstance(frame, LLMTextFrame):
            await self.push_frame(frame, direction)


async def speak(*, cancel_echo: bool) -> tuple[CallRecord, list[SealedFrame]]:
    """One answer of 12 s over the leaky line."""
    leg = LeakyLeg(RATE)
    record = CallRecord("c", "test", "inbound", "none", RATE, asyncio.get_running_loop().time())
    models = SharedModels(smart_turn=False)
    graph = CallGraph(
        leg,
        record,
        Services(stt=Ears(), llm=Speaker(), tts=Silent()),
        models,
        policy=GraphPolicy(cancel_echo=cancel_echo),
    )
    clock = MediaClock()
    await graph.start()
    clock.add(graph.session)
    try:
        await graph.respond()
        await asyncio.sleep(WORDS * WORD / RATE + 4)
        graph.session.close(asyncio.get_running_loop().time(), "over")
    finally:
        clock.remove(graph.session)
        await graph.stop()
        models.close()
    return record, leg.sent


def stretches(sent: list[SealedFrame]) -> list[int]:
    """Lengths, in ticks, of the speech that went out without a break."""
    lengths, length = [], 0
    for frame in [*sent, None]:
        if frame is not None and frame.kind is FrameKind.SPEECH:
            length += 1
        elif length:
            lengths.append(length)
            length = 0
    return lengths


async def test_the_agent_is_not_interrupted_by_itself() -> None:
    record, sent = await speak(cancel_echo=True)
    assert stretches(sent) == [WORDS * WORD // 160]
    assert record.media["echo_erle_db"] > 15
    assert record.media["echo_delay_ms"] == pytest.approx(160, abs=3)


async def test_without_the_canceller_it_is() -> None:
    record, sent = await speak(cancel_echo=False)
    assert len(stretches(sent)) > 1
    assert not any(name.startswith("echo") for name in record.media)
