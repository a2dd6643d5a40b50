"""The speaker encoder against resemblyzer, on real speakers, and with audio it can't use."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ge2e_reference as reference
import numpy as np
import numpy.typing as npt
import pytest
import soxr
from speech import say

from ringtrue.voices.encoder import (
    EncoderUnavailableError,
    NotEnoughSpeechError,
    SpeakerEncoder,
    UnusableAudioError,
    centroid,
    similarity,
)
from ringtrue.voices.encoder.speaker import BATCH, network_input

TOLERANCE = 1e-3
RECORDED = reference.recorded()
TEXT = "The quick brown fox jumps over the lazy dog, and then it sleeps until the next morning."


@pytest.fixture(scope="module")
def encoder() -> SpeakerEncoder:
    return SpeakerEncoder.load()


def voice(name: str = "rms") -> npt.NDArray[np.int16]:
    return say(TEXT, 16000, name)


@pytest.mark.parametrize("key", sorted(RECORDED))
def test_it_gives_what_resemblyzer_was_recorded_to_give(encoder: SpeakerEncoder, key: str) -> None:
    embedding = encoder.embed(*reference.prompt(*key.split("/")))
    assert similarity(embedding, RECORDED[key]) >= 1 - TOLERANCE


@pytest.mark.parametrize("key", sorted(RECORDED))
def test_the_record_is_what_resemblyzer_gives(key: str) -> None:
    answer = reference.resemblyzer_embedding(*reference.prompt(*key.split("/")))
    assert similarity(answer, RECORDED[key]) >= 1 - 1e-5


@pytest.mark.parametrize(("rate", "seconds"), [(8000, 2), (8000, 5), (16000, 5), (44100, 8)])
def test_it_gives_what_resemblyzer_gives(encoder: SpeakerEncoder, rate: int, seconds: int) -> None:
    samples = say(" ".join([TEXT] * 2), 16000, "slt").astype(np.float32) / 32768
    samples = soxr.resample(samples[: seconds * 16000], 16000, rate)
    wanted = reference.resemblyzer_embedding(samples, rate)
    assert similarity(encoder.embed(samples, rate), wanted) >= 1 - TOLERANCE


def test_thirty_seconds_and_more_give_what_resemblyzer_gives(encoder: SpeakerEncoder) -> None:
    parts = [reference.prompt("en_US_f_Allison", name)[0] for name in reference.PROMPTS * 2]
    samples = np.concatenate(parts)[: 45 * 8000]
    assert len(encoder.embed_windows(samples, 8000)) > BATCH, "one batch would not be enough"
    wanted = reference.resemblyzer_embedding(samples, 8000)
    assert similarity(encoder.embed(samples, 8000), wanted) >= 1 - TOLERANCE


def test_an_embedding_has_the_promised_form(encoder: SpeakerEncoder) -> None:
    embedding = encoder.embed(voice(), 16000)
    assert (embedding.shape, embedding.dtype) == ((256,), np.float32)
    assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-6)
    assert embedding.min() >= 0


def test_windows_average_to_the_embedding(encoder: SpeakerEncoder) -> None:
    windows = encoder.embed_windows(voice(), 16000)
    assert windows.shape[1:] == (256,)
    assert len(windows) > 3
    np.testing.assert_allclose(np.linalg.norm(windows, axis=1), 1, atol=1e-6)
    assert similarity(centroid(windows), encoder.embed(voice(), 16000)) == pytest.approx(1)


def test_the_same_recording_gives_the_same_bits(encoder: SpeakerEncoder) -> None:
    other = SpeakerEncoder.load()
    first = encoder.embed(voice(), 16000)
    encoder.embed(voice("slt"), 16000)
    assert np.array_equal(encoder.embed(voice(), 16000), first)
    assert np.array_equal(other.embed(voice(), 16000), first)


def test_threads_share_one_encoder(encoder: SpeakerEncoder) -> None:
    voices = [voice("rms"), voice("slt"), voice("awb")]
    alone = [encoder.embed(samples, 16000) for samples in voices]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda i: encoder.embed(voices[i % 3], 16000), range(12)))
    for i, embedding in enumerate(together):
        assert np.array_equal(embedding, alone[i % 3])


@pytest.mark.parametrize("decibels", [-30, -12, 6])
def test_the_level_does_not_matter(encoder: SpeakerEncoder, decibels: float) -> None:
    samples = voice().astype(np.float32) / 32768
    louder = samples * np.float32(10 ** (decibels / 20))
    same = similarity(encoder.embed(samples, 16000), encoder.embed(louder, 16000))
    assert same >= 0.999


def test_integers_and_floats_are_the_same_recording(encoder: SpeakerEncoder) -> None:
    samples = voice()
    wanted = encoder.embed(samples, 16000)
    assert np.array_equal(encoder.embed(samples.astype(np.float32) / 32768, 16000), wanted)
    assert np.array_equal(encoder.embed(samples.astype(np.float64) / 32768, 16000), wanted)


def test_silences_do_not_matter_much(encoder: SpeakerEncoder) -> None:
    samples = voice()
    padded = np.concatenate([np.zeros(24000, np.int16), samples, np.zeros(24000, np.int16)])
    same = similarity(encoder.embed(samples, 16000), encoder.embed(padded, 16000))
    assert same > 0.97


def test_real_speakers_are_told_apart(encoder: SpeakerEncoder) -> None:
    """Every prompt is nearer to every other of its speaker than to any of another's."""
    found: dict[str, list[Any]] = {}
    for speaker in reference.SPEAKERS:
        if (reference.SOUNDS / speaker).is_dir():
            found[speaker] = [
                encoder.embed(*reference.prompt(speaker, name)) for name in reference.PROMPTS
            ]
    if len(found) < 2:
        pytest.skip("needs two of Debian's asterisk-core-sounds-{en,fr,it,ru}-wav")
    same, other = [], []
    for speaker, embeddings in found.items():
        for i, embedding in enumerate(embeddings):
            same += [similarity(embedding, e) for e in embeddings[i + 1 :]]
            other += [similarity(embedding, e) for s in found if s != speaker for e in found[s]]
    assert min(same) > max(other), f"same {min(same):.3f}, other {max(other):.3f}"
    assert np.mean(same) - np.mean(other) > 0.15


@pytest.mark.parametrize("level", [0.0, 1e-4])
def test_silence_is_refused(encoder: SpeakerEncoder, level: float) -> None:
    samples = np.random.default_rng(3).normal(0, 1, 80000).astype(np.float32) * np.float32(level)
    with pytest.raises(NotEnoughSpeechError, match=r"silent .*needed is speech") as refused:
        encoder.embed(samples, 16000)
    assert (refused.value.found, refused.value.needed) == (0.0, 1.2)


def test_too_little_speech_is_refused_and_measured(encoder: SpeakerEncoder) -> None:
    samples = np.zeros(80000, np.int16)
    samples[30000:41200] = voice()[:11200]
    with pytest.raises(NotEnoughSpeechError, match=r"1\.2 s of speech are needed") as refused:
        encoder.embed(samples, 16000)
    assert 0.4 < refused.value.found < 1.2


@pytest.mark.parametrize("count", [0, 1, 479, 9599])
def test_too_little_audio_is_refused(encoder: SpeakerEncoder, count: int) -> None:
    with pytest.raises(NotEnoughSpeechError, match=r"at least 1\.2 s"):
        encoder.embed(voice()[:count], 8000)


@pytest.mark.parametrize(
    ("samples", "rate", "complaint"),
    [
        (np.zeros(80000, np.int16), 7999, "7999; allowed: whole numbers from 8000"),
        (np.zeros(80000, np.int16), 16000.0, "sample rate 16000.0"),
        (b"\0" * 80000, 16000, "samples are bytes"),
        (np.zeros((40000, 2), np.int16), 16000, r"shape \(40000, 2\); mono"),
        (np.zeros(80000, np.int32), 16000, "type int32; allowed: int16"),
        (np.zeros(80000, np.complex64), 16000, "type complex64"),
        (np.full(80000, np.nan, np.float32), 16000, "reach nan"),
        (np.full(80000, np.inf, np.float32), 16000, "reach inf"),
        (np.full(80000, 12000.0), 16000, "reach 12000; finite values within -1 to 1"),
        (np.zeros(8000 * 301, np.int16), 8000, "301 s of audio; at most 300 s"),
    ],
)
def test_audio_of_the_wrong_kind_is_named(
    encoder: SpeakerEncoder, samples: Any, rate: Any, complaint: str
) -> None:
    with pytest.raises(UnusableAudioError, match=complaint):
        encoder.embed(samples, rate)


@pytest.mark.parametrize("kind", ["noise", "clicks", "constant", "square", "tone"])
def test_what_is_no_speech_gives_an_embedding_or_is_refused(
    encoder: SpeakerEncoder, kind: str
) -> None:
    n = np.arange(64000)
    samples = {
        "noise": np.random.default_rng(5).normal(0, 0.2, n.size),
        "clicks": (n % 1600 == 0).astype(float),
        "constant": np.full(n.size, 0.5),
        "square": np.sign(np.sin(n * 0.05)),
        "tone": np.sin(n * 0.1),
    }[kind]
    try:
        embedding = encoder.embed(samples, 16000)
    except NotEnoughSpeechError:
        return
    assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("samples", "windows"),
    [
        (19200, 1),  # less than one window: padded
        (25600, 1),
        (37900, 2),  # the second is 1 % short of fully covered
        (31519, 1),  # the second would be 0.7499 covered
        (31520, 2),  # ... and here 0.75
    ],
)
def test_the_last_window_is_kept_from_three_quarters(samples: int, windows: int) -> None:
    shape = network_input(np.zeros(samples, np.float32)).shape
    assert shape == (160, windows, 40)


def test_a_missing_network_is_named(tmp_path: Path) -> None:
    with pytest.raises(EncoderUnavailableError, match=r"away\.onnx can't be read: No such file"):
        SpeakerEncoder.load(tmp_path / "away.onnx")


def test_a_damaged_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ge2e.onnx"
    path.write_bytes(b"not a network")
    with pytest.raises(EncoderUnavailableError, match="SHA-256"):
        SpeakerEncoder.load(path)


def test_importing_it_loads_no_runtime() -> None:
    code = (
        "import sys, ringtrue.voices.encoder;"
        "print([m for m in ('onnxruntime', 'torch', 'librosa', 'resemblyzer', 'scipy', 'soxr')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
