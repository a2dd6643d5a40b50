from __future__ import annotations

import numpy as np
import pytest
import soxr
from enrolment_audio import BODY, RATE, Audio, read_out

from ringtrue.voices.enrolment.levels import (
    MAX_SNR,
    SILENT_HIGH_BAND,
    clipped_share,
    high_band,
    signal_to_noise,
    speech_seconds,
)


def noisy(samples: Audio, ratio: float) -> Audio:
    """With white noise ``ratio`` dB under the level of the speech's loud part."""
    frames = samples[: len(samples) // 320 * 320].reshape(-1, 320)
    power = (frames**2).mean(axis=1)
    active = power[power > power.mean() / 10].mean()
    noise = np.random.default_rng(3).normal(0, np.sqrt(active / 10 ** (ratio / 10)), len(samples))
    return (samples + noise).astype(np.float32)


@pytest.mark.parametrize("ratio", [5.0, 10.0, 15.0, 20.0])
def test_noise_is_measured_without_being_told_where_the_pauses_are(ratio: float) -> None:
    # Over the louder frames it is a little more than over all frames with speech.
    assert signal_to_noise(noisy(read_out(BODY), ratio)) == pytest.approx(ratio + 2.5, abs=2.5)


def test_noise_alone_has_no_signal_and_silence_no_number() -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, 4 * RATE).astype(np.float32)
    assert signal_to_noise(noise) < 1.0
    assert signal_to_noise(np.zeros(4 * RATE, np.float32)) == 0.0
    assert signal_to_noise(noise[:100]) == 0.0


def test_a_ratio_is_never_beyond_what_is_measurable() -> None:
    gated = np.where(np.arange(4 * RATE) % RATE < RATE // 2, 0.5, 0.0)
    tone = (gated * np.sin(np.arange(4 * RATE) / 5)).astype(np.float32)
    assert signal_to_noise(tone) == MAX_SNR


def test_clipping_shows_whatever_gain_came_after_it() -> None:
    samples = read_out(BODY)
    limit = float(np.quantile(np.abs(samples), 0.97))
    clipped = np.clip(samples, -limit, limit)
    assert clipped_share(samples) < 0.02
    assert clipped_share(clipped) > 0.03
    assert clipped_share(0.1 * clipped) == pytest.approx(clipped_share(clipped), rel=1e-3)
    assert clipped_share(np.zeros(100, np.float32)) == clipped_share(samples[:0]) == 0.0


def test_narrow_band_speech_stays_narrow_when_it_is_resampled() -> None:
    wide = read_out(BODY)
    narrow = soxr.resample(soxr.resample(wide, RATE, 8000), 8000, RATE)
    assert high_band(wide, RATE) > -40
    assert high_band(narrow, RATE) < -60
    assert high_band(soxr.resample(narrow, RATE, 48000), 48000) < -60


def test_noise_above_narrow_band_speech_is_no_speech() -> None:
    narrow = soxr.resample(soxr.resample(read_out(BODY), RATE, 8000), 8000, RATE)
    noise = np.random.default_rng(1).normal(0, 0.002, len(narrow))
    assert high_band((narrow + noise).astype(np.float32), RATE) < -50


def test_rates_without_a_high_band_have_none() -> None:
    assert high_band(read_out(BODY), 8000) == SILENT_HIGH_BAND
    assert high_band(np.zeros(0, np.float32), RATE) == SILENT_HIGH_BAND


def test_seconds_of_speech_leave_out_silence() -> None:
    said = read_out("Please hold the line.")
    silence = np.zeros(5 * RATE, np.float32)
    assert speech_seconds(np.concatenate([said, silence])) < len(said) / RATE + 1
    assert speech_seconds(silence) == 0.0
