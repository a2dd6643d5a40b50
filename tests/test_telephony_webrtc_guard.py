"""What the guard lets through, without a network."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from aioice.ice import CandidatePair

from ringtrue.telephony.webrtc.errors import UnsupportedAiortcError
from ringtrue.telephony.webrtc.guard import MAX_DATAGRAM, MAX_WAITING, DatagramGuard

BROWSER = ("192.0.2.1", 4000)
STRANGER = ("198.51.100.9", 4000)
SRTP = b"\x80" + bytes(40)
STUN = b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(12)


class Protocol:
    """Stands for aioice's: STUN goes one way, the rest to the connection."""

    def __init__(self, connection: "Connection") -> None:
        self.connection = connection
        self.stun: list[Any] = []
        self.fails = False

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if self.fails:
            raise IndexError
        if data[:2] == b"\x00\x01" and len(data) >= 20:
            self.stun.append(addr)
        else:
            self.connection.data_received(data, 1)


@dataclass
class Pair:
    protocol: Protocol
    remote_addr: tuple[str, int]
    state: CandidatePair.State = CandidatePair.State.SUCCEEDED


@dataclass
class Connection:
    _protocols: list[Protocol] = field(default_factory=list)
    _check_list: list[Pair] = field(default_factory=list)
    _nominated: dict[int, Pair] = field(default_factory=dict)
    _queue: asyncio.Queue[tuple[bytes, int]] = field(default_factory=asyncio.Queue)

    def data_received(self, data: bytes, component: int) -> None:
        self._queue.put_nowait((data, component))


@pytest.fixture
def connection() -> Connection:
    held = Connection()
    held._protocols.append(Protocol(held))
    return held


def armed(connection: Connection, *, verified: bool = True) -> tuple[DatagramGuard, Any]:
    guard = DatagramGuard(connection)
    guard.arm()
    protocol = connection._protocols[0]
    if verified:
        connection._check_list.append(Pair(protocol, BROWSER))
    return guard, protocol.datagram_received


async def test_the_browser_gets_through_and_counts_as_alive(connection: Connection) -> None:
    guard, receive = armed(connection)
    assert guard.last_heard is None
    receive(SRTP, (*BROWSER, 0, 0))  # as IPv6 sockets report it
    assert connection._queue.qsize() == 1
    assert guard.last_heard is not None
    assert guard.stats.passed == 1


async def test_an_empty_datagram_goes_nowhere_whoever_sent_it(connection: Connection) -> None:
    guard, receive = armed(connection)
    receive(b"", BROWSER)
    receive(b"", STRANGER)
    assert guard.stats.empty == 2
    assert connection._queue.empty()
    assert guard.last_heard is None


async def test_a_stranger_reaches_stun_only_and_proves_nothing_alive(
    connection: Connection,
) -> None:
    guard, receive = armed(connection)
    for first in (4, 20, 22, 63, 64, 128, 191, 255):
        receive(bytes([first]) * 30, STRANGER)
    assert guard.stats.unknown_source == 8
    assert connection._queue.empty()
    receive(STUN, STRANGER)
    assert connection._protocols[0].stun == [STRANGER]
    assert guard.last_heard is None


@pytest.mark.parametrize(
    "state",
    [s for s in CandidatePair.State if s is not CandidatePair.State.SUCCEEDED],
)
async def test_an_address_that_only_was_signalled_is_not_believed(
    connection: Connection, state: CandidatePair.State
) -> None:
    guard, receive = armed(connection, verified=False)
    connection._check_list.append(Pair(connection._protocols[0], BROWSER, state))
    receive(SRTP, BROWSER)
    assert guard.stats.unknown_source == 1
    connection._check_list[0].state = CandidatePair.State.SUCCEEDED
    receive(SRTP, BROWSER)
    assert connection._queue.qsize() == 1


async def test_an_address_is_verified_per_socket(connection: Connection) -> None:
    connection._protocols.append(Protocol(connection))
    guard, _ = armed(connection)
    connection._protocols[1].datagram_received(SRTP, BROWSER)
    assert guard.stats.unknown_source == 1


async def test_the_queue_before_dtls_is_bounded(connection: Connection) -> None:
    guard, receive = armed(connection)
    for _ in range(MAX_WAITING + 10):
        receive(SRTP, BROWSER)
    assert connection._queue.qsize() == MAX_WAITING
    assert guard.stats.overflow == 10


async def test_hostile_stun_neither_raises_nor_passes_for_data(connection: Connection) -> None:
    guard, receive = armed(connection)
    receive(b"\x00\x02garbage", STRANGER)
    receive(b"\x03", BROWSER)
    receive(bytes(MAX_DATAGRAM + 1), BROWSER)
    connection._protocols[0].fails = True
    receive(STUN, STRANGER)
    assert guard.stats.malformed == 3
    assert guard.stats.oversized == 1
    assert connection._queue.empty()


async def test_nothing_is_taken_before_the_guard_stands(connection: Connection) -> None:
    guard = DatagramGuard(connection)
    connection._protocols[0].datagram_received(SRTP, BROWSER)
    assert connection._queue.empty()
    assert guard.stats.early == 1
    guard.arm()
    connection._check_list.append(Pair(connection._protocols[0], BROWSER))
    connection._protocols[0].datagram_received(SRTP, BROWSER)
    assert connection._queue.qsize() == 1


def test_an_aioice_built_otherwise_is_refused() -> None:
    with pytest.raises(UnsupportedAiortcError, match="_protocols"):
        DatagramGuard(object())
