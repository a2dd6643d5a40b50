"""The rolling check of a cloned voice: rows, resets, pauses, overload, and a voice that changes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fakes.scripted_voices import ScriptedLicence
from ringtrue.voices.encoder import EncoderError, NotEnoughSpeechError
from ringtrue.voices.encoder.embeddings import DIMENSION
from ringtrue.voices.rolling_likeness import (
    MAX_PENDING,
    LikenessJudge,
    LikenessPolicy,
    LikenessWatch,
    Windows,
    speaker_of,
)

RATE = 8000
FRAME = RATE // 50
WINDOW = int(1.6 * RATE)
SPEAKER = np.eye(DIMENSION, dtype=np.float32)[0]
SOUND_OF = 2 * SPEAKER.astype("<f4").tobytes()
LICENCE = ScriptedLicence()


class Scores:
    """An encoder whose embedding has the cosine to the speaker that the samples' value says."""

    def __init__(self) -> None:
        self.heard: list[int] = []
        self.gate = threading.Event()
        self.gate.set()

    def embed(self, samples: npt.NDArray[Any], rate: int) -> npt.NDArray[np.float32]:
        assert self.gate.wait(10)
        value = int(samples[0])
        self.heard.append(len(samples))
        if value == 9999:
            raise NotEnoughSpeechError("hum", found=0.0, needed=1.2)
        if value == 9998:
            raise RuntimeError("the network broke")
        cosine = value / 1000
        embedding = np.zeros(DIMENSION, np.float32)
        embedding[:2] = cosine, np.sqrt(1 - cosine**2)
        return embedding


@contextmanager
def judging(
    policy: LikenessPolicy | None = None,
) -> Iterator[tuple[LikenessJudge, Scores, Callable[[], LikenessWatch], list[float]]]:
    scores, alarms = Scores(), list[float]()
    judge = LikenessJudge(policy or LikenessPolicy(limit=0.5, row=3), load=lambda: scores)  # type: ignore[arg-type, return-value]
    try:
        yield judge, scores, lambda: judge.watch(b"", SOUND_OF, RATE, alarms.append), alarms
    finally:
        scores.gate.set()
        judge.close()


def window(cosine: float) -> bytes:
    """1.6 s that the encoder gives ``cosine``."""
    return np.full(WINDOW, round(cosine * 1000), "<i2").tobytes()


def send(watch: LikenessWatch, pcm: bytes) -> None:
    for start in range(0, len(pcm), 2 * FRAME):
        watch.heard(pcm[start : start + 2 * FRAME], LICENCE)


async def settled(judge: LikenessJudge) -> None:
    async with asyncio.timeout(5):
        while judge._pending:
            await asyncio.sleep(0.001)


async def test_a_row_of_unlike_windows_is_an_alarm_and_a_like_one_ends_the_row() -> None:
    with judging() as (judge, _, watch, alarms):
        one = watch()
        for cosine in (0.3, 0.3, 0.9, 0.3, 0.2):
            send(one, window(cosine))
        await settled(judge)
        assert one.vouches(LICENCE)
        send(one, window(0.1))
        await settled(judge)
        assert not one.vouches(LICENCE)
        assert alarms == [pytest.approx(0.2, abs=0.001)]
        send(one, window(0.1) * 5)
        await settled(judge)
        assert len(alarms) == 1  # once
        assert (judge.stats.judged, judge.stats.below, judge.stats.alarms) == (6, 5, 1)


async def test_calls_are_judged_apart() -> None:
    with judging() as (judge, _, watch, alarms):
        calls = [watch() for _ in range(3)]
        for call in calls:
            send(call, window(0.2) * 2)
        await settled(judge)
        assert not alarms
        send(calls[1], window(0.2))
        await settled(judge)
        assert [call.alarmed for call in calls] == [False, True, False]


async def test_what_cannot_be_told_counts_neither_way() -> None:
    with judging() as (judge, _, watch, _alarms):
        one = watch()
        for value in (0.2, 9.999, 0.2, 9.998, 0.2):
            send(one, window(value))
        await settled(judge)
        assert one.alarmed
        assert (judge.stats.speechless, judge.stats.failed, judge.stats.judged) == (1, 1, 3)


async def test_a_judge_that_does_not_keep_up_skips_and_holds_nobody_up() -> None:
    with judging() as (judge, scores, watch, alarms):
        scores.gate.clear()
        one = watch()
        for _ in range(MAX_PENDING + 10):
            send(one, window(0.9))
        assert judge.stats.skipped == 10
        scores.gate.set()
        await settled(judge)
        assert len(scores.heard) == MAX_PENDING
        assert not alarms


async def test_after_its_call_a_watch_tells_nothing() -> None:
    with judging() as (judge, scores, watch, alarms):
        scores.gate.clear()
        one = watch()
        for _ in range(3):
            send(one, window(0.1))
        one.close()
        scores.gate.set()
        await settled(judge)
        send(one, window(0.1))
        await settled(judge)
        assert not alarms
        assert len(scores.heard) == 3


async def test_closing_drops_what_waits() -> None:
    with judging() as (judge, _, watch, alarms):
        one = watch()
        for _ in range(3):
            send(one, window(0.1))
        judge.close()
        judge.close()
        send(one, window(0.1))
        assert judge.stats.skipped == 1
        await settled(judge)
        assert len(alarms) <= 1


def test_windows_hold_speech_and_no_pauses() -> None:
    cut = Windows(RATE)
    quiet = np.full(FRAME, 40, "<i2")
    loud = np.full(FRAME, 1000, "<i2")
    pattern = np.concatenate([loud, quiet, quiet]).tobytes()
    found = [each for _ in range(200) for each in cut.feed(pattern)]
    assert [len(each) for each in found] == [WINDOW, WINDOW]
    assert all((each == 1000).all() for each in found)


@pytest.mark.parametrize("data", [b"", bytes(1024), b"x" * 1023, b"\xff" * 1024])
def test_bytes_that_are_no_embedding(data: bytes) -> None:
    with pytest.raises(EncoderError):
        speaker_of(data)


@pytest.mark.parametrize("sound", [b"x", bytes(2048), SOUND_OF[:1024], SOUND_OF * 2])
def test_a_sound_that_is_none_is_refused(sound: bytes) -> None:
    with judging() as (judge, *_), pytest.raises(EncoderError):
        judge.watch(SOUND_OF[:1024], sound, RATE, lambda _: None)


async def test_without_its_sound_a_voice_is_held_to_its_speaker_less_strictly() -> None:
    policy = LikenessPolicy(limit=0.7, speaker_limit=0.4, row=2)
    with judging(policy) as (judge, *_):
        told: list[float] = []
        one = judge.watch(SOUND_OF[:1024], b"", RATE, told.append)
        send(one, window(0.5) * 3)
        await settled(judge)
        assert not told
        send(one, window(0.39) * 2)
        await settled(judge)
        assert one.alarmed


def test_an_embedding_comes_back() -> None:
    assert (speaker_of(SPEAKER.astype("<f4").tobytes()) == SPEAKER).all()
