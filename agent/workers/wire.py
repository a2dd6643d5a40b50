"""What supervisor and worker say to each other over a local stream socket.

A message is ``length kind hop-length hop data``: 4, 1 and 2 bytes in network order, the hop as a
JSON list, the rest as it is.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Final

from ringtrue.streaming.errors import RingtrueError
from ringtrue.telephony.sip.front import Closed, Failed, Heard, Relayed
from ringtrue.telephony.sip.transport import Close, Hop, Send, TransportOutput

_HEADER: Final = struct.Struct("!IBH")
MAX_MESSAGE: Final = 8 << 20
"""Bytes of data: metrics are the longest there is, SIP messages have 80 KiB at most."""


class Kind(IntEnum):
    """What a message says; the upper half comes from the worker."""

    HEARD = 1
    CLOSED = 2
    FAILED = 3
    SCRAPE = 4
    """Send METRICS."""

    DRAIN = 5
    """Take no more calls, let those in progress finish, and end."""

    END = 6
    """End the calls now, and end."""

    SEND = 128
    CLOSE = 129
    READY = 130
    """Calls are taken from now on."""

    STATUS = 131
    """JSON of a :class:`Status`."""

    METRICS = 132
    """The exposition text."""


class WireError(RingtrueError):
    """The other side sent what is no message of this protocol."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message."""

    kind: Kind
    data: bytes = b""
    hop: Hop | None = None

    def encode(self) -> bytes:
        """As bytes on the socket."""
        hop = b""
        if self.hop is not None:
            each = self.hop
            hop = json.dumps([each.transport, each.host, each.port, each.name]).encode()
        return _HEADER.pack(len(hop) + len(self.data), self.kind, len(hop)) + hop + self.data


@dataclass(frozen=True, slots=True)
class Status:
    """How a worker is."""

    calls: int
    open: bool
    """Whether it would take another call."""

    own_hosts: tuple[str, ...] = ()
    """Servers of the accounts it is registered with."""

    heard: int = 0
    """SIP messages it had taken by then."""

    def message(self) -> Message:
        """To send."""
        return Message(Kind.STATUS, json.dumps(asdict(self)).encode())

    @classmethod
    def of(cls, message: Message) -> Status:
        """Read one. Raises :class:`WireError`."""
        try:
            value = json.loads(message.data)
            hosts = tuple(str(host) for host in value["own_hosts"])
            return cls(int(value["calls"]), bool(value["open"]), hosts, int(value["heard"]))
        except (ValueError, KeyError, TypeError) as error:
            raise WireError("a status that can't be read") from error


class MessageReader:
    """Cuts the stream into messages."""

    def __init__(self) -> None:
        """Start with nothing."""
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """The messages that ``data`` completes. Raises :class:`WireError`."""
        self._buffer += data
        found: list[Message] = []
        while len(self._buffer) >= _HEADER.size:
            length, kind, hop_length = _HEADER.unpack_from(self._buffer)
            if length > MAX_MESSAGE or hop_length > length:
                raise WireError(f"a message of {length} bytes, at most {MAX_MESSAGE} are allowed")
            end = _HEADER.size + length
            if len(self._buffer) < end:
                break
            body = bytes(self._buffer[_HEADER.size : end])
            del self._buffer[:end]
            try:
                hop = Hop(*json.loads(body[:hop_length])) if hop_length else None
                found.append(Message(Kind(kind), body[hop_length:], hop))
            except (ValueError, TypeError) as error:
                raise WireError(f"no message of kind {kind}") from error
        return found


def of_relayed(news: Relayed) -> Message:
    """What the front has for a worker, as a message."""
    if isinstance(news, Heard):
        return Message(Kind.HEARD, news.data, news.hop)
    return Message(Kind.CLOSED if isinstance(news, Closed) else Kind.FAILED, hop=news.hop)


def relayed(message: Message) -> Relayed | None:
    """What a message has from the front; None where it is about something else."""
    if message.hop is None:
        return None
    if message.kind is Kind.HEARD:
        return Heard(message.data, message.hop)
    if message.kind is Kind.CLOSED:
        return Closed(message.hop)
    return Failed(message.hop) if message.kind is Kind.FAILED else None


def of_output(output: TransportOutput) -> Message:
    """What a worker wants sent or closed, as a message."""
    if isinstance(output, Send):
        return Message(Kind.SEND, output.data, output.hop)
    return Message(Kind.CLOSE, hop=output.hop)


def output(message: Message) -> TransportOutput | None:
    """What a message wants sent or closed; None where it is about something else."""
    if message.hop is None:
        return None
    if message.kind is Kind.SEND:
        return Send(message.data, message.hop)
    return Close(message.hop) if message.kind is Kind.CLOSE else None
