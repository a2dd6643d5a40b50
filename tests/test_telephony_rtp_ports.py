"""Media port pairs: even and odd, bound, never twice, all given back."""

from __future__ import annotations

import socket

import pytest

from ringtrue.telephony.rtp.ports import PortPool, PortsExhaustedError


def free_range(pairs: int) -> tuple[int, int]:
    """A range of ports that were free a moment ago."""
    for low in range(43_000, 60_000, 2 * pairs):
        try:
            for port in range(low, low + 2 * pairs):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return low, low + 2 * pairs - 1
    raise RuntimeError("no free range")


def test_a_pair_is_an_even_port_and_the_next_both_bound() -> None:
    pool = PortPool("127.0.0.1")
    pair = pool.acquire()
    assert pair.port % 2 == 0
    assert pair.rtp.getsockname() == ("127.0.0.1", pair.port)
    assert pair.rtcp.getsockname() == ("127.0.0.1", pair.port + 1)
    assert not pair.rtp.getblocking()
    assert pool.in_use == 1
    pool.release(pair)
    pool.release(pair)
    assert pool.in_use == 0
    assert pair.rtp.fileno() == pair.rtcp.fileno() == -1


def test_the_range_is_used_up_and_given_back() -> None:
    low, high = free_range(4)
    pool = PortPool("127.0.0.1", low, high)
    pairs = [pool.acquire() for _ in range(4)]
    assert sorted(pair.port for pair in pairs) == [low, low + 2, low + 4, low + 6]
    with pytest.raises(PortsExhaustedError, match="4 in use"):
        pool.acquire()
    pool.release(pairs[2])
    assert pool.free == 1
    again = pool.acquire()
    assert again.port == pairs[2].port
    for pair in [*pairs, again]:
        pool.release(pair)
    assert (pool.in_use, pool.free) == (0, 4)


def test_ports_of_others_are_passed_over() -> None:
    low, high = free_range(3)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", low + 3))  # the report port of the middle pair
        pool = PortPool("127.0.0.1", low, high)
        pairs = [pool.acquire(), pool.acquire()]
        assert {pair.port for pair in pairs} == {low, low + 4}
        with pytest.raises(PortsExhaustedError):
            pool.acquire()
        for pair in pairs:
            pool.release(pair)


def test_two_pools_share_a_range_without_clashes() -> None:
    low, high = free_range(4)
    pools = [PortPool("127.0.0.1", low, high) for _ in range(2)]
    pairs = [(pool, pool.acquire()) for pool in pools * 2]
    assert len({pair.port for _, pair in pairs}) == 4
    for pool, pair in pairs:
        pool.release(pair)


def test_a_released_pair_is_used_again_last() -> None:
    low, high = free_range(4)
    pool = PortPool("127.0.0.1", low, high)
    first = pool.acquire()
    pool.release(first)
    following = [pool.acquire() for _ in range(3)]
    assert first.port not in {pair.port for pair in following}
    for pair in following:
        pool.release(pair)


@pytest.mark.parametrize(("low", "high"), [(5000, 5000), (5001, 5002), (0, 10), (65534, 70000)])
def test_a_range_without_a_pair_is_named(low: int, high: int) -> None:
    with pytest.raises(ValueError, match=f"{low}-{high}"):
        PortPool("127.0.0.1", low, high)


def test_ipv6() -> None:
    pool = PortPool("::1")
    pair = pool.acquire()
    assert pair.rtp.family is socket.AF_INET6
    pool.release(pair)
