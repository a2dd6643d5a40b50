"""What calls are found to cost, on average and together."""

from __future__ import annotations

import random
from math import sqrt

import pytest

from ringtrue.agent.call_cost import Bursts, CallCost, Smooth

LOOK = 0.5
COST, DEVIATION = 0.03, 0.05


def learned(bursts: Bursts, calls: int, deviation: float, seconds: float, seed: int = 1) -> Bursts:
    """``bursts`` after so long with calls that depart by ``deviation`` over a second."""
    chance = random.Random(seed)
    each = deviation * sqrt(1.0 / LOOK)
    for _ in range(int(seconds / LOOK)):
        value = sum(chance.gauss(COST, each) for _ in range(calls))
        bursts.learn(value, calls, 1.0, LOOK)
    return bursts


def test_an_average_forgets() -> None:
    smooth = Smooth(2.0)
    smooth.take(1.0, LOOK)
    assert smooth.value == 1.0
    for _ in range(40):
        smooth.take(0.0, LOOK)
    assert smooth.value == pytest.approx(0.0, abs=1e-3)


def test_a_cost_is_found_whatever_was_assumed() -> None:
    for assumed in (0.01, 0.04, 0.1):
        cost = CallCost(assumed)
        for _ in range(400):
            cost.learn(0.05, 0.0, 1.0, LOOK)
        for _ in range(400):
            cost.learn(0.05 + 20 * COST, 20.0, 1.0, LOOK)
        assert cost.value == pytest.approx(COST, rel=0.02)
        assert cost.idle == pytest.approx(0.05, rel=0.02)


def test_calls_that_are_not_under_way_make_no_call_cheaper_at_once() -> None:
    new, old = CallCost(0.04), CallCost(0.04)
    for _ in range(20):
        new.learn(0.1, 10.0, 0.5, LOOK)
        old.learn(0.1, 10.0, 1.0, LOOK)
    assert new.value > 0.037
    assert old.value < 0.032
    for _ in range(2000):  # where calls always come and go, that is what they cost
        new.learn(0.1, 10.0, 0.5, LOOK)
    assert new.value == pytest.approx(0.01, rel=0.1)


def test_too_few_calls_tell_nothing() -> None:
    cost, bursts = CallCost(0.04), Bursts(0.06)
    cost.learn(0.9, 2.0, 1.0, LOOK)
    bursts.learn(0.9, 2.0, 1.0, LOOK)
    assert (cost.value, bursts.deviation) == (0.04, 0.06)


def test_a_cost_stays_in_its_range() -> None:
    cost = CallCost(0.04)
    for _ in range(1000):
        cost.learn(100.0, 5.0, 1.0, LOOK)
    assert cost.value == pytest.approx(0.4, rel=1e-3)
    for _ in range(1000):
        cost.learn(0.0, 5.0, 1.0, LOOK)
    assert cost.value == pytest.approx(0.004, rel=1e-3)


@pytest.mark.parametrize("calls", [8, 20, 60])
@pytest.mark.parametrize("assumed", [0.02, 0.05, 0.15])
def test_the_deviation_of_one_call_is_found(calls: int, assumed: float) -> None:
    found = [learned(Bursts(assumed), calls, DEVIATION, 600, seed).deviation for seed in range(5)]
    assert sum(found) / 5 == pytest.approx(DEVIATION, rel=0.2)
    assert all(each == pytest.approx(DEVIATION, rel=0.4) for each in found)


def test_calls_together_depart_less_than_their_sum() -> None:
    bursts = Bursts(0.06)
    assert bursts.of(16) == pytest.approx(0.24)
    assert bursts.of(64) == pytest.approx(0.48)
    assert bursts.of(0) == bursts.of(-1) == 0.0


def test_a_load_that_rises_evenly_is_no_burst() -> None:
    bursts = Bursts(0.06)
    for look in range(600):
        calls = look / 10
        bursts.learn(calls * COST, calls, 1.0, LOOK)
    assert bursts.deviation < 0.06
