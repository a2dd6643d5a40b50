"""A user agent's way to the network through a :class:`~ringtrue.telephony.sip.front.Front`.

Stands where :class:`~ringtrue.telephony.sip.sockets.Sockets` would. The front has the sockets and
the addresses; what is said to it and heard from it goes over whatever the owner brings.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

from ringtrue.telephony.sip.front import Closed, Heard, Relayed
from ringtrue.telephony.sip.transport import Close, Hop, Send, TransportOutput


class Relay:
    """One user agent's end. Make it, then pass :meth:`network` to the endpoint."""

    def __init__(self, say: Callable[[TransportOutput], None], *, port: int, tls_port: int) -> None:
        """``say`` tells the front what to do; it never blocks. The ports are the front's."""
        self._say = say
        self._port, self._tls_port = port, tls_port
        self.heard = 0
        """Messages taken so far."""

        self._secure = False
        self._closed = False
        self._on_data: Callable[[bytes, Hop], None] | None = None
        self._on_closed: Callable[[Hop], None] | None = None
        self._on_failed: Callable[[Hop], None] | None = None

    def network(
        self,
        on_data: Callable[[bytes, Hop], None],
        on_closed: Callable[[Hop], None],
        on_failed: Callable[[Hop], None],
        *,
        max_streams: int,
    ) -> Relay:
        """This, as the network of one user agent; the front bounds the streams."""
        self._on_data, self._on_closed, self._on_failed = on_data, on_closed, on_failed
        return self

    def hear(self, news: Relayed) -> None:
        """Take what the front has for this user agent."""
        self.heard += isinstance(news, Heard)
        if self._closed or self._on_data is None:
            return
        assert self._on_closed is not None
        assert self._on_failed is not None
        if isinstance(news, Heard):
            self._on_data(news.data, news.hop)
        elif isinstance(news, Closed):
            self._on_closed(news.hop)
        else:
            self._on_failed(news.hop)

    # -- as the user agent's driver sees it --------------------------------------------------

    def use_tls(self, context: ssl.SSLContext) -> None:
        """TLS hops can be reached: the front has a context of its own."""
        self._secure = True

    @property
    def secure(self) -> bool:
        """Whether TLS hops can be reached."""
        return self._secure

    async def open(self, host: str, port: int, *, udp: bool, tcp: bool) -> int:
        """The front's port."""
        return self._port if udp or tcp else 0

    async def open_tls(self, host: str, port: int, context: ssl.SSLContext) -> int:
        """The front's port of TLS."""
        return self._tls_port

    async def close(self) -> None:
        """Say and hear nothing any more."""
        self._closed = True

    def send(self, data: bytes, hop: Hop) -> None:
        """Have it sent."""
        if not self._closed:
            self._say(Send(data, hop))

    def close_stream(self, hop: Hop) -> None:
        """Have it closed."""
        if not self._closed:
            self._say(Close(hop))
