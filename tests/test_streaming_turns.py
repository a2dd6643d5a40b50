"""End of turn: the model's word, the recognizer's text and the silences between them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import numpy as np
import pytest
from pipecat.frames.frames import (
    EagerEndOfTurnCancelFrame,
    Frame,
    InterimTranscriptionFrame,
    TranscriptionFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)

from ringtrue.streaming.recognizers.service import EarlierTranscriptionFrame
from ringtrue.streaming.record import Stage
from ringtrue.streaming.turns import (
    MAX_SECONDS,
    SmartTurnModel,
    SpokenTurnStop,
    TurnAudio,
    TurnPolicy,
)
from ringtrue.streaming.turns.expect import Expect
from ringtrue.streaming.turns.frames import SpeechPausedFrame, SpeechResumedFrame

STARTED = VADUserStartedSpeakingFrame()
STOPPED = VADUserStoppedSpeakingFrame()
TEXT = TranscriptionFrame(text="yes", user_id="", timestamp="", finalized=True)
POLICY = TurnPolicy(complete=0.5, incomplete_seconds=1.2, transcript_seconds=1.5)


class Turn:
    """Drives a strategy and notes when the turn ended."""

    def __init__(
        self, probability: float | None, delay: float = 0.05, *, sure: bool = False
    ) -> None:
        async def judge() -> float:
            self.judgements += 1
            await asyncio.sleep(delay)
            assert self.probability is not None
            return self.probability

        self.probability = probability
        self.expects = Expect.OPEN
        self.busy = False
        self.ended: list[float] = []
        self.stages: list[Stage] = []
        self.start = asyncio.get_running_loop().time()
        self.judgements = self.cut_short = 0
        self.hastened: list[bool] = []
        self.told: list[str] = []
        self.strategy = SpokenTurnStop(
            None if probability is None else judge,
            POLICY,
            self.stages.append,
            lambda _: sure,
            expects=lambda: self.expects,
            suffices=lambda text: len(text.split()) >= 4,
            answering=self,
            busy=lambda: self.busy,
            hasten=lambda: self.hastened.append(True),
            on_cut_short=self._was_cut_short,
        )
        self.strategy.add_event_handler("on_user_turn_stopped", self._stopped)

    def began(self) -> None:
        self.told.append("began")

    def confirmed(self) -> None:
        self.told.append("confirmed")

    def dropped(self, reason: str) -> None:
        self.told.append(reason)

    def _was_cut_short(self) -> None:
        self.cut_short += 1

    async def _stopped(self, *_: object) -> None:
        self.ended.append(asyncio.get_running_loop().time() - self.start)

    async def take(self, *frames: Frame) -> None:
        for frame in frames:
            await self.strategy.process_frame(frame)


@asynccontextmanager
async def turn(probability: float | None, *, sure: bool = False) -> AsyncIterator[Turn]:
    """A strategy that is cleaned up."""
    it = Turn(probability, sure=sure)
    try:
        yield it
    finally:
        await it.strategy.cleanup()


@pytest.mark.virtual_time
async def test_complete_audio_and_text_end_the_turn_at_once() -> None:
    async with turn(0.9) as t:
        await t.take(STARTED, STOPPED)
        await asyncio.sleep(0.1)
        assert t.ended == []
        await t.take(TEXT)
        assert t.ended == [pytest.approx(0.1)]
        await asyncio.sleep(5)
        assert len(t.ended) == 1
        assert t.stages == [Stage.TRANSCRIPT, Stage.TURN_ENDED]


@pytest.mark.virtual_time
async def test_text_before_the_models_word_waits_for_it() -> None:
    async with turn(0.9) as t:
        await t.take(STARTED, STOPPED, TEXT)
        assert t.ended == []
        await asyncio.sleep(1)
        assert t.ended == [pytest.approx(0.05)]


@pytest.mark.virtual_time
@pytest.mark.parametrize(("probability", "seconds"), [(0.0, 1.2), (0.25, 0.6), (0.499, 0.0024)])
async def test_an_unfinished_turn_ends_by_silence_that_depends_on_the_model(
    probability: float, seconds: float
) -> None:
    async with turn(probability) as t:
        await t.take(STARTED, STOPPED, TEXT)
        await asyncio.sleep(3)
        assert t.ended == [pytest.approx(0.05 + seconds, abs=1e-6)]


@pytest.mark.virtual_time
async def test_words_that_are_surely_a_whole_answer_shorten_the_silence() -> None:
    async with turn(0.0, sure=True) as t:
        await t.take(STARTED, STOPPED)
        await asyncio.sleep(0.1)
        await t.take(TEXT)
        await asyncio.sleep(3)
        assert t.ended == [pytest.approx(POLICY.sure_seconds, abs=1e-6)]
    async with turn(0.0, sure=True) as t:
        await t.take(STARTED, STOPPED, TEXT)
        await asyncio.sleep(3)
        assert t.ended == [pytest.approx(POLICY.sure_seconds, abs=1e-6)]
    async with turn(0.0, sure=True) as t:
        t.expects = Expect.YES_NO
        await t.take(STARTED, STOPPED, TEXT)
        await asyncio.sleep(3)
        assert t.ended == [pytest.approx(POLICY.sure_yes_no_seconds, abs=1e-6)]
    async with turn(0.9, sure=True) as t:
        await t.take(STARTED, STOPPED, TEXT)
        await asyncio.sleep(3)
        assert t.ended == [pytest.approx(0.05)]


@pytest.mark.virtual_time
async def test_going_on_speaking_takes_everything_back() -> None:
    async with turn(0.1) as t:
        await t.take(STARTED, STOPPED, TEXT)
        await asyncio.sleep(0.5)
        await t.take(STARTED)
        await asyncio.sleep(10)
        assert t.ended == []
        await t.take(STOPPED)
        await asyncio.sleep(10)
        assert len(t.ended) == 1


@pytest.mark.virtual_time
async def test_speech_during_the_judgement_voids_it() -> None:
    async with turn(0.9) as t:
        await t.take(STARTED, STOPPED, TEXT)
        await asyncio.sleep(0.02)
        await t.take(STARTED)
        await asyncio.sleep(5)
        assert t.ended == []


@pytest.mark.virtual_time
async def test_a_turn_without_words_ends_too() -> None:
    async with turn(0.9) as t:
        await t.take(STARTED, STOPPED)
        await asyncio.sleep(10)
        assert t.ended == [pytest.approx(0.05 + 1.5)]


@pytest.mark.virtual_time
async def test_words_without_speech_such_as_digits_end_the_turn_at_once() -> None:
    async with turn(0.9) as t:
        await t.take(TEXT)
        await asyncio.sleep(1)
        assert t.ended == [0.0]


@pytest.mark.virtual_time
async def test_without_a_model_every_stop_is_complete() -> None:
    async with turn(None) as t:
        await t.take(STARTED, STOPPED, TEXT)
        await asyncio.sleep(0.01)
        assert t.ended == [0.0]


def test_wait_falls_with_the_models_confidence() -> None:
    waits = [POLICY.wait(p / 10) for p in range(11)]
    assert waits == sorted(waits, reverse=True)
    assert waits[0] == pytest.approx(1.2)
    assert waits[5:] == [0.0] * 6


def test_audio_is_bounded_to_what_the_model_can_hear() -> None:
    audio = TurnAudio(8000)
    for n in range(1000):
        audio.push(np.full(320, n, np.int16).tobytes())
    segment = audio.segment(10**6)
    assert MAX_SECONDS * 8000 <= len(segment) <= MAX_SECONDS * 8000 + 320
    assert segment[-1] == 999
    assert len(audio.segment(100)) == 100
    assert len(audio.segment(0)) == 0


async def test_the_model_judges_8_khz_off_the_loop() -> None:
    executor = ThreadPoolExecutor(1)
    try:
        model = SmartTurnModel(executor)
        samples = np.random.default_rng(1).normal(0, 500, 16000).astype(np.int16)
        ran: list[float] = []

        async def watch() -> None:
            while True:
                ran.append(time.monotonic())
                await asyncio.sleep(0.002)

        watcher = asyncio.get_running_loop().create_task(watch())
        judging = asyncio.ensure_future(model.judge(samples, 8000))
        await asyncio.sleep(0)
        assert model.busy
        probability = await judging
        assert not model.busy
        watcher.cancel()
        assert 0.0 <= probability <= 1.0
        assert len(ran) > 2
        assert model.predict(samples, 8000) == pytest.approx(probability)
    finally:
        executor.shutdown()


@pytest.mark.uvloop
async def test_sure_words_twice_in_a_row_when_their_wait_is_over() -> None:
    """uvloop makes a plain handle of a timer that is due: rearming it must not care."""
    async with turn(0.1, sure=True) as t:
        await t.take(STARTED, STOPPED)
        await asyncio.sleep(POLICY.sure_seconds + 0.05)
        await t.take(TEXT, TEXT)
        await asyncio.sleep(0.05)
        assert len(t.ended) == 1


@pytest.mark.virtual_time
async def test_words_that_come_while_the_caller_goes_on_do_not_end_the_next_pause() -> None:
    async with turn(0.0) as t:
        await t.take(STARTED, STOPPED, STARTED, TEXT)
        await asyncio.sleep(1)
        await t.take(STOPPED)
        await asyncio.sleep(0.2)
        await t.take(TEXT)
        await asyncio.sleep(3)
        assert t.ended == [pytest.approx(1 + 0.05 + POLICY.incomplete_seconds)]


@pytest.mark.virtual_time
async def test_a_text_with_more_behind_it_waits_for_the_rest() -> None:
    earlier = EarlierTranscriptionFrame(text="and", user_id="", timestamp="")
    async with turn(0.9) as t:
        await t.take(STARTED, STOPPED, STARTED, STOPPED, earlier)
        await asyncio.sleep(0.5)
        assert t.ended == []
        await t.take(TEXT)
        assert t.ended == [pytest.approx(0.5)]


@pytest.mark.virtual_time
async def test_a_model_that_fails_holds_the_turn_for_unfinished() -> None:
    async with turn(None) as t:

        async def judge() -> float:
            raise RuntimeError("no")

        t.strategy._judge = judge
        await t.take(STARTED, STOPPED, TEXT)
        await asyncio.sleep(3)
        assert t.ended == [pytest.approx(POLICY.incomplete_seconds)]


def words(text: str) -> TranscriptionFrame:
    return TranscriptionFrame(text=text, user_id="", timestamp="", finalized=True)


def guess(text: str) -> InterimTranscriptionFrame:
    return InterimTranscriptionFrame(text=text, user_id="", timestamp="")


@pytest.mark.virtual_time
@pytest.mark.parametrize(("probability", "wait"), [(0.9, 0.0), (0.55, 0.0), (0.05, 1.08)])
async def test_a_pause_is_judged_once_and_the_stop_finds_the_judgement_there(
    probability: float, wait: float
) -> None:
    async with turn(probability) as t:
        await t.take(STARTED, SpeechPausedFrame())
        await asyncio.sleep(0.1)
        await t.take(STOPPED, TEXT)
        await asyncio.sleep(2)
        assert t.judgements == 1
        assert t.ended == [pytest.approx(0.1 + wait)]


@pytest.mark.virtual_time
async def test_a_model_in_doubt_is_asked_again_while_silence_is_waited_for() -> None:
    for second, ended in ((0.7, 0.15), (0.3, 0.7), (0.0, 0.7)):
        async with turn(0.25) as t:
            await t.take(STARTED, SpeechPausedFrame())
            await asyncio.sleep(0.1)
            t.probability = second
            await t.take(STOPPED, TEXT)
            await asyncio.sleep(2)
            assert t.judgements == 2
            assert t.ended == [pytest.approx(ended)]
    async with turn(0.25) as t:
        await t.take(STARTED, SpeechPausedFrame())
        await asyncio.sleep(0.1)
        t.busy = True
        await t.take(STOPPED, TEXT)
        await asyncio.sleep(2)
        assert t.judgements == 1, "another call's turn has to wait for the model"


@pytest.mark.virtual_time
async def test_a_pause_that_was_none_is_not_judged_and_leaves_no_answer() -> None:
    async with turn(0.9) as t:
        await t.take(STARTED, guess("yes"), SpeechPausedFrame())
        await asyncio.sleep(0.02)
        await t.take(SpeechResumedFrame())
        await asyncio.sleep(0.2)
        assert t.told == t.hastened == [], "its judgement came to nothing"
        await t.take(SpeechPausedFrame())
        await asyncio.sleep(0.1)
        await t.take(SpeechResumedFrame())
        assert t.told == ["began", "resumed"]
        await t.take(SpeechPausedFrame())
        await asyncio.sleep(0.1)
        await t.take(STOPPED, TEXT)
        await asyncio.sleep(0.1)
        assert t.told == ["began", "resumed", "began", "confirmed"]
        assert len(t.ended) == 1


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    ("probability", "sure", "hastened"), [(0.6, True, 1), (0.4, True, 0), (0.95, False, 0)]
)
async def test_only_sound_and_words_together_shorten_the_silence_of_the_detector(
    probability: float, sure: bool, hastened: int
) -> None:
    async with turn(probability, sure=sure) as t:
        await t.take(STARTED, guess("yes"), SpeechPausedFrame())
        await asyncio.sleep(0.1)
        assert len(t.hastened) == hastened


@pytest.mark.virtual_time
async def test_a_caller_who_was_cut_short_is_not_hurried_again() -> None:
    async with turn(0.9, sure=True) as t:
        await t.take(STARTED, guess("yes"), SpeechPausedFrame())
        await asyncio.sleep(0.1)
        await t.take(STOPPED, TEXT)
        await asyncio.sleep(0.01)
        assert len(t.ended) == len(t.hastened) == 1
        await t.strategy.handle_user_turn_stopped()
        await asyncio.sleep(0.3)
        await t.take(STARTED, guess("and more"), SpeechPausedFrame())
        await asyncio.sleep(0.1)
        assert len(t.hastened) == 1
        assert t.cut_short == t.strategy.pauses.cut_short == 1


@pytest.mark.virtual_time
async def test_a_busy_model_is_left_to_turns_that_have_ended() -> None:
    async with turn(0.9) as t:
        t.busy = True
        await t.take(STARTED, guess("yes"), SpeechPausedFrame())
        await asyncio.sleep(0.1)
        assert t.judgements == 0
        await t.take(STOPPED, TEXT)
        await asyncio.sleep(1)
        assert t.judgements == 1
        assert t.ended == [pytest.approx(0.15)]


@pytest.mark.virtual_time
async def test_an_answer_begun_early_is_confirmed_by_the_same_words_and_dropped_by_others() -> None:
    async with turn(0.9) as t:
        await t.take(STARTED, guess("yes"), SpeechPausedFrame())
        await asyncio.sleep(0.1)
        assert t.told == ["began"]
        await t.take(STOPPED, words("Yes."))
        await asyncio.sleep(0.1)
        assert t.told == ["began", "confirmed"]
    async with turn(0.9) as t:
        await t.take(STARTED, guess("yes"), SpeechPausedFrame())
        await asyncio.sleep(0.1)
        await t.take(STOPPED, words("yes but no"))
        await asyncio.sleep(0.1)
        assert t.told == ["began", "other_words"]
        assert len(t.ended) == 1


@pytest.mark.virtual_time
async def test_an_answer_begun_early_is_dropped_when_the_caller_goes_on() -> None:
    async with turn(0.3) as t:
        await t.take(STARTED, STOPPED, TEXT)
        await asyncio.sleep(0.2)
        assert t.told == ["began"]
        await t.take(STARTED)
        assert t.told == ["began", "resumed"]
        await t.take(EagerEndOfTurnCancelFrame())
        assert t.told == ["began", "resumed"]


@pytest.mark.virtual_time
async def test_an_answer_that_somebody_refuses_is_given_when_the_turn_has_ended() -> None:
    async with turn(0.3) as t:
        await t.take(STARTED, STOPPED, TEXT)
        await asyncio.sleep(0.2)
        await t.take(EagerEndOfTurnCancelFrame())
        await asyncio.sleep(3)
        assert t.told == ["began", "refused"]
        assert len(t.ended) == 1


@pytest.mark.virtual_time
async def test_what_sounds_far_from_complete_is_not_answered_early() -> None:
    async with turn(0.1) as t:
        await t.take(STARTED, guess("yes"), SpeechPausedFrame())
        await asyncio.sleep(0.1)
        await t.take(STOPPED, TEXT)
        await asyncio.sleep(3)
        assert t.told == []
        assert len(t.ended) == 1


@pytest.mark.virtual_time
async def test_digits_are_waited_for_until_they_are_enough() -> None:
    async with turn(0.9) as t:
        t.expects = Expect.DIGITS
        await t.take(STARTED, STOPPED, words("one two"))
        await asyncio.sleep(0.9)
        assert t.ended == t.told == []
        await t.take(STARTED)
        await asyncio.sleep(0.5)
        await t.take(STOPPED, words("three four"))
        await asyncio.sleep(1)
        assert t.ended == [pytest.approx(1.4 + 0.05)]
    async with turn(0.9) as t:
        t.expects = Expect.DIGITS
        await t.take(STARTED, STOPPED)
        await asyncio.sleep(0.2)
        await t.take(words("one two three four"))
        assert t.ended == [pytest.approx(0.2)], "no longer than until they are there"
    async with turn(0.9) as t:
        t.expects = Expect.DIGITS
        await t.take(STARTED, STOPPED, words("one two"))
        await asyncio.sleep(3)
        assert t.ended == [pytest.approx(0.05 + POLICY.digits_seconds)]


@pytest.mark.virtual_time
async def test_pauses_inside_turns_are_learnt_from_and_those_between_them_are_not() -> None:
    async with turn(0.0) as t:
        await t.take(STARTED, STOPPED)
        await asyncio.sleep(1.0)
        await t.take(STARTED)
        assert t.strategy.pauses.seen == 1
        assert t.strategy.pauses.factor > 1.0
        await t.take(STOPPED, TEXT)
        await asyncio.sleep(3)
        assert len(t.ended) == 1
        await t.strategy.handle_user_turn_stopped()
        await asyncio.sleep(0.3)
        await t.take(STARTED)
        assert t.strategy.pauses.seen == 1, "the pause was too long to be inside a turn"
    async with turn(0.9) as t:
        await t.take(STARTED, STOPPED, TEXT)
        await asyncio.sleep(0.1)
        assert len(t.ended) == 1
        await t.strategy.handle_user_turn_stopped()
        await asyncio.sleep(0.3)
        await t.take(STARTED)
        assert t.strategy.pauses.seen == 1, "the turn was taken from the caller too early"
        await t.take(STOPPED, TEXT)
        await asyncio.sleep(0.1)
        await t.strategy.handle_user_turn_stopped()
        await asyncio.sleep(1.2)
        await t.take(STARTED)
        assert t.strategy.pauses.seen == 1, "the caller answered the agent"
