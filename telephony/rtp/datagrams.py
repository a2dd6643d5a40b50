"""One UDP socket's datagrams: raw bytes out and in, with where they came from and when."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import Final

from ringtrue.telephony.rtp.latch import Address
from ringtrue.telephony.rtp.system_calls import (
    MAX_DATAGRAM,
    SO_TIMESTAMPNS,
    SystemCalls,
    socket_address,
    socket_name,
)

TIMESPEC: Final = struct.Struct("@ll")
TIMESTAMP_SPACE: Final = socket.CMSG_SPACE(TIMESPEC.size)
_NOWHERE: Final[Address] = ("", 0)


class Datagrams:
    """A bound, non-blocking socket. Nothing waits and nothing raises for what the network does."""

    __slots__ = (
        "_family", "_name", "_receive", "_send", "_sock", "_source_name", "_to", "source", "stamp",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, system: SystemCalls | None) -> None:
        """``system`` does the calls where ``sock`` is a plain socket; else they are its own."""
        self._sock = sock
        self._family = int(sock.family)
        if type(sock) is not socket.socket:
            system = None
        self._send = system.send if system is not None else None
        self._receive = system.receive if system is not None else None
        self._to = _NOWHERE
        self._name = self._source_name = b""
        self.source: Address = _NOWHERE
        """Where the last datagram received came from."""

        self.stamp = 0.0
        """When it arrived, in seconds of the wall clock; 0 where that isn't known."""

    def tell_times(self) -> None:
        """Have the kernel tell when each datagram arrived, if it can."""
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)

    def send(self, data: bytes, address: Address) -> bool:
        """Send ``data`` to an IP literal and port; False where the system won't take it."""
        send = self._send
        if send is None:
            try:
                self._sock.sendto(data, address)
            except OSError:
                return False
            return True
        if address != self._to:
            try:
                self._name = socket_name(self._family, address)
            except OSError:
                return False
            self._to = address
        # The number is asked for each time: of a closed socket it may be another call's by now.
        return send(self._sock.fileno(), data, self._name)

    def receive(self) -> bytes | None:
        """The next datagram; :attr:`source` and :attr:`stamp` are its own. None: none waits."""
        receive = self._receive
        if receive is None:
            return self._received()
        got = receive(self._sock.fileno(), self._source_name)
        if got is None:
            return None
        data, self.stamp, name = got
        if name is not self._source_name:
            self._source_name, self.source = name, socket_address(name)
        return data

    def _received(self) -> bytes | None:
        try:
            data, extra, _, source = self._sock.recvmsg(MAX_DATAGRAM, TIMESTAMP_SPACE)
        except OSError:
            return None
        self.source, self.stamp = source[:2], 0.0
        if extra and extra[0][1] == SO_TIMESTAMPNS:
            seconds, nanoseconds = TIMESPEC.unpack(extra[0][2])
            self.stamp = seconds + nanoseconds * 1e-9
        return bytes(data)
