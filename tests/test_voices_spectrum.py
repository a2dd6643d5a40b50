"""The real FFT against numpy's."""

from __future__ import annotations

import numpy as np
import pytest

from ringtrue.voices.spectrum import BINS, HALF, REVERSED, SIZE, TWIDDLES, forward, inverse


@pytest.mark.parametrize("seed", range(5))
def test_forward_and_back(seed: int) -> None:
    signal = np.random.default_rng(seed).normal(size=SIZE)
    spectrum, work = np.empty(BINS, np.complex128), np.empty(HALF, np.complex128)
    forward(signal, spectrum, work, REVERSED, TWIDDLES)
    np.testing.assert_allclose(spectrum, np.fft.rfft(signal), atol=1e-11)
    back = np.empty(SIZE)
    inverse(spectrum, back, work, REVERSED, TWIDDLES)
    np.testing.assert_allclose(back, signal, atol=1e-13)


def test_impulse_is_flat() -> None:
    signal = np.zeros(SIZE)
    signal[0] = 1.0
    spectrum, work = np.empty(BINS, np.complex128), np.empty(HALF, np.complex128)
    forward(signal, spectrum, work, REVERSED, TWIDDLES)
    np.testing.assert_allclose(spectrum, 1.0, atol=1e-14)
