import pytest
from enrolment_material import TEXTS, evidence, in_room, spoken, with_noise

from ringtrue.voices.enrolment.checks import replay
from ringtrue.voices.enrolment.findings import Check
from ringtrue.voices.enrolment.fingerprint import FingerprintError, fingerprint


def test_passes_where_nothing_was_enrolled() -> None:
    finding = replay.check(evidence(spoken(TEXTS[0]), spoken(TEXTS[1])))
    assert finding.check is Check.REPLAY
    assert finding.passed
    assert finding.score == 0.0


def test_passes_new_words_of_a_known_speaker() -> None:
    earlier = [fingerprint(spoken(TEXTS[2])).to_bytes()]
    assert replay.check(evidence(spoken(TEXTS[0]), spoken(TEXTS[1]), earlier)).passed


@pytest.mark.parametrize("place", ["statement", "speech"])
def test_refuses_either_recording_replayed(place: str) -> None:
    old, new = spoken(TEXTS[0]), spoken(TEXTS[1])
    earlier = [fingerprint(spoken(TEXTS[2])).to_bytes(), fingerprint(old).to_bytes()]
    again = with_noise(in_room(old), -50.0, seed=9)
    both = (again, new) if place == "statement" else (new, again)
    finding = replay.check(evidence(*both, earlier))
    assert not finding.passed
    assert finding.score > finding.threshold
    assert f"the {place} repeats" in finding.message


def test_does_not_pass_what_it_could_not_compare() -> None:
    with pytest.raises(FingerprintError):
        replay.check(evidence(spoken(TEXTS[0]), spoken(TEXTS[1]), [b"RTF0nothing"]))
