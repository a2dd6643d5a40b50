"""Person or machine, from how they talk."""

from __future__ import annotations

import numpy as np
import pytest
from lines import spoken

from ringtrue.loadtest.prompts import load_prompts
from ringtrue.streaming.answering.judge import AnsweredBy, AnswerJudge, AnswerPolicy, Telltale

RATE = 8000


def silence(seconds: float) -> np.ndarray:
    return np.zeros(int(seconds * RATE), np.int16)


def beep(seconds: float = 0.4) -> np.ndarray:
    wave = 5000 * np.sin(2 * np.pi * 1000 / RATE * np.arange(int(seconds * RATE)))
    return wave.astype(np.int16)


def prompt(name: str, voice: str = "rms") -> np.ndarray:
    return np.frombuffer(load_prompts(voice)[name].at(RATE).pcm, np.int16)


def judged(*parts: np.ndarray, noise: float = 20.0) -> AnswerJudge:
    judge, pcm = AnswerJudge(RATE), np.concatenate(parts).astype(float)
    pcm += np.random.default_rng(2).normal(scale=noise, size=len(pcm))
    sent = np.rint(pcm).astype(np.int16)
    for start in range(0, len(sent) - 159, 160):
        judge.push(sent[start : start + 160].tobytes())
    return judge


@pytest.mark.parametrize("voice", ["rms", "awb"])
@pytest.mark.parametrize("name", ["closing_time", "options", "order_status", "confirm"])
def test_a_short_greeting_and_a_pause_is_a_person(name: str, voice: str) -> None:
    verdict = judged(silence(0.3), prompt(name, voice), silence(1.5)).verdict
    assert verdict is not None
    assert (verdict.by, verdict.telltale) == (AnsweredBy.HUMAN, Telltale.SHORT_GREETING)


@pytest.mark.parametrize("voice", ["rms", "awb"])
@pytest.mark.parametrize("noise", [3, 120])
def test_who_talks_on_is_a_machine_before_it_has_ended(voice: str, noise: float) -> None:
    judge = judged(silence(0.3), spoken(voice)[: 8 * RATE], noise=noise)
    assert judge.verdict is not None
    assert judge.verdict.telltale is Telltale.LONG_GREETING
    assert judge.verdict.seconds < 4.5
    assert not judge.ready


def test_a_beep_overrules_and_makes_ready() -> None:
    judge = judged(silence(0.3), prompt("options"), silence(1.2), beep(), silence(0.1))
    assert judge.verdict is not None
    assert (judge.verdict.by, judge.verdict.telltale) == (AnsweredBy.MACHINE, Telltale.BEEP)
    assert judge.ready


def test_long_silence_stands_for_a_beep_that_was_not_heard() -> None:
    assert not judged(silence(0.3), spoken("rms")[: 6 * RATE], silence(2.5)).ready
    assert judged(silence(0.3), spoken("rms")[: 6 * RATE], silence(3.5)).ready


def test_nothing_can_be_told_of_silence() -> None:
    judge = judged(silence(6))
    assert judge.verdict is not None
    assert (judge.verdict.by, judge.verdict.telltale) == (AnsweredBy.UNKNOWN, Telltale.SILENCE)


def test_a_click_is_no_greeting() -> None:
    click = np.full(320, 8000, np.int16)
    judge = judged(silence(0.5), click, silence(1.5))
    assert judge.verdict is None
    later = judged(silence(0.5), click, silence(1.5), prompt("options"), silence(1.5))
    assert later.verdict is not None
    assert later.verdict.by is AnsweredBy.HUMAN


@pytest.mark.parametrize(
    "text",
    [
        "please leave your message after the tone",
        "you have reached the voicemail of",
        "Tom is not available right now",
        "sorry i can't come to the phone",
        "sie erreichen den anrufbeantworter von",
        "bitte hinterlassen sie eine nachricht nach dem signalton",
        "laissez un message après le bip",
        "deje su mensaje después de la señal",
        "lasciate un messaggio dopo il segnale",
    ],
)
def test_words_only_machines_say(text: str) -> None:
    judge = judged(silence(0.3), prompt("options"), silence(1))
    judge.words(text)
    assert judge.verdict is not None
    assert (judge.verdict.by, judge.verdict.telltale) == (AnsweredBy.MACHINE, Telltale.WORDS)


@pytest.mark.parametrize(
    "text", ["hello", "yes speaking", "i am available now", "i got your message", "who is this"]
)
def test_words_of_people(text: str) -> None:
    judge = judged(silence(0.3), prompt("options"), silence(1))
    judge.words(text)
    assert judge.verdict is not None
    assert judge.verdict.by is AnsweredBy.HUMAN


def test_a_person_is_one_for_good_after_a_while() -> None:
    judge = judged(silence(0.3), prompt("options"), silence(15))
    assert judge.settled
    judge.words("leave a message after the tone")
    assert judge.verdict is not None
    assert judge.verdict.by is AnsweredBy.HUMAN


def test_a_machine_stays_one() -> None:
    judge = judged(silence(0.3), spoken("rms")[: 20 * RATE])
    assert judge.verdict is not None
    assert judge.verdict.telltale is Telltale.LONG_GREETING
    judge.words("leave a message")
    assert judge.verdict.telltale is Telltale.LONG_GREETING
    assert not judge.settled


def test_the_policy_is_followed() -> None:
    judge = AnswerJudge(RATE, AnswerPolicy(silent_seconds=1.0))
    for _ in range(50):
        judge.push(bytes(320))
    assert judge.verdict is not None
    assert judge.verdict.by is AnsweredBy.UNKNOWN
