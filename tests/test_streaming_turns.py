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
    Frame,
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
            await asyncio.sleep(delay)
            assert probability is not None
            return probability

        self.ended: list[float] = []
        self.stages: list[Stage] = []
        self.start = asyncio.get_running_loop().time()
        self.strategy = SpokenTurnStop(
            None if probability is None else judge, POLICY, self.stages.append, lambda _: sure
        )
        self.strategy.add_event_handler("on_user_turn_stopped", self._stopped)

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
        probability = await model.judge(samples, 8000)
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
