from __future__ import annotations

import pytest

from ringtrue.voices.cache.breaker import Breaker, BreakerState


def broken(at: float = 0.0) -> Breaker:
    breaker = Breaker(failures=3, first_pause=1.0, longest_pause=4.0)
    for _ in range(3):
        assert breaker.allow(at)
        breaker.failed(at)
    return breaker


def test_only_failures_in_a_row_open_it() -> None:
    breaker = Breaker(failures=3)
    for _ in range(10):
        breaker.failed(0.0)
        breaker.failed(0.0)
        breaker.succeeded()
    assert breaker.state is BreakerState.CLOSED
    assert breaker.openings == 0


def test_open_it_lets_nothing_through_until_its_pause_is_over() -> None:
    breaker = broken(at=10.0)
    assert breaker.state is BreakerState.OPEN
    assert not breaker.allow(10.0)
    assert not breaker.allow(10.99)
    assert breaker.allow(11.0)


def test_after_the_pause_one_call_goes_out_alone() -> None:
    breaker = broken()
    assert breaker.allow(1.0)
    assert breaker.state is BreakerState.PROBING
    assert not breaker.allow(1.0)
    assert not breaker.allow(100.0)
    breaker.succeeded()
    assert breaker.allow(100.0)
    assert breaker.allow(100.0)


def test_failed_probes_double_the_pause_up_to_the_longest() -> None:
    breaker, now, pauses = broken(), 0.0, []
    for _ in range(4):
        pause = next(p for p in (1.0, 2.0, 4.0, 8.0) if breaker.allow(now + p))
        pauses.append(pause)
        now += pause
        breaker.failed(now)
    assert pauses == [1.0, 2.0, 4.0, 4.0]


def test_a_success_makes_the_pause_short_again() -> None:
    breaker = broken()
    assert breaker.allow(1.0)
    breaker.failed(1.0)
    assert breaker.allow(3.0)
    breaker.succeeded()
    for _ in range(3):
        breaker.failed(5.0)
    assert not breaker.allow(5.9)
    assert breaker.allow(6.0)


def test_a_probe_that_was_broken_off_lets_the_next_one_out() -> None:
    breaker = broken()
    assert breaker.allow(1.0)
    breaker.given_up()
    assert breaker.allow(1.0)


def test_calls_that_fail_while_it_is_open_do_not_prolong_the_pause() -> None:
    breaker = broken()
    breaker.failed(0.9)
    assert breaker.allow(1.0)


@pytest.mark.parametrize(("failures", "first", "longest"), [(0, 1, 1), (1, 0, 1), (1, 2, 1)])
def test_numbers_that_make_no_sense_are_refused(
    failures: int, first: float, longest: float
) -> None:
    with pytest.raises(ValueError, match="allowed: at least 1 failure"):
        Breaker(failures=failures, first_pause=first, longest_pause=longest)
