from __future__ import annotations

import hashlib
import io
import struct
import wave

import numpy as np
import pytest
from enrolment_audio import RATE, coded, read_out
from hypothesis import given, settings
from hypothesis import strategies as st

from ringtrue.voices.enrolment import recording
from ringtrue.voices.enrolment.errors import RecordingError
from ringtrue.voices.enrolment.recording import MAX_BYTES, read_recording

FORMATS = [
    ("wav", "pcm_s16le", 48000, None),
    ("wav", "pcm_f32le", 44100, None),
    ("aiff", "pcm_s16be", 22050, None),
    ("flac", "flac", 44100, None),
    ("ogg", "libopus", 48000, 48000),
    ("webm", "libopus", 48000, 32000),
    ("mp3", "libmp3lame", 44100, 96000),
    ("mp4", "aac", 48000, 96000),
]


@pytest.mark.parametrize(("container", "codec", "rate", "bits"), FORMATS)
def test_every_format_gives_the_same_speech(
    container: str, codec: str, rate: int, bits: int | None
) -> None:
    samples = read_out("Please hold the line.")
    data = coded(samples, rate=rate, container=container, codec=codec, bit_rate=bits)
    read = read_recording(data)
    assert read.samples.dtype == np.float32
    assert read.source_rate == rate
    assert read.channels == 1
    assert read.sha256 == hashlib.sha256(data).hexdigest()
    assert read.seconds == pytest.approx(len(samples) / RATE, abs=0.1)
    # Codecs add a delay of their own: the best overlap of the two is the same speech.
    size = 1 << (len(samples) + len(read.samples)).bit_length()
    product = np.fft.rfft(samples, size).conj() * np.fft.rfft(read.samples, size)
    norm = np.linalg.norm(samples) * np.linalg.norm(read.samples)
    assert np.fft.irfft(product).max() / norm > 0.95


def test_two_channels_are_averaged() -> None:
    samples = read_out("Please hold the line.")
    one, two = read_recording(coded(samples)), read_recording(coded(samples, channels=2))
    assert two.channels == 2
    np.testing.assert_allclose(one.samples, two.samples, atol=1e-4)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"hello there, this is no audio", "no format that is taken; allowed: WAV"),
        (b"#EXTM3U\nfile:///etc/passwd\n", "no format that is taken"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "no format that is taken"),
        (b"RIFF\0\0\0\0WAVE", "can't be decoded"),
        (b"RIFF" + bytes(MAX_BYTES), "MB; allowed: 12.6 MB"),
    ],
)
def test_what_is_no_recording_is_named(data: bytes, said: str) -> None:
    with pytest.raises(RecordingError, match=said):
        read_recording(data)


@pytest.mark.parametrize(("rate", "channels", "said"), [
    (4000, 1, "sample rate 4000 Hz; allowed: 8000 to 192000 Hz"),
    (16000, 6, "6 channels; allowed: 1 or 2"),
])  # fmt: skip
def test_forms_that_are_not_taken(rate: int, channels: int, said: str) -> None:
    with pytest.raises(RecordingError, match=said):
        read_recording(coded(np.zeros(RATE, np.float32), rate=rate, channels=channels))


def test_a_small_file_that_unpacks_to_an_hour_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    data = coded(np.zeros(RATE * 600, np.float32), container="flac", codec="flac")
    assert len(data) < 200_000
    frames = 0
    check_form = recording._check_form

    def counting(rate: int, channels: int) -> None:
        nonlocal frames
        frames += 1
        check_form(rate, channels)

    monkeypatch.setattr(recording, "_check_form", counting)
    with pytest.raises(RecordingError, match="longer than 60 s; allowed: 30 s"):
        read_recording(data)
    # FLAC's frames are of 72 ms here: nothing was decoded past the minute.
    assert frames <= 60 / 0.072 + 3


def test_samples_that_are_no_numbers_are_refused() -> None:
    bad = np.array([0.0, np.nan, np.inf, 0.5] * 4000, "<f4").tobytes()
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(bad), b"WAVE", b"fmt ", 16, 3, 1,
                       16000, 64000, 4, 32, b"data", len(bad))  # fmt: skip
    with pytest.raises(RecordingError, match="no numbers"):
        read_recording(head + bad)


@pytest.mark.parametrize(("container", "codec", "rate", "bits"), FORMATS)
def test_a_file_cut_off_anywhere_is_read_or_refused(
    container: str, codec: str, rate: int, bits: int | None
) -> None:
    samples = read_out("Hold.")
    data = coded(samples, rate=rate, container=container, codec=codec, bit_rate=bits)
    for end in np.linspace(0, len(data), 25).astype(int):
        try:
            assert read_recording(data[:end]).seconds < 5
        except RecordingError:
            continue


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(FORMATS), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255))))
def test_flipped_bytes_raise_nothing_else(
    form: tuple[str, str, int, int | None], flips: list[tuple[float, int]]
) -> None:
    container, codec, rate, bits = form
    tone = (0.3 * np.sin(np.arange(4000) / 7)).astype(np.float32)
    data = bytearray(coded(tone, rate=rate, container=container, codec=codec, bit_rate=bits))
    for place, value in flips:
        data[int(place * (len(data) - 1))] = value
    try:
        read = read_recording(bytes(data))
    except RecordingError:
        return
    assert np.isfinite(read.samples).all()


def test_a_telephone_recording_keeps_its_rate() -> None:
    out = io.BytesIO()
    with wave.open(out, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(8000)
        wav.writeframes(bytes(16000))
    read = read_recording(out.getvalue())
    assert read.source_rate == 8000
    assert len(read.samples) == RATE
