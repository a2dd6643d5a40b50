"""Datagrams before DTLS, Twilio's messages and the page's, from strangers."""

from __future__ import annotations

import asyncio
from typing import Any

from aioice.ice import Connection, StunProtocol

from ringtrue.telephony.twilio.protocol import MediaStreamProtocol, TwilioProtocolError
from ringtrue.telephony.webrtc.events import PageMessageError, parse
from ringtrue.telephony.webrtc.guard import DatagramGuard

__all__ = ["PageMessageError", "TwilioProtocolError"]

BINDING = bytes.fromhex("00010000 2112a442") + bytes(range(12))
DATAGRAMS = (
    BINDING,
    bytes.fromhex("00010024 2112a442")
    + bytes(range(12))
    + bytes.fromhex(
        "00060003 613a6200 00240004 7effffff 80290008 0000000000000001 80280004 12345678"
    ),
    bytes.fromhex("01010000 2112a442") + bytes(range(12)),
    bytes.fromhex("16feff0000000000000000 0000") + bytes(20),
    b"",
)
START = (
    '{"event":"connected","protocol":"Call","version":"1.0.0"}\n'
    '{"event":"start","sequenceNumber":"1","streamSid":"MZ0","start":{"streamSid":"MZ0",'
    '"accountSid":"AC0","callSid":"CA0","tracks":["inbound"],"customParameters":{"token":"t"},'
    '"mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1}}}\n'
)
TWILIO = (
    (
        START
        + '{"event":"media","sequenceNumber":"2","streamSid":"MZ0","media":{"track":"inbound",'
        '"chunk":"1","timestamp":"20","payload":"//8="}}\n'
        '{"event":"mark","sequenceNumber":"3","streamSid":"MZ0","mark":{"name":"160"}}\n'
        '{"event":"dtmf","sequenceNumber":"4","streamSid":"MZ0","dtmf":{"digit":"5"}}\n'
        '{"event":"stop","sequenceNumber":"5","streamSid":"MZ0","stop":{"callSid":"CA0"}}'
    ).encode(),
)
PAGE = (b'{"type":"dtmf","digit":"5"}', b'{"type":"hangup"}')


class _Socket:
    """A datagram transport that sends nothing."""

    def sendto(self, data: bytes, addr: Any) -> None:
        """Drop it."""

    def get_extra_info(self, name: str) -> Any:
        return ("192.0.2.1", 3478)


def datagrams(data: bytes) -> None:
    """One datagram at an ICE socket under the guard; nothing comes out, no call is harmed."""

    async def deliver() -> None:
        connection = Connection(ice_controlling=False)
        protocol = StunProtocol(connection)
        protocol.connection_made(_Socket())
        connection._protocols.append(protocol)
        guard = DatagramGuard(connection)
        guard.arm()
        protocol.datagram_received(data, ("192.0.2.7", 4000))
        assert guard.stats.passed + guard.stats.dropped >= 1

    asyncio.run(deliver())


def twilio(data: bytes) -> None:
    """A websocket's text messages, one a line."""
    protocol = MediaStreamProtocol()
    for line in data.decode("utf-8", "replace").split("\n"):
        protocol.receive(line)


def page(data: bytes) -> None:
    """A message of the browser's page."""
    parse(data.decode("utf-8", "replace"))
