"""End of turn: the model's word, the recognizer's text and the silences between them."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import AsyncMock

import numpy as np
import pytest
from spoken_turn import POLICY, STARTED, STOPPED, TEXT, turn

from ringtrue.streaming.listen import Listener
from ringtrue.streaming.recognizers.service import EarlierTranscriptionFrame
from ringtrue.streaming.record import Stage
from ringtrue.streaming.turns import (
    MAX_SECONDS,
    SmartTurnModel,
    TurnAudio,
    prolonged,
)
from ringtrue.streaming.turns.expect import Expect
from ringtrue.streaming.vad import SpeechStarted, VadPolicy


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


def test_a_pause_is_prolonged_without_a_seam_or_a_sound_of_the_speech() -> None:
    speech, pause = np.full(500, 9000, np.int16), np.arange(100, dtype=np.int16)
    longer = prolonged(np.concatenate((speech, pause)), 100, 350)
    assert len(longer) == 950
    assert longer[:600].tolist() == [*speech, *pause]
    assert max(longer[600:]) < 100
    steps = np.abs(np.diff(longer[500:].astype(int)))
    assert steps.max() <= 1
    for same in (prolonged(speech, 100, 0), prolonged(speech, 100, -5)):
        assert same.tolist() == speech.tolist()
    assert not len(prolonged(speech[:0], 0, 10))


async def test_a_pause_is_judged_as_if_it_had_ended_the_speech() -> None:
    heard: list[int] = []

    class Ear:
        async def judge(self, samples: np.ndarray, rate: int) -> float:
            heard.append(len(samples))
            return 0.5

    class Detector:
        policy, pause = VadPolicy(), 0.0

        def push(self, pcm: bytes) -> list[object]:
            return [] if heard else [SpeechStarted(4000)]

    detector = Detector()
    listener = Listener(detector, 8000, smart_turn=Ear(), probe=lambda *_: None)  # type: ignore[arg-type]
    listener.push_frame = AsyncMock()  # type: ignore[method-assign]
    await listener.hear(bytes(2 * 8000))
    await listener.judge()
    detector.pause = 0.064
    await listener.judge()
    detector.pause = 0.4
    await listener.judge()
    assert heard == [8000, 8000 + round((0.2 - 0.064) * 8000), 8000]
