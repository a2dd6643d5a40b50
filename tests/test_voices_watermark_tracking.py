"""The mark is followed through changes of timing, and unmarked speech wins no bet."""

import numpy as np
import soxr
from watermarking import KEY, marked, speech

from ringtrue.voices.watermark.frontend import whitened
from ringtrue.voices.watermark.keys import PERIOD, MarkKey
from ringtrue.voices.watermark.tracking import SEGMENT, Pilot, Track

SURE = 6 * np.log(10)
PILOT = Pilot(KEY.detection)


def evidence(pcm: np.ndarray, key: MarkKey = KEY) -> np.ndarray:
    return Track(Pilot(key.detection)).feed(whitened(pcm.astype(float))).evidence


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


def test_the_chip_each_segment_begins_with_is_told():
    pcm = marked(speech(8000), 8000)
    for crop in (0, 12_345):
        chips = Track(PILOT).feed(whitened(pcm[crop:].astype(float))).chips
        assert (int(chips[-1]) - SEGMENT * (len(chips) - 1) - crop) % PERIOD in (0, 1, PERIOD - 1)


def test_feeding_in_parts_is_feeding_at_once():
    carrier = whitened(marked(speech(8000, 3.0), 8000).astype(float))
    once = Track(PILOT).feed(carrier).evidence
    track = Track(PILOT)
    cut = 37 * SEGMENT
    parts = np.concatenate([track.feed(carrier[:cut]).evidence, track.feed(carrier[cut:]).evidence])
    assert np.allclose(parts, once, atol=1e-3)


def test_noise_tones_and_silence_win_nothing():
    rng = np.random.default_rng(4)
    tone = 8000 * np.sin(np.arange(24000) * 0.7)
    for signal in (tone, rng.normal(0, 3000, 24000), np.sign(tone) * 20000, np.zeros(24000)):
        assert evidence(signal).max() < SURE
