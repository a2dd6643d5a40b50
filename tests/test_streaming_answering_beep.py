"""Beeps are told from speech, digits and progress tones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from lines import mu_law, spoken

from ringtrue.streaming.answering.beep import BeepDetector


def beeps(pcm: npt.NDArray[np.floating] | npt.NDArray[np.int16], rate: int = 8000) -> int:
    detector, frame = BeepDetector(rate), rate // 50
    pcm = np.concatenate([pcm, np.zeros(rate // 10)])
    sent = np.rint(pcm).astype(np.int16)
    return sum(
        detector.push(sent[n : n + frame].tobytes()) for n in range(0, len(sent) - frame + 1, frame)
    )


def tone(hertz: float, seconds: float, rate: int = 8000, level: float = 4000) -> np.ndarray:
    silence = np.zeros(rate // 7)  # so that it begins within a frame
    sound = level * np.sin(2 * np.pi * hertz / rate * np.arange(int(seconds * rate)))
    return np.concatenate([silence, sound])


@pytest.mark.parametrize("hertz", [400, 440, 800, 1000, 1400, 2000])
@pytest.mark.parametrize("seconds", [0.18, 0.5, 1.5])
@pytest.mark.parametrize("rate", [8000, 16000])
def test_a_tone_is_a_beep_once_it_has_ended(hertz: float, seconds: float, rate: int) -> None:
    assert beeps(tone(hertz, seconds, rate), rate) == 1


def test_it_may_be_soft_and_come_over_a_telephone() -> None:
    noise = np.random.default_rng(1).normal(scale=15, size=4000 + 8000 // 7)
    assert beeps(mu_law(tone(1000, 0.5, level=400) + noise)) == 1


@pytest.mark.parametrize("seconds", [0.04, 0.08, 3.0])
def test_too_short_or_too_long_is_none(seconds: float) -> None:
    assert beeps(tone(1000, seconds)) == 0


@pytest.mark.parametrize("hertz", [150, 300, 2500, 3400])
def test_nor_is_a_tone_outside_the_band(hertz: float) -> None:
    assert beeps(tone(hertz, 0.5)) == 0


@pytest.mark.parametrize("pair", [(697, 1209), (941, 1633), (350, 440), (480, 620)])
def test_two_tones_are_none(pair: tuple[float, float]) -> None:
    assert beeps(tone(pair[0], 0.5) + tone(pair[1], 0.5)) == 0


def test_a_sweep_is_none() -> None:
    time = np.arange(4000) / 8000
    assert beeps(4000 * np.sin(2 * np.pi * (500 + 800 * time) * time)) == 0


@pytest.mark.parametrize("voice", ["rms", "awb"])
def test_speech_has_none(voice: str) -> None:
    assert beeps(spoken(voice)) == 0


def test_one_that_is_soft_as_noise_is_not_heard() -> None:
    assert beeps(tone(1000, 0.5, level=100)) == 0


def test_frames_of_nothing_are_taken() -> None:
    assert not BeepDetector(8000).push(b"")
