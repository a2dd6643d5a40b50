"""Speech that this server made is refused as enrolment, whatever happened to it on the way."""

import audioop
import io
import wave
from datetime import UTC, datetime

import numpy as np
import pytest
import soxr
from watermarking import KEY, marked, speech

from ringtrue.voices.consent.challenge import issue
from ringtrue.voices.enrolment.checks.watermark import THRESHOLD, check
from ringtrue.voices.enrolment.evidence import Evidence
from ringtrue.voices.enrolment.findings import Check
from ringtrue.voices.enrolment.recording import Recording, read_recording
from ringtrue.voices.watermark.keys import MarkKey

CHALLENGE = issue("t", "Ada", "tests", datetime(2026, 1, 1, tzinfo=UTC)).challenge
WINDOWS = np.eye(256)[:1]


def recorded(samples: np.ndarray) -> Recording:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(np.rint(samples * 32767).astype("<i2").tobytes())
    return read_recording(out.getvalue())


def evidence(statement: np.ndarray, body: np.ndarray, keys: tuple[MarkKey, ...]) -> Evidence:
    return Evidence(
        CHALLENGE,
        recorded(statement),
        recorded(body),
        WINDOWS,
        WINDOWS,
        marks=tuple(key.detection for key in keys),
    )


def as_float(pcm: np.ndarray) -> np.ndarray:
    return pcm.astype(np.float32) / 32768


def over_the_phone(pcm: np.ndarray) -> np.ndarray:
    """8 kHz µ-law and back to 16 kHz."""
    narrow = soxr.resample(pcm, 16000, 8000)
    law = audioop.ulaw2lin(audioop.lin2ulaw(narrow.tobytes(), 2), 2)
    return as_float(soxr.resample(np.frombuffer(law, "<i2"), 8000, 16000))


@pytest.mark.parametrize("marked_part", ["statement", "body"])
def test_our_own_speech_is_refused_in_either_part(marked_part: str):
    clean, ours = as_float(speech(16000)), as_float(marked(speech(16000), 16000))
    parts = (ours, clean) if marked_part == "statement" else (clean, ours)
    finding = check(evidence(*parts, (KEY,)))
    assert finding.check is Check.WATERMARK
    assert not finding.passed
    assert finding.score > THRESHOLD


def test_also_when_it_was_recorded_from_a_call():
    ours = over_the_phone(marked(speech(16000), 16000))
    assert not check(evidence(ours, ours, (KEY,))).passed


def test_a_retired_key_still_counts():
    ours = as_float(marked(speech(16000), 16000))
    assert not check(evidence(ours, ours, (MarkKey(bytes(32)), KEY))).passed


def test_a_person_passes_and_so_does_another_installations_mark():
    person, other = as_float(speech(16000)), as_float(marked(speech(16000), 16000))
    assert check(evidence(person, person, (KEY,))).passed
    assert check(evidence(other, other, (MarkKey(bytes(32)),))).passed


def test_the_finding_tells_no_word_and_is_finite():
    person = as_float(speech(16000))
    for keys in ((), (KEY,)):
        finding = check(evidence(person, person, keys))
        assert np.isfinite(finding.score)
        assert finding.passed
