"""What carries a user agent's messages: sockets of its own, or somebody who has them."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Protocol

from ringtrue.telephony.sip.transport import Hop


class Network(Protocol):
    """Sends by hop; see :class:`~ringtrue.telephony.sip.sockets.Sockets`."""

    def use_tls(self, context: ssl.SSLContext) -> None:
        """Connect to TLS hops with ``context``."""
        ...

    @property
    def secure(self) -> bool:
        """Whether TLS hops can be reached."""
        ...

    async def open(self, host: str, port: int, *, udp: bool, tcp: bool) -> int:
        """Be reached over UDP and TCP; returns the port. Raises OSError."""
        ...

    async def open_tls(self, host: str, port: int, context: ssl.SSLContext) -> int:
        """Be reached over TLS; returns the port. Raises OSError."""
        ...

    async def close(self) -> None:
        """Stop at once; idempotent."""
        ...

    def send(self, data: bytes, hop: Hop) -> None:
        """Send. Never raises."""
        ...

    def close_stream(self, hop: Hop) -> None:
        """Close a stream once what was written is sent."""
        ...


class MakeNetwork(Protocol):
    """Makes one; the arguments are :class:`~ringtrue.telephony.sip.sockets.Sockets`'."""

    def __call__(
        self,
        on_data: Callable[[bytes, Hop], None],
        on_closed: Callable[[Hop], None],
        on_failed: Callable[[Hop], None],
        *,
        max_streams: int,
    ) -> Network:
        """Make one, not yet open."""
        ...
