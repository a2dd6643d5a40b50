"""The disclosure in a whole graph: real playout and gate, scripted services, virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from legs import ScriptedLeg
from pipecat.frames.frames import (
    AggregatedTextFrame,
    Frame,
    InputAudioRawFrame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
    UserStartedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pydantic import SecretStr
from speech import pause, say

from fakes.openai_server import Call, OpenAiServer, Pause, Say, openai_server
from ringtrue.config.agent_schema import load_agents
from ringtrue.config.settings import DeadlineSettings, DialogueSettings, OpenAiSettings
from ringtrue.streaming.clock import MediaClock
from ringtrue.streaming.graph import CallGraph, Services, SharedModels
from ringtrue.streaming.llm.factory import build_language
from ringtrue.streaming.record import CallRecord

pytestmark = pytest.mark.virtual_time
RATE = 8000
WORD = 1600
AGENT = load_agents()["reception"]
OPENING = "Hello, this is the automated assistant of Meridian Supplies, an AI."
AGAIN = OPENING.removeprefix("Hello, this").join(("This", ""))
ANSWER = "I am an AI, the automated assistant of Meridian Supplies, not a person."


class Ears(FrameProcessor):
    """Understands what the test says it does, at the end of a stretch of speech."""

    def __init__(self) -> None:
        super().__init__()
        self.understood: list[str] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            return
        await self.push_frame(frame, direction)
        if type(frame).__name__ == "VADUserStoppedSpeakingFrame" and self.understood:
            text = self.understood.pop(0)
            said = TranscriptionFrame(text=text, user_id="", timestamp="", finalized=True)
            await self.push_frame(said)


class Mouth(FrameProcessor):
    """Speaks every word of a phrase as 200 ms of a steady level."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if type(frame) is AggregatedTextFrame:
            await self._speak(frame.text)
            return
        if isinstance(frame, TTSSpeakFrame):
            await self.push_frame(TTSStartedFrame(context_id="s"))
            await self._speak(frame.text)
            await self.push_frame(TTSStoppedFrame(context_id="s"))
            return
        if isinstance(frame, LLMFullResponseEndFrame):
            await self.push_frame(TTSStoppedFrame(context_id="u"))
        await self.push_frame(frame, direction)
        if isinstance(frame, LLMFullResponseStartFrame):
            await self.push_frame(TTSStartedFrame(context_id="u"))

    async def _speak(self, text: str) -> None:
        for word in text.split():
            pcm = np.full(WORD, 1000, np.int16).tobytes()
            await self.push_frame(TTSAudioRawFrame(audio=pcm, sample_rate=RATE, num_channels=1))
            await self.push_frame(TTSTextFrame(word, text_type="word"))


@dataclass
class Rig:
    leg: ScriptedLeg
    graph: CallGraph
    record: CallRecord
    ears: Ears
    heard: list[str]

    async def asks(self, text: str, wait: float = 8.0) -> None:
        """The caller says ``text``; then ``wait`` seconds pass."""
        self.ears.understood.append(text)
        question = say("What are your opening hours?", RATE)
        self.leg.play(np.concatenate([question, pause(wait, RATE)]).astype(np.int16).tobytes())
        await asyncio.sleep(len(question) / RATE + wait)

    def said(self) -> list[str]:
        """What the conversation's history says the agent said."""
        messages: list[Any] = self.graph.context.messages
        return [m["content"] for m in messages if m["role"] == "assistant"]


@asynccontextmanager
async def rig(server: OpenAiServer | None = None) -> AsyncIterator[Rig]:
    leg, ears = ScriptedLeg(RATE), Ears()
    record = CallRecord("c", "test", "inbound", "none", RATE, asyncio.get_running_loop().time())
    settings: Any = DialogueSettings(engine="dialogue")
    if server is not None:
        settings = OpenAiSettings(
            engine="openai",
            model="scripted-1",
            base_url=server.base_url,
            api_key=SecretStr(server.api_key),
        )
    language = build_language(settings, AGENT, DeadlineSettings())
    services = Services(
        stt=ears,
        llm=language.llm,
        tts=Mouth(),
        before_tts=language.before_tts,
        context=language.context,
        disclosure=language.disclosure,
    )
    heard: list[str] = []

    async def on_heard(frame: Frame) -> None:
        if isinstance(frame, TTSTextFrame):
            heard.append(frame.text)

    models = SharedModels(smart_turn=False)
    graph = CallGraph(leg, record, services, models, on_heard=on_heard)
    clock = MediaClock()
    await graph.start()
    clock.add(graph.session)
    try:
        yield Rig(leg, graph, record, ears, heard)
    finally:
        clock.remove(graph.session)
        await graph.stop()
        models.close()


async def test_a_call_begins_with_it_whatever_answers() -> None:
    async with openai_server() as server:
        for hosted in (None, server):
            async with rig(hosted) as r:
                assert r.record.disclosure == "none"
                await r.graph.respond()
                await asyncio.sleep(0.9)
                assert r.record.disclosure == "partly"
                await asyncio.sleep(8)
                assert " ".join(r.heard) == f"{OPENING} {AGENT.greeting[0]}"
                assert (r.record.disclosure, r.record.disclosure_attempts) == ("fully", 1)
                assert r.said() == [f"{OPENING} {AGENT.greeting[0]}"]
        assert server.requests == []


async def test_talked_over_it_is_said_before_the_answer() -> None:
    async with openai_server() as server:
        server.script(Pause(0.5), Say("We open "), Say("at nine."))
        async with rig(server) as r:
            await r.graph.respond()
            await asyncio.sleep(0.7)
            await r.asks("when do you open")
            first, second = r.said()
            assert OPENING.startswith(first)
            assert first != OPENING
            assert second == f"{AGAIN} We open at nine."
            assert (r.record.disclosure, r.record.disclosure_attempts) == ("fully", 2)
            assert r.record.interruptions == 1


async def test_who_asks_is_told_without_the_model_and_it_remembers() -> None:
    async with openai_server() as server:
        server.script(Say("We open at nine."))
        async with rig(server) as r:
            await r.graph.respond()
            await asyncio.sleep(6)
            await r.asks("um are you a real person", 6)
            assert server.requests == []
            assert r.heard[-20:] == f"{ANSWER} I can put you through to a colleague.".split()[-20:]
            await r.asks("when do you open", 6)
        sent = server.requests[0]["messages"]
        assert sent[-3:] == [
            {"role": "user", "content": "um are you a real person"},
            {"role": "assistant", "content": f"{ANSWER} I can put you through to a colleague."},
            {"role": "user", "content": "when do you open"},
        ]
        assert r.record.asked_whether_human == 1


async def test_the_embedded_dialogue_keeps_its_place_meanwhile() -> None:
    async with rig() as r:
        await r.graph.respond()
        await asyncio.sleep(6)
        await r.asks("where is my order", 4)
        await r.asks("am i talking to a machine", 6)
        await r.asks("one two three four five", 8)
        assert r.said()[-2].startswith(ANSWER)
        assert "1 2 3 4 5" in r.said()[-1]


async def test_a_question_with_more_is_answered_first_and_the_model_goes_on() -> None:
    async with openai_server() as server:
        server.script(Say("I'm a real person, "), Say("promise. "), Say("We open at nine."))
        async with rig(server) as r:
            await r.graph.respond()
            await asyncio.sleep(6)
            await r.asks("are you human and when do you open on the bank holiday Monday", 10)
            said = r.said()[-1]
        assert said.startswith(ANSWER)
        assert said.endswith("I am an AI, not a person. We open at nine.")
        assert "promise" not in " ".join(r.heard)
        assert (r.record.asked_whether_human, r.record.claims_replaced) == (1, 1)


async def test_what_a_tool_says_is_checked_too() -> None:
    async with openai_server() as server:
        server.script(Call("hangup", {"say": "I am a real human being. Goodbye."}))
        async with rig(server) as r:
            await r.graph.respond()
            await asyncio.sleep(6)
            await r.asks("bye", 5)
        assert " ".join(r.heard).endswith("I am an AI, not a person. Goodbye.")


async def test_a_silent_model_is_preceded_by_it_all_the_same() -> None:
    async with openai_server() as server:
        server.script(Pause(30))
        server.script(Pause(30))
        async with rig(server) as r:
            await r.graph.respond()
            await asyncio.sleep(0.5)
            await r.ears.push_frame(UserStartedSpeakingFrame())
            await r.ears.push_frame(InterruptionFrame())
            await r.asks("when do you open", 9)
            assert r.record.disclosure == "fully"
            assert " ".join(r.heard).count(AGAIN) == 1
            assert "One moment, please." in " ".join(r.heard)
