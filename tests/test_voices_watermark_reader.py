import audioop

import numpy as np
import pytest
import soxr
from watermarking import KEY, TOKEN, marked, speech

from ringtrue.voices.watermark.carrier import half_a_chip_on
from ringtrue.voices.watermark.detector import detect
from ringtrue.voices.watermark.frontend import whitened
from ringtrue.voices.watermark.keys import SYMBOL_CHIPS, MarkKey
from ringtrue.voices.watermark.reader import Reader
from ringtrue.voices.watermark.token import Token, symbols
from ringtrue.voices.watermark.tracing import Track, trace
from ringtrue.voices.watermark.tracking import EPOCH, Bet, Segments


def tokens(samples: np.ndarray, rate: int) -> tuple[Token, ...]:
    return detect(samples, rate, [KEY]).tokens


@pytest.mark.parametrize("rate", [8000, 16000])
def test_the_token_is_read(rate: int):
    assert tokens(marked(speech(rate), rate), rate) == (TOKEN,)


def test_from_the_middle_after_mu_law():
    pcm = marked(speech(8000), 8000)[11_111:]
    law = np.frombuffer(audioop.ulaw2lin(audioop.lin2ulaw(pcm.tobytes(), 2), 2), "<i2")
    assert tokens(law, 8000) == (TOKEN,)


def test_with_a_drifting_clock():
    pcm = marked(speech(16000), 16000).astype(np.float32) / 32768
    drifted = soxr.resample(pcm, 48000, 48000 * 0.9999).astype(np.float32)
    assert tokens(drifted, 16000) == (TOKEN,)


def test_through_lost_pieces():
    pcm = marked(speech(8000), 8000)
    pieces = [pcm[at : at + 3960] for at in range(0, len(pcm), 4000)]
    assert tokens(np.concatenate(pieces), 8000) == (TOKEN,)


def followed(seconds: float, key: MarkKey) -> Reader:
    carrier = whitened(marked(speech(8000, seconds), 8000).astype(float))
    segments = Segments(carrier, half_a_chip_on(carrier))
    pilot = np.tile(KEY.detection.pilot, 2).astype(np.float32)
    reader = Reader(key)
    reader.add(segments, trace(pilot, segments, Bet(0.13), 0))
    return reader


def test_too_little_to_be_decoded_is_told_from_what_is_known():
    short = followed(1.4, KEY)
    assert short.read() is None
    other = Token(TOKEN.session + 1, TOKEN.time)
    assert short.read_at_last((other,)) is None
    assert short.read_at_last((other, TOKEN)) == TOKEN


def test_another_key_reads_nothing():
    assert followed(4.8, KEY).read() == TOKEN
    assert followed(4.8, MarkKey(bytes(32))).read_at_last((TOKEN,)) is None


def test_the_data_is_looked_for_where_the_pilot_came_through():
    """A quarter of the band is left of the mark, its phase turned; noise fills all of it."""
    data = np.repeat(symbols(KEY, TOKEN), SYMBOL_CHIPS)
    chips = KEY.detection.pilot + KEY.carrier * data
    spectrum = np.fft.rfft(np.tile(chips, 2)[:EPOCH])
    hertz = np.fft.rfftfreq(EPOCH, 1 / 8000)
    spectrum *= ((hertz > 1000) & (hertz < 2000)) * np.exp(1j)
    left = np.fft.irfft(spectrum, EPOCH)
    noise = np.random.default_rng(1).normal(0, 6 * left.std(), EPOCH)
    heard = np.clip((left + noise) / noise.std(), -2.5, 2.5)
    segments = Segments(heard, half_a_chip_on(heard))
    count = len(segments)
    reader = Reader(KEY)
    reader.add(segments, Track(np.zeros(count, np.int64), np.ones(count), Bet(0.1), 0.0))
    assert reader.read() == TOKEN
