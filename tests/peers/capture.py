"""What is on the wire: every packet on the loopback interface, read below all sockets.

A packet socket (packet(7)) sees what is sent whoever takes it, and whether anybody does. It needs
CAP_NET_RAW.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

ETH_P_IP = 0x0800
SOL_PACKET = 263
PACKET_STATISTICS = 6
SO_RCVBUFFORCE = 33

MOST_PACKETS = 200_000
MOST_BYTES = 70_000
"""Longest packet: the loopback interface's own limit is 65,536."""


@dataclass(frozen=True)
class Packet:
    """One UDP datagram, or what one TCP segment carries."""

    protocol: int
    source: int
    """Port."""

    target: int
    """Port."""

    payload: bytes = field(repr=False)
    sequence: int = 0
    """TCP's, of the first byte."""


@dataclass
class Capture:
    """Packets in the order they were on the wire."""

    packets: list[Packet] = field(default_factory=list)

    def datagrams(self, target: int) -> list[bytes]:
        """What was sent to a UDP port."""
        return [
            each.payload
            for each in self.packets
            if each.protocol == socket.IPPROTO_UDP and each.target == target
        ]

    def stream(self, target: int) -> bytes:
        """What was sent over TCP to a client's port; asserts that nothing is missing."""
        segments = [
            each
            for each in self.packets
            if each.protocol == socket.IPPROTO_TCP and each.target == target and each.payload
        ]
        joined = bytearray()
        first = segments[0].sequence if segments else 0
        for each in segments:
            at = (each.sequence - first) % 2**32
            assert at <= len(joined), "a segment is missing"
            joined[at : at + len(each.payload)] = each.payload
        return bytes(joined)


@asynccontextmanager
async def captured() -> AsyncIterator[Capture]:
    """All IPv4 packets on the loopback interface while it is open, read on the running loop."""
    capture = Capture()
    try:
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, 0)
    except PermissionError:
        pytest.skip("capturing packets takes CAP_NET_RAW")
    with tap:
        tap.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 25)
        tap.bind(("lo", ETH_P_IP))
        loop = asyncio.get_running_loop()
        loop.add_reader(tap, _take, tap, capture)
        try:
            yield capture
            _take(tap, capture)
        finally:
            loop.remove_reader(tap)
        _, lost = struct.unpack("II", tap.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        assert lost == 0, f"{lost} packets were not captured"


def _take(tap: socket.socket, capture: Capture) -> None:
    while True:
        try:
            data = tap.recv(MOST_BYTES)
        except BlockingIOError:
            return
        packet = parsed(data)
        if packet is not None:
            assert len(capture.packets) < MOST_PACKETS
            capture.packets.append(packet)


def parsed(data: bytes) -> Packet | None:
    """An IPv4 packet (RFC 791) with UDP (RFC 768) or TCP (RFC 9293) in it; None of others."""
    header, total, protocol = 4 * (data[0] & 15), int.from_bytes(data[2:4], "big"), data[9]
    inner = data[header : total or len(data)]
    source, target = struct.unpack_from("!HH", inner)
    if protocol == socket.IPPROTO_UDP:
        return Packet(protocol, source, target, inner[8:])
    if protocol == socket.IPPROTO_TCP:
        sequence, offset = int.from_bytes(inner[4:8], "big"), 4 * (inner[12] >> 4)
        return Packet(protocol, source, target, inner[offset:], sequence)
    return None


def websocket_messages(stream: bytes) -> Iterator[str]:
    """The text messages a server sent, after its answer to the upgrade (RFC 6455 §5.2).

    Neither compressed nor in fragments: the client asks for no extension.
    """
    head, _, rest = stream.partition(b"\r\n\r\n")
    assert b" 101 " in head.splitlines()[0]
    assert b"sec-websocket-extensions" not in head.lower()
    while len(rest) >= 2:
        opcode, length, at = rest[0] & 15, rest[1], 2
        assert rest[0] & 0x80, "in fragments"
        if length >= 126:
            size = 2 if length == 126 else 8
            length, at = int.from_bytes(rest[2 : 2 + size], "big"), 2 + size
        if len(rest) < at + length:
            return
        if opcode == 1:
            yield rest[at : at + length].decode()
        rest = rest[at + length :]
