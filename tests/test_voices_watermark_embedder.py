import numpy as np
import pytest
from watermarking import KEY, TOKEN, marked, speech

from ringtrue.voices.watermark.embedder import COMFORT_LSB, RATES, Bank, Embedder, excitation
from ringtrue.voices.watermark.errors import WatermarkError
from ringtrue.voices.watermark.keys import PERIOD
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


@pytest.mark.parametrize("rate", RATES)
def test_legs_marked_together_are_marked_as_alone(rate: int):
    size = rate // 50
    hosts = [speech(rate)[at : at + 20 * size].reshape(-1, size) for at in (0, 5000, 9000)]
    bank = Bank(rate, 4)
    gone = bank.join(CHIPS)
    legs = np.array([bank.join(CHIPS) for _ in hosts])
    bank.mark(np.array([gone]), hosts[0][:1])
    bank.leave(gone)
    late = bank.join(CHIPS)
    assert late == gone
    alone = [Embedder(CHIPS, rate) for _ in range(4)]
    for n in range(20):
        order = np.array([*legs, late])[:: 1 if n % 2 else -1]
        frames = np.stack([hosts[k % 3][n] for k in (0, 1, 2, 0)])[:: 1 if n % 2 else -1]
        together = bank.mark(order, frames)
        for leg, frame, out in zip(order, frames, together, strict=True):
            one = alone[[*legs, late].index(leg)]
            assert one.mark(frame.tobytes()) == out.tobytes()


def test_a_full_bank_says_so():
    bank = Bank(8000, 1)
    bank.join(CHIPS)
    with pytest.raises(WatermarkError, match="full: it has 1 legs"):
        bank.join(CHIPS)
    with pytest.raises(WatermarkError, match=r"1 legs take shape \(1, 160\), got \(2, 160\)"):
        bank.mark(np.array([0]), np.zeros((2, 160), np.int16))
    with pytest.raises(WatermarkError, match="at least one leg, got 0"):
        Bank(8000, 0)


def test_wrong_arguments_are_named():
    with pytest.raises(WatermarkError, match="8000, 16000 Hz, got 48000"):
        Embedder(CHIPS, 48000)
    with pytest.raises(WatermarkError, match=f"{PERIOD} chips, got shape"):
        Embedder(CHIPS[:-1], 8000)
    with pytest.raises(WatermarkError, match="strength must be above 0 and below 1, got 1"):
        Embedder(CHIPS, 8000, strength=1)
    with pytest.raises(WatermarkError, match="a frame has 320 bytes, got 318"):
        Embedder(CHIPS, 8000).mark(bytes(318))
    with pytest.raises(WatermarkError, match="512 symbols"):
        excitation(KEY, np.ones(511))
