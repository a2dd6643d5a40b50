"""Marks are found after what telephony does to them; unmarked speech shows none."""

import audioop

import numpy as np
import pytest
import soxr
from watermarking import KEY, marked, speech

from ringtrue.voices.watermark.detector import Detection, detect, speeds
from ringtrue.voices.watermark.errors import WatermarkError
from ringtrue.voices.watermark.keys import DetectionKey, MarkKey

SURE = 6.0
"""−log10 of the false-alarm bound that counts as found."""


def look(samples: np.ndarray, rate: int, key: DetectionKey = KEY.detection) -> Detection:
    found = detect(samples, rate, [key])
    assert found is not None
    return found


@pytest.mark.parametrize("rate", [8000, 16000])
def test_a_mark_is_found_and_an_unmarked_voice_has_none(rate: int):
    host = speech(rate)
    assert look(marked(host, rate), rate).significance > SURE
    assert look(host, rate).significance == 0


def test_one_second_is_enough():
    assert look(marked(speech(8000), 8000)[8000:16000], 8000).significance > SURE


def test_it_survives_mu_law_gain_and_resampling():
    pcm = marked(speech(8000), 8000)
    law = np.frombuffer(audioop.ulaw2lin(audioop.lin2ulaw(pcm.tobytes(), 2), 2), "<i2")
    wide = soxr.resample(law.astype(np.float32) / 32768 * 0.1, 8000, 44100)
    assert look(wide, 44100).significance > SURE


def test_it_survives_another_sound_cards_clock():
    pcm = marked(speech(16000), 16000).astype(np.float32) / 32768
    drifted = soxr.resample(pcm, 48000, 48000 * 1.0002)
    found = look(drifted.astype(np.float32), 16000)
    assert found.significance > SURE
    assert abs(found.speed - 1 / 1.0002) < 1e-4


def test_where_it_was_found_is_said():
    host = speech(8000)
    mixed = np.concatenate([host, marked(host, 8000)])
    found = look(mixed, 8000)
    assert found.start + found.seconds > 12
    assert found.key == KEY.id


def test_other_keys_find_nothing_and_the_right_one_is_told_apart():
    pcm = marked(speech(8000), 8000)
    others = [MarkKey(bytes([n]) * 32).detection for n in range(8)]
    nothing = detect(pcm, 8000, others)
    assert nothing is not None
    assert nothing.significance == 0
    found = detect(pcm, 8000, [*others, KEY.detection])
    assert found is not None
    assert found.key == KEY.id


def test_searching_more_counts_against_a_finding():
    pcm = marked(speech(8000), 8000)[:8000]
    few, many = look(pcm, 8000), detect(pcm, 8000, [KEY.detection], drift=1e-3)
    assert many is not None
    assert many.false_alarm > few.false_alarm


def test_tones_and_noise_hold_the_bound():
    rng = np.random.default_rng(4)
    tone = (8000 * np.sin(np.arange(24000) * 0.7)).astype(np.int16)
    noise = rng.normal(0, 3000, 24000).astype(np.int16)
    for signal in (tone, noise, np.where(tone > 0, 20000, -20000).astype(np.int16)):
        assert look(signal, 8000).significance < 3


def test_nothing_to_look_at_is_nothing_found():
    assert detect(np.zeros(8000, np.int16), 8000, [KEY.detection]) is None
    assert detect(np.zeros(0, np.int16), 8000, [KEY.detection]) is None
    assert detect(speech(8000), 8000, []) is None


def test_wrong_arguments_are_named():
    with pytest.raises(WatermarkError, match="from 8000 to 192000 Hz, got 4000"):
        detect(np.zeros(4000, np.int16), 4000, [KEY.detection])
    with pytest.raises(WatermarkError, match=r"shape \(n,\), got \(2, 400\)"):
        detect(np.zeros((2, 400), np.int16), 8000, [KEY.detection])


def test_speeds_cover_the_drift_in_steps_of_one_chip():
    found = list(speeds(10_000, 3e-4))
    assert found[0] <= 1 - 3e-4
    assert found[-1] >= 1 + 3e-4
    assert 1.0 in found
    assert np.allclose(np.diff(found), 1e-4)
