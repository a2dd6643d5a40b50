"""Wrong keys: some are answered, then none for a while, and only of that address."""

from __future__ import annotations

import pytest

from ringtrue.streaming.throttle import FailureThrottle


def test_failures_fill_a_bucket_that_leaks() -> None:
    throttle = FailureThrottle(burst=3, leak_seconds=10)
    for _ in range(3):
        assert throttle.wait("192.0.2.1", 100) == 0
        throttle.failed("192.0.2.1", 100)
    assert throttle.wait("192.0.2.1", 100) == pytest.approx(10)
    assert throttle.wait("192.0.2.1", 104) == pytest.approx(6)
    assert throttle.wait("192.0.2.1", 110) == 0
    throttle.failed("192.0.2.1", 110)
    assert throttle.wait("192.0.2.1", 110) == pytest.approx(10)
    assert throttle.wait("192.0.2.1", 1000) == 0


def test_others_are_not_held_up() -> None:
    throttle = FailureThrottle(burst=1)
    throttle.failed("192.0.2.1", 0)
    assert throttle.wait("192.0.2.1", 0) > 0
    assert throttle.wait("192.0.2.2", 0) == 0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("", "no address", False),
    ],
)
def test_a_party_is_an_address_or_an_ipv6_network(one: str, other: str, same: bool) -> None:
    throttle = FailureThrottle(burst=1)
    throttle.failed(one, 0)
    assert (throttle.wait(other, 0) > 0) is same


def test_it_remembers_no_more_than_it_may() -> None:
    throttle = FailureThrottle(burst=1, max_addresses=10)
    for n in range(30):
        throttle.failed(f"192.0.2.{n}", 0)
    assert len(throttle) == 10
    assert throttle.wait("192.0.2.29", 0) > 0
    assert throttle.wait("192.0.2.1", 0) == 0
