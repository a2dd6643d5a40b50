"""Two-stage voice activity on real speech: starts and ends where the speech does."""

from __future__ import annotations

import shutil
import subprocess
import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringtrue.streaming.silero import SileroModel
from ringtrue.streaming.vad import (
    WINDOW_SECONDS,
    SpeechDetector,
    SpeechDismissed,
    SpeechHinted,
    SpeechPaused,
    SpeechResumed,
    SpeechStarted,
    SpeechStopped,
    VadPolicy,
)


@pytest.fixture(scope="module")
def model() -> SileroModel:
    return SileroModel()


@pytest.fixture(scope="module")
def utterance(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """A sentence at 16 kHz with a second of room around it."""
    if shutil.which("flite") is None:
        pytest.skip("needs the flite command (Debian package flite)")
    path: Path = tmp_path_factory.mktemp("vad") / "u.wav"
    words = "Hello, I would like to know your opening hours please."
    subprocess.run(["flite", "-voice", "rms", "-t", words, "-o", str(path)], check=True)
    with wave.open(str(path)) as wav:
        assert wav.getframerate() == 16000
        speech = np.frombuffer(wav.readframes(wav.getnframes()), np.int16)
    floor = np.random.default_rng(1).normal(0, 8, len(speech) + 32000)
    floor[16000:-16000] += speech
    return np.clip(floor, -32768, 32767).astype(np.int16)


def at_rate(samples: np.ndarray, rate: int) -> bytes:
    """16 kHz samples at ``rate``."""
    import soxr

    if rate == 16000:
        return samples.tobytes()
    return soxr.resample(samples, 16000, rate).astype(np.int16).tobytes()


@pytest.mark.parametrize("rate", [8000, 16000])
def test_one_sentence_is_one_stretch_of_speech(
    model: SileroModel, utterance: np.ndarray, rate: int
) -> None:
    detector = SpeechDetector(model, rate)
    events = detector.push(at_rate(utterance, rate))
    kinds = [type(event) for event in events if type(event) in (SpeechStarted, SpeechStopped)]
    assert kinds == [SpeechStarted, SpeechStopped]
    assert [type(event) for event in (*events[:2], *events[-2:])] == [
        SpeechHinted,
        SpeechStarted,
        SpeechPaused,
        SpeechStopped,
    ]
    assert events[0].at == events[1].at
    assert events[-1].at == events[-2].at
    loud = np.flatnonzero(np.abs(utterance.astype(int)) > 500) / 16000
    assert events[1].at / rate == pytest.approx(loud[0], abs=0.15)
    assert events[-1].at / rate == pytest.approx(loud[-1], abs=0.15)
    assert not detector.speaking


def test_the_pieces_make_no_difference(model: SileroModel, utterance: np.ndarray) -> None:
    pcm = at_rate(utterance, 8000)
    whole = SpeechDetector(model, 8000).push(pcm)
    for size in (2, 320, 640, 998):
        if size == 2:
            pieces = [pcm[:2000][i : i + 2] for i in range(0, 2000, 2)] + [pcm[2000:]]
        else:
            pieces = [pcm[i : i + size] for i in range(0, len(pcm), size)]
        detector = SpeechDetector(model, 8000)
        assert [e for piece in pieces for e in detector.push(piece)] == whole


def test_silence_never_reaches_the_network(model: SileroModel) -> None:
    detector = SpeechDetector(model, 8000)
    assert detector.push(bytes(16000 * 10)) == []
    assert detector.windows_confirmed == 0


def test_noise_is_not_speech(model: SileroModel) -> None:
    generator = np.random.default_rng(2)
    for level in (30, 300, 3000):
        detector = SpeechDetector(model, 8000)
        pcm = generator.normal(0, level, 80000).clip(-32768, 32767).astype(np.int16).tobytes()
        assert detector.push(pcm) == []


def test_speech_after_a_minute_of_silence_is_found(
    model: SileroModel, utterance: np.ndarray
) -> None:
    detector = SpeechDetector(model, 8000)
    detector.push(bytes(16000 * 60))
    found = detector.push(at_rate(utterance, 8000))
    assert [type(e) for e in found if type(e) in (SpeechStarted, SpeechStopped)] == [
        SpeechStarted,
        SpeechStopped,
    ]


def test_a_click_of_speech_is_hinted_at_and_dismissed(
    model: SileroModel, utterance: np.ndarray
) -> None:
    """Too short to be confirmed: who acted on the hint is told."""
    speech = np.flatnonzero(np.abs(utterance.astype(int)) > 500)[0]
    click = np.concatenate((utterance[: speech + 4000], np.zeros(16000, np.int16)))
    detector = SpeechDetector(model, 16000, VadPolicy(start_seconds=0.5))
    events = detector.push(click.tobytes())
    assert [type(event) for event in events] == [SpeechHinted, SpeechDismissed]
    assert not detector.speaking


@settings(max_examples=20, deadline=None)
@given(st.binary(max_size=4000))
def test_any_bytes_are_taken(data: bytes) -> None:
    detector = SpeechDetector(_shared(), 8000, VadPolicy(aggressiveness=0))
    detector.push(data)


_MODEL: list[SileroModel] = []


def _shared() -> SileroModel:
    if not _MODEL:
        _MODEL.append(SileroModel())
    return _MODEL[0]


def test_other_rates_are_refused(model: SileroModel) -> None:
    with pytest.raises(ValueError, match="8000 or 16000"):
        SpeechDetector(model, 44100)


def test_a_hastened_pause_ends_sooner_and_one_that_speech_ends_is_told_of(
    model: SileroModel, utterance: np.ndarray
) -> None:
    rate, policy = 8000, VadPolicy()
    window = round(rate * WINDOW_SECONDS)
    pcm = at_rate(utterance, rate)

    def silence_at_the_stop(hasten: bool) -> float:
        detector = SpeechDetector(model, rate)
        for at in range(0, len(pcm), 2 * window):
            events = detector.push(pcm[at : at + 2 * window])
            if hasten and detector.pause >= policy.pause_seconds:
                detector.hasten()
            for event in events:
                if isinstance(event, SpeechStopped):
                    return (at // 2 + window - event.at) / rate
        raise AssertionError("it never stopped")

    assert silence_at_the_stop(False) == pytest.approx(policy.stop_seconds, abs=WINDOW_SECONDS)
    assert silence_at_the_stop(True) == pytest.approx(policy.hasty_seconds, abs=WINDOW_SECONDS)

    speech = np.frombuffer(pcm, np.int16)
    loud = speech[np.flatnonzero(np.abs(speech.astype(int)) > 2000)[0] :][: rate // 2]
    detector = SpeechDetector(model, rate)
    detector.hasten()  # nobody speaks: nothing to hasten
    gap = np.zeros(round(0.15 * rate), np.int16)
    events = detector.push(np.concatenate((loud, gap, loud, gap, loud)).tobytes())
    kinds = [type(event) for event in events if type(event) is not SpeechHinted]
    assert kinds[:3] == [SpeechStarted, SpeechPaused, SpeechResumed]
    assert SpeechStopped not in kinds
