import numpy as np
import pytest
from enrolment_material import RATE, evidence, in_room, spoken, with_noise
from real_speech import SPEAKERS, prompt

from ringtrue.voices.enrolment.checks import channel
from ringtrue.voices.enrolment.findings import Check


def far(samples: np.ndarray) -> np.ndarray:
    """From the other end of a loud hall."""
    return with_noise(in_room(samples, 0.7, -3.0), -34.0)


@pytest.mark.parametrize("who", SPEAKERS)
def test_one_sitting_passes(who: str) -> None:
    statement, body = prompt(who, "vm-options"), prompt(who, "demo-congrats")
    finding = channel.check(evidence(statement, body))
    assert finding.check is Check.CHANNEL
    assert finding.passed, finding
    assert channel.check(evidence(0.2 * statement, body)).passed


@pytest.mark.parametrize("who", SPEAKERS)
def test_two_places_do_not(who: str) -> None:
    statement, body = prompt(who, "vm-options"), prompt(who, "demo-congrats")
    for pair in ((far(statement), body), (statement, far(body))):
        finding = channel.check(evidence(*pair))
        assert not finding.passed
        assert "different places" in finding.message


def test_one_far_place_is_one_place() -> None:
    statement, body = prompt(SPEAKERS[0], "vm-options"), prompt(SPEAKERS[0], "demo-congrats")
    assert channel.check(evidence(far(statement), far(body))).passed


def test_silence_does_not_pass() -> None:
    finding = channel.check(evidence(np.zeros(2 * RATE, np.float32), spoken()))
    assert not finding.passed
    assert np.isfinite(finding.score)
