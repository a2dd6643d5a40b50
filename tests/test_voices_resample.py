"""Halving the rate in a stream."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringtrue.voices.resample import DELAY, HalverState, halve


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 333), min_size=1, max_size=20))
def test_any_chunking_gives_the_same_samples(sizes: list[int]) -> None:
    samples = np.random.default_rng(1).normal(size=sum(sizes))
    whole = halve(HalverState(), samples)
    assert len(whole) == (len(samples) + 1) // 2
    state, parts, at = HalverState(), [], 0
    for size in sizes:
        parts.append(halve(state, samples[at : at + size]))
        at += size
    assert np.array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("frequency", [100.0, 1000.0, 3000.0, 3400.0])
def test_the_telephone_band_passes(frequency: float) -> None:
    n = np.arange(16000)
    out = halve(HalverState(), np.sin(2 * np.pi * frequency * n / 16000))
    wanted = np.sin(2 * np.pi * frequency * (2 * np.arange(8000) - DELAY) / 16000)
    np.testing.assert_allclose(out[100:], wanted[100:], atol=0.01)


@pytest.mark.parametrize("frequency", [4600.0, 5000.0, 7000.0, 7900.0])
def test_what_would_alias_is_gone(frequency: float) -> None:
    n = np.arange(16000)
    out = halve(HalverState(), np.sin(2 * np.pi * frequency * n / 16000))
    assert np.abs(out[100:]).max() < 10 ** (-65 / 20)
