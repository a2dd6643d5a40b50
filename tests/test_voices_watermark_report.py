import io

import numpy as np
import pytest
from test_voices_watermark_audio import wav
from watermarking import KEY, TOKEN, marked, speech

from ringtrue.voices.engine import Progress
from ringtrue.voices.errors import CloningError
from ringtrue.voices.watermark.errors import AudioFileError
from ringtrue.voices.watermark.examination import encode_request, examine, run
from ringtrue.voices.watermark.report import POINTS, Report


def stereo() -> bytes:
    person, ours = speech(8000, 5.0), marked(speech(8000, 5.0), 8000)
    return wav(np.stack([person, ours], axis=1), channels=2)


def test_each_leg_of_a_recording_is_judged():
    report = examine(io.BytesIO(stereo()), [KEY])
    assert report.found
    assert [bool(channel.stretches) for channel in report.channels] == [False, True]
    (token,) = report.tokens
    assert token.session == f"{TOKEN.session:08x}"
    assert token.id == f"rt1:{KEY.id}:{token.session}"
    assert token.time == "2026-03-04T05:06+00:00"
    assert report.false_alarm == pytest.approx(2 * report.channels[1].false_alarm)


def test_a_report_survives_json():
    report = examine(io.BytesIO(stereo()), [KEY])
    assert Report.from_json(report.to_json()) == report


def test_without_a_finding_nothing_is_said_of_stretches():
    report = examine(io.BytesIO(wav(speech(8000, 5.0))), [KEY])
    assert not report.found
    assert report.tokens == ()
    assert report.channels[0].stretches == ()


def test_a_long_curve_is_thinned_and_keeps_its_peaks():
    quiet = np.zeros(8000 * 60 * 10, np.int16)
    report = examine(io.BytesIO(wav(np.concatenate([marked(speech(8000), 8000), quiet]))), [KEY])
    (channel,) = report.channels
    assert len(channel.curve) <= POINTS
    assert len(channel.curve) * channel.curve_seconds == pytest.approx(608, abs=2)
    assert max(channel.curve) > 50


def test_as_a_job():
    told: list[Progress] = []
    request = encode_request(stereo(), [KEY.detection, KEY], thorough=False, longest=60)
    report = Report.from_json(run(request, told.append))
    assert report.found
    assert len(report.keys) == 2
    assert told[-1].done == pytest.approx(1.0)


def test_too_long_and_unreadable_files_are_refused():
    with pytest.raises(AudioFileError, match="longer than 1 minutes"):
        examine(io.BytesIO(wav(np.zeros(8000 * 61, np.int16))), [KEY], longest=60)
    request = encode_request(b"nothing", [KEY], thorough=False, longest=60)
    with pytest.raises(CloningError, match="no audio file"):
        run(request, lambda progress: None)
    with pytest.raises(AudioFileError, match="no sound"):
        examine(io.BytesIO(wav(np.zeros(0, np.int16))), [KEY])
