from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from enrolment_audio import BODY, challenge, coded, read_out

import ringtrue.voices.enrolment.checks
from ringtrue.config.voice_settings import VoicesSettings
from ringtrue.voices.encoder.speaker import SpeakerEncoder
from ringtrue.voices.engine import SPEECH_RATE, Progress
from ringtrue.voices.enrolment.assessment import (
    ENTRY,
    Assessment,
    AssessmentRequest,
    assess,
    run,
)
from ringtrue.voices.enrolment.checks.every import OF_AUDIO, OF_SPEECH
from ringtrue.voices.enrolment.errors import RecordingError
from ringtrue.voices.enrolment.findings import Check, Finding
from ringtrue.voices.pool import JobLimits, JobPool
from ringtrue.voices.watermark.keys import DetectionKey

ASKED = challenge()


@pytest.fixture(scope="module")
def request_() -> AssessmentRequest:
    statement = coded(read_out(ASKED.text), rate=48000)
    return AssessmentRequest(ASKED, statement, coded(read_out(BODY), rate=48000))


def test_a_request_goes_through_bytes_unchanged() -> None:
    whole = AssessmentRequest(
        ASKED, b"statement", b"", b"print", (b"", b"second"), (DetectionKey(bytes(32)),)
    )
    assert AssessmentRequest.decode(whole.encode()) == whole
    renewal = replace(whole, speech=None, voiceprint=None, earlier=(), marks=())
    assert AssessmentRequest.decode(renewal.encode()) == renewal


def test_every_check_is_made_once_and_reported(request_: AssessmentRequest) -> None:
    told: list[Progress] = []
    assessment = assess(request_, told.append)
    assert [f.check for f in assessment.findings].count(Check.WORDING) == 1
    assert {f.check for f in assessment.findings} == set(Check)
    assert len(assessment.findings) == len(set(Check)) == len(OF_AUDIO) + len(OF_SPEECH) + 1
    # Flite's voice, which the synthesis check may refuse: what is said and who says it is right.
    by_check = {f.check: f for f in assessment.findings}
    for check in (Check.DURATION, Check.NOISE, Check.WORDING, Check.SPEAKER, Check.REPLAY):
        assert by_check[check].passed, by_check[check]
    assert assessment.transcript.endswith("seven four nine amber river")
    assert [p.done for p in told] == sorted(p.done for p in told)
    assert told[-1].done == 1.0


def test_an_assessment_goes_through_bytes_unchanged(request_: AssessmentRequest) -> None:
    found = assess(request_, lambda _: None)
    again = Assessment.decode(found.encode())
    assert again.findings == found.findings
    assert again.fingerprints == found.fingerprints
    assert len(again.fingerprints) == 2
    np.testing.assert_array_equal(again.speech, found.speech)
    np.testing.assert_array_equal(again.embedding, found.embedding)
    assert len(again.speech) == pytest.approx(len(read_out(BODY)), abs=SPEECH_RATE // 100)


def test_all_that_fails_is_reported_not_the_first(request_: AssessmentRequest) -> None:
    said = read_out("It is raining in the mountains.", "slt")
    bad = replace(request_, statement=coded(said + 0.05 * np.sign(said)))
    failed = {f.check for f in assess(bad, lambda _: None).findings if not f.passed}
    assert {Check.DURATION, Check.WORDING} <= failed


def test_a_replay_of_an_accepted_enrolment_is_found(request_: AssessmentRequest) -> None:
    first = assess(request_, lambda _: None)
    again = assess(replace(request_, earlier=first.fingerprints), lambda _: None)
    assert not next(f for f in again.findings if f.check is Check.REPLAY).passed


def test_a_renewal_is_held_against_the_enrolled_speaker(request_: AssessmentRequest) -> None:
    encoder = SpeakerEncoder.load()
    for voice, same in (("rms", True), ("slt", False)):
        enrolled = encoder.embed(read_out(BODY, voice), SPEECH_RATE)
        renewal = replace(request_, speech=None, voiceprint=enrolled.astype("<f4").tobytes())
        found = assess(renewal, lambda _: None)
        assert {f.check for f in found.findings} == set(Check)
        by_check = {f.check: f for f in found.findings}
        assert by_check[Check.SPEAKER].passed is same
        assert by_check[Check.DURATION].passed
        assert len(found.fingerprints) == 1


def test_silence_fails_without_the_checks_that_need_speech(request_: AssessmentRequest) -> None:
    silent = replace(request_, speech=coded(np.zeros(6 * SPEECH_RATE, np.float32)))
    found = assess(silent, lambda _: None)
    assert not found.passed
    assert {f.check for f in found.findings if not f.passed} >= {Check.SPEECH_SHARE, Check.NOISE}
    assert not found.embedding.any()


def test_an_assessment_that_misses_a_check_has_not_passed() -> None:
    empty = np.zeros(0, np.float32)
    good = tuple(Finding(check, True, 1.0, 0.0, "") for check in Check)
    assert Assessment(good, "", empty, empty, empty, ()).passed
    assert not Assessment(good[:-1], "", empty, empty, empty, ()).passed
    assert not Assessment((), "", empty, empty, empty, ()).passed
    bad = (*good[:-1], replace(good[-1], passed=False))
    assert not Assessment(bad, "", empty, empty, empty, ()).passed


@pytest.mark.parametrize("what", ["statement", "speech"])
def test_a_recording_that_cannot_be_read_is_named(request_: AssessmentRequest, what: str) -> None:
    bad = replace(request_, **{what: b"no audio at all"})
    with pytest.raises(RecordingError, match=f"{what}: the file is in no format"):
        Assessment.decode(run(bad.encode(), lambda _: None))


async def test_it_runs_as_a_job_in_another_process() -> None:
    pool = JobPool(JobLimits(seconds=60))
    request = AssessmentRequest(ASKED, b"no audio", b"")
    with pytest.raises(RecordingError, match="statement"):
        Assessment.decode(await pool.run(ENTRY, request.encode(), lambda _: None))
    await pool.close()


def test_no_setting_reaches_a_check() -> None:
    # The watermark's key is where marks come from; without one, none were made.
    names = set(VoicesSettings.model_fields) - {"watermark_key_file"}
    words = {*map(str, Check), "check", "liveness", "threshold", "verify", "strict", "skip"}
    assert not {name for name in names if words & set(name.split("_"))}
    folder = Path(ringtrue.voices.enrolment.checks.__file__).parent
    modules = sorted(folder.glob("*.py"))
    assert len(modules) >= len(Check)
    for path in modules:
        text = path.read_text()
        assert not re.search(r"ringtrue\.config|os\.environ|getenv|settings", text), path.name
