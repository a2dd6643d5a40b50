"""A source that acknowledges nothing holds few places; others hold what they like."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from ringtrue.agent.unacknowledged import LEAST, Unacknowledged


def test_one_source_holds_a_quarter() -> None:
    held = Unacknowledged(40)
    with ExitStack() as places:
        for _ in range(9):
            places.enter_context(held.holding("192.0.2.1"))
        assert not held.full("192.0.2.1")
        places.enter_context(held.holding("192.0.2.1"))
        assert held.full("192.0.2.1")
        assert not held.full("192.0.2.2")
        assert len(held) == 10
    assert not held.full("192.0.2.1")
    assert len(held) == 0


def test_a_small_server_lets_a_few_hold() -> None:
    assert Unacknowledged(1).most == LEAST


def test_an_ipv6_network_is_one_source() -> None:
    held = Unacknowledged(16)
    with ExitStack() as places:
        for number in range(4):
            places.enter_context(held.holding(f"2001:db8::{number}"))
        assert held.full("2001:db8::ffff")
        assert not held.full("2001:db8:1::1")


def test_who_is_known_is_not_limited() -> None:
    held = Unacknowledged(16, lambda host: host == "192.0.2.1")
    with ExitStack() as places:
        for _ in range(50):
            places.enter_context(held.holding("192.0.2.1"))
        assert not held.full("192.0.2.1")


def test_a_failure_gives_the_place_back() -> None:
    held = Unacknowledged(16)
    with pytest.raises(OSError, match="gone"), held.holding("192.0.2.1"):
        raise OSError("gone")
    assert len(held) == 0
