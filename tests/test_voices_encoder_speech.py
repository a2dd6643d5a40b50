"""Levels and the trimming of silences."""

from __future__ import annotations

import ge2e_reference as reference
import numpy as np
import pytest
from speech import say

from ringtrue.voices.encoder import NotEnoughSpeechError
from ringtrue.voices.encoder.speech import LEVEL_DBFS, levelled, speech_only, trimmed

TEXT = "Please hold the line while I look for your order."


def spoken() -> np.ndarray:
    return say(TEXT, 16000, "slt").astype(np.float32) / 32768


def dbfs(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(samples, dtype=np.float64))))


@pytest.mark.parametrize("gain", [1e-2, 0.3, 4.0])
def test_every_recording_comes_to_one_level(gain: float) -> None:
    assert dbfs(levelled(spoken() * np.float32(gain))) == pytest.approx(LEVEL_DBFS, abs=0.01)


@pytest.mark.parametrize("samples", [np.zeros(16000, np.float32), np.zeros(0, np.float32)])
def test_nothing_has_no_level(samples: np.ndarray) -> None:
    with pytest.raises(NotEnoughSpeechError, match="digital silence"):
        levelled(samples)


def test_long_silences_go_and_short_ones_stay() -> None:
    speech = levelled(spoken())
    alone = len(trimmed(speech))
    assert 0.8 * len(speech) < alone <= len(speech)
    gap = np.zeros(48000, np.float32)
    apart = len(trimmed(np.concatenate([gap, speech, gap, speech, gap])))
    assert 2 * alone - 9600 < apart < 2 * alone + 9600
    assert len(trimmed(gap)) == 0


@pytest.mark.parametrize("count", [0, 1, 479, 480, 481, 960, 3359, 3360])
def test_any_length_can_be_trimmed(count: int) -> None:
    kept = trimmed(levelled(spoken())[8000 : 8000 + count])
    assert len(kept) % 480 == 0
    assert len(kept) <= count


def test_one_recording_does_not_change_the_next() -> None:
    speech = levelled(spoken())
    first = trimmed(speech)
    trimmed(levelled(np.random.default_rng(4).normal(0, 0.3, 32000).astype(np.float32)))
    assert np.array_equal(trimmed(speech), first)


def test_trimming_is_resemblyzers() -> None:
    audio = pytest.importorskip("resemblyzer.audio", reason="resemblyzer is not installed")
    for name in reference.PROMPTS:
        samples, rate = reference.prompt("en_US_f_Allison", name)
        wave = levelled(np.repeat(samples, 16000 // rate))
        assert np.array_equal(trimmed(wave), audio.trim_long_silences(wave))


def test_the_rate_does_not_change_how_much_is_speech() -> None:
    speech = (spoken() * 32767).astype(np.int16)
    wanted = len(speech_only(speech, 16000))
    assert len(speech_only(np.repeat(speech, 2), 32000)) == pytest.approx(wanted, abs=2400)
