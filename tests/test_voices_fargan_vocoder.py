"""The neural vocoder where the pulse vocoder may stand."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from ringtrue.voices.fargan.features import features, fresh_pitch, tables
from ringtrue.voices.fargan.vocoder import DELAY, NeuralVocoder
from ringtrue.voices.flite import Flite, FliteVoice, Parameters, spoken_tokens
from ringtrue.voices.renderer import scaled
from ringtrue.voices.vocoder import BAND_CENTRES, HOP, Vocoder

RATE = 16000
Array = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def phrase() -> Parameters:
    """A sentence of a stock voice."""
    return FliteVoice(Flite(), "rms").analyse(spoken_tokens("Stop it at once, Peter, please."))


def said(phrase: Parameters, vocoder: NeuralVocoder | Vocoder, size: int = 10_000) -> Array:
    """``phrase``, in slices of ``size`` frames."""
    stream = vocoder.stream()
    mcep = scaled(phrase.mcep)
    parts = [
        stream.render(phrase.f0[at : at + size], mcep[at : at + size],
                      phrase.strengths[at : at + size])
        for at in range(0, len(phrase.f0), size)
    ]  # fmt: skip
    return np.concatenate([*parts, stream.finish()])


def loudness(samples: Array) -> Array:
    """Log power, every millisecond."""
    smooth = np.convolve(samples**2, np.hanning(161), "same")[::16]
    found = np.log(smooth + 1e-6)
    return np.asarray(found - found.mean())


@pytest.mark.parametrize("size", [1, 2, 4, 5, 13])
def test_any_slicing_gives_the_same_samples(phrase: Parameters, size: int) -> None:
    vocoder = NeuralVocoder(postfilter=0.4)
    np.testing.assert_array_equal(said(phrase, vocoder, size), said(phrase, vocoder))


def test_a_stream_can_speak_again_after_it_has_finished(phrase: Parameters) -> None:
    stream = NeuralVocoder().stream()
    given = (phrase.f0, scaled(phrase.mcep), phrase.strengths)
    first = np.concatenate([stream.render(*given), stream.finish()])
    np.testing.assert_array_equal(np.concatenate([stream.render(*given), stream.finish()]), first)


def test_it_says_the_same_at_the_same_time_as_the_pulse_vocoder(phrase: Parameters) -> None:
    pulse = loudness(said(phrase, Vocoder(postfilter=0.4)))
    neural = loudness(said(phrase, NeuralVocoder(postfilter=0.4)))
    count = min(len(pulse), len(neural)) - 40
    likeness = [
        float(np.corrcoef(pulse[20 : count - 20], neural[20 + lag : count - 20 + lag])[0, 1])
        for lag in range(-20, 21)
    ]
    best = int(np.argmax(likeness)) - 20
    assert max(likeness) > 0.9
    assert abs(best - (DELAY - HOP) / 16) <= 2  # milliseconds


@pytest.mark.parametrize("f0", [90.0, 210.0])
def test_it_speaks_at_the_pitch_asked_for(f0: float) -> None:
    frames = 200
    mcep = np.zeros((frames, 25))
    mcep[:, 0], mcep[:, 1] = -4.0, 1.0
    stream = NeuralVocoder().stream()
    samples = stream.render(np.full(frames, f0), mcep, np.full((frames, 5), 0.95))[4000:12000]
    echo = np.correlate(samples, samples, "full")[len(samples) - 1 :]
    low, high = int(RATE / 400), int(RATE / 65)
    assert RATE / (low + int(np.argmax(echo[low:high]))) == pytest.approx(f0, rel=0.03)


@pytest.mark.parametrize("f0", [40.0, 55.0, 63.0, 70.0, 500.0, 700.0])
def test_no_pitch_makes_it_shriek(phrase: Parameters, f0: float) -> None:
    stream = NeuralVocoder(postfilter=0.4).stream()
    pitch = np.where(phrase.f0 > 0, f0, 0.0)
    samples = stream.render(pitch, scaled(phrase.mcep), phrase.strengths)
    assert 0.05 < np.abs(samples).max() < 1.0


def test_silence_stays_silent_and_nothing_is_lost_at_the_end(phrase: Parameters) -> None:
    samples = said(phrase, NeuralVocoder())
    assert np.abs(samples[-80:]).max() < 1e-3
    assert len(samples) >= len(phrase.f0) * HOP + DELAY - HOP


def test_shapes_that_disagree_are_refused(phrase: Parameters) -> None:
    with pytest.raises(ValueError, match="need cepstra"):
        NeuralVocoder().stream().render(phrase.f0, phrase.mcep[:4], phrase.strengths)


def test_a_postfilter_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="postfilter"):
        NeuralVocoder(postfilter=2)


def test_features_are_those_of_the_sound_itself() -> None:
    """Noise of a known spectrum: white at one level gives the bands that level."""
    given = tables(0.42, 25, BAND_CENTRES)
    mcep = np.zeros((2, 25))
    mcep[:, 0] = np.log(1000.0 / 32768.0)
    found = features(given, np.zeros(2), mcep, np.zeros((2, 5)), 1.0, fresh_pitch())
    rng = np.random.default_rng(2)
    noise = rng.normal(0.0, 1000.0, (400, 321))
    sharp = noise[:, 1:] - 0.85 * noise[:, :-1]
    rise = np.sin(0.5 * np.pi * np.sin(np.pi * (np.arange(160) + 0.5) / 320) ** 2)
    seen = np.abs(np.fft.rfft(sharp * np.concatenate([rise, rise[::-1]]), axis=1) / 320) ** 2
    edges = [4 * at for at in (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 34, 40)]
    shapes = np.stack([np.interp(np.arange(161), edges, row) for row in np.eye(18)])
    shapes[[0, -1]] *= 2
    bands = np.log10(0.01 + (seen @ shapes.T).mean(axis=0))
    index = np.arange(18)
    basis = np.cos((index[:, None] + 0.5) * index * np.pi / 18) * np.sqrt(2 / 18)
    basis[:, 0] *= np.sqrt(0.5)
    expected = bands @ basis
    expected[0] -= 4.0
    np.testing.assert_allclose(found[0, :18], expected, atol=0.05)
    assert found[0, 19] == pytest.approx(np.log(2) / np.log1p(np.exp(5)) - 0.5, abs=1e-6)


def test_frames_come_in_pairs() -> None:
    given = tables(0.42, 25, BAND_CENTRES)
    with pytest.raises(ValueError, match="pairs"):
        features(given, np.zeros(3), np.zeros((3, 25)), np.zeros((3, 5)), 1.0, fresh_pitch())
