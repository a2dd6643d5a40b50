import numpy as np
import pytest
from watermarking import marked, speech

from ringtrue.voices.watermark.carrier import (
    BLOCK,
    OVERLAP,
    CarrierStream,
    half_a_chip_on,
    respeed,
)
from ringtrue.voices.watermark.errors import WatermarkError
from ringtrue.voices.watermark.frontend import whitened
from ringtrue.voices.watermark.tracking import EPOCH


def test_epochs_come_as_they_are_complete():
    stream = CarrierStream(8000)
    rng = np.random.default_rng(0)
    samples = rng.normal(0, 1000, 2 * BLOCK + OVERLAP + 500).astype(np.int16)
    first = list(stream.feed(samples[: BLOCK + OVERLAP - 1]))
    assert first == []
    rest = list(stream.feed(samples[BLOCK + OVERLAP - 1 :]))
    assert [len(epoch) for epoch in rest] == [EPOCH] * 8
    last = list(stream.feed(samples[:0], last=True))
    assert sum(map(len, rest + last)) == len(samples)


def test_pieces_give_what_the_whole_gives():
    pcm = marked(speech(8000), 8000)
    stream = CarrierStream(8000)
    parts = [e for at in range(0, len(pcm), 777) for e in stream.feed(pcm[at : at + 777])]
    parts += stream.feed(pcm[:0], last=True)
    assert np.allclose(np.concatenate(parts), whitened(pcm.astype(float)), atol=1e-4)


def test_any_rate_comes_out_at_eight_kilohertz():
    for rate in (8000, 11_025, 48_000):
        epochs = list(CarrierStream(rate).feed(np.zeros(2 * rate, np.float32), last=True))
        assert sum(map(len, epochs)) == pytest.approx(16_000, abs=1)


def test_half_a_chip_twice_is_a_chip():
    rng = np.random.default_rng(2)
    smooth = np.convolve(rng.normal(size=4000), np.hanning(9), "same")
    twice = half_a_chip_on(half_a_chip_on(smooth))
    inner = slice(100, -100)
    best = max(np.corrcoef(np.roll(smooth, shift)[inner], twice[inner])[0, 1] for shift in (-1, 1))
    assert best > 0.99


def test_speed_is_undone():
    n = np.arange(8000)
    assert np.allclose(
        respeed(np.sin(0.05 * 1.02 * n), 1.02)[10:7000], np.sin(0.05 * n)[10:7000], atol=1e-3
    )


@pytest.mark.parametrize("rate", [7999, 192_001, 0])
def test_other_rates_are_refused(rate: int):
    with pytest.raises(WatermarkError, match=f"from 8000 to 192000 Hz, got {rate}"):
        CarrierStream(rate)
