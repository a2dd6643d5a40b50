"""UDP and TCP by hop: names, limits, failures."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest_asyncio

from ringtrue.telephony.sip.sockets import (
    MAX_WAITING,
    MAX_WRITE_BUFFER,
    Sockets,
    is_address,
    resolve,
    source_address,
)
from ringtrue.telephony.sip.transport import Hop


@dataclass
class Ends:
    """Two bound socket sets and what the first one heard."""

    port: int = 0
    other_port: int = 0
    heard: asyncio.Queue[tuple[bytes, Hop]] = field(default_factory=asyncio.Queue)
    closed: asyncio.Queue[Hop] = field(default_factory=asyncio.Queue)
    failed: asyncio.Queue[Hop] = field(default_factory=asyncio.Queue)
    answered: asyncio.Queue[tuple[bytes, Hop]] = field(default_factory=asyncio.Queue)
    gone: asyncio.Queue[Hop] = field(default_factory=asyncio.Queue)

    def __post_init__(self) -> None:
        self.one = Sockets(
            lambda data, hop: self.heard.put_nowait((data, hop)),
            self.closed.put_nowait,
            self.failed.put_nowait,
            max_streams=4,
        )
        self.two = Sockets(
            lambda data, hop: self.answered.put_nowait((data, hop)),
            self.gone.put_nowait,
            self.gone.put_nowait,
            max_streams=4,
        )


@pytest_asyncio.fixture
async def ends() -> AsyncIterator[Ends]:
    made = Ends()
    made.port = await made.one.open("127.0.0.1", 0, udp=True, tcp=True)
    made.other_port = await made.two.open("127.0.0.1", 0, udp=True, tcp=True)
    yield made
    await made.one.close()
    await made.two.close()
    await made.one.close()


async def soon(queue: asyncio.Queue[object]) -> object:
    async with asyncio.timeout(5):
        return await queue.get()


async def test_datagrams_by_address_and_by_name(ends: Ends) -> None:
    for host in ("127.0.0.1", "localhost"):
        ends.two.send(b"hello", Hop("udp", host, ends.port))
        assert await soon(ends.heard) == (b"hello", Hop("udp", "127.0.0.1", ends.other_port))


async def test_a_stream_is_opened_once_and_used_both_ways(ends: Ends) -> None:
    there = Hop("tcp", "127.0.0.1", ends.port)
    for data in (b"one ", b"two ", b"three"):
        ends.two.send(data, there)
    received = b""
    while len(received) < 13:
        data, back = await soon(ends.heard)
        received += data
    assert received == b"one two three"
    ends.one.send(b"answer", back)
    assert await soon(ends.answered) == (b"answer", there)
    ends.one.close_stream(back)
    assert await soon(ends.gone) == there
    assert await soon(ends.closed) == back


async def test_what_cannot_be_reached_is_told(ends: Ends) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        hops = [
            Hop("tcp", "127.0.0.1", unheard.getsockname()[1]),
            Hop("tcp", "nowhere.invalid", 5060),
            Hop("udp", "nowhere.invalid", 5060),
        ]
        for hop in hops:
            ends.one.send(b"x", hop)
            assert await soon(ends.failed) == hop


async def test_udp_that_is_not_there_fails() -> None:
    failed: asyncio.Queue[Hop] = asyncio.Queue()
    sockets = Sockets(lambda *_: None, lambda _: None, failed.put_nowait, max_streams=1)
    await sockets.open("127.0.0.1", 0, udp=False, tcp=True)
    hop = Hop("udp", "127.0.0.1", 9)
    sockets.send(b"x", hop)
    assert await soon(failed) == hop
    await sockets.close()
    sockets.send(b"x", hop)


async def test_what_waits_for_a_connection_is_bounded(ends: Ends) -> None:
    there = Hop("tcp", "127.0.0.1", ends.port)
    for _ in range(MAX_WAITING + 10):
        ends.two.send(b"x", there)
    ends.two.send(b"", there)
    data, back = await soon(ends.heard)
    ends.one.close_stream(back)
    await soon(ends.gone)
    while not ends.heard.empty():
        data += ends.heard.get_nowait()[0]
    assert len(data) == MAX_WAITING


async def test_a_peer_that_does_not_read_is_dropped(ends: Ends) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", ends.port)
    writer.write(b"hello")
    _, back = await soon(ends.heard)
    writer.transport.pause_reading()
    chunk = bytes(1 << 20)
    for _ in range(64):
        ends.one.send(chunk, back)
        if not ends.closed.empty():
            break
        await asyncio.sleep(0)
    assert await soon(ends.closed) == back
    assert len(chunk) > MAX_WRITE_BUFFER
    writer.close()
    del reader


async def test_names_and_addresses() -> None:
    assert is_address("127.0.0.1")
    assert is_address("::1")
    assert not is_address("localhost")
    assert await resolve("::1", 1) == "::1"
    assert await resolve("localhost", 1, socket.AF_INET) == "127.0.0.1"
    assert await resolve("nowhere.invalid", 1) is None
    assert source_address("127.0.0.1") == "127.0.0.1"
    assert source_address("not an address") is None
