"""A call on virtual time in which the recognizer's words and the model's judgement are scripted."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
from legs import ScriptedLeg
from pipecat.frames.frames import (
    Frame,
    InputAudioRawFrame,
    InterimTranscriptionFrame,
    TranscriptionFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from fakes.scripted_stream import ScriptedStream
from ringtrue.config.agent_schema import load_agents
from ringtrue.config.settings import DeadlineSettings
from ringtrue.streaming.clock import MediaClock
from ringtrue.streaming.gate import FrameKind
from ringtrue.streaming.graph import CallGraph, GraphPolicy, Services, SharedModels
from ringtrue.streaming.llm.actions import CallActionFrame
from ringtrue.streaming.llm.factory import LanguageStage, LlmSettings, build_language
from ringtrue.streaming.ports import SpeechChunk, SynthesisStream, WordMark
from ringtrue.streaming.record import CallRecord
from ringtrue.streaming.synthesizer import SpeechSynthesizer
from ringtrue.streaming.turns import TurnPolicy
from ringtrue.streaming.turns.frames import SpeechPausedFrame
from ringtrue.streaming.turns.idle import IdlePolicy

RATE = 8000
WORD = 800
"""Samples of each word the agent speaks: 100 ms."""


class WordStream(ScriptedStream):
    """Says each word as 100 ms of a steady level."""

    def say(self, phrase: str, said: int) -> Iterator[SpeechChunk]:
        words = phrase.split()
        for n, word in enumerate(words, 1):
            pcm = np.full(WORD, 1000, "<i2").tobytes()
            mark = WordMark(word, said + n * WORD)
            yield SpeechChunk(pcm, (mark,), phrase_end=n == len(words))


class WordEngine:
    """Keeps the streams it opened; each chunk takes ``work`` seconds."""

    name, voices, speaks_markup = "words", ("v",), False

    def __init__(self, work: float = 0.02) -> None:
        self.work = work
        self.streams: list[WordStream] = []

    async def warm(self) -> None: ...

    def open(self, voice: str, rate: int) -> SynthesisStream:
        self.streams.append(WordStream(self.work))
        return self.streams[-1]

    async def close(self) -> None: ...

    @property
    def asked(self) -> list[str]:
        """First phrases, one per stream."""
        return [stream.fed[0] for stream in self.streams if stream.fed]


class Words(FrameProcessor):
    """Gives its partial text at each short pause, and the final one 150 ms after each stop."""

    def __init__(self, texts: Iterable[tuple[str, str]]) -> None:
        super().__init__(enable_direct_mode=True)
        self._texts = deque(texts)
        self._final = ""
        self._tasks: set[asyncio.Task[None]] = set()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            return
        if isinstance(frame, SpeechPausedFrame) and self._texts:
            partial, self._final = self._texts[0]
            if partial:
                await self.push_frame(InterimTranscriptionFrame(partial, "", ""))
        await self.push_frame(frame, direction)
        if isinstance(frame, VADUserStoppedSpeakingFrame) and self._texts:
            task = asyncio.get_running_loop().create_task(self._finish(self._texts.popleft()[1]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _finish(self, text: str) -> None:
        await asyncio.sleep(0.15)
        await self.push_frame(TranscriptionFrame(text, "", "", finalized=True))


@dataclass
class Call:
    """A running call whose agent has been greeted out."""

    leg: ScriptedLeg
    graph: CallGraph
    record: CallRecord
    language: LanguageStage
    engine: WordEngine
    actions: list[CallActionFrame] = field(default_factory=list)

    def speech_after(self, moment: float) -> float | None:
        """When the agent was first heard after ``moment``, in loop time."""
        for at, frame in zip(self.leg.sent_at, self.leg.sent, strict=True):
            if at >= moment and frame.kind is FrameKind.SPEECH:
                return at
        return None


@asynccontextmanager
async def call(
    monkeypatch: pytest.MonkeyPatch,
    settings: LlmSettings,
    texts: Iterable[tuple[str, str]],
    probabilities: Iterable[float],
    *,
    anticipate: bool = True,
    idle: IdlePolicy | None = None,
) -> AsyncIterator[Call]:
    """Run it; ``texts`` are (partial, final), ``probabilities`` the model's, the last one stays."""
    words = deque(probabilities)

    async def judge(_: object) -> float:
        await asyncio.sleep(0.03)
        return words.popleft() if len(words) > 1 else words[0]

    monkeypatch.setattr("ringtrue.streaming.listen.Listener.judge", judge)
    loop = asyncio.get_running_loop()
    leg, engine, models = ScriptedLeg(RATE), WordEngine(), SharedModels()
    record = CallRecord("c", "test", "inbound", "reception", RATE, loop.time())
    language = build_language(settings, load_agents()["reception"], DeadlineSettings())
    services = Services(
        stt=Words(texts),
        llm=language.llm,
        tts=SpeechSynthesizer(engine, "v"),
        before_tts=language.before_tts,
        context=language.context,
        completes=language.llm.completes,
        expects=lambda: language.llm.expects(language.context),
        suffices=language.llm.suffices,
        disclosure=language.disclosure,
        idle=idle,
    )
    actions: list[CallActionFrame] = []

    async def heard(frame: Frame) -> None:
        if isinstance(frame, CallActionFrame):
            actions.append(frame)

    policy = GraphPolicy(turns=TurnPolicy(anticipate=anticipate))
    graph = CallGraph(leg, record, services, models, policy=policy, on_heard=heard)
    clock = MediaClock()
    await graph.start()
    clock.add(graph.session)
    await graph.respond()
    await asyncio.sleep(6)
    engine.streams.clear()
    try:
        yield Call(leg, graph, record, language, engine, actions)
    finally:
        clock.remove(graph.session)
        await graph.stop()
        models.close()
