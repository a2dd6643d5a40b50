import numpy as np
import pytest
from enrolment_material import RATE, TEXTS, evidence, spoken
from real_speech import SPEAKERS, prompt

from ringtrue.voices.enrolment.checks import synthesis
from ringtrue.voices.enrolment.findings import Check


def test_people_pass_more_often_than_not() -> None:
    passed = [
        synthesis.check(evidence(prompt(who, "vm-options"), prompt(who, "demo-congrats"))).passed
        for who in SPEAKERS
    ]
    assert sum(passed) >= 3


@pytest.mark.parametrize("voice", ["rms", "awb"])
def test_a_synthesizer_is_refused(voice: str) -> None:
    finding = synthesis.check(evidence(spoken(TEXTS[0], voice), spoken(TEXTS[1], voice)))
    assert finding.check is Check.SYNTHESIS
    assert not finding.passed
    assert finding.score > finding.threshold
    assert "synthesized" in finding.message


def test_one_synthetic_recording_is_enough() -> None:
    real, made = prompt("en_US_f_Allison", "demo-congrats"), spoken(TEXTS[0])
    assert "statement sounds" in synthesis.check(evidence(made, real)).message
    assert "speech sounds" in synthesis.check(evidence(real, made)).message


def test_what_has_no_voice_does_not_pass() -> None:
    hiss = np.random.default_rng(3).normal(0, 0.1, 3 * RATE).astype(np.float32)
    finding = synthesis.check(evidence(hiss, spoken()))
    assert not finding.passed
    assert np.isfinite(finding.score)
    assert "too little voice" in finding.message
