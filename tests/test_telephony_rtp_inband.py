"""Digits in the audio: what Q.24 asks to be heard and not, through codecs, noise and speech."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from rtp_link import packets, plan, run, stream, voice
from speech import say

from ringtrue.streaming.tones import FREQUENCIES
from ringtrue.telephony.codecs import G722, PCMA, PCMU, Codec
from ringtrue.telephony.rtp.inband import ToneDetector

ALL = "".join(FREQUENCIES)


def dialled(
    digits: str,
    rate: int = 8000,
    *,
    on: float = 0.1,
    off: float = 0.1,
    off_frequency: float = 0.0,
    twist_db: float = 0.0,
    level_db: float = -13.0,
    offset: float = 0.0,
) -> np.ndarray:
    """``digits`` as tones; ``level_db`` is of each tone (dBFS), ``twist_db`` the column's more."""
    time = np.arange(round(on * rate)) / rate
    pieces = [np.zeros(round((0.1 + offset) * rate))]
    for digit in digits:
        low, high = FREQUENCIES[digit]
        row, column = (
            32768
            * 2**0.5
            * 10 ** (level / 20)
            * np.sin(2 * np.pi * frequency * (1 + off_frequency) * time)
            for frequency, level in ((low, level_db), (high, level_db + twist_db))
        )
        pieces += [row + column, np.zeros(round(off * rate))]
    pcm = np.concatenate([*pieces, np.zeros(rate // 5)])
    return np.clip(pcm[: len(pcm) // 320 * 320], -32768, 32767).astype("<i2")


def detected(pcm: np.ndarray, rate: int = 8000) -> str:
    detector, size = ToneDetector(rate), rate // 50
    return "".join(
        detector.feed(pcm[at : at + size].tobytes()) for at in range(0, len(pcm) - size + 1, size)
    )


@pytest.mark.parametrize("rate", [8000, 16000])
def test_every_key(rate: int) -> None:
    assert detected(dialled(ALL, rate), rate) == ALL


@pytest.mark.parametrize("offset", [0.0, 0.0025, 0.005, 0.0075, 0.0125, 0.018])
def test_the_shortest_tones_and_pauses_that_must_be_heard(offset: float) -> None:
    assert detected(dialled(ALL, on=0.040, off=0.040, offset=offset)) == ALL


@pytest.mark.parametrize("offset", [0.0, 0.003, 0.007, 0.011, 0.017])
def test_tones_too_short_to_be_digits(offset: float) -> None:
    assert detected(dialled(ALL, on=0.023, off=0.1, offset=offset)) == ""


@pytest.mark.parametrize("deviation", [-0.015, 0.015])
def test_frequencies_slightly_off(deviation: float) -> None:
    assert detected(dialled(ALL, on=0.04, off=0.04, off_frequency=deviation)) == ALL


@pytest.mark.parametrize("twist", [-8, 4])
def test_one_tone_louder_than_the_other(twist: float) -> None:
    assert detected(dialled(ALL, on=0.04, off=0.04, twist_db=twist, level_db=-16)) == ALL


def test_the_range_of_levels() -> None:
    assert detected(dialled("159#", level_db=-28)) == "159#"
    assert detected(dialled("159#", level_db=-7)) == "159#"
    assert detected(dialled("159#", level_db=-50)) == ""


def test_through_noise() -> None:
    rng = np.random.default_rng(4)
    pcm = dialled(ALL * 4).astype(float)
    noise = rng.normal(size=len(pcm)) * 32768 * 10 ** (-13 / 20) * 10 ** (-15 / 20)
    assert detected(np.clip(pcm + noise, -32768, 32767).astype("<i2")) == ALL * 4


def test_a_break_of_10_ms_makes_no_second_digit() -> None:
    pcm = dialled("5", on=0.2)
    pcm[1600:1680] = 0
    assert detected(pcm) == "5"


@pytest.mark.parametrize("codec", [PCMU, PCMA, G722], ids=lambda codec: codec.name)
def test_through_a_stream_without_telephone_events(codec: Codec) -> None:
    pcm = dialled("0123456789*#", codec.pcm_rate)
    for listening in (True, False):
        call = stream(codec)
        call.configure(replace(plan(codec), inband=listening), 0.0)
        heard = run(call, packets(pcm, codec))
        assert heard.digits == ("0123456789*#" if listening else "")
        loud = [step for step in heard.steps if np.frombuffer(step.pcm, "<i2").std() > 1000]
        assert (len(loud) < 4 * 12) is listening, "a key held is not passed on as speech"


def test_speech_dials_nothing() -> None:
    for seed in range(2):
        assert detected(voice(20, seed=seed)) == ""
    text = (
        "She sells sea shells by the sea shore. Please call me at nine in the evening, or leave a "
        "message after the tone; we are open on weekdays, and on Sunday we all go sailing. "
    )
    for name in ("slt", "awb"):
        assert detected(say(text, 8000, name)) == ""


def test_a_single_tone_or_ringback_is_no_digit() -> None:
    time = np.arange(16000) / 8000
    for frequencies in ((1209,), (697,), (425,), (440, 480), (350, 440), (697, 770), (1400, 2060)):
        tone = sum(6000 * np.sin(2 * np.pi * f * time) for f in frequencies)
        assert detected(tone.astype("<i2")) == ""
