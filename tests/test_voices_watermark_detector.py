"""Marks are found after what telephony does to them; unmarked speech shows none."""

import audioop
import tracemalloc
from datetime import UTC, datetime

import numpy as np
import pytest
import soxr
from speech import say
from watermarking import KEY, TOKEN, marked, speech

from ringtrue.voices.watermark.detector import CURVE_SECONDS, Detection, Search, detect
from ringtrue.voices.watermark.errors import WatermarkError
from ringtrue.voices.watermark.keys import DetectionKey, MarkKey
from ringtrue.voices.watermark.token import Token

OTHER = Token(7, datetime(2025, 1, 1, tzinfo=UTC))


def look(samples: np.ndarray, rate: int, key: DetectionKey | MarkKey = KEY) -> Detection:
    return detect(samples, rate, [key])


def as_float(pcm: np.ndarray) -> np.ndarray:
    return pcm.astype(np.float32) / 32768


@pytest.mark.parametrize("rate", [8000, 16000])
def test_a_mark_is_found_and_an_unmarked_voice_has_none(rate: int):
    host = speech(rate)
    found = look(marked(host, rate), rate)
    assert found.found
    assert found.key == KEY.id
    assert found.tokens == (TOKEN,)
    assert found.seconds == pytest.approx(8.0)
    none = look(host, rate)
    assert not none.found
    assert none.significance < 1
    assert none.key is None
    assert none.stretches == ()


def test_one_second_is_enough():
    assert look(marked(speech(8000), 8000)[8000:16000], 8000).found


def test_it_survives_mu_law_gain_inversion_and_resampling():
    pcm = marked(speech(8000), 8000)
    law = np.frombuffer(audioop.ulaw2lin(audioop.lin2ulaw(pcm.tobytes(), 2), 2), "<i2")
    found = look(soxr.resample(as_float(law) * -0.1, 8000, 44100), 44100)
    assert found.tokens == (TOKEN,)
    assert all(stretch.inverted for stretch in found.stretches)


def test_it_survives_another_sound_cards_clock():
    drifted = soxr.resample(as_float(marked(speech(16000), 16000)), 48000, 48000 * 1.0002)
    found = look(drifted.astype(np.float32), 16000)
    assert found.tokens == (TOKEN,)
    assert found.stretches[0].speed == pytest.approx(1 / 1.0002, abs=1e-4)


def test_a_thorough_search_finds_another_speed_and_reads_on():
    fast = soxr.resample(as_float(marked(speech(8000), 8000)), 8000 * 1.0225, 8000)
    assert not look(fast.astype(np.float32), 8000).found
    found = detect(fast.astype(np.float32), 8000, [KEY], thorough=True)
    assert found.tokens == (TOKEN,)
    assert found.stretches[0].speed == pytest.approx(1.0225, abs=5e-4)


def test_where_it_was_found_is_said():
    host = speech(8000, 4.0)
    found = look(np.concatenate([host, marked(speech(8000, 6.0), 8000), host]), 8000)
    (stretch,) = found.stretches
    assert stretch.start == pytest.approx(4.0, abs=0.5)
    assert stretch.end == pytest.approx(10.0, abs=0.5)
    assert stretch.significance > 20
    assert len(found.curve) == pytest.approx(14 / CURVE_SECONDS, abs=2)
    assert found.curve[: int(3.5 / CURVE_SECONDS)].max() < 3
    assert found.curve[int(5 / CURVE_SECONDS) :].max() > 20


def test_two_sessions_in_a_row_are_both_named():
    one, two = marked(speech(8000), 8000), marked(speech(8000), 8000, token=OTHER)
    found = look(np.concatenate([one, two[5_000:]]), 8000)
    assert found.tokens == (TOKEN, OTHER)


def test_two_sessions_at_once_are_both_named():
    one, two = marked(speech(8000, 14.0), 8000), marked(speech(8000, 16.0), 8000, token=OTHER)
    mixed = one.astype(np.int32) // 2 + two[16_000:] // 2
    assert set(look(mixed.astype(np.int16), 8000).tokens) == {TOKEN, OTHER}


def test_other_keys_find_nothing_and_the_right_one_is_told_apart():
    pcm = marked(speech(8000, 4.0), 8000)
    others = [MarkKey(bytes([n]) * 32).detection for n in range(4)]
    assert detect(pcm, 8000, others).significance < 1
    found = detect(pcm, 8000, [*others, KEY.detection])
    assert found.key == KEY.id
    assert found.tokens == ()


def test_a_search_in_pieces_finds_the_same():
    pcm = marked(speech(8000), 8000)
    search = Search([KEY], 8000)
    for first in range(0, len(pcm), 1234):
        search.feed(pcm[first : first + 1234])
    pieces, once = search.finish(), look(pcm, 8000)
    assert pieces.false_alarm == pytest.approx(once.false_alarm)
    assert pieces.tokens == once.tokens


def test_progress_is_told():
    heard: list[float] = []
    found = detect(np.zeros(8000 * 60, np.int16), 8000, [KEY], on_progress=heard.append)
    assert not found.found
    assert heard == sorted(heard)
    assert heard[-1] == 1.0


def test_longer_recordings_take_no_more_memory():
    talk = np.concatenate([marked(speech(8000), 8000), np.zeros(8000 * 22, np.int16)])
    search = Search([KEY], 8000)
    peaks = []
    tracemalloc.start()
    try:
        for minutes in (2, 6):
            tracemalloc.reset_peak()
            for _ in range(2 * minutes):
                search.feed(talk)
                talk = np.zeros_like(talk)
            peaks.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
    assert search.seconds > 400
    assert peaks[1] < peaks[0] + 1_000_000  # four minutes of samples are 7.7 MB
    assert search.finish().tokens == (TOKEN,)


def test_a_second_of_the_stock_voice_is_enough_after_mu_law():
    host = say("We are open on weekdays from nine until five.", 8000).astype(np.int16)
    pcm = marked(host[: len(host) // 160 * 160], 8000)
    law = np.frombuffer(audioop.ulaw2lin(audioop.lin2ulaw(pcm.tobytes(), 2), 2), "<i2")
    for first in (2000, 6000, 10000):
        assert look(law[first : first + 8000], 8000).found


def test_a_loop_of_the_pilots_period_wins_nothing_however_long_it_is():
    rng = np.random.default_rng(1)
    loop = np.tile(rng.normal(0, 2000, 40960).astype(np.int16), 6)
    assert look(loop, 8000).significance < 2


def test_sustained_tones_win_nothing():
    n = np.arange(8000 * 20)
    dial = 4000 * np.sin(2 * np.pi * 350 * n / 8000) + 4000 * np.sin(2 * np.pi * 440 * n / 8000)
    assert look(dial.astype(np.int16), 8000).significance < 2


def test_nothing_to_look_at_is_nothing_found():
    for samples in (np.zeros(8000, np.int16), np.zeros(0, np.int16)):
        assert detect(samples, 8000, [KEY.detection]).false_alarm == 1.0
    assert detect(speech(8000), 8000, []).false_alarm == 1.0


def test_wrong_arguments_are_named():
    with pytest.raises(WatermarkError, match="from 8000 to 192000 Hz, got 4000"):
        detect(np.zeros(4000, np.int16), 4000, [KEY.detection])
    with pytest.raises(WatermarkError, match=r"shape \(n,\), got \(2, 400\)"):
        detect(np.zeros((2, 400), np.int16), 8000, [KEY.detection])
