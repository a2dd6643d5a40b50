"""Intervals hold the true value as often as they say."""

from __future__ import annotations

import math
import random

import pytest

from ringtrue.loadtest.confidence import (
    Interval,
    percentile_interval,
    samples_needed,
    share_interval,
)


@pytest.mark.parametrize(("part", "count"), [(0.5, 20), (0.5, 101), (0.95, 150), (0.99, 600)])
def test_the_interval_holds_the_quantile_95_times_in_100(part: float, count: int) -> None:
    chance = random.Random(11)
    truth = -math.log(1 - part)
    held = 0
    for _ in range(400):
        ranked = sorted(chance.expovariate(1) for _ in range(count))
        interval = percentile_interval(ranked, part)
        held += interval.low <= truth <= interval.high
    # The ranks are discrete, so it holds more often than it must, never notably less.
    assert held >= 0.93 * 400
    assert held < 400


def test_samples_needed_is_where_the_upper_end_begins() -> None:
    assert [samples_needed(part) for part in (0.5, 0.95, 0.99)] == [6, 72, 368]
    for part in (0.5, 0.95, 0.99):
        enough = samples_needed(part)
        assert percentile_interval([1.0] * enough, part).high == 1.0
        assert percentile_interval([1.0] * (enough - 1), part).high == math.inf


def test_failures_are_infinite_bounds() -> None:
    interval = percentile_interval([100.0] * 10 + [math.inf] * 90, 0.5)
    assert interval == Interval(math.inf, math.inf)
    assert percentile_interval([], 0.5) == Interval(-math.inf, math.inf)


def test_shares() -> None:
    none = share_interval(0, 100)
    assert none.low == 0
    assert none.high == pytest.approx(0.037, abs=0.001)  # the "rule of three" gives 0.03
    half = share_interval(50, 100)
    assert (half.low, half.high) == (pytest.approx(0.404, abs=1e-3), pytest.approx(0.596, abs=1e-3))
    assert share_interval(0, 0) == Interval(0.0, 1.0)
