"""The band mirror: spectrum, streaming, bounds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from ringtrue.streaming.recognizers.band import HALF, BandMirror


def tone(hertz: float, seconds: float = 1.0) -> bytes:
    """A sine at half scale, 8 kHz."""
    t = np.arange(int(8000 * seconds)) / 8000
    return (16000 * np.sin(2 * np.pi * hertz * t)).astype(np.int16).tobytes()


def spectrum(pcm: bytes) -> npt.NDArray[np.float64]:
    """Amplitudes by hertz of one second at 16 kHz, without its ends."""
    x = np.frombuffer(pcm, np.int16).astype(float)[1000:-1000]
    return np.abs(np.fft.rfft(x * np.hanning(x.size), 16000)) / x.size


@pytest.mark.parametrize("gain", [0.0, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("hertz", [300, 1000, 2500])
def test_image_lies_mirrored_at_the_asked_gain(gain: float, hertz: int) -> None:
    out = spectrum(BandMirror(gain).push(tone(hertz, 1.2)))
    assert out[8000 - hertz] / out[hertz] == pytest.approx(gain, abs=0.01)
    others = np.delete(out, [*range(hertz - 20, hertz + 20), *range(7980 - hertz, 8020 - hertz)])
    assert others.max() < out[hertz] / 1000


def test_chunks_of_any_size_give_the_one_shot_output_bit_for_bit() -> None:
    random = np.random.default_rng(3)
    pcm = random.integers(-32768, 32767, 8000, dtype=np.int16).tobytes()
    whole = BandMirror(0.5).push(pcm)
    stream, pieces, position = BandMirror(0.5), [], 0
    while position < len(pcm):
        size = 2 * int(random.integers(0, 200))
        pieces.append(stream.push(pcm[position : position + size]))
        position += size
    assert b"".join(pieces) == whole
    assert len(whole) == 2 * len(pcm)


def test_delay_is_what_it_says() -> None:
    pulse = np.zeros(100, np.int16)
    pulse[0] = 10000
    out = np.frombuffer(BandMirror(0.0).push(pulse.tobytes()), np.int16)
    assert int(out.argmax()) == 2 * HALF


def test_reset_forgets_the_past() -> None:
    stream = BandMirror()
    stream.push(tone(440))
    stream.reset()
    assert stream.push(tone(700)) == BandMirror().push(tone(700))


def test_loud_input_clips_instead_of_wrapping() -> None:
    square = np.repeat(np.array([32767, -32768] * 40, np.int16), 20)
    out = np.frombuffer(BandMirror(0.0).push(square.tobytes()), np.int16)
    assert np.abs(np.diff(out[60:].astype(int))).max() < 65536
    assert out.max() == 32767


def test_nothing_in_nothing_out() -> None:
    assert BandMirror().push(b"") == b""
    assert BandMirror().push(b"x") == b""


@pytest.mark.parametrize("gain", [-0.1, 1.1])
def test_gain_out_of_range_is_named(gain: float) -> None:
    with pytest.raises(ValueError, match=f"got {gain}"):
        BandMirror(gain)
