"""Whole conversations at random, on virtual time: what must hold however people talk."""

from __future__ import annotations

import asyncio
import random

import numpy as np
import pytest
from legs import ScriptedLeg
from pipecat.frames.frames import (
    Frame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from speech import pause, say
from test_streaming_graph import RATE, Tts, caller

from ringtrue.streaming.clock import TICK, MediaClock
from ringtrue.streaming.gate import FrameKind
from ringtrue.streaming.graph import CallGraph, Services, SharedModels
from ringtrue.streaming.ports import frame_samples
from ringtrue.streaming.recognizers.port import Transcript
from ringtrue.streaming.recognizers.service import StreamingRecognizer
from ringtrue.streaming.record import CallRecord, Stage

pytestmark = pytest.mark.virtual_time
WORD = 2400
"""Samples of each word the agent speaks."""


class Ear:
    """A recognizer that takes its time: each utterance is one word of its own."""

    name, finish_p99 = "ear", 0.1

    def __init__(self, rng: random.Random) -> None:
        self._rng, self.words = rng, 0

    async def load(self) -> None: ...

    def open(self, rate: int) -> Ear:
        return self

    async def start(self) -> None: ...

    async def accept(self, pcm: bytes) -> str | None:
        return None

    async def finish(self) -> Transcript:
        await asyncio.sleep(self._rng.choice([0.02, 0.1, 0.5, 1.2]))
        self.words += 1
        return Transcript(f"word{self.words}", 1.0)

    async def cancel(self) -> None: ...

    async def close(self) -> None: ...


class Mind(FrameProcessor):
    """Answers with ten words that come smoothly or haltingly; notes when somebody speaks."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self._rng = rng
        self.graph: CallGraph | None = None
        self.caller_speaks: list[list[float]] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        now = asyncio.get_running_loop().time()
        if isinstance(frame, VADUserStartedSpeakingFrame):
            self.caller_speaks.append([now, float("inf")])
        elif isinstance(frame, VADUserStoppedSpeakingFrame):
            self.caller_speaks[-1][1] = now
        if not isinstance(frame, LLMContextFrame):
            await self.push_frame(frame, direction)
            return
        await self.push_frame(LLMFullResponseStartFrame())
        for n in range(10):
            await asyncio.sleep(self._rng.choice([0, 0, 0.05, 0.4]))
            if not n and self.graph is not None:
                self.graph.session.probe(Stage.FIRST_PHRASE)
            await self.push_frame(LLMTextFrame(f"w{n} "))
        await self.push_frame(LLMFullResponseEndFrame())


@pytest.mark.parametrize("seed", range(8))
async def test_however_a_caller_talks(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)

    async def judge(_: object) -> float:
        await asyncio.sleep(0.04)
        return rng.choice([0.0, 0.3, 0.9])

    monkeypatch.setattr("ringtrue.streaming.listen.Listener.judge", judge)
    loop = asyncio.get_running_loop()
    leg, ear, mind, models = ScriptedLeg(RATE), Ear(rng), Mind(rng), SharedModels()
    record = CallRecord("c", "test", "inbound", "none", RATE, loop.time())
    services = Services(stt=StreamingRecognizer(ear), llm=mind, tts=Tts())
    graph = mind.graph = CallGraph(leg, record, services, models)
    clock = MediaClock()
    parts: list[np.ndarray] = []
    for text in ("Hello there", "What are your opening hours please?", "No", "I would like to") * 2:
        parts += [pause(rng.choice([0.25, 0.35, 0.6, 1.0, 2.0, 5.0])), say(text)]
    pcm = caller(*parts, pause(8))
    leg.play(pcm)
    await graph.start()
    clock.add(graph.session)
    await graph.respond()
    await asyncio.sleep(len(pcm) / 2 / RATE)
    clock.remove(graph.session)
    await graph.stop()
    models.close()

    messages = graph.context.messages
    said = " ".join(m["content"] for m in messages if m["role"] == "user").split()
    assert said == [f"word{n + 1}" for n in range(ear.words)], "each once, in order"
    sent = [at for at, f in zip(leg.sent_at, leg.sent, strict=True) if f.kind is FrameKind.SPEECH]
    for start, stop in mind.caller_speaks:
        assert not [at for at in sent if start + 2 * TICK + 0.001 < at < stop - 0.001]
    samples = len(sent) * frame_samples(RATE)
    words = sum(len(m["content"].split()) for m in messages if m["role"] == "assistant")
    assert samples - WORD * (record.interruptions + 1) <= words * WORD <= samples
    assert sum(turn.heard_samples for turn in record.turns) == samples
    for turn in record.turns:
        assert list(turn.stages.values()) == sorted(turn.stages.values())
    assert not record.errors
    assert len(record.turns) > 3
