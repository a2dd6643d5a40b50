"""The mark is followed through changes of timing, and what carries none wins no bet."""

import numpy as np
import pytest
import soxr
from watermarking import KEY, marked, speech

from ringtrue.voices.watermark.carrier import half_a_chip_on
from ringtrue.voices.watermark.frontend import whitened
from ringtrue.voices.watermark.keys import PERIOD, MarkKey
from ringtrue.voices.watermark.tracking import (
    BETS,
    EPOCH,
    EPOCH_SEGMENTS,
    MAX_STRENGTH,
    SEGMENT,
    Bet,
    Course,
    Follower,
    Pilot,
    Segments,
)

SURE = 6 * np.log(10)
PILOT = Pilot(KEY.detection)
FOLLOWER = Follower()


def cut(pcm: np.ndarray) -> Segments:
    carrier = whitened(pcm.astype(float))
    return Segments(carrier, half_a_chip_on(carrier))


def follow(pcm: np.ndarray, pilot: Pilot = PILOT, bets: tuple[Bet, ...] = ()) -> Course:
    return FOLLOWER.follow(pilot, cut(pcm), bets=bets)


def test_evidence_grows_where_there_is_a_mark():
    found = follow(marked(speech(8000), 8000)).evidence
    assert found[80] > SURE
    assert found[-1] > 10 * SURE


def test_unmarked_speech_and_other_keys_win_nothing():
    assert follow(speech(8000)).evidence.max() < SURE
    pcm = marked(speech(8000), 8000)
    for n in range(3):
        assert follow(pcm, Pilot(MarkKey(bytes([n]) * 32).detection)).evidence.max() < SURE


def test_a_mark_that_begins_late_is_found_and_what_follows_loses_little():
    host = speech(8000, 2.0)
    found = follow(np.concatenate([host, marked(host, 8000), host])).evidence
    begins, ends = 2 * 8000 // SEGMENT, 4 * 8000 // SEGMENT
    assert found[begins - 5] < SURE
    assert found[ends] > 2 * SURE
    assert found[-1] > found[ends] - 20


@pytest.mark.parametrize("sixths", range(6))
def test_it_may_lie_anywhere_between_the_samples(sixths: int):
    wide = soxr.resample(marked(speech(8000, 4.0), 8000).astype(float), 8000, 48000)
    narrow = soxr.resample(wide[sixths:], 48000, 8000)
    assert follow(narrow).evidence[-1] > 5 * SURE


def test_upside_down():
    assert follow(-marked(speech(8000), 8000)).best.polarity == -1


def test_missing_pieces_and_a_wandering_clock_are_followed():
    pcm = marked(speech(8000), 8000)
    pieces = [pcm[at : at + 1990] for at in range(0, len(pcm), 2000)]
    assert follow(np.concatenate(pieces)).evidence[-1] > SURE
    assert follow(soxr.resample(pcm, 80024, 80000)).evidence[-1] > SURE


@pytest.mark.parametrize("crop", [0, 12_345])
def test_where_the_mark_lies_is_told(crop: int):
    course = follow(marked(speech(8000), 8000)[crop:])
    assert (course.lag - crop) % PERIOD in (0, 1, PERIOD - 1)


def test_barred_lags_are_left_alone():
    segments = cut(marked(speech(8000), 8000))
    course = FOLLOWER.follow(PILOT, segments)
    again = FOLLOWER.follow(PILOT, segments, barred=[(course.lag - 400, 801)])
    assert again.evidence.max() < SURE


def test_noise_tones_and_silence_win_nothing():
    rng = np.random.default_rng(4)
    tone = 8000 * np.sin(np.arange(24000) * 0.7)
    for signal in (tone, rng.normal(0, 3000, 24000), np.sign(tone) * 20000, np.zeros(24000)):
        assert follow(signal).evidence.max() < SURE


@pytest.mark.parametrize("period", [20, 97, 160, 2000])
def test_what_repeats_itself_wins_nothing(period: int):
    """A path that jumps back to chips it was lucky with must not win by them again."""
    rng = np.random.default_rng(period)
    loop = np.tile(rng.normal(0, 3000, period), EPOCH // period + 1)[:EPOCH]
    segments = Segments(*[np.clip(loop / 3000, -2.5, 2.5)] * 2)
    assert FOLLOWER.follow(PILOT, segments).evidence.max() < 3


def test_the_mean_of_the_evidence_over_keys_is_at_most_one():
    """What makes the bound: checked on a repeating signal, over many keys and lags at once."""
    rng = np.random.default_rng(1)
    loop = np.clip(np.tile(rng.normal(0, 1, 160), 400), -2.5, 2.5)[: 60 * SEGMENT]
    segments = Segments(loop, loop)
    values = []
    for n in range(12):
        pilot = Pilot(MarkKey(bytes([n + 1]) * 32).detection)
        values.append(np.exp(FOLLOWER.follow(pilot, segments).evidence.max()))
    assert np.mean(values) < 3


def test_an_epoch_is_shorter_than_a_period():
    assert EPOCH < PERIOD
    segments = Segments(np.ones(2 * EPOCH), np.ones(2 * EPOCH))
    assert len(segments) == EPOCH_SEGMENTS


def test_strengths_stay_where_floats_do():
    assert all(bet.strength <= MAX_STRENGTH for bet in BETS)
    with pytest.raises(ValueError, match=r"strength is 0.5; allowed: above 0 to 0.3"):
        Bet(0.5)
    with pytest.raises(ValueError, match=r"share is 0; allowed: above 0"):
        Bet(0.1, share=0)
    perfect = PILOT.chips[:EPOCH] * 2.5
    course = FOLLOWER.follow(PILOT, Segments(perfect, perfect))
    assert np.isfinite(course.evidence).all()
    assert course.lag == 0
