"""What supervisor and worker say to each other."""

from __future__ import annotations

import asyncio
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from ringtrue.agent.workers.channel import MAX_UNREAD, Channel
from ringtrue.agent.workers.wire import (
    Kind,
    Message,
    MessageReader,
    Status,
    WireError,
    of_output,
    of_relayed,
    output,
    relayed,
)
from ringtrue.telephony.sip.front import Closed, Failed, Heard
from ringtrue.telephony.sip.transport import Close, Hop, Send

HOP = Hop("tls", "2001:db8::1", 5061, "sip.example.com")


@pytest.mark.parametrize(
    "news", [Heard(b"x\0\r\n", HOP), Closed(HOP), Failed(HOP), Heard(b"", HOP)]
)
def test_what_the_front_says(news: Heard | Closed | Failed) -> None:
    (message,) = MessageReader().feed(of_relayed(news).encode())
    assert relayed(message) == news
    assert output(message) is None


@pytest.mark.parametrize("wanted", [Send(b"BYE", HOP), Close(HOP)])
def test_what_a_worker_wants(wanted: Send | Close) -> None:
    (message,) = MessageReader().feed(of_output(wanted).encode())
    assert output(message) == wanted
    assert relayed(message) is None


def test_a_status() -> None:
    status = Status(3, open=True, own_hosts=("192.0.2.1",), heard=7)
    assert Status.of(status.message()) == status
    with pytest.raises(WireError):
        Status.of(Message(Kind.STATUS, b"[]"))


@given(st.lists(st.binary(max_size=50), max_size=8), st.integers(1, 17))
def test_messages_however_they_are_cut(bodies: list[bytes], size: int) -> None:
    stream = b"".join(Message(Kind.SEND, body, HOP).encode() for body in bodies)
    reader = MessageReader()
    found = [m for at in range(0, len(stream), size) for m in reader.feed(stream[at : at + size])]
    assert [message.data for message in found] == bodies


@given(st.binary(max_size=200))
def test_noise_is_none_of_ours(noise: bytes) -> None:
    try:
        MessageReader().feed(noise)
    except WireError:
        return


async def test_what_the_other_end_leaves_unread_is_bounded() -> None:
    ours, theirs = socket.socketpair()
    lost = asyncio.Event()
    channel = Channel(lambda message: None, lost.set)
    await channel.open(ours)
    big = Message(Kind.HEARD, bytes(1 << 16), HOP)
    sent = 0
    while channel.send(big):
        sent += 1
        assert sent * (1 << 16) < 4 * MAX_UNREAD
    assert channel.dropped == 1
    theirs.close()
    async with asyncio.timeout(2):
        await lost.wait()
    assert not channel.send(big)
    channel.close()


async def test_noise_ends_the_channel() -> None:
    ours, theirs = socket.socketpair()
    lost = asyncio.Event()
    await Channel(lambda message: None, lost.set).open(ours)
    theirs.sendall(b"\xff" * 64)
    async with asyncio.timeout(2):
        await lost.wait()
    theirs.close()


@pytest.mark.uvloop
async def test_a_message_that_can_not_be_dealt_with_costs_nothing_but_itself() -> None:
    ours, theirs = socket.socketpair()
    lost, heard = asyncio.Event(), asyncio.Event()

    def take(message: Message) -> None:
        if message.kind is Kind.STATUS:
            raise KeyError("a fault of the receiver's own")
        heard.set()

    channel = Channel(take, lost.set)
    await channel.open(ours)
    with capture_logs() as logs:
        theirs.sendall(Message(Kind.STATUS).encode() + Message(Kind.READY).encode())
        async with asyncio.timeout(2):
            await heard.wait()
    assert not lost.is_set()
    assert [entry["event"] for entry in logs] == ["workers.message_failed"]
    channel.close()
    async with asyncio.timeout(2):
        await lost.wait()
    theirs.close()
