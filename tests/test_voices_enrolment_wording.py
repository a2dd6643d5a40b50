from __future__ import annotations

import numpy as np
import pytest
import soxr
from enrolment_audio import RATE, Audio, challenge, read_out
from enrolment_material import evidence

from ringtrue.voices.consent.challenge import Challenge
from ringtrue.voices.enrolment.checks import wording
from ringtrue.voices.enrolment.findings import Check, Finding

ASKED = challenge()


def heard(samples: Audio, asked: Challenge = ASKED, rate: int = RATE) -> tuple[Finding, str]:
    from dataclasses import replace

    found = evidence(samples, samples)
    statement = replace(found.statement, source_rate=rate, high_band=-20.0)
    return wording.listen(replace(found, challenge=asked, statement=statement))


@pytest.mark.parametrize("voice", ["rms", "slt", "awb"])
def test_the_statement_as_shown_is_heard_whoever_reads_it(voice: str) -> None:
    finding, text = heard(read_out(ASKED.text, voice))
    assert finding.check is Check.WORDING
    assert finding.passed, finding
    assert finding.score > 0
    assert text == (
        "i ada consent to the cloning of my voice for reception of example limited "
        "seven four nine amber river"
    ) or text.endswith("example ltd seven four nine amber river")


@pytest.mark.parametrize(
    ("said", "named"),
    [
        (challenge(digits=(7, 5, 9)).text, "digits and words at the end"),
        (challenge(digits=(1, 2, 8), words=("pepper", "window")).text, "the text that was shown"),
        (challenge(words=("amber", "tomato")).text, "digits and words at the end"),
        (ASKED.text.replace("consent", "do not agree"), "consent"),
        (ASKED.text.replace("consent", "do not consent"), "words that are not in the text"),
        (challenge(purpose="bedtime stories").text, "the text that was shown"),
        ("The weather will be sunny tomorrow. " + ASKED.phrase, "is not the text"),
        (ASKED.statement, "is not the text"),
        ("One two three.", "is not the text"),
    ],
)
def test_other_words_are_refused_and_the_place_is_named(said: str, named: str) -> None:
    finding, _ = heard(read_out(said))
    assert not finding.passed
    assert finding.score < 0
    assert named in finding.message
    for secret in (*ASKED.spoken_phrase, "Ada", "reception"):
        assert secret not in finding.message


def test_a_telephone_recording_is_heard_too() -> None:
    wide = read_out(ASKED.text)
    narrow = soxr.resample(soxr.resample(wide, RATE, 8000), 8000, RATE)
    finding, _ = heard(narrow, rate=8000)
    assert finding.passed, finding
    finding, _ = heard(narrow, challenge(digits=(2, 4, 9)), rate=8000)
    assert not finding.passed


def test_noise_is_no_statement() -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, 5 * RATE).astype(np.float32)
    finding, text = heard(noise)
    assert not finding.passed
    assert np.isfinite(finding.score)


def test_a_name_outside_the_dictionary_is_heard() -> None:
    asked = challenge("Zora Quillfeather", "the hotline of Brightwater GmbH", (3, 3, 1))
    finding, _ = heard(read_out(asked.text), asked)
    assert finding.passed, finding
