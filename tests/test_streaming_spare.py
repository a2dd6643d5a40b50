"""A second synthesizer: past it while the first speaks, and in its place where it doesn't."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from legs import ScriptedLeg
from pipecat.frames.frames import (
    AggregatedTextFrame,
    ControlFrame,
    Frame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    TTSTextFrame,
)
from test_streaming_budget_keeper import Hanging
from test_streaming_handover import Marker, Through

from fakes.scripted_voices import CLONED, STOCK, NumberedEngine, NumberedStream, said
from ringtrue.streaming.clock import MediaClock
from ringtrue.streaming.graph import CallGraph, Services, SharedModels
from ringtrue.streaming.ports import SynthesisStream
from ringtrue.streaming.record import CallRecord
from ringtrue.streaming.spare import SpareVoice
from ringtrue.streaming.synthesizer import SpeechSynthesizer

pytestmark = pytest.mark.virtual_time


class Other(NumberedEngine):
    """The second voice: its samples say so."""

    def open(self, voice: str, rate: int) -> SynthesisStream:
        self.streams.append(NumberedStream(CLONED, None, self.work))
        return self.streams[-1]


class Rig:
    def __init__(self, first: NumberedEngine) -> None:
        self.leg, self.entry, self.heard = ScriptedLeg(), Through(), list[Frame]()
        self.second = Other()
        self.spare = SpareVoice(
            # A hosted service has no stall of its own.
            SpeechSynthesizer(first, "stock", stall=3600.0),
            SpeechSynthesizer(self.second, "stock"),
        )

    async def push(self, *frames: Frame) -> None:
        for frame in frames:
            await self.entry.push_frame(frame)

    async def begin(self, *phrases: str) -> None:
        await self.push(LLMFullResponseStartFrame())
        await self.push(*(AggregatedTextFrame(text, "sentence") for text in phrases))

    @property
    def words(self) -> list[str]:
        return [frame.text for frame in self.heard if isinstance(frame, TTSTextFrame)]

    @property
    def voices(self) -> set[int]:
        return {voice for voice, _, _ in said(self.leg.sent)}


@asynccontextmanager
async def rig(first: NumberedEngine) -> AsyncIterator[Rig]:
    made = Rig(first)

    async def on_heard(frame: Frame) -> None:
        made.heard.append(frame)

    models = SharedModels(smart_turn=False)
    record = CallRecord("c1", "test", "inbound", "none", 8000, asyncio.get_running_loop().time())
    services = Services(stt=Through(), llm=Through(), tts=made.spare, before_tts=(made.entry,))
    graph = CallGraph(made.leg, record, services, models, on_heard=on_heard)
    clock = MediaClock()
    await graph.start()
    clock.add(graph.session)
    try:
        yield made
    finally:
        clock.remove(graph.session)
        await graph.stop()
        models.close()
        assert graph.session.gate.stats.refused == {}


async def test_while_the_first_speaks_the_second_is_not_asked() -> None:
    async with rig(NumberedEngine()) as r:
        await r.begin("w1 w2", "w3")
        await r.push(Marker(), LLMFullResponseEndFrame())
        await asyncio.sleep(2)
        assert r.words == ["w1", "w2", "w3"]
        assert r.voices == {STOCK}
        assert r.second.streams == []
        assert sum(isinstance(frame, Marker) for frame in r.heard) == 1


async def test_what_the_first_made_nothing_of_the_second_says_and_all_that_follows() -> None:
    async with rig(Hanging()) as r:
        await r.begin("w1 w2")
        await asyncio.sleep(1)
        assert r.words == []
        assert await r.spare.switch()
        assert not await r.spare.switch()
        await r.push(AggregatedTextFrame("w3", "sentence"), Marker(), LLMFullResponseEndFrame())
        await asyncio.sleep(2)
        await r.begin("w4")
        await r.push(LLMFullResponseEndFrame())
        await asyncio.sleep(2)
        assert r.words == ["w1", "w2", "w3", "w4"]
        assert r.voices == {CLONED}
        kinds = [type(f) for f in r.heard if isinstance(f, ControlFrame)]
        assert kinds.count(LLMFullResponseStartFrame) == 2
        assert kinds.count(LLMFullResponseEndFrame) == 2
        assert kinds.count(Marker) == 1


async def test_what_the_first_makes_too_late_is_not_heard() -> None:
    async with rig(NumberedEngine(work=1.0)) as r:
        await r.begin("w1 w2")
        await asyncio.sleep(0.5)
        await r.spare.switch()
        await asyncio.sleep(5)
        assert r.words == ["w1", "w2"]
        assert r.voices == {CLONED}


async def test_a_caller_who_speaks_stops_the_second_too() -> None:
    async with rig(Hanging()) as r:
        await r.begin("w1 w2 w3 w4 w5")
        await asyncio.sleep(0.5)
        await r.spare.switch()
        await asyncio.sleep(0.5)
        await r.push(InterruptionFrame())
        heard = len(r.words)
        await asyncio.sleep(2)
        assert 0 < heard == len(r.words) < 5
        await r.begin("w6")
        await asyncio.sleep(1)
        assert r.words[-1] == "w6"


async def test_what_was_interrupted_before_is_not_said_by_the_second() -> None:
    async with rig(Hanging()) as r:
        await r.begin("w1 w2")
        await asyncio.sleep(0.2)
        await r.push(InterruptionFrame())
        await asyncio.sleep(0.2)
        await r.spare.switch()
        await r.begin("w3")
        await asyncio.sleep(1)
        assert r.words == ["w3"]
