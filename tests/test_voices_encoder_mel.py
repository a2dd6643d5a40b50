"""The spectrogram against librosa's, which the network was trained on."""

from __future__ import annotations

import numpy as np
import pytest

from ringtrue.voices.encoder.mel import HOP, MELS, RATE, mel_spectrogram


@pytest.mark.filterwarnings("ignore:n_fft=400 is too large")
@pytest.mark.parametrize("count", [1, 159, 160, 400, 16001])
def test_it_is_librosas(count: int) -> None:
    feature = pytest.importorskip("librosa.feature", reason="librosa is in the extra: models")
    samples = np.random.default_rng(count).normal(0, 0.1, count).astype(np.float32)
    wanted = feature.melspectrogram(y=samples, sr=RATE, n_fft=400, hop_length=HOP, n_mels=MELS).T
    found = mel_spectrogram(samples)
    assert (found.shape, found.dtype) == (wanted.shape, np.float32)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize(
    ("hertz", "band"),
    # On Slaney's scale 8 kHz is 15 + 27 ln(8) / ln(6.4) = 45.25 mel, so the bands peak every
    # 45.25 / 41 mel; 4 kHz is 35.16 mel, 7.6 kHz 44.50, and 1 kHz is 15.
    [(74.0, 0), (1000.0, 12), (4000.0, 31), (7600.0, 39)],
)
def test_a_tone_lands_in_its_band(hertz: float, band: int) -> None:
    samples = np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE).astype(np.float32)
    power = mel_spectrogram(samples)[10:90].sum(axis=0)
    assert abs(int(power.argmax()) - band) <= 1


def test_power_goes_with_the_square() -> None:
    samples = np.random.default_rng(1).normal(0, 0.1, 4000).astype(np.float32)
    np.testing.assert_allclose(
        mel_spectrogram(2 * samples), 4 * mel_spectrogram(samples), rtol=1e-5
    )
