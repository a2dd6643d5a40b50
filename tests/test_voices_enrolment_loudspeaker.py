from collections.abc import Callable

import numpy as np
import pytest
from enrolment_material import RATE, evidence, in_room, spoken, with_noise
from real_speech import SPEAKERS, prompt

from ringtrue.voices.enrolment.checks import loudspeaker
from ringtrue.voices.enrolment.findings import Check
from ringtrue.voices.enrolment.playback import TRAITS, playback


def played(samples: np.ndarray) -> np.ndarray:
    """From a telephone's loudspeaker across a room: no bass, distorted, with echo and noise."""
    driven = np.tanh(1.5 * samples / (np.quantile(np.abs(samples), 0.999) + 1e-9))
    spectrum = np.fft.rfft(driven)
    hz = np.fft.rfftfreq(len(driven), 1 / RATE)
    spectrum *= (hz / 400) ** 2 / np.sqrt(1 + (hz / 400) ** 4) / np.sqrt(1 + (hz / 6000) ** 6)
    sound = 0.3 * np.fft.irfft(spectrum, len(driven))
    return with_noise(in_room(sound.astype(np.float32), 0.5, 2.0), -46.0)


def test_every_trait_has_a_name_and_is_finite() -> None:
    found = playback(spoken())
    assert found is not None
    assert found.shape == (len(TRAITS),)
    assert np.isfinite(found).all()


def changed(samples: np.ndarray, what: str) -> float:
    """The mean of the traits named ``what`` in ``samples`` less that in the speech itself."""
    chosen = [what in name for name in TRAITS]
    before, after = playback(spoken()), playback(samples)
    assert before is not None
    assert after is not None
    return float((after - before)[chosen].mean())


def filtered(samples: np.ndarray, db: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    hz = np.fft.rfftfreq(len(samples), 1 / RATE)
    spectrum = np.fft.rfft(samples) * 10 ** (db(np.maximum(hz, 1)) / 20)
    return np.fft.irfft(spectrum, len(samples)).astype(np.float32)


def test_a_small_box_has_no_lows() -> None:
    boxed = filtered(spoken(), lambda hz: -10 * np.log10(1 + (300 / hz) ** 4))
    assert changed(boxed, "lows 95-140 Hz") < -12
    assert abs(changed(boxed, "lows 350-500 Hz")) < 6


def test_resonances_ripple_the_spectrum() -> None:
    rung = filtered(spoken(), lambda hz: 6 * np.sin(2 * np.pi * np.log2(hz) / 0.4))
    assert changed(rung, "ripple within 0.75 octaves") > 1


def test_a_tone_control_ripples_nothing() -> None:
    tilted = filtered(spoken(), lambda hz: 3 * np.log2(hz / 1000))
    assert abs(changed(tilted, "ripple within 0.75 octaves")) < 0.3


def test_a_room_smears_envelopes_and_slows_falls() -> None:
    wet = in_room(spoken(), 0.5, 2.0)
    for band in ("100-500 Hz", "500-1200 Hz", "1200-2400 Hz", "2400-3800 Hz"):
        assert changed(wet, f"envelope 4-8 Hz of {band}") < -2
        assert changed(wet, f"falls 0.9 of {band}") < -5
        assert changed(wet, f"lopsided of {band}") < -1
    assert changed(wet, "gaps 0.2 of 500-1200 Hz") > 5


@pytest.mark.parametrize("who", SPEAKERS)
def test_a_person_passes(who: str) -> None:
    finding = loudspeaker.check(evidence(prompt(who, "vm-options"), prompt(who, "demo-congrats")))
    assert finding.check is Check.LOUDSPEAKER
    assert finding.passed, finding


def test_a_loudspeaker_is_mostly_refused() -> None:
    refused = []
    for who in SPEAKERS:
        both = [prompt(who, name) for name in ("vm-options", "demo-congrats")]
        near = loudspeaker.check(evidence(both[0], both[1]))
        far = loudspeaker.check(evidence(played(both[0]), played(both[1])))
        assert far.score > near.score
        refused.append(not far.passed)
    assert sum(refused) >= 2
    assert "loudspeaker" in far.message or far.passed


def test_what_has_no_voice_does_not_pass() -> None:
    hiss = np.random.default_rng(3).normal(0, 0.1, 3 * RATE).astype(np.float32)
    finding = loudspeaker.check(evidence(hiss, spoken()))
    assert not finding.passed
    assert np.isfinite(finding.score)
    assert "too little voice" in finding.message
