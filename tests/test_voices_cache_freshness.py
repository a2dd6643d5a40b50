from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtrue.voices.cache.freshness import Freshness

LEASE = 0.4


def subscribed(now: float) -> Freshness:
    """Subscribed and checked, with a ping sent at ``now`` and answered."""
    freshness = Freshness(LEASE)
    freshness.checked(freshness.begun())
    freshness.pong(freshness.ping(now))
    return freshness


def test_nothing_is_fresh_before_the_first_answer() -> None:
    freshness = Freshness(LEASE)
    assert not freshness.fresh(0.0)
    freshness.checked(freshness.begun())
    freshness.ping(0.0)
    assert not freshness.fresh(0.0)


def test_an_answer_proves_the_time_its_ping_was_sent_not_that_of_the_answer() -> None:
    freshness = Freshness(LEASE)
    freshness.checked(freshness.begun())
    token = freshness.ping(10.0)
    freshness.pong(token)  # however late
    assert freshness.proven == 10.0
    assert freshness.fresh(10.39)
    assert not freshness.fresh(10.41)


def test_answers_do_not_count_before_what_was_leased_is_checked() -> None:
    freshness = Freshness(LEASE)
    generation = freshness.begun()
    freshness.pong(freshness.ping(10.0))
    assert not freshness.fresh(10.0)
    freshness.checked(generation)
    assert freshness.fresh(10.0)


def test_a_loss_leaves_the_lease_and_no_more() -> None:
    freshness = subscribed(10.0)
    freshness.lost()
    assert freshness.fresh(10.3)
    assert not freshness.fresh(10.5)


def test_after_a_loss_neither_answers_nor_an_old_check_make_it_fresh() -> None:
    freshness = subscribed(10.0)
    old = freshness.generation
    token = freshness.ping(10.1)
    freshness.lost()
    freshness.pong(token)
    new = freshness.begun()
    freshness.pong(token)
    freshness.pong(freshness.ping(20.0))
    freshness.checked(old)
    assert not freshness.fresh(20.0)
    freshness.checked(new)
    assert freshness.fresh(20.0)


def test_it_tells_how_long_the_oldest_ping_waits() -> None:
    freshness = Freshness(LEASE)
    freshness.begun()
    assert freshness.unanswered(5.0) == 0.0
    first = freshness.ping(5.0)
    second = freshness.ping(5.5)
    assert freshness.unanswered(6.0) == 1.0
    freshness.pong(first)
    assert freshness.unanswered(6.0) == 0.5
    freshness.pong(second)
    assert freshness.unanswered(6.0) == 0.0


def test_forged_and_repeated_answers_prove_nothing() -> None:
    freshness = Freshness(LEASE)
    freshness.checked(freshness.begun())
    token = freshness.ping(1.0)
    freshness.pong(b"1.999")
    freshness.pong(b"")
    assert not freshness.fresh(1.0)
    freshness.pong(token)
    freshness.pong(token)
    assert freshness.proven == 1.0


@given(st.lists(st.sampled_from(["ping", "pong", "begun", "lost", "check", "revoke"])))
def test_whatever_happens_fresh_means_that_all_was_heard_or_checked(steps: list[str]) -> None:
    """A model: revocations are heard while subscribed, and looked up by a check."""
    freshness, now, listening = Freshness(LEASE), 0.0, False
    missed: list[float] = []  # published while nobody listened, not looked up since
    wire: list[bytes] = []
    for step in steps:
        now += 0.05
        if step == "begun":
            generation, listening, wire = freshness.begun(), True, []
        elif step == "lost":
            freshness.lost()
            listening, wire = False, []
        elif step == "ping" and listening:
            wire.append(freshness.ping(now))
        elif step == "pong" and wire:
            freshness.pong(wire.pop(0))
        elif step == "check" and listening:
            missed.clear()
            freshness.checked(generation)
        elif step == "revoke" and not listening:
            missed.append(now)
        if freshness.fresh(now):
            assert not [at for at in missed if at < now - LEASE]


def test_a_lease_must_be_above_zero() -> None:
    with pytest.raises(ValueError, match="allowed: above 0"):
        Freshness(0.0)
