"""Changing the sample rate in a stream: chunking, pass band, what must not fold back, delay."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtrue.voices.rerate import MAX_RATE, MIN_RATE, Rerate

PAIRS = [(24000, 8000), (24000, 16000), (22050, 16000), (44100, 8000), (8000, 16000)]


def tone(hertz: float, rate: int, seconds: float = 0.5) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)


def level(samples: np.ndarray) -> float:
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    return float(20 * np.log10(np.sqrt(2 * np.mean(middle**2)) + 1e-12))


@pytest.mark.parametrize(("source", "target"), PAIRS)
@given(cuts=st.lists(st.integers(0, 3000), max_size=8))
def test_any_chunking_gives_the_same_output(source: int, target: int, cuts: list[int]) -> None:
    samples = np.random.default_rng(1).standard_normal(3000)
    whole = Rerate(source, target)
    expected = np.concatenate([whole.feed(samples), whole.finish()])
    stream = Rerate(source, target)
    edges = [0, *sorted(cuts), len(samples)]
    pieces = [stream.feed(samples[a:b]) for a, b in zip(edges, edges[1:], strict=False)]
    got = np.concatenate([*pieces, stream.finish()])
    np.testing.assert_allclose(got, expected, atol=1e-12)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_speech_passes_and_nothing_folds_back_into_it(source: int, target: int) -> None:
    low = min(source, target)
    for share in (0.05, 0.25, 0.42):
        assert abs(level(Rerate(source, target).feed(tone(share * low, source)))) < 0.1
    if source > target:
        for share in (0.57, 0.65, 0.95):
            if share * low >= source / 2:
                continue
            assert level(Rerate(source, target).feed(tone(share * low, source))) < -65


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_the_delay_is_what_it_says_and_short(source: int, target: int) -> None:
    rerate = Rerate(source, target)
    assert rerate.delay / source < 0.003
    pulse = np.exp(-0.5 * ((np.arange(source // 10) - source // 20) / (source / 2000)) ** 2)
    out = np.concatenate([rerate.feed(pulse), rerate.finish()])
    expected = (source // 20 + rerate.delay) / source
    assert abs(int(np.argmax(out)) / target - expected) <= 1 / target
    assert abs(len(out) / target - (len(pulse) + rerate.delay) / source) <= 2 / target


def test_the_same_rate_passes_untouched() -> None:
    samples = np.arange(10.0)
    rerate = Rerate(16000, 16000)
    assert rerate.feed(samples).tolist() == samples.tolist()
    assert rerate.delay == 0
    assert len(rerate.finish()) == 0


@pytest.mark.parametrize("rate", [0, MIN_RATE - 1, MAX_RATE + 1])
def test_absurd_rates_are_refused(rate: int) -> None:
    with pytest.raises(ValueError, match=f"source rate {rate}"):
        Rerate(rate, 8000)
    with pytest.raises(ValueError, match=f"target rate {rate}"):
        Rerate(8000, rate)
