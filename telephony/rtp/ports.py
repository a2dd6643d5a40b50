"""Pairs of UDP ports for media, out of a configured range."""

from __future__ import annotations

import contextlib
import ipaddress
import random
import socket
from collections import deque
from dataclasses import dataclass
from typing import Final

from ringtrue.streaming.errors import RingtrueError
from ringtrue.telephony.rtp.system_calls import system_calls

BUFFER_BYTES: Final = 262_144
"""Socket buffers asked for: a second of packets, whatever the system's default."""

EPHEMERAL_TRIES: Final = 64

EXPEDITED: Final = 0xB8
"""DSCP EF (RFC 3246), in the byte the IP header holds it in."""


class PortsExhaustedError(RingtrueError):
    """Every pair of the range is in use, by this process or by others."""


@dataclass(slots=True)
class PortPair:
    """Two bound, non-blocking UDP sockets: media on an even port, reports on the next."""

    rtp: socket.socket
    rtcp: socket.socket
    port: int
    """The media socket's."""


class PortPool:
    """Hands out port pairs; binding is the lock, so two processes may share a range.

    A released pair is used again last, so that a new call doesn't meet an old call's packets.
    """

    def __init__(self, host: str, low: int = 0, high: int = 0) -> None:
        """Ports ``low`` to ``high`` inclusive on ``host`` (an IP literal); 0, 0 for any free.

        Raises ``ValueError`` on a range without a pair, or a host that is no IP literal.
        """
        self.host = host
        version = ipaddress.ip_address(host).version
        self._family = socket.AF_INET6 if version == 6 else socket.AF_INET
        self._ephemeral = low == high == 0
        pairs = [] if self._ephemeral else list(range(low + low % 2, high, 2))
        if not self._ephemeral and (not pairs or low < 1 or high > 65535):
            raise ValueError(
                f"media port range {low}-{high} holds no pair; need 1-65535 with an even port "
                "and its successor, or 0-0 for any free port"
            )
        random.SystemRandom().shuffle(pairs)  # ports are harder to guess than a counter
        self._free = deque(pairs)
        self._in_use: set[int] = set()
        self.system = system_calls()
        """Reads and writes the pairs' sockets; None: they do so themselves."""

    @property
    def in_use(self) -> int:
        """Pairs handed out."""
        return len(self._in_use)

    @property
    def free(self) -> int | None:
        """Pairs not handed out; None where the system chooses."""
        return None if self._ephemeral else len(self._free)

    def acquire(self) -> PortPair:
        """Bind a pair.

        Raises :class:`PortsExhaustedError` where none is free.
        """
        for _ in range(EPHEMERAL_TRIES if self._ephemeral else len(self._free)):
            port = 0 if self._ephemeral else self._free.popleft()
            pair = self._bind(port)
            if pair is not None:
                self._in_use.add(pair.port)
                return pair
            if not self._ephemeral:
                self._free.append(port)
        raise PortsExhaustedError(f"no free media port pair on this host ({self.in_use} in use)")

    def release(self, pair: PortPair) -> None:
        """Close the pair's sockets; idempotent."""
        if pair.port not in self._in_use:
            return
        self._in_use.remove(pair.port)
        pair.rtp.close()
        pair.rtcp.close()
        if not self._ephemeral:
            self._free.append(pair.port)

    def _bind(self, port: int) -> PortPair | None:
        opened: list[socket.socket] = []
        try:
            for offset in range(2):
                sock = socket.socket(self._family, socket.SOCK_DGRAM)
                opened.append(sock)
                sock.setblocking(False)
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
                    self._expedite(sock)
                if self._family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind((self.host, port + offset))
                port = sock.getsockname()[1] - offset
                if port % 2 or port + 1 > 65535:  # the system chose an odd one
                    raise OSError
        except OSError:
            for sock in opened:
                sock.close()
            return None
        return PortPair(opened[0], opened[1], port)

    def _expedite(self, sock: socket.socket) -> None:
        if self._family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, EXPEDITED)
        else:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, EXPEDITED)
