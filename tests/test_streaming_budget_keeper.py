"""The ladder in a call's graph, on virtual time: scripted models and engines, real timing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import pytest
from legs import ScriptedLeg
from pipecat.frames.frames import (
    Frame,
    InputAudioRawFrame,
    LLMFullResponseStartFrame,
    TranscriptionFrame,
    TTSTextFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from speech import pause, say
from test_streaming_graph import Stt, caller
from test_streaming_llm_deadline import ScriptedLlm, Step, scripted

from fakes.scripted_voices import NumberedEngine, ScriptedVoice
from ringtrue.streaming.budget.keeper import BudgetKeeper, KeeperPolicy, KeeperTexts
from ringtrue.streaming.budget.ladder import Rung
from ringtrue.streaming.budget.lines import Lines
from ringtrue.streaming.clock import MediaClock
from ringtrue.streaming.gate import FrameKind
from ringtrue.streaming.graph import CallGraph, Services, SharedModels
from ringtrue.streaming.llm.actions import CallActionFrame, Transfer
from ringtrue.streaming.llm.deadline import LlmWatchdog, WatchdogPolicy
from ringtrue.streaming.phrases import PhraseChunker
from ringtrue.streaming.ports import SpeechChunk, SynthesisStream
from ringtrue.streaming.recognizers.service import NothingRecognizedFrame
from ringtrue.streaming.record import CallRecord, Stage, TurnRecord
from ringtrue.streaming.spare import SpareVoice
from ringtrue.streaming.synthesizer import SpeechSynthesizer

pytestmark = pytest.mark.virtual_time

RATE = 8000
QUESTION = "What are your opening hours please?"
TEXTS = KeeperTexts(
    openers=("w901 w902.", "w911 w912."),
    waiting=("w921 w922 w923.", "w931 w932 w933."),
    give_up_say=("w941 w942.",),
    give_up_action=Transfer("desk"),
)
WATCHDOG = WatchdogPolicy(
    first_chunk=2.5,
    inter_chunk=2.0,
    filler=("w951.",),
    apology=("w961 w962.",),
    give_up_say=TEXTS.give_up_say,
    give_up_action=TEXTS.give_up_action,
)
ANSWER = ("w1 ", "w2 ", "w3 ", "w4 ", "w5.")
WORDS = ["w1", "w2", "w3", "w4", "w5."]


class Hanging(NumberedEngine):
    """Makes nothing of what it is given from the ``after``-th utterance on."""

    def __init__(self, after: int = 0, work: float = 0.002) -> None:
        super().__init__(work)
        self.after = after

    def open(self, voice: str, rate: int) -> SynthesisStream:
        stream = super().open(voice, rate)
        if len(self.streams) > self.after:
            self.streams[-1]._work = 3600.0
        return stream


class LateToBegin(NumberedEngine):
    """Makes the first chunk of every utterance late, but makes it."""

    def open(self, voice: str, rate: int) -> SynthesisStream:
        stream = super().open(voice, rate)
        made = stream.frames

        async def late() -> AsyncIterator[SpeechChunk]:
            await asyncio.sleep(0.6)
            async for chunk in made():
                yield chunk

        stream.frames = late  # type: ignore[method-assign]
        return stream


@dataclass
class Rig:
    """A running call."""

    leg: ScriptedLeg
    graph: CallGraph
    record: CallRecord
    llm: ScriptedLlm
    keeper: BudgetKeeper
    watchdog: LlmWatchdog
    heard: list[tuple[float, Frame]] = field(default_factory=list)
    asked_at: float = 0.0

    async def ask(self, seconds: float, *, after: float = 0.2) -> None:
        """Let the caller ask, and ``seconds`` pass from the end of its words on."""
        question = say(QUESTION)
        self.leg.play(caller(pause(after), question, pause(seconds)))
        self.asked_at = asyncio.get_running_loop().time() + after + len(question) / RATE
        await asyncio.sleep(after + len(question) / RATE + seconds)

    @property
    def words(self) -> list[str]:
        """Words as the caller heard them."""
        return [frame.text for _, frame in self.heard if isinstance(frame, TTSTextFrame)]

    @property
    def actions(self) -> list[CallActionFrame]:
        return [frame for _, frame in self.heard if isinstance(frame, CallActionFrame)]

    @property
    def turn(self) -> TurnRecord:
        return self.record.turns[-1]

    @property
    def remembered(self) -> str:
        """What the LLM will know it said."""
        messages = self.graph.context.get_messages()
        return " ".join(str(m["content"]) for m in messages if m["role"] == "assistant")

    def steps(self) -> list[tuple[Rung, str]]:
        return [(step.rung, step.reason) for step in self.turn.ladder]

    def silences(self) -> list[float]:
        """Seconds between two sounds of the agent, since the caller's last word."""
        sounds = [
            at
            for frame, at in zip(self.leg.sent, self.leg.sent_at, strict=True)
            if at > self.asked_at and frame.kind is FrameKind.SPEECH
        ]
        edges = [self.asked_at, *sounds]
        return [after - before for before, after in zip(edges, edges[1:], strict=False)]


@asynccontextmanager
async def rig(
    *scripts: Sequence[Step],
    engine: NumberedEngine | None = None,
    voice: ScriptedVoice | None = None,
    learn: bool = True,
    disclosed: bool = True,
    disclosing: str = "w971 w972.",
    policy: KeeperPolicy | None = None,
    stt: FrameProcessor | None = None,
    spare: NumberedEngine | None = None,
) -> AsyncIterator[Rig]:
    leg, llm, engine = ScriptedLeg(RATE), scripted(*scripts), engine or NumberedEngine()
    record = CallRecord("c", "test", "inbound", "none", RATE, asyncio.get_running_loop().time())
    lines = Lines()
    if learn:
        await lines.learn(partial(NumberedEngine(0.0).open, "stock"), TEXTS.all, RATE)
    tts: SpeechSynthesizer | SpareVoice
    tts = SpeechSynthesizer(engine, "stock", cloned=voice, lines=lines)
    if spare is not None:  # a hosted service has no stall of its own, and no lines
        first = SpeechSynthesizer(engine, "stock", stall=3600.0)
        tts = SpareVoice(first, SpeechSynthesizer(spare, "stock"))
    phrases = PhraseChunker(probe=lambda stage: graph.session.probe(stage))
    keeper = BudgetKeeper(
        TEXTS,
        policy,
        hurry=phrases.hurry,
        faster=tts.switch if isinstance(tts, SpareVoice) else None,
        disclosed=lambda: disclosed,
        disclose=lambda: "" if disclosed else disclosing,
    )
    if isinstance(tts, SpeechSynthesizer):
        keeper.voice = tts
    watchdog = LlmWatchdog(
        llm,
        WATCHDOG,
        probe=lambda stage: graph.session.probe(stage),
        on_step=keeper.took,
        filling=lambda: keeper.filling,
    )
    models = SharedModels(smart_turn=False)
    made: list[Rig] = []

    async def on_heard(frame: Frame) -> None:
        made[0].heard.append((asyncio.get_running_loop().time(), frame))

    services = Services(
        stt=stt or Stt(), llm=llm, tts=tts, before_tts=(watchdog, phrases), keeper=keeper
    )
    graph = CallGraph(leg, record, services, models, on_heard=on_heard)
    made.append(Rig(leg, graph, record, llm, keeper, watchdog))
    clock = MediaClock()
    await graph.start()
    clock.add(graph.session)
    try:
        yield made[0]
    finally:
        clock.remove(graph.session)
        await graph.stop()
        graph.session.close(asyncio.get_running_loop().time(), "caller_hung_up")
        models.close()


async def test_an_answer_in_time_is_all_that_is_heard() -> None:
    async with rig(ANSWER) as r:
        await r.ask(4)
        assert r.words == ["w1", "w2", "w3", "w4", "w5."]
        assert r.steps() == []
        assert r.record.unexplained_silences == []
        assert len(r.record.turns) == 1
    assert r.turn.misses == []
    assert set(r.turn.stages) == set(Stage)


async def test_a_slow_model_gets_an_opener_within_the_turns_time_and_answers_behind_it() -> None:
    async with rig([1.5, *ANSWER]) as r:
        await r.ask(6)
        assert r.words == ["w901", "w902.", "w1", "w2", "w3", "w4", "w5."]
        assert r.steps() == [(Rung.OPENER, "no_first_token")]
        assert r.silences()[0] < 0.82
        assert r.remembered == "w901 w902. w1 w2 w3 w4 w5."
        assert r.record.unexplained_silences == []
        assert len(r.record.turns) == 1
    turn = r.turn
    latency = turn.interval("turn_latency")
    assert latency is not None
    assert latency < 0.82
    assert turn.answer[Stage.FIRST_PACKET] > turn.answer[Stage.FIRST_PHRASE]
    assert turn.answer[Stage.FIRST_PHRASE] > turn.stages[Stage.FIRST_PACKET]
    assert {miss.stage: miss.reason for miss in turn.misses} == {"first_token": "slow_model"}
    written = r.record.as_dict()["turns"][0]
    assert written["ladder"][0]["step"] == "opener"
    assert written["answer_at_ms"]["first_packet"] > written["at_ms"]["first_packet"]


async def test_a_silent_model_is_never_heard_as_silence_and_ends_in_the_transfer() -> None:
    async with rig([3600.0], [3600.0], [3600.0]) as r:
        await r.ask(12)
        assert [action.action for action in r.actions] == [Transfer("desk")]
        assert max(r.silences()) < 1.5
        assert r.record.unexplained_silences == []
        rungs = [rung for rung, _ in r.steps()]
        assert rungs[0] is Rung.OPENER
        assert Rung.ASKED_AGAIN in rungs
        assert rungs[-1] is Rung.TRANSFER
        assert r.words[-2:] == ["w941", "w942."]
        assert "w951." not in r.words  # the watchdog's filler, while others fill the time


async def test_openers_take_turns() -> None:
    slow = [1.0, *ANSWER]
    async with rig(slow, slow, slow, slow) as r:
        for _ in range(4):
            await r.ask(5)
        openers = [word for word in r.words if word.startswith("w9")]
        assert openers == ["w901", "w902.", "w911", "w912."] * 2
        assert [len(turn.ladder) for turn in r.record.turns] == [1, 1, 1, 1]


async def test_without_a_line_made_beforehand_the_engine_says_it() -> None:
    async with rig([1.5, *ANSWER], learn=False) as r:
        await r.ask(6)
        assert r.words[:3] == ["w901", "w902.", "w1"]


async def test_before_the_disclosure_was_heard_nothing_goes_in_front_of_it() -> None:
    async with rig([2.4, *ANSWER], disclosed=False) as r:
        await r.ask(8)
        assert r.words[:3] == ["w971", "w972.", "w921"]
        assert r.words[-5:] == ["w1", "w2", "w3", "w4", "w5."]
        assert [rung for rung, _ in r.steps()] == [Rung.APOLOGY]
        begun = [
            r.heard[n][0] for n, (_, f) in enumerate(r.heard) if getattr(f, "text", "") == "w1"
        ]
        assert r.turn.answer[Stage.FIRST_PACKET] == pytest.approx(begun[0] - 0.2, abs=0.05)


async def test_a_disclosure_that_is_about_to_be_said_is_not_preceded() -> None:
    async with rig([1.5, *ANSWER], disclosed=False, disclosing="") as r:
        await r.ask(6)
        assert r.words == ["w1", "w2", "w3", "w4", "w5."]
        assert r.steps() == []


async def test_slow_tokens_are_spoken_as_soon_as_they_can_be() -> None:
    halting = [0.25, "w1 ", "w2 ", "w3 ", "w4 ", 0.6, "w5 ", 0.6, "w6."]
    async with rig(halting) as r:
        await r.ask(6)
        assert (Rung.SHORTER_CLAUSE, "slow_tokens") in r.steps()
        assert Rung.OPENER not in [rung for rung, _ in r.steps()]
        assert r.words == ["w1", "w2", "w3", "w4", "w5", "w6."]
        assert r.silences()[0] < 0.72


async def test_an_answer_behind_an_opener_that_was_put_in_front_of_it_is_the_answer() -> None:
    """It is one utterance with the opener, and nothing is owed once it was heard."""
    async with rig(ANSWER, engine=LateToBegin()) as r:
        await r.ask(12)
        assert r.steps() == [(Rung.OPENER, "no_audio")]
        assert r.words == ["w901", "w902.", *WORDS]
        assert r.actions == []


async def test_a_stalled_voice_is_covered_by_lines_it_made_before() -> None:
    async with rig(ANSWER, engine=Hanging()) as r:
        await r.ask(12)
        assert r.words[:2] == ["w901", "w902."]
        assert r.steps()[0] == (Rung.OPENER, "no_audio")
        assert max(r.silences()) < 1.5
        assert r.steps()[-1][0] is Rung.TRANSFER
        assert r.actions
        assert r.record.unexplained_silences == []
    reasons = {miss.stage: miss.reason for miss in r.record.turns[0].misses}
    assert reasons.get("first_pcm") in (None, "engine_failed")


async def test_a_cloned_voice_that_stalls_gives_way_and_no_word_is_lost() -> None:
    async with rig(ANSWER, voice=ScriptedVoice(work=3600.0)) as r:
        await r.ask(8)
        assert [word for word in r.words if word < "w9"] == ["w1", "w2", "w3", "w4", "w5."]
        assert max(r.silences()) < 1.6
        assert r.actions == []


async def test_a_hosted_voice_that_stalls_is_replaced_by_the_spare_one() -> None:
    async with rig(ANSWER, ANSWER, engine=Hanging(), spare=NumberedEngine()) as r:
        await r.ask(5)
        assert r.words == ["w1", "w2", "w3", "w4", "w5."]
        assert r.steps() == [(Rung.FASTER_VOICE, "no_audio")]
        assert max(r.silences()) < 1.5
        await r.ask(5)
        assert r.steps() == []
        assert r.words == ["w1", "w2", "w3", "w4", "w5."] * 2
        assert r.record.unexplained_silences == []


async def test_a_voice_that_cannot_say_anything_is_counted_as_silence() -> None:
    async with rig(ANSWER, engine=Hanging(), learn=False) as r:
        await r.ask(10)
        assert r.words == []
        (silence, *_) = r.record.unexplained_silences
        assert silence.cause == "tts"
        assert silence.seconds > 1.5
        assert r.record.as_dict()["unexplained_silences"][0]["turn"] == 0


async def test_a_caller_who_speaks_again_is_owed_nothing() -> None:
    async with rig([3600.0], ANSWER) as r:
        question = say(QUESTION)
        gap = 0.45
        r.leg.play(caller(pause(0.2), question, pause(gap), question, pause(5)))
        await asyncio.sleep(0.2 + 2 * len(question) / RATE + gap + 5)
        assert r.words == ["w1", "w2", "w3", "w4", "w5."]
        assert r.record.unexplained_silences == []
        assert [turn.ladder for turn in r.record.turns] == [[], []]


async def test_a_model_that_dies_in_the_middle_is_apologised_for() -> None:
    async with rig([*ANSWER, " w6", 3600.0], policy=KeeperPolicy(apology=1.2)) as r:
        await r.ask(8)
        assert r.words == ["w1", "w2", "w3", "w4", "w5.", "w6", "w961", "w962."]
        (step,) = r.record.turns[0].ladder
        assert (step.rung, step.reason) == (Rung.APOLOGY, "llm_inter_chunk")
        assert r.record.unexplained_silences == []


async def test_a_model_that_does_not_even_begin_is_not_heard_as_silence() -> None:
    async with rig() as r:
        r.llm.wedged = True
        await r.ask(8)
        assert max(r.silences()) < 1.5
        assert [action.action for action in r.actions] == [Transfer("desk")]
        assert [rung for rung, _ in r.steps()] == [
            Rung.OPENER,
            Rung.APOLOGY,
            Rung.APOLOGY,
            Rung.TRANSFER,
        ]
        assert r.record.unexplained_silences == []


class Deaf(FrameProcessor):
    """A recognizer that has failed by 0.7 s after each stretch of speech."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            return
        await self.push_frame(frame, direction)
        if isinstance(frame, VADUserStoppedSpeakingFrame):
            await asyncio.sleep(0.7)
            await self.push_frame(NothingRecognizedFrame(failed=True))


async def test_a_recognizer_that_fails_again_and_again_ends_in_the_transfer() -> None:
    async with rig(("w1 ", "w2."), ("w3 ", "w4."), ("w5 ", "w6."), stt=Deaf()) as r:
        for _ in range(3):
            await r.ask(4)
            assert max(r.silences()) < 1.5
        assert r.words == ["w1", "w2.", "w3", "w4.", "w941", "w942."]
        assert [action.action for action in r.actions] == [Transfer("desk")]
        assert r.record.unexplained_silences == []
    first, second, third = r.record.turns[:3]
    for turn in (first, second):
        assert {m.stage: m.reason for m in turn.misses}["recognizer"] == "recognizer_failed"
    steps = [step for turn in r.record.turns for step in turn.ladder]
    assert [(step.rung, step.reason) for step in steps] == [(Rung.TRANSFER, "recognizer_failed")]
    assert third.deadline.at(Stage.TRANSCRIPT) is not None


class Late(FrameProcessor):
    """A recognizer whose text comes ``seconds`` after each stretch of speech."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._texts: set[asyncio.Task[None]] = set()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            return
        await self.push_frame(frame, direction)
        if isinstance(frame, VADUserStartedSpeakingFrame):
            for task in self._texts:
                task.cancel()
        elif isinstance(frame, VADUserStoppedSpeakingFrame):
            task = asyncio.create_task(self._tell())
            self._texts.add(task)
            task.add_done_callback(self._texts.discard)

    async def cleanup(self) -> None:
        await super().cleanup()
        for task in self._texts:
            task.cancel()

    async def _tell(self) -> None:
        await asyncio.sleep(self._seconds)
        await self.push_frame(
            TranscriptionFrame(text="hours", user_id="", timestamp="", finalized=True)
        )


async def test_words_that_come_late_are_covered_by_an_opener() -> None:
    """Whoever recognizes them: nothing but that they aren't there is known."""
    async with rig(ANSWER, ANSWER, stt=Late(1.4)) as r:
        for _ in range(2):
            await r.ask(5)
            assert 0.9 < max(r.silences()) < 1.2
            assert r.steps() == [(Rung.OPENER, "recognizer")]
        assert r.words == ["w901", "w902.", *WORDS, "w911", "w912.", *WORDS]
        assert r.record.unexplained_silences == []
        assert len(r.record.turns) == 2
    turn = r.turn
    assert turn.stages[Stage.FIRST_PACKET] < turn.stages[Stage.TURN_ENDED]
    assert turn.answer[Stage.FIRST_PACKET] > turn.stages[Stage.TURN_ENDED]
    assert {miss.stage for miss in turn.misses} >= {"recognizer", "turn"}


async def test_words_that_never_come_are_owed_nothing_once_the_turn_has_ended() -> None:
    async with rig(("w1 ", "w2."), stt=Late(3600.0)) as r:
        await r.ask(12)
        assert r.words[:2] == ["w901", "w902."]
        assert r.words[2:] in ([], ["w1", "w2."])
        assert r.actions == []


async def test_who_goes_on_while_the_words_are_awaited_is_listened_to() -> None:
    """The opener stops, and belongs to a turn of its own; the words are answered once."""
    async with rig(ANSWER, stt=Late(1.4)) as r:
        question = say(QUESTION)
        r.leg.play(caller(pause(0.2), question, pause(1.1), question, pause(6)))
        await asyncio.sleep(0.2 + 2 * len(question) / RATE + 1.1 + 6)
        assert [word for word in r.words if word < "w9"] == WORDS
        begun = [at for at, frame in r.heard if getattr(frame, "text", "") == "w1"]
        assert len(begun) == 1
        assert r.record.interruptions == 1
        assert r.record.unexplained_silences == []
        assert len(r.record.turns) == 2


async def test_what_the_keeper_is_asked_in_between_is_owed_once() -> None:
    """A response that begins of its own accord is watched, and settled by its first sound."""
    async with rig() as r:
        await r.watchdog.push_frame(LLMFullResponseStartFrame())
        await asyncio.sleep(1.4)
        assert r.words[0] == "w921"
        assert r.keeper.filling
