"""What stands before DTLS and SRTP: datagrams that can't be the browser's go no further.

aiortc 1.16 with aioice 0.13 hands every datagram that is no STUN message to DTLS, wherever it
came from, and an empty one ends the call (``data[0]`` of nothing). The guard lets through

- STUN, which authenticates itself (RFC 8445 §7), from anywhere, because a browser's address is
  only learned from it;
- everything else only from an address that has answered an authenticated check on the same
  socket (RFC 8445 §7.2.5.3), never empty, and only while DTLS keeps up.

It reaches into private parts of both libraries, all named here and looked for when a call
begins, so that a version built otherwise is refused at once and not silently unguarded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from aioice.ice import CandidatePair

from ringtrue.telephony.webrtc.errors import UnsupportedAiortcError

MAX_WAITING: Final = 256
"""Datagrams that may wait for DTLS; 20 ms audio is 50 a second."""

MAX_DATAGRAM: Final = 2048
"""Bytes; WebRTC keeps below the path's MTU."""

MAX_STUN_BYTE: Final = 3
"""First bytes 0-3 are STUN (RFC 7983 §7)."""

_CONNECTION: Final = ("_protocols", "_check_list", "_nominated", "_queue", "data_received")


@dataclass(slots=True)
class GuardStats:
    """Datagrams since the call began."""

    passed: int = 0
    unknown_source: int = 0
    empty: int = 0
    oversized: int = 0
    overflow: int = 0
    malformed: int = 0
    """STUN that made the parser fail."""

    early: int = 0
    """Data before anything could be known of its source."""

    @property
    def dropped(self) -> int:
        """All that went no further."""
        return (
            self.unknown_source
            + self.empty
            + self.oversized
            + self.overflow
            + self.malformed
            + self.early
        )


class DatagramGuard:
    """One ICE connection's guard."""

    def __init__(self, connection: Any) -> None:
        """Shut ``connection`` (an ``aioice.Connection``) for data until :meth:`arm`.

        Raises :class:`UnsupportedAiortcError` if it lacks a part the guard needs.
        """
        for name in _CONNECTION:
            if not hasattr(connection, name):
                raise UnsupportedAiortcError(
                    f"aioice.Connection has no {name}; supported: aioice 0.13"
                )
        self._connection = connection
        self._deliver: Callable[[bytes, int], None] = connection.data_received
        self._verified: set[tuple[int, tuple[str, int]]] = set()
        self.stats = GuardStats()
        self.last_heard: float | None = None
        """Loop time of the last datagram from a verified address."""

        connection.data_received = self._early

    def arm(self) -> None:
        """Guard the sockets that gathering has opened; call once, after gathering."""
        connection = self._connection
        for protocol in connection._protocols:
            inner = getattr(protocol, "datagram_received", None)
            if inner is None:
                raise UnsupportedAiortcError(
                    "aioice.StunProtocol has no datagram_received; supported: aioice 0.13"
                )
            protocol.datagram_received = self._filter(protocol, inner)
        connection.data_received = self._bounded

    def _early(self, data: bytes, component: int) -> None:
        self.stats.early += 1

    def _bounded(self, data: bytes, component: int) -> None:
        """What aioice takes for data: bounded, and never STUN that it could not parse."""
        if data[0] <= MAX_STUN_BYTE:
            self.stats.malformed += 1
        elif self._connection._queue.qsize() >= MAX_WAITING:
            self.stats.overflow += 1
        else:
            self._deliver(data, component)

    def _filter(
        self, protocol: Any, inner: Callable[[bytes, Any], None]
    ) -> Callable[[bytes, Any], None]:
        stats = self.stats

        def received(data: bytes, addr: Any) -> None:
            source = (addr[0], addr[1])
            if not data:
                stats.empty += 1
                return
            if len(data) > MAX_DATAGRAM:
                stats.oversized += 1
                return
            verified = self._is_verified(protocol, source)
            if data[0] > MAX_STUN_BYTE and not verified:
                stats.unknown_source += 1
                return
            try:
                inner(data, addr)
            except Exception:  # whatever the parser makes of hostile bytes, the call goes on
                stats.malformed += 1
                return
            stats.passed += 1
            if verified:
                self.last_heard = asyncio.get_running_loop().time()

        return received

    def _is_verified(self, protocol: Any, source: tuple[str, int]) -> bool:
        key = (id(protocol), source)
        if key in self._verified:
            return True
        connection = self._connection
        pairs = [*connection._check_list, *connection._nominated.values()]
        for pair in pairs:
            if (
                pair.protocol is protocol
                and pair.remote_addr == source
                and pair.state is CandidatePair.State.SUCCEEDED
            ):
                self._verified.add(key)
                return True
        return False
