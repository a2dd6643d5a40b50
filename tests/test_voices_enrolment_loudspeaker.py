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
