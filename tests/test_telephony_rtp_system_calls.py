"""Calls of the system for media sockets: as Python's own, but for the interpreter lock."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from ringtrue.telephony.rtp import system_calls as module
from ringtrue.telephony.rtp.system_calls import (
    MAX_DATAGRAM,
    SO_TIMESTAMPNS,
    LibraryCalls,
    SystemCalls,
    socket_address,
    socket_name,
    system_calls,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux's calls")


@pytest.fixture(params=["library", "here"])
def system(request: pytest.FixtureRequest) -> SystemCalls:
    """libc's, and what this build has."""
    found = LibraryCalls() if request.param == "library" else system_calls()
    assert found is not None
    return found


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    host = "127.0.0.1" if request.param == socket.AF_INET else "::1"
    both = [socket.socket(request.param, socket.SOCK_DGRAM) for _ in range(2)]
    for sock in both:
        sock.setblocking(False)
        sock.bind((host, 0))
    yield both[0], both[1]
    for sock in both:
        sock.close()


Ends = tuple[socket.socket, socket.socket]


def name(sock: socket.socket) -> bytes:
    return socket_name(sock.family, sock.getsockname()[:2])


def test_what_is_sent_is_received_with_its_source_and_its_time(
    system: SystemCalls, ends: Ends
) -> None:
    here, there = ends
    there.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    assert system.receive(there.fileno(), b"") is None
    before = time.time()
    assert system.send(here.fileno(), b"one", name(there))
    assert system.send(here.fileno(), b"", name(there))
    after = time.time()
    first = system.receive(there.fileno(), b"")
    assert first is not None
    data, stamp, source = first
    assert data == b"one"
    assert before - 1e-3 <= stamp <= after + 1e-3
    assert socket_address(source) == here.getsockname()[:2]
    second = system.receive(there.fileno(), source)
    assert second is not None
    assert second[0] == b""
    assert second[2] is source
    assert system.receive(there.fileno(), source) is None


def test_no_time_where_none_was_asked_for_and_another_source(
    system: SystemCalls, ends: Ends
) -> None:
    here, there = ends
    assert system.send(here.fileno(), b"x", name(here))
    assert system.receive(here.fileno(), name(there)) == (b"x", 0.0, name(here))


def test_what_is_too_long_is_cut(system: SystemCalls, ends: Ends) -> None:
    here, there = ends
    assert system.send(here.fileno(), bytes(MAX_DATAGRAM + 9), name(there))
    got = system.receive(there.fileno(), b"")
    assert got is not None
    assert got[0] == bytes(MAX_DATAGRAM)


def test_failures_raise_nothing(system: SystemCalls, ends: Ends) -> None:
    here, there = ends
    assert not system.send(here.fileno(), bytes(70_000), name(there))
    assert not system.send(here.fileno(), b"x", b"")
    assert not system.send(here.fileno(), b"x", b"nonsense")
    there.close()
    assert there.fileno() == -1
    assert not system.send(there.fileno(), b"x", name(here))
    assert system.receive(there.fileno(), b"") is None


def keeps_the_interpreter(work: Callable[[], object]) -> bool:
    """Whether a thread that waits for the interpreter has to wait until ``work`` is done."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(60.0)  # nobody is asked to let go
    gate, ran = threading.Lock(), []
    gate.acquire()

    def other() -> None:
        with gate:
            ran.append(True)

    thread = threading.Thread(target=other)
    try:
        thread.start()  # and it stands before the gate
        gate.release()
        asked = time.perf_counter() + 0.05
        while time.perf_counter() < asked:
            pass  # it has woken up, and wants the interpreter
        work()
        return not ran
    finally:
        sys.setswitchinterval(usual)
        thread.join()


def test_other_threads_wait(system: SystemCalls, ends: Ends) -> None:
    here, there = ends
    to = name(there)

    def work() -> None:
        for _ in range(100):
            assert system.send(here.fileno(), b"x", to)
            assert system.receive(there.fileno(), b"") is not None
            assert system.receive(there.fileno(), b"") is None

    assert keeps_the_interpreter(work)
    assert not keeps_the_interpreter(lambda: time.sleep(0.05))


@pytest.mark.parametrize(
    ("family", "address"),
    [(socket.AF_INET, ("192.0.2.7", 65535)), (socket.AF_INET6, ("2001:db8::7", 1))],
)
def test_addresses(family: int, address: tuple[str, int]) -> None:
    assert socket_address(socket_name(family, address)) == address


@pytest.mark.parametrize(
    ("family", "host"),
    [(socket.AF_INET, "::1"), (socket.AF_INET6, "127.0.0.1"), (socket.AF_INET, "host.invalid")],
)
def test_addresses_of_another_family(family: int, host: str) -> None:
    with pytest.raises(OSError, match="illegal IP address"):
        socket_name(family, (host, 5))


def test_none_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ringtrue.telephony.rtp._system_calls", None)
    monkeypatch.delattr("ringtrue.telephony.rtp._system_calls", raising=False)
    assert isinstance(system_calls(), LibraryCalls)
    monkeypatch.setattr(module.sys, "platform", "sunos")
    assert system_calls() is None
