from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import soxr
from enrolment_audio import BODY, RATE, Audio, challenge, coded, read_out

from ringtrue.voices.encoder.speaker import SpeakerEncoder
from ringtrue.voices.enrolment.checks import (
    clipping,
    duration,
    noise,
    sample_rate,
    speaker,
    speech_share,
)
from ringtrue.voices.enrolment.evidence import Evidence, gather
from ringtrue.voices.enrolment.findings import Check
from ringtrue.voices.enrolment.recording import read_recording

STATEMENT = challenge().text


@pytest.fixture(scope="module")
def encoder() -> SpeakerEncoder:
    return SpeakerEncoder.load()


def given(
    encoder: SpeakerEncoder,
    speech: Audio | None = None,
    statement: Audio | None = None,
    rate: int = RATE,
) -> Evidence:
    speech = read_out(BODY) if speech is None else speech
    statement = read_out(STATEMENT) if statement is None else statement
    read = [read_recording(coded(samples, rate=rate)) for samples in (statement, speech)]
    return gather(challenge(), *read, encoder)


def test_a_good_recording_passes_each(encoder: SpeakerEncoder) -> None:
    evidence = given(encoder)
    for check in (duration, sample_rate, speech_share, noise, clipping, speaker):
        finding = check.check(evidence)
        assert finding.passed, finding
        assert np.isfinite(finding.score)


@pytest.mark.parametrize(("seconds", "said"), [(4.9, "the speech is 4.9 s"), (30.1, "to 30 s")])
def test_a_body_outside_its_length_is_refused(
    encoder: SpeakerEncoder, seconds: float, said: str
) -> None:
    speech = np.resize(read_out(BODY), int(seconds * RATE))
    finding = duration.check(given(encoder, speech))
    assert finding.check is Check.DURATION
    assert not finding.passed
    assert said in finding.message
    assert "allowed: 5.0 to 30 s" in finding.message


def test_a_statement_too_short_for_its_words_is_refused(encoder: SpeakerEncoder) -> None:
    finding = duration.check(given(encoder, statement=read_out("I consent, seven four nine.")))
    assert not finding.passed
    assert "statement" in finding.message


def test_a_renewal_has_no_body_to_be_long_enough(encoder: SpeakerEncoder) -> None:
    evidence = given(encoder, statement=read_out(STATEMENT)[: 4 * RATE])
    assert duration.check(replace(evidence, speech=evidence.statement)).passed


def test_narrow_band_speech_in_a_wide_file_is_refused(encoder: SpeakerEncoder) -> None:
    narrow = soxr.resample(soxr.resample(read_out(BODY), RATE, 8000), 8000, RATE)
    finding = sample_rate.check(given(encoder, narrow))
    assert not finding.passed
    assert "the speech is in a wide-band file" in finding.message
    assert sample_rate.check(given(encoder, narrow, rate=8000)).passed


def test_weak_sibilants_are_not_taken_for_a_telephone(encoder: SpeakerEncoder) -> None:
    speech = read_out(BODY)
    spectrum = np.fft.rfft(speech)
    spectrum[np.fft.rfftfreq(len(speech), 1 / RATE) > 4300] *= 10 ** (-25 / 20)
    soft = np.fft.irfft(spectrum, len(speech)).astype(np.float32)
    finding = sample_rate.check(given(encoder, soft))
    assert finding.passed, finding
    assert finding.score < -35


def test_mostly_silence_is_refused(encoder: SpeakerEncoder) -> None:
    quiet = np.random.default_rng(1).normal(0, 1e-4, 12 * RATE).astype(np.float32)
    finding = speech_share.check(given(encoder, np.concatenate([read_out("Hello there."), quiet])))
    assert not finding.passed
    assert "s of speech in" in finding.message


def test_silence_alone_is_refused_by_every_check_that_needs_speech(
    encoder: SpeakerEncoder,
) -> None:
    evidence = given(encoder, np.zeros(6 * RATE, np.float32))
    assert len(evidence.speech_windows) == 0
    for check in (speech_share, noise, speaker):
        assert not check.check(evidence).passed


@pytest.mark.parametrize(("level", "passes"), [(0.002, True), (0.06, False)])
def test_noise_decides(encoder: SpeakerEncoder, level: float, passes: bool) -> None:
    said = read_out(BODY)
    loud = said * (0.5 / np.abs(said).max())
    speech = loud + np.random.default_rng(2).normal(0, level, len(loud))
    finding = noise.check(given(encoder, speech.astype(np.float32)))
    assert finding.passed is passes
    assert "dB above its noise; at least 15 dB" in finding.message


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_clipping_decides_at_every_rate(encoder: SpeakerEncoder, rate: int) -> None:
    said = read_out(BODY)
    limit = float(np.quantile(np.abs(said), 0.95))
    finding = clipping.check(given(encoder, 0.5 * np.clip(said, -limit, limit) / limit, rate=rate))
    assert not finding.passed
    assert "it is clipped" in finding.message
    assert clipping.check(given(encoder, said, rate=rate)).passed


def test_another_speaker_in_the_statement_is_refused(encoder: SpeakerEncoder) -> None:
    finding = speaker.check(given(encoder, statement=read_out(STATEMENT, "slt")))
    assert not finding.passed
    assert "don't sound like one person" in finding.message


def test_two_speakers_in_the_body_are_refused(encoder: SpeakerEncoder) -> None:
    both = np.concatenate([read_out(BODY, "rms"), read_out(BODY, "slt")])
    evidence = given(encoder, both)
    assert speaker.consistency(evidence.speech_windows) < speaker.WITHIN
    assert not speaker.check(evidence).passed


def test_consistency_of_one_window_is_whole() -> None:
    assert speaker.consistency(np.full((1, 256), 1 / 16, np.float32)) == 1.0
