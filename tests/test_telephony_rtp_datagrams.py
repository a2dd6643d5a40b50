"""A media socket's datagrams, read by the system's calls or by the socket's own."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from ringtrue.telephony.rtp.datagrams import Datagrams
from ringtrue.telephony.rtp.system_calls import SystemCalls, system_calls


class Special(socket.socket):
    """A socket that does something of its own."""


class Pair:
    """Two of them, and what they are made of."""

    def __init__(self, sockets: list[socket.socket], system: SystemCalls | None) -> None:
        self.sockets = sockets
        self.ports = [sock.getsockname()[1] for sock in sockets]
        self.one, self.other = (Datagrams(sock, system) for sock in sockets)


@pytest.fixture(params=["system", "without", "special"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    kind = Special if request.param == "special" else socket.socket
    system = None if request.param == "without" else system_calls()
    made = [kind(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    for sock in made:
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
    yield Pair(made, system)
    for sock in made:
        sock.close()


def test_there_and_back(pair: Pair) -> None:
    one, other = pair.one, pair.other
    other.tell_times()
    assert other.receive() is None
    for payload in (b"first", b"second"):
        assert one.send(payload, ("127.0.0.1", pair.ports[1]))
        assert other.receive() == payload
        assert other.source == ("127.0.0.1", pair.ports[0])
        assert abs(other.stamp - time.time()) < 5
    assert other.send(b"back", other.source)
    assert one.receive() == b"back"
    assert (one.source, one.stamp) == (("127.0.0.1", pair.ports[1]), 0.0)


def test_each_datagram_has_its_own_source(pair: Pair) -> None:
    one, other = pair.one, pair.other
    assert one.send(b"a", ("127.0.0.1", pair.ports[0]))
    assert other.send(b"b", ("127.0.0.1", pair.ports[0]))
    assert one.send(b"c", ("127.0.0.1", pair.ports[0]))
    came = [(one.receive(), one.source[1]) for _ in range(3)]
    assert came == [(b"a", pair.ports[0]), (b"b", pair.ports[1]), (b"c", pair.ports[0])]


def test_destinations_that_are_none(pair: Pair) -> None:
    one, other = pair.one, pair.other
    assert not one.send(b"x", ("2001:db8::1", 5))
    assert not one.send(b"x" * 70_000, ("127.0.0.1", pair.ports[1]))
    assert one.send(b"x", ("127.0.0.1", pair.ports[1]))
    assert other.receive() is not None


def test_a_closed_socket_neither_sends_nor_reads_for_who_has_its_number_now(pair: Pair) -> None:
    one = pair.one
    pair.sockets[0].close()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as heir:
        heir.bind(("127.0.0.1", 0))
        heir.setblocking(False)
        heir.sendto(b"for the heir", heir.getsockname())
        assert not one.send(b"x", ("127.0.0.1", pair.ports[1]))
        assert one.receive() is None
        assert heir.recv(100) == b"for the heir"
