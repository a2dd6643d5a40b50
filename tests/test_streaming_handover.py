"""A voice is taken away while it speaks: nothing of it is heard after, and no word is lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from legs import ScriptedLeg
from pipecat.audio.dtmf.types import KeypadEntry
from pipecat.frames.frames import (
    AggregatedTextFrame,
    ControlFrame,
    Frame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    OutputDTMFFrame,
    TTSSpeakFrame,
    TTSTextFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from fakes.scripted_voices import CLONED, STOCK, WORD, NumberedEngine, ScriptedVoice, said
from ringtrue.streaming.clock import MediaClock
from ringtrue.streaming.gate import FrameKind, UtteranceDigest
from ringtrue.streaming.graph import CallGraph, GraphPolicy, Services, SharedModels
from ringtrue.streaming.record import CallRecord
from ringtrue.streaming.ssml import set_markup
from ringtrue.streaming.synthesizer import FAILED, SpeechSynthesizer

pytestmark = pytest.mark.virtual_time


class Through(FrameProcessor):
    """Passes everything on."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)


class Marker(ControlFrame):
    """Some other frame that must keep its place."""


@dataclass
class Rig:
    """A call whose agent speaks with a voice that can be taken away."""

    leg: ScriptedLeg
    graph: CallGraph
    entry: Through
    voice: ScriptedVoice
    stock: NumberedEngine
    heard: list[Frame] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    digests: list[UtteranceDigest] = field(default_factory=list)
    silences: list[bool] = field(default_factory=list)
    next_word: int = 0

    async def push(self, *frames: Frame) -> None:
        for frame in frames:
            await self.entry.push_frame(frame)

    def phrase(self, words: int) -> AggregatedTextFrame:
        first, self.next_word = self.next_word, self.next_word + words
        return AggregatedTextFrame(
            " ".join(f"w{n}" for n in range(first, first + words)), "sentence"
        )

    async def respond(self, *phrases: int) -> None:
        """One response of phrases of so many words."""
        await self.push(LLMFullResponseStartFrame())
        await self.push(*(self.phrase(words) for words in phrases))
        await self.push(LLMFullResponseEndFrame())

    @property
    def words(self) -> list[str]:
        """Words released as heard."""
        return [frame.text for frame in self.heard if isinstance(frame, TTSTextFrame)]

    @property
    def expected(self) -> list[str]:
        return [f"w{n}" for n in range(self.next_word)]

    @property
    def remembered(self) -> str:
        """What the LLM will know it said."""
        messages = self.graph.context.get_messages()
        return " ".join(
            str(message["content"]) for message in messages if message["role"] == "assistant"
        )

    async def quiet(self, seconds: float = 1.0) -> None:
        """Wait until nothing was said for ``seconds``."""
        ticks, begun = round(seconds / 0.02), len(self.leg.sent)
        while not (
            len(self.leg.sent) > begun + ticks
            and all(frame.kind is FrameKind.SILENCE for frame in self.leg.sent[-ticks:])
        ):
            await asyncio.sleep(0.1)

    def cloned_after(self, moment: float) -> list[float]:
        """When cloned speech was sent after ``moment``."""
        return [
            at
            for frame, at in zip(self.leg.sent, self.leg.sent_at, strict=True)
            if at > moment and any(voice == CLONED for voice, _, _ in said([frame]))
        ]


@asynccontextmanager
async def rig(
    leg: ScriptedLeg | None = None, voice: ScriptedVoice | None = None, work: float = 0.002
) -> AsyncIterator[Rig]:
    leg = leg or ScriptedLeg()
    voice, stock, entry = voice or ScriptedVoice(work), NumberedEngine(work), Through()
    models = SharedModels(smart_turn=False)
    made: list[Rig] = []

    async def on_heard(frame: Frame) -> None:
        made[0].heard.append(frame)

    synthesizer = SpeechSynthesizer(
        stock, "stock", cloned=voice, on_fallback=lambda reason: made[0].reasons.append(reason)
    )
    graph = CallGraph(
        leg,
        CallRecord("c1", "test", "inbound", "none", leg.rate, asyncio.get_running_loop().time()),
        Services(stt=Through(), llm=Through(), tts=synthesizer, before_tts=(entry,)),
        models,
        policy=GraphPolicy(),
        on_heard=on_heard,
        on_silence=lambda interrupted: made[0].silences.append(interrupted),
        on_digest=lambda digest: made[0].digests.append(digest),
    )
    made.append(Rig(leg, graph, entry, voice, stock))
    clock = MediaClock()
    await graph.start()
    clock.add(graph.session)
    try:
        yield made[0]
    finally:
        clock.remove(graph.session)
        await graph.stop()
        models.close()


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("seed", range(24))
async def test_taken_away_at_any_moment_it_loses_no_word_and_is_not_heard(seed: int) -> None:
    chance = random.Random(seed)
    async with rig(work=chance.choice([0.0005, 0.01, 0.08])) as r:
        sizes = [chance.randint(1, 6) for _ in range(chance.randint(1, 5))]
        await r.respond(*sizes)
        if chance.random() < 0.5:
            await r.push(Marker())
            await r.respond(chance.randint(1, 8))
        await asyncio.sleep(chance.uniform(0, 0.2 * r.next_word + 0.2))
        r.voice.lose()
        lost = now()
        await r.quiet()
        assert r.cloned_after(lost) == []
        assert r.words == r.expected
        assert r.remembered.split() == r.expected
        assert r.reasons == ["withdrawn"]
        # Each word is whole in one voice; only the one being said may be begun twice.
        whole = [(voice, word) for voice, word, samples in said(r.leg.sent) if samples == WORD]
        assert [word for _, word in whole] == list(range(r.next_word))
        voices = [voice for voice, _ in whole]
        assert voices == sorted(voices, reverse=True)
        broken = [run for run in said(r.leg.sent) if run[2] != WORD]
        assert all(voice == CLONED for voice, _, _ in broken)
        assert len(broken) <= 1
        assert not r.graph.session.gate.stats.refused


async def test_the_stock_voice_goes_on_at_once_and_for_good() -> None:
    async with rig() as r:
        await r.respond(6)
        await asyncio.sleep(0.65)
        r.voice.lose("expired")
        lost = now()
        await r.quiet()
        stock = [
            at
            for frame, at in zip(r.leg.sent, r.leg.sent_at, strict=True)
            if at > lost and frame.kind is FrameKind.SPEECH
        ]
        assert stock[0] - lost < 0.1
        await r.respond(3)
        await r.quiet()
        assert {voice for voice, word, _ in said(r.leg.sent) if word >= 6} == {STOCK}
        assert r.words == r.expected
        assert r.reasons == ["expired"]


async def test_a_response_that_is_still_being_written_goes_on() -> None:
    async with rig() as r:
        await r.push(LLMFullResponseStartFrame(), r.phrase(3))
        await asyncio.sleep(0.3)
        r.voice.lose()
        await r.push(r.phrase(2))
        await asyncio.sleep(0.5)
        await r.push(r.phrase(2), LLMFullResponseEndFrame())
        await r.quiet()
        assert r.words == r.expected
        assert r.remembered.split() == r.expected


async def test_other_frames_keep_their_place() -> None:
    async with rig() as r:
        spoken = TTSSpeakFrame("w0 w1 w2", append_to_context=True)
        await r.push(spoken, Marker(), TTSSpeakFrame("w3 w4", append_to_context=True), Marker())
        r.next_word = 5
        await asyncio.sleep(0.5)
        r.voice.lose()
        await r.quiet()
        order = [
            frame.text if isinstance(frame, TTSTextFrame) else "|"
            for frame in r.heard
            if isinstance(frame, TTSTextFrame | Marker)
        ]
        assert order == ["w0", "w1", "w2", "|", "w3", "w4", "|"]
        assert r.remembered.split() == r.expected


async def test_what_nobody_heard_keeps_its_markup() -> None:
    async with rig() as r:
        first, second = r.phrase(3), r.phrase(2)
        set_markup(first, '<prosody rate="slow">w0 w1 w2</prosody>')
        set_markup(second, '<prosody rate="fast">w3 w4</prosody>')
        await r.push(LLMFullResponseStartFrame(), first, second, LLMFullResponseEndFrame())
        await asyncio.sleep(0.3)
        r.voice.lose()
        await r.quiet()
        (stream,) = r.stock.streams
        assert stream.fed == ["w1 w2", '<prosody rate="fast">w3 w4</prosody>']


async def test_a_caller_who_speaks_just_then_is_listened_to() -> None:
    async with rig() as r:
        await r.respond(8)
        await asyncio.sleep(0.5)
        r.voice.lose()
        await r.push(InterruptionFrame())
        lost = now()
        await r.quiet()
        assert r.words == ["w0", "w1"]
        assert r.cloned_after(lost) == []
        await r.respond(2)
        await r.quiet()
        assert r.words == ["w0", "w1", "w8", "w9"]


async def test_digits_and_sounds_are_not_taken_back() -> None:
    async with rig() as r:
        await r.push(OutputDTMFFrame(buttons=[KeypadEntry.ONE]))
        await r.respond(4)
        await asyncio.sleep(0.05)
        r.voice.lose()
        await r.quiet()
        assert any(frame.kind is FrameKind.DIGIT for frame in r.leg.sent)
        assert r.words == r.expected
        assert {voice for voice, word, n in said(r.leg.sent) if n == WORD} == {STOCK}


async def test_where_the_far_end_confirms_the_words_it_has_not_played_are_said_again() -> None:
    leg = ScriptedLeg(confirms=True)
    async with rig(leg) as r:
        await r.respond(6)
        for _ in range(45):
            await asyncio.sleep(0.02)
            leg.played = max(0, 160 * len(leg.sent) - 2 * WORD)
        r.voice.lose()
        cleared = leg.cleared
        before = list(r.words)
        await asyncio.sleep(0.02)
        assert leg.cleared == cleared + 1
        while len(r.words) < 6:
            await asyncio.sleep(0.02)
            leg.played = 160 * len(leg.sent)
        assert 0 < len(before) < 4
        assert r.words == r.expected
        assert next(word for voice, word, _ in said(leg.sent) if voice == STOCK) == len(before)


async def test_a_licence_that_is_late_costs_silence_and_no_word() -> None:
    async with rig() as r:
        await r.respond(6)
        await asyncio.sleep(0.5)
        r.voice.licence.good = False
        held = now()
        await asyncio.sleep(0.3)
        assert r.cloned_after(held) == []
        r.voice.licence.good = True
        await r.quiet()
        assert r.words == r.expected
        assert {voice for voice, _, _ in said(r.leg.sent)} == {CLONED}
        assert r.reasons == []


async def test_an_ending_call_does_not_wait_for_a_voice_that_never_returns() -> None:
    async with rig() as r:
        await r.respond(20)
        await asyncio.sleep(0.5)
        r.voice.licence.good = False
        began = now()
        await r.graph.finish()
        assert now() - began < 3


@pytest.mark.parametrize("kind", ["raises", "unlicensed"])
async def test_a_cloned_voice_that_fails_gives_way(kind: str) -> None:
    voice = ScriptedVoice(licensed=kind != "unlicensed")
    async with rig(voice=voice) as r:
        await r.push(LLMFullResponseStartFrame(), r.phrase(2))
        if kind == "raises":
            await r.push(AggregatedTextFrame("w2 broken w3", "sentence"))
            r.next_word = 4
        await r.push(LLMFullResponseEndFrame())
        await r.quiet()
        assert r.reasons == [FAILED]
        assert [word for word in r.words if word != "broken"] == r.expected
        if kind == "unlicensed":
            assert {voice for voice, _, _ in said(r.leg.sent)} == {STOCK}


async def test_the_digest_names_voice_and_consent() -> None:
    async with rig() as r:
        await r.respond(6)
        await asyncio.sleep(0.5)
        r.voice.lose()
        await r.quiet()
        licence = r.voice.licence
        spoke = [(digest.voice, digest.consent) for digest in r.digests]
        assert spoke == [(licence.voice, licence.consent), (None, None)]


async def test_turn_taking_hears_when_the_agent_speaks() -> None:
    async with rig() as r:
        await r.respond(4)
        await asyncio.sleep(0.3)
        r.voice.lose()
        await r.quiet()
        assert r.silences == [False, False]  # when the one voice stopped, and the other
        await r.respond(2)
        await r.quiet()
        assert r.silences == [False] * 3
