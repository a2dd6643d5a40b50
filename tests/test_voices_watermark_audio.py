import io
import wave
from pathlib import Path

import av
import numpy as np
import pytest
from watermarking import marked, speech

from ringtrue.voices.watermark.audio import AudioFile
from ringtrue.voices.watermark.errors import AudioFileError


def wav(pcm: np.ndarray, rate: int = 8000, channels: int = 1) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", ""))
        file.writeframes(pcm.tobytes())
    return out.getvalue()


def coded(pcm: np.ndarray, codec: str, container: str, rate: int) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate, layout="mono")
        context = stream.codec_context
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16p", layout="mono")
        frame.sample_rate = 16000
        fit = av.AudioResampler(context.format, "mono", rate, context.frame_size or None)
        for ready in [*fit.resample(frame), *fit.resample(None), None]:
            file.mux(stream.encode(ready))
    return out.getvalue()


@pytest.mark.parametrize(
    ("codec", "container", "rate"),
    [
        ("pcm_s16le", "wav", 16000),
        ("pcm_mulaw", "wav", 8000),
        ("libopus", "ogg", 48000),
        ("libmp3lame", "mp3", 44100),
        ("aac", "mp4", 44100),
        ("flac", "flac", 16000),
    ],
)
def test_usual_files_are_read(codec: str, container: str, rate: int):
    data = coded(marked(speech(16000, 3.0), 16000), codec, container, rate)
    with AudioFile(io.BytesIO(data)) as audio:
        assert audio.rate == rate
        assert audio.channels == 1
        assert audio.seconds == pytest.approx(3.0, abs=0.1)
        blocks = list(audio.blocks())
    assert all(block.dtype == np.float32 and block.shape[0] == 1 for block in blocks)
    assert sum(block.shape[1] for block in blocks) == pytest.approx(3 * rate, rel=0.05)


def test_channels_stay_apart(tmp_path: Path):
    both = np.stack([np.full(800, 1000), np.full(800, -2000)], axis=1).astype(np.int16)
    path = tmp_path / "both.wav"
    path.write_bytes(wav(both, channels=2))
    with AudioFile(path) as audio:
        samples = np.concatenate(list(audio.blocks()), axis=1)
    assert samples.shape == (2, 800)
    assert np.allclose(samples.mean(axis=1) * 32768, [1000, -2000])


def test_a_file_that_breaks_off_gives_what_there_is():
    data = coded(speech(16000, 3.0), "libopus", "ogg", 48000)
    with AudioFile(io.BytesIO(data[: len(data) // 2])) as audio:
        assert sum(block.shape[1] for block in audio.blocks()) > 40000


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"plain text " * 50,
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        bytes(4096),
    ],
)
def test_what_is_no_audio_is_refused(data: bytes):
    with pytest.raises(AudioFileError, match="allowed: WAV"):
        AudioFile(io.BytesIO(data))


def test_forms_that_cannot_be_searched_are_named():
    with pytest.raises(AudioFileError, match="sample rate 4000 Hz; allowed: 8000 to 192000"):
        AudioFile(io.BytesIO(wav(np.zeros(400, np.int16), rate=4000)))
    with pytest.raises(AudioFileError, match="channels; allowed: 1 to 8"):
        AudioFile(io.BytesIO(wav(np.zeros(900, np.int16), channels=9)))


def test_bytes_cut_anywhere_are_read_or_refused():
    data = wav(speech(8000, 0.5))
    for size in range(0, 200, 7):
        try:
            with AudioFile(io.BytesIO(data[:size])) as audio:
                list(audio.blocks())
        except AudioFileError:
            continue
