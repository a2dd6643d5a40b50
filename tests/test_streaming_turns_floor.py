"""Sounds of the caller over the agent: a pause to the sample, and what becomes of it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest
from legs import ScriptedLeg
from pipecat.frames.frames import (
    Frame,
    InputAudioRawFrame,
    InterimTranscriptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from speech import pause, say
from test_streaming_graph import RATE, Llm, caller, speaking

from ringtrue.config.agent_turns import turn_words
from ringtrue.streaming.clock import TICK, MediaClock
from ringtrue.streaming.gate import FrameKind, GatePolicy, Refusal, UtteranceDigest
from ringtrue.streaming.graph import CallGraph, Services, SharedModels
from ringtrue.streaming.recognizers.service import NothingRecognizedFrame
from ringtrue.streaming.record import CallRecord
from ringtrue.streaming.turns.expect import Expect
from ringtrue.streaming.turns.overlap import Backchannels

pytestmark = pytest.mark.virtual_time
WORD = 4000
"""Samples of each of the agent's ten words: half a second."""


class Stt(FrameProcessor):
    """Understands the next of its texts, or nothing, a while after each stretch of speech."""

    def __init__(self, texts: Iterable[str]) -> None:
        super().__init__()
        self.texts = deque(texts)
        self.delay = 0.1
        self.partial = ""
        """Heard of a stretch as soon as it begins."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            return
        await self.push_frame(frame, direction)
        if isinstance(frame, VADUserStartedSpeakingFrame) and self.partial:
            await self.push_frame(InterimTranscriptionFrame(self.partial, "", ""))
        if isinstance(frame, VADUserStoppedSpeakingFrame):
            await asyncio.sleep(self.delay)
            text = self.texts.popleft() if self.texts else ""
            if text:
                heard = TranscriptionFrame(text, user_id="", timestamp="", finalized=True)
                await self.push_frame(heard)
            else:
                await self.push_frame(NothingRecognizedFrame())


class Counting(FrameProcessor):
    """Speaks so that every sample of an answer tells its place."""

    def __init__(self) -> None:
        super().__init__()
        self._at = 0

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, LLMTextFrame):
            samples = 1 + np.arange(self._at, self._at + WORD) % 30000
            self._at += WORD
            pcm = samples.astype("<i2").tobytes()
            await self.push_frame(TTSAudioRawFrame(audio=pcm, sample_rate=RATE, num_channels=1))
            await self.push_frame(TTSTextFrame(frame.text.strip(), text_type="word"))
            return
        if isinstance(frame, LLMFullResponseStartFrame):
            self._at = 0
            await self.push_frame(frame, direction)
            await self.push_frame(TTSStartedFrame(context_id="u"))
            return
        if isinstance(frame, LLMFullResponseEndFrame):
            await self.push_frame(TTSStoppedFrame(context_id="u"))
        await self.push_frame(frame, direction)


@dataclass
class Rig:
    """A running call in which the agent speaks for five seconds, beginning at once."""

    leg: ScriptedLeg
    graph: CallGraph
    record: CallRecord
    llm: Llm
    stt: Stt
    digests: list[UtteranceDigest] = field(default_factory=list)

    @property
    def spoken(self) -> npt.NDArray[np.int16]:
        """Every sample of speech that was sent."""
        sent = [frame.pcm for frame in self.leg.sent if frame.kind is FrameKind.SPEECH]
        return np.frombuffer(b"".join(sent), "<i2")


@asynccontextmanager
async def rig(*texts: str, expects: Expect = Expect.OPEN) -> AsyncIterator[Rig]:
    leg, llm, stt = ScriptedLeg(RATE), Llm(), Stt(texts)
    record = CallRecord("c", "test", "inbound", "none", RATE, asyncio.get_running_loop().time())
    models = SharedModels(smart_turn=False)
    words = turn_words("en")
    services = Services(
        stt=stt,
        llm=llm,
        tts=Counting(),
        expects=lambda: expects,
        backchannels=Backchannels(words.backchannels, words.answers),
    )
    digests: list[UtteranceDigest] = []
    graph = CallGraph(leg, record, services, models, on_digest=digests.append)
    clock = MediaClock()
    await graph.start()
    clock.add(graph.session)
    await graph.respond()
    try:
        yield Rig(leg, graph, record, llm, stt, digests)
    finally:
        clock.remove(graph.session)
        await graph.stop()
        models.close()


WHOLE = 1 + np.arange(10 * WORD) % 30000
HUM = "okay"
AT = 1.5
"""When the caller makes a sound, after the agent began."""


async def test_a_backchannel_pauses_the_agent_and_not_a_sample_is_lost_or_repeated() -> None:
    async with rig("okay") as r:
        r.leg.play(caller(pause(AT), say(HUM), pause(6)))
        await asyncio.sleep(8)
        assert np.array_equal(r.spoken, WHOLE)
        ticks = speaking(r.leg)
        gaps = [b - a for a, b in zip(ticks, ticks[1:], strict=False) if b > a + 1]
        assert len(gaps) == 1, "one pause"
        stopped = next(a for a, b in zip(ticks, ticks[1:], strict=False) if b > a + 1)
        assert AT < stopped * TICK < AT + 0.25
        taking = r.record.turn_taking
        assert (taking.pauses, taking.resumed, taking.backchannels) == (1, 1, 1)
        assert taking.false_interruptions == 0
        assert gaps[0] * TICK == pytest.approx(taking.paused_ms / 1000, abs=3 * TICK)
        assert r.record.interruptions == 0
        assert len(r.llm.asked) == 1, "no turn of the caller came of it"
        assert r.graph.context.messages[-1]["content"].split() == [f"w{n}" for n in range(10)]


async def test_the_pause_is_marked_silence_under_the_utterances_own_seal() -> None:
    async with rig("mm-hm") as r:
        r.leg.play(caller(pause(AT), say(HUM), pause(6)))
        await asyncio.sleep(8)
        assert [frame.seq for frame in r.leg.sent] == list(range(len(r.leg.sent)))
        ticks = speaking(r.leg)
        between = r.leg.sent[ticks[0] : ticks[-1] + 1]
        assert {frame.kind for frame in between} == {FrameKind.SPEECH, FrameKind.SILENCE}
        assert sum(frame.talkspurt for frame in between) == 2
        assert len(r.digests) == 1
        assert r.digests[0].samples == len(between) * RATE * TICK
        assert not r.record.refused


async def test_what_is_no_speech_makes_the_agent_go_on_soon() -> None:
    async with rig("") as r:
        sound = say(HUM)
        r.leg.play(caller(pause(AT), sound[:3000], pause(6)))
        await asyncio.sleep(8)
        assert np.array_equal(r.spoken, WHOLE)
        taking = r.record.turn_taking
        assert taking.pauses == taking.resumed == taking.false_interruptions == 1
        assert taking.paused_ms < 1100
        assert len(r.llm.asked) == 1


@pytest.mark.parametrize("text", ["stop", "no wait", "okay but what about sunday"])
async def test_an_interruption_ends_the_agents_turn_where_it_paused(text: str) -> None:
    async with rig(text) as r:
        r.leg.play(caller(pause(AT), say("stop it please"), pause(9)))
        await asyncio.sleep(3.5)
        assert r.record.interruptions == 1
        heard = int(r.record.turns[0].heard_samples) if r.record.turns else 0
        spoken = len([n for n in speaking(r.leg) if n * TICK < 2.5]) * RATE * TICK
        messages = r.llm.asked[-1]
        assert messages[-1] == {"role": "user", "content": text}
        words = int(AT * RATE // WORD)
        said = messages[-2]["content"].split()
        assert said == [f"w{n}" for n in range(len(said))]
        assert words <= len(said) <= words + 1
        assert spoken > 0
        assert heard <= spoken
        assert r.record.turn_taking.resumed == 0


async def test_a_real_interruption_stops_the_agent_within_two_frames_of_the_hint() -> None:
    """The sound is hinted at after some 100 ms of it; the agent isn't heard while it lasts."""
    async with rig("what are your opening hours") as r:
        speech = say("what are your opening hours")
        r.leg.play(caller(pause(AT), speech, pause(9)))
        await asyncio.sleep(AT + len(speech) / RATE)
        last = speaking(r.leg)[-1] * TICK
        assert last < AT + 0.096 + 3 * TICK + 2 * TICK + 0.08


async def test_an_answer_to_a_question_that_is_ending_is_an_answer() -> None:
    async with rig("yes", expects=Expect.YES_NO) as r:
        r.leg.play(caller(pause(4.2), say("yes"), pause(6)))
        await asyncio.sleep(6)
        assert r.llm.asked[-1][-1] == {"role": "user", "content": "yes"}
        assert r.record.turn_taking.backchannels == 0
    async with rig("yes", expects=Expect.YES_NO) as r:
        r.leg.play(caller(pause(AT), say("yes"), pause(6)))
        await asyncio.sleep(8)
        assert len(r.llm.asked) == 1
        assert r.record.turn_taking.backchannels == 1


async def test_once_the_agent_is_silent_the_same_word_is_a_turn() -> None:
    async with rig("okay") as r:
        r.leg.play(caller(pause(5.5), say(HUM), pause(6)))
        await asyncio.sleep(8)
        assert r.llm.asked[-1][-1] == {"role": "user", "content": "okay"}
        assert r.record.turn_taking.pauses == 0


async def test_several_backchannels_in_one_answer() -> None:
    async with rig("okay", "mm-hm", "right") as r:
        hum = say(HUM)
        r.leg.play(caller(pause(0.8), hum, pause(1.2), hum, pause(1.2), hum, pause(6)))
        await asyncio.sleep(12)
        assert np.array_equal(r.spoken, WHOLE)
        assert r.record.turn_taking.backchannels == 3
        assert len(r.digests) == 1


async def test_an_interruption_from_inside_ends_a_pause_too() -> None:
    async with rig("okay") as r:
        r.leg.play(caller(pause(AT), say(HUM), pause(6)))
        await asyncio.sleep(AT + 0.3)
        assert r.graph.session.playout.paused
        await r.graph._user.broadcast_interruption()
        await asyncio.sleep(0.1)
        assert not r.graph.session.playout.paused
        assert r.record.interruptions == 1
        assert len(speaking(r.leg)) * TICK < AT + 0.3
        await asyncio.sleep(2)
        assert r.llm.asked[-1][-1] == {"role": "user", "content": "okay"}


async def test_a_call_that_ends_while_paused_says_what_it_has_to() -> None:
    async with rig("okay") as r:
        r.leg.play(caller(pause(AT), say(HUM), pause(6)))
        await asyncio.sleep(AT + 0.3)
        assert r.graph.session.playout.paused
        await r.graph.finish()
        assert np.array_equal(r.spoken, WHOLE)


async def test_words_that_come_late_are_judged_by_themselves() -> None:
    """A hosted recognizer may need a second: the agent went on, and is stopped only by words."""
    for text, turns in (("mm-hm", 1), ("stop", 2)):
        async with rig(text) as r:
            r.stt.delay = 1.0
            r.leg.play(caller(pause(AT), say("yes")[:4000], pause(6)))
            await asyncio.sleep(8)
            assert r.record.turn_taking.false_interruptions == 1
            assert len(r.llm.asked) == turns
            assert np.array_equal(r.spoken[: len(WHOLE)], WHOLE) is (turns == 1)


async def test_a_long_question_is_none_the_less_one_for_its_text_coming_late() -> None:
    """Its first word is known at once and is a backchannel; the rest takes 0.9 s."""
    text = "yeah and what is it on sunday"
    async with rig(text) as r:
        r.stt.partial, r.stt.delay = "yeah", 0.9
        r.leg.play(caller(pause(AT), say("yeah and on sunday")[: int(1.4 * RATE)], pause(9)))
        await asyncio.sleep(6)
        assert r.record.turn_taking.backchannels == 0
        assert r.record.turn_taking.resumed == 0
        assert r.record.interruptions == 1
        assert r.llm.asked[-1][-1] == {"role": "user", "content": text}


@pytest.mark.parametrize(("level", "seconds", "fall"), [(6000, 0.3, 0.08), (2000, 1.0, 9.0)])
async def test_noise_does_not_even_pause_the_agent(
    level: float, seconds: float, fall: float
) -> None:
    """A burst like a cough or a bang, and a second of static."""
    count = int(seconds * RATE)
    shape = np.exp(-np.arange(count) / RATE / fall)
    noise = np.random.default_rng(3).normal(0, level, count) * shape
    async with rig("") as r:
        r.leg.play(caller(pause(AT), noise.clip(-32768, 32767), pause(6)))
        await asyncio.sleep(6)
        assert np.array_equal(r.spoken, WHOLE)
        assert r.record.turn_taking.pauses == 0
        ticks = speaking(r.leg)
        assert ticks == list(range(ticks[0], ticks[0] + len(ticks))), "without a gap"


async def test_what_pauses_does_not_age() -> None:
    """Audio may not be old when it is sent, but for the time it was made to wait."""
    async with rig("okay") as r:
        r.graph.session.gate._policy = GatePolicy(max_age=4.7)
        r.leg.play(caller(pause(AT), say(HUM), pause(6)))
        await asyncio.sleep(8)
        assert r.record.turn_taking.backchannels == 1
        refused = r.graph.session.gate.stats.refused
        # The answer was made at once: without the pause its last 0.3 s would be too old, and with
        # it no more than that.
        assert refused[Refusal.EXPIRED] == pytest.approx((5 - 4.7) / TICK, abs=3)
