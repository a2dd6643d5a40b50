import numpy as np
import pytest
from watermarking import KEY, marked, speech

from ringtrue.voices.watermark.carrier import half_a_chip_on
from ringtrue.voices.watermark.frontend import whitened
from ringtrue.voices.watermark.keys import PERIOD
from ringtrue.voices.watermark.tracing import ECHO, Track, trace
from ringtrue.voices.watermark.tracking import SEGMENT, Bet, Segments

PILOT = np.tile(KEY.detection.pilot, 2).astype(np.float32)


def course(pcm: np.ndarray, bet: Bet, lag: int) -> Track:
    carrier = whitened(pcm.astype(float))
    return trace(PILOT, Segments(carrier, half_a_chip_on(carrier)), bet, lag)


def test_a_mark_is_placed_from_its_first_segment_on():
    host = speech(8000, 1.0)
    track = course(np.concatenate([host, marked(speech(8000, 3.0), 8000)]), Bet(0.13), -8000)
    begins = 8000 // SEGMENT
    assert track.sure[: begins - 8].max() < 0.5
    assert track.sure[begins + 8 :].min() > 0.9
    assert np.abs(track.lags[begins:] + 8000).max() <= 1
    assert track.evidence > 50


def test_nothing_is_placed_where_there_is_nothing():
    track = course(speech(8000, 3.0), Bet(0.13), 5000)
    assert track.evidence < 3
    assert not track.present[-1]


def test_a_jump_is_placed_where_it_is():
    pcm = marked(speech(8000, 4.0), 8000)
    cut = 80 * SEGMENT
    track = course(np.concatenate([pcm[:cut], pcm[cut + 70 :]]), Bet(0.13, 0.01, 0.01), 40)
    assert np.median(track.lags[:78]) == pytest.approx(0, abs=1)
    assert np.median(track.lags[82:]) == pytest.approx(70, abs=1)


def test_tracks_of_one_mark_overlap_and_of_two_do_not():
    pcm = marked(speech(8000, 3.0), 8000)
    one, again = course(pcm, Bet(0.13), 0), course(pcm, Bet(0.13, jump=0.1), 3)
    assert one.overlaps(again)
    first, width = one.barred
    assert first <= -ECHO < ECHO <= first + width
    moved = Track(one.lags + 2 * ECHO, one.sure, one.bet, one.evidence)
    assert not one.overlaps(moved)


def test_a_track_holds_a_mark_that_ran_on_into_it_and_none_elsewhere_or_later():
    pcm = marked(speech(8000, 3.0), 8000)
    track = course(pcm, Bet(0.13), 0)
    assert track.holds(ECHO // 2)
    assert track.holds(PERIOD - ECHO // 2)
    assert not track.holds(2 * ECHO)
    host = speech(8000, 3.0)
    late = course(np.concatenate([host, pcm[: len(host) // 2]]), Bet(0.13), -len(host))
    assert late.present[-1]
    assert not late.holds(-len(host))
