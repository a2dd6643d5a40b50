"""RTP, RTCP and telephone events from strangers."""

from __future__ import annotations

import random
import struct
from typing import Final

from rtp_link import FAR, FAR_RTCP, plan

from ringtrue.streaming.ports import frame_bytes
from ringtrue.telephony.codecs import PCMU
from ringtrue.telephony.rtp.dtmf import TelephoneEvent
from ringtrue.telephony.rtp.packet import RtpError, RtpPacket
from ringtrue.telephony.rtp.rtcp import build_compound, parse_compound
from ringtrue.telephony.rtp.stream import RtpStream

__all__ = ["RtpError"]

LENGTH: Final = struct.Struct("!H")
RTCP_BIT: Final = 0x8000
"""Of a length: the datagram comes to the report port."""


def _rtp(kind: int, number: int, payload: bytes) -> bytes:
    return RtpPacket(kind, number, 160 * number, 7, payload).serialize()


PACKETS = (
    _rtp(0, 1, bytes(160)),
    b"\xbf\x80" + bytes(10) + bytes(60) + b"\xbe\xde\x00\x01" + bytes(4) + bytes(20) + b"\x04",
)
REPORTS = (
    bytes.fromhex("80c80006 00000007 e0000000 00000000 00000010 00000001 000000a0")
    + bytes.fromhex("81ca0004 00000007 0105 6e616d65 3100 0000 0000"),
    bytes.fromhex("81c90007 00000007 00000008 10000001 00000010 00000002 00000000 00000000")
    + bytes.fromhex("81cb0002 00000007 03627965"),
)
EVENTS = (bytes.fromhex("05 8a 0320"),)


def _framed(*datagrams: tuple[bytes, bool]) -> bytes:
    return b"".join(LENGTH.pack(len(data) | RTCP_BIT * rtcp) + data for data, rtcp in datagrams)


CALLS = (
    _framed(*[(_rtp(0, n, bytes(160)), False) for n in range(8)], (REPORTS[0], True)),
    _framed(
        (_rtp(9, 1, bytes(160)), False),
        (_rtp(101, 2, EVENTS[0]), False),
        (_rtp(13, 3, b"\x40"), False),
        (_rtp(111, 4, b"\xf8\xff\xfe"), False),
        (REPORTS[1], True),
    ),
)


def packet(data: bytes) -> None:
    """One packet; what was read is written as it came, its padding's content excepted."""
    parsed = RtpPacket.parse(data)
    assert RtpPacket.parse(parsed.serialize()) == parsed


def reports(data: bytes) -> None:
    """A compound; what was read can be written and read again."""
    parsed = parse_compound(data)
    if parsed:
        parse_compound(build_compound(parsed))


def event(data: bytes) -> None:
    """One telephone event."""
    parsed = TelephoneEvent.parse(data)
    assert TelephoneEvent.parse(parsed.serialize()) == parsed


def call(data: bytes) -> None:
    """Datagrams at a call's ports, a tick after every second one; each tick gives its 20 ms."""
    stream = RtpStream(8000, 8000, now=0.0, random_source=random.Random(1))
    stream.configure(plan(PCMU), 0.0)
    now, at, number = 0.0, 0, 0
    while at + 2 <= len(data) and number < 64:
        (head,) = LENGTH.unpack_from(data, at)
        size, rtcp = head & 0x0FFF, bool(head & RTCP_BIT)
        datagram = data[at + 2 : at + 2 + size]
        at += 2 + size
        number += 1
        if rtcp:
            stream.receive_rtcp(datagram, FAR_RTCP, now)
        else:
            stream.receive(datagram, FAR, now)
        if number % 2 == 0:
            now += 0.02
            assert len(stream.pull(now).pcm) == frame_bytes(8000)
