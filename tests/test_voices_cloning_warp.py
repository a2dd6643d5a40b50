"""From log magnitudes to mel-cepstra and back."""

from __future__ import annotations

import numpy as np

from ringtrue.voices.cloning.warp import cosines, from_log_magnitude
from ringtrue.voices.vocoder import Vocoder


def test_a_cepstrum_survives_the_way_there_and_back() -> None:
    mcep = np.random.default_rng(0).normal(size=(6, 25)) / np.arange(1, 26)
    again = (mcep @ cosines(513).T) @ from_log_magnitude(513)
    np.testing.assert_allclose(again, mcep, atol=2e-3)


def test_it_is_the_vocoders_axis() -> None:
    np.testing.assert_allclose(cosines(257), Vocoder(0.42)._cosines.T, atol=1e-12)
