import numpy as np
from enrolment_material import RATE, TEXTS, spoken, with_noise

from ringtrue.voices.enrolment.cues import NAMES, cues


def trait(samples: np.ndarray, name: str) -> float:
    found = cues(samples.astype(np.float32))
    assert found is not None
    return float(found[NAMES.index(name)])


def buzz(seconds: float, jitter: float, seed: int = 1) -> np.ndarray:
    """A pulse train of about 120 Hz through two resonances, over a little noise."""
    rng = np.random.default_rng(seed)
    pulses = np.zeros(int(seconds * RATE))
    at = 0.0
    while at < len(pulses) - 1:
        pulses[int(at)] = 1.0
        at += RATE / 120 * (1 + jitter * rng.normal())
    out = pulses
    for hz, width in ((600.0, 80.0), (1700.0, 120.0)):
        radius = np.exp(-np.pi * width / RATE)
        size = 800
        n = np.arange(size)
        ring = radius**n * np.sin(2 * np.pi * hz / RATE * (n + 1))
        out = np.convolve(out, ring)[: len(pulses)]
    out = 0.3 * out / np.abs(out).max()
    return out + rng.normal(0, 1e-3, len(out))


def test_every_trait_has_a_name_and_is_finite() -> None:
    found = cues(spoken())
    assert found is not None
    assert found.shape == (len(NAMES),)
    assert len(set(NAMES)) == len(NAMES)
    assert np.isfinite(found).all()


def test_level_and_sign_say_nothing() -> None:
    samples = spoken()
    found, other = cues(samples), cues(-0.05 * samples)
    assert found is not None
    assert other is not None
    assert np.allclose(found, other, atol=0.02)


def test_what_is_above_the_telephone_band_says_nothing() -> None:
    samples = spoken()
    hiss = np.random.default_rng(2).normal(0, 0.05, len(samples))
    spectrum = np.fft.rfft(hiss)
    spectrum[np.fft.rfftfreq(len(hiss), 1 / RATE) < 4200] = 0
    found = cues(samples)
    other = cues((samples + np.fft.irfft(spectrum, len(hiss))).astype(np.float32))
    assert found is not None
    assert other is not None
    assert np.allclose(found, other, atol=0.15)


def test_an_unsteady_pitch_shows_as_jitter() -> None:
    steady, unsteady = buzz(3, 0.0), buzz(3, 0.02)
    assert trait(unsteady, "pitch jitter median") > trait(steady, "pitch jitter median") + 0.5
    mean = "residual periodicity mean"
    assert trait(steady, mean) > trait(unsteady, mean)


def test_pulses_have_peaked_residuals() -> None:
    name = "residual kurtosis mean"
    assert trait(buzz(3, 0.0), name) > trait(with_noise(spoken(TEXTS[1]), -40.0), name)


def test_nothing_is_said_without_voice() -> None:
    assert cues(np.zeros(3 * RATE, np.float32)) is None
    assert cues(np.zeros(10, np.float32)) is None
    hiss = np.random.default_rng(3).normal(0, 0.1, 3 * RATE).astype(np.float32)
    assert cues(hiss) is None
    assert cues(spoken()[: RATE // 2]) is None
