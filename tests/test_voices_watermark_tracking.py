"""The mark is followed through changes of timing, and unmarked speech wins no bet."""

import numpy as np
import soxr
from watermarking import KEY, marked, speech

from ringtrue.voices.watermark.frontend import whitened
from ringtrue.voices.watermark.keys import PERIOD, MarkKey
from ringtrue.voices.watermark.tracking import SEGMENT, Track, spectrum_of

SURE = 6 * np.log(10)


def evidence(pcm: np.ndarray, key: MarkKey = KEY) -> np.ndarray:
    return Track(spectrum_of(key.detection.pilot)).feed(whitened(pcm.astype(float)))[0]


def test_evidence_grows_where_there_is_a_mark():
    found = evidence(marked(speech(8000), 8000))
    assert found[80] > SURE
    assert found[-1] > 10 * SURE


def test_unmarked_speech_and_other_keys_win_nothing():
    assert evidence(speech(8000)).max() < SURE
    pcm = marked(speech(8000), 8000)
    for n in range(3):
        assert evidence(pcm, MarkKey(bytes([n]) * 32)).max() < SURE


def test_a_mark_that_begins_late_is_found_and_what_follows_loses_little():
    host = speech(8000, 4.0)
    found = evidence(np.concatenate([host, marked(host, 8000), host]))
    begins, ends = 4 * 8000 // SEGMENT, 8 * 8000 // SEGMENT
    assert found[begins - 5] < SURE
    assert found[ends] > 3 * SURE
    assert found[-1] > found[ends] - 20


def test_missing_pieces_and_a_wandering_clock_are_followed():
    pcm = marked(speech(8000), 8000)
    pieces = [pcm[at : at + 1990] for at in range(0, len(pcm), 2000)]
    assert evidence(np.concatenate(pieces))[-1] > SURE
    drifting = soxr.resample(pcm, 80024, 80000)
    assert evidence(drifting)[-1] > SURE


def test_the_lag_is_the_chip_at_the_beginning():
    pcm = marked(speech(8000), 8000)
    for crop in (0, 12_345):
        _, lags = Track(spectrum_of(KEY.detection.pilot)).feed(whitened(pcm[crop:].astype(float)))
        assert abs(int(lags[-1]) - crop) % PERIOD <= 1


def test_feeding_in_parts_is_feeding_at_once():
    carrier = whitened(marked(speech(8000, 3.0), 8000).astype(float))
    once = Track(spectrum_of(KEY.detection.pilot)).feed(carrier)[0]
    track = Track(spectrum_of(KEY.detection.pilot))
    cut = 37 * SEGMENT
    parts = np.concatenate([track.feed(carrier[:cut])[0], track.feed(carrier[cut:])[0]])
    assert np.allclose(parts, once, atol=1e-6)


def test_noise_tones_and_silence_win_nothing():
    rng = np.random.default_rng(4)
    tone = 8000 * np.sin(np.arange(24000) * 0.7)
    for signal in (tone, rng.normal(0, 3000, 24000), np.sign(tone) * 20000, np.zeros(24000)):
        assert evidence(signal).max() < SURE
