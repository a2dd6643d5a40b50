import numpy as np
import pytest
from watermarking import KEY, TOKEN, marked, speech

from ringtrue.voices.watermark.carrier import half_a_chip_on
from ringtrue.voices.watermark.detector import detect
from ringtrue.voices.watermark.folding import Folded, fold
from ringtrue.voices.watermark.frontend import whitened
from ringtrue.voices.watermark.keys import PERIOD, MarkKey

PILOT = KEY.detection.pilot.astype(np.float32)
SURE = 6 * np.log(10)


def folded(carrier: np.ndarray, pilot: np.ndarray = PILOT) -> Folded:
    return fold(pilot, carrier, half_a_chip_on(carrier))


def faint(seconds: float, strength: float = 0.04) -> np.ndarray:
    """Noise with a pilot far below it."""
    rng = np.random.default_rng(5)
    count = int(seconds * 8000)
    return rng.normal(0, 1, count) + strength * np.resize(PILOT, count)


def test_a_faint_mark_grows_with_the_periods():
    short, long = folded(faint(5.0)), folded(faint(20.0))
    assert long.evidence > SURE
    assert long.evidence > short.evidence + 5
    assert long.lag == 0
    assert long.bet.polarity == 1


@pytest.mark.parametrize("crop", [1, 12_345])
def test_where_it_lies_and_which_way_up(crop: int):
    found = folded(-faint(20.0)[crop:])
    assert found.lag == crop
    assert found.bet.polarity == -1


def test_noise_tones_and_loops_of_the_period_win_nothing():
    rng = np.random.default_rng(6)
    noise = rng.normal(0, 1, PERIOD)
    for signal in (rng.normal(0, 1, 160_000), np.tile(noise, 8), np.sin(0.7 * np.arange(160_000))):
        assert folded(signal).evidence < 3


def test_the_mean_over_keys_is_at_most_one():
    rng = np.random.default_rng(7)
    loop = np.tile(rng.normal(0, 1, PERIOD), 4)
    values = [
        np.exp(folded(loop, MarkKey(bytes([n + 1]) * 32).detection.pilot).evidence)
        for n in range(24)
    ]
    assert np.mean(values) < 2


def test_a_search_reads_what_only_the_fold_finds():
    pcm = marked(speech(8000, 24.0), 8000).astype(float)
    rng = np.random.default_rng(8)
    loud = pcm + rng.normal(0, 0.35 * np.sqrt((pcm**2).mean()), len(pcm))
    found = detect(np.clip(np.rint(loud), -32768, 32767).astype(np.int16), 8000, [KEY])
    assert found.found
    assert found.tokens in ((TOKEN,), ())
    assert found.stretches[-1].end > 15


def test_whitened_speech_wins_nothing():
    assert folded(whitened(speech(8000, 16.0).astype(float))).evidence < 3
