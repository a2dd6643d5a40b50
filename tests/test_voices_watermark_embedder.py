import math

import numpy as np
import pytest
from watermarking import KEY, TOKEN, marked, speech

from ringtrue.voices.watermark.embedder import RATES, Embedder, Excitation, excitation
from ringtrue.voices.watermark.errors import WatermarkError
from ringtrue.voices.watermark.keys import FRAME_CHIPS, PERIOD, SYMBOL_CHIPS
from ringtrue.voices.watermark.shaping import COMFORT_LSB, PILOT_SHARE, TILT
from ringtrue.voices.watermark.token import symbols

CHIPS = excitation(KEY, symbols(KEY, TOKEN))


@pytest.mark.parametrize("rate", RATES)
def test_the_mark_stays_well_below_the_speech_it_hides_in(rate: int):
    host = speech(rate)
    noise = marked(host, rate).astype(float) - host
    assert 10 * np.log10((host.astype(float) ** 2).sum() / (noise**2).sum()) > 20


@pytest.mark.parametrize("rate", RATES)
def test_silence_carries_faint_noise_that_never_repeats_within_a_period(rate: int):
    silence = np.zeros(rate * 5, np.int16)
    noise = marked(silence, rate).astype(float)
    assert 0.3 * COMFORT_LSB < np.sqrt((noise**2).mean()) < 1.5 * COMFORT_LSB
    frames = noise.reshape(-1, rate // 50)
    assert len({frame.tobytes() for frame in frames}) == len(frames)


@pytest.mark.parametrize("rate", RATES)
def test_full_scale_stays_in_range(rate: int):
    loud = np.where(np.arange(rate) // 40 % 2, 32767, -32768).astype(np.int16)
    out = marked(loud, rate).astype(int)
    assert (np.sign(out) == np.sign(loud)).all()
    assert np.abs(out).max() <= 32768


def test_the_past_alone_decides():
    host = speech(8000)
    other = host.copy()
    other[16000:] = 0
    assert np.array_equal(marked(host, 8000)[:16000], marked(other, 8000)[:16000])


def test_legs_share_nothing():
    host = speech(8000)[:1600].reshape(-1, 160)
    alone = [Embedder(CHIPS, 8000) for _ in range(2)]
    first = [alone[0].mark(frame.tobytes()) for frame in host]
    mixed, other = Embedder(CHIPS, 8000), Embedder(CHIPS, 8000)
    again = []
    for frame in host:
        again.append(mixed.mark(frame.tobytes()))
        other.mark(frame[::-1].tobytes())
    assert again == first


def test_chips_made_frame_by_frame_are_those_of_the_whole_period():
    """A host without any sound shows the comfort noise alone: chips at one level, filtered flat."""
    token = symbols(KEY, TOKEN)
    pilot, carrier = KEY.detection.pilot, KEY.carrier
    data = carrier * np.repeat(token, SYMBOL_CHIPS)
    chips = math.sqrt(PILOT_SHARE) * pilot + math.sqrt(1 - PILOT_SHARE) * data
    chips = chips + TILT * (np.roll(chips, 1) + np.roll(chips, -1))
    expected = np.rint(COMFORT_LSB * chips / math.sqrt(1 + 2 * TILT**2)).astype(int)
    embedder = Embedder(CHIPS, 8000)
    frames = [embedder.mark(bytes(320)) for _ in range(PERIOD // FRAME_CHIPS + 1)]
    noise = np.frombuffer(b"".join(frames), "<i2").astype(int)
    assert np.array_equal(noise[FRAME_CHIPS:PERIOD], expected[FRAME_CHIPS:])  # the first fades in
    assert np.array_equal(noise[PERIOD:], expected[:FRAME_CHIPS])


def test_wrong_arguments_are_named():
    with pytest.raises(WatermarkError, match="8000, 16000 Hz, got 48000"):
        Embedder(CHIPS, 48000)
    with pytest.raises(WatermarkError, match=f"{PERIOD} chips, got shape"):
        Excitation(KEY.signs[:, :-1], CHIPS.symbols)
    with pytest.raises(WatermarkError, match="strength must be above 0 and below 1, got 1"):
        Embedder(CHIPS, 8000, strength=1)
    with pytest.raises(WatermarkError, match="a frame has 320 bytes, got 318"):
        Embedder(CHIPS, 8000).mark(bytes(318))
    with pytest.raises(WatermarkError, match="512 symbols"):
        excitation(KEY, np.ones(511))
