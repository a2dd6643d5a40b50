"""Pauses in the caller's speech: judged early, answered early, and ended early."""

from __future__ import annotations

import asyncio

import pytest
from pipecat.frames.frames import (
    EagerEndOfTurnCancelFrame,
    Frame,
    LLMRunFrame,
    TranscriptionFrame,
)
from spoken_turn import POLICY, STARTED, STOPPED, TEXT, guess, turn, words

from ringtrue.streaming.recognizers.port import Transcript
from ringtrue.streaming.turns.expect import Expect
from ringtrue.streaming.turns.frames import SpeechPausedFrame, SpeechResumedFrame


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
async def test_an_answer_that_is_refused_after_it_was_confirmed_is_asked_for_anew() -> None:
    pushed: list[Frame] = []

    async def note(_: object, frame: Frame, __: object) -> None:
        pushed.append(frame)

    async with turn(0.9) as t:
        t.strategy.add_event_handler("on_push_frame", note)
        await t.take(STARTED, guess("yes"), SpeechPausedFrame())
        await asyncio.sleep(0.1)
        await t.take(STOPPED, TEXT)
        await asyncio.sleep(0.1)
        assert t.told == ["began", "confirmed"]
        assert pushed == []
        await t.take(EagerEndOfTurnCancelFrame(), EagerEndOfTurnCancelFrame())
        await asyncio.sleep(0.1)
        assert [type(frame) for frame in pushed] == [LLMRunFrame]
        await t.strategy.handle_user_turn_stopped()
        await t.strategy.handle_user_turn_started()
        await t.take(EagerEndOfTurnCancelFrame())
        await asyncio.sleep(0.1)
        assert len(pushed) == 1


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
async def test_how_sure_the_words_are_is_told_before_the_turn_ends() -> None:
    def sure(text: str, confidence: float) -> TranscriptionFrame:
        frame = words(text)
        frame.result = Transcript(text, confidence)
        return frame

    async with turn(0.0) as t:
        await t.take(STARTED, STOPPED, sure("good", 0.9), STARTED, STOPPED, sure("bye", 0.5))
        await asyncio.sleep(3)
        assert t.believed == [0.5], "no surer than its least sure part"
        await t.strategy.handle_user_turn_stopped()
        await t.take(STARTED, STOPPED, words("bye"))
        await asyncio.sleep(3)
        assert t.believed == [0.5, None]


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
