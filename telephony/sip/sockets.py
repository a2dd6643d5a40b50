"""UDP, TCP and TLS under a user agent: asyncio transports by hop, names resolved, all bounded."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, Final, cast

import structlog

from ringtrue.telephony.sip.tls_acceptor import TlsAcceptor
from ringtrue.telephony.sip.transport import TRANSPORTS, Hop

log = structlog.get_logger(__name__)

MAX_WRITE_BUFFER: Final = 256 * 1024
"""Bytes a stream's peer may leave unread before the stream is dropped."""

MAX_WAITING: Final = 32
"""Messages that wait for one hop's connection or name; one more fails the hop."""

CONNECT_LIMIT: Final = 10.0
BIND_ATTEMPTS: Final = 16


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, owner: Sockets) -> None:
        self._owner = owner

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        self._owner.on_data(data, Hop("udp", addr[0], addr[1]))

    def error_received(self, exc: Exception) -> None:
        self._owner.datagram_failed()


class _Stream(asyncio.Protocol):
    """One connection; ``hop`` is what we asked for, or the peer's address."""

    def __init__(self, owner: Sockets, kind: str, hop: Hop | None = None) -> None:
        self._owner = owner
        self._kind = kind
        self.ours = hop is not None
        self.hop = hop
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self.hop is None:
            peer = transport.get_extra_info("peername")
            if not peer:
                self.transport.abort()
                return
            self.hop = Hop(self._kind, peer[0], peer[1])
        self._owner.stream_opened(self.hop, self)

    def data_received(self, data: bytes) -> None:
        if self.hop is not None:
            self._owner.stream_heard(self.hop, data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.hop is not None:
            self._owner.stream_closed(self.hop, self)

    def write(self, data: bytes) -> None:
        if self.transport is None:
            return
        if self.transport.get_write_buffer_size() > MAX_WRITE_BUFFER:
            self.transport.abort()
            return
        self.transport.write(data)


class Sockets:
    """Sends by hop and says what came.

    Streams over ``max_streams`` displace the idlest one that somebody else opened; where all are
    our own, a new one is closed.
    """

    def __init__(
        self,
        on_data: Callable[[bytes, Hop], None],
        on_closed: Callable[[Hop], None],
        on_failed: Callable[[Hop], None],
        *,
        max_streams: int,
    ) -> None:
        """``on_closed`` tells of a stream that was open, ``on_failed`` of a hop out of reach."""
        self.on_data = on_data
        self._on_closed = on_closed
        self._on_failed = on_failed
        self._max_streams = max_streams
        self._udp: asyncio.DatagramTransport | None = None
        self._servers: list[asyncio.Server] = []
        self._acceptor: TlsAcceptor | None = None
        self._client_tls: ssl.SSLContext | None = None
        self._streams: OrderedDict[Hop, _Stream] = OrderedDict()
        self._waiting: dict[Hop, list[bytes]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sending: Hop | None = None
        self._closed = False

    def use_tls(self, context: ssl.SSLContext) -> None:
        """Connect to TLS hops with ``context``; without one they can't be reached."""
        self._client_tls = context

    @property
    def secure(self) -> bool:
        """Whether TLS hops can be reached."""
        return self._client_tls is not None

    async def open(self, host: str, port: int, *, udp: bool, tcp: bool) -> int:
        """Bind; both transports share one port, a free one where ``port`` is 0. Returns it.

        Raises OSError where the port is taken.
        """
        if not (udp or tcp):
            return 0
        loop = asyncio.get_running_loop()
        for attempt in range(BIND_ATTEMPTS):
            bound = port
            if udp:
                self._udp, _ = await loop.create_datagram_endpoint(
                    lambda: _Datagrams(self), sock=await _bound(host, port)
                )
                bound = self._udp.get_extra_info("sockname")[1]
            if not tcp:
                return bound
            try:
                server = await loop.create_server(lambda: _Stream(self, "tcp"), host, bound)
            except OSError:
                if self._udp is not None:
                    self._udp.abort()
                    self._udp = None
                if port or attempt == BIND_ATTEMPTS - 1:
                    raise
                continue
            self._servers.append(server)
            return cast(int, server.sockets[0].getsockname()[1])
        raise AssertionError("unreachable")

    async def open_tls(self, host: str, port: int, context: ssl.SSLContext) -> int:
        """Listen for TLS; returns the port. Raises OSError where it is taken."""
        self._acceptor = TlsAcceptor(context, lambda: _Stream(self, "tls"))
        return await self._acceptor.open(host, port)

    async def close(self) -> None:
        """Close everything at once; idempotent."""
        self._closed = True
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._acceptor is not None:
            await self._acceptor.close()
        for server in self._servers:
            server.close()
        for stream in list(self._streams.values()):
            if stream.transport is not None:
                stream.transport.abort()
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()
        if self._udp is not None:
            self._udp.abort()
            self._udp = None
        await asyncio.sleep(0)

    # -- sending -----------------------------------------------------------------------------

    def send(self, data: bytes, hop: Hop) -> None:
        """Send now, or once the name is resolved or the stream is open. Never raises."""
        if self._closed:
            return
        if hop.reliable:
            stream = self._streams.get(hop)
            if stream is not None:
                stream.write(data)
            elif hop.transport not in TRANSPORTS or (hop.transport == "tls" and not self.secure):
                self._fail(hop)
            elif self._wait(data, hop):
                self._spawn(self._connect(hop))
        elif self._udp is None:
            self._fail(hop)
        elif is_address(hop.host):
            self._send_datagram(data, hop, hop.host)
        elif self._wait(data, hop):
            self._spawn(self._resolve(hop))

    def close_stream(self, hop: Hop) -> None:
        """Close a stream once what was written is sent."""
        stream = self._streams.get(hop)
        if stream is not None and stream.transport is not None:
            stream.transport.close()

    def _wait(self, data: bytes, hop: Hop) -> bool:
        """Queue for a hop that isn't ready; True where nobody makes it ready yet."""
        queue = self._waiting.get(hop)
        if queue is None:
            self._waiting[hop] = [data]
            return True
        if len(queue) < MAX_WAITING:
            queue.append(data)
        return False

    async def _connect(self, hop: Hop) -> None:
        loop = asyncio.get_running_loop()
        context = self._client_tls if hop.transport == "tls" else None
        name = (hop.name or hop.host) if context is not None else None
        try:
            async with asyncio.timeout(CONNECT_LIMIT):
                _, stream = await loop.create_connection(
                    lambda: _Stream(self, hop.transport, hop),
                    hop.host,
                    hop.port,
                    ssl=context,
                    server_hostname=name,
                )
        except (OSError, TimeoutError) as error:
            why = getattr(error, "verify_message", "") or type(error).__name__
            log.info("sip.connect_failed", transport=hop.transport, error=why)
            self._waiting.pop(hop, None)
            self._fail(hop)
            return
        for data in self._waiting.pop(hop, ()):
            stream.write(data)

    async def _resolve(self, hop: Hop) -> None:
        family = self._udp.get_extra_info("socket").family if self._udp else socket.AF_UNSPEC
        host = await resolve(hop.host, hop.port, family)
        waiting = self._waiting.pop(hop, [])
        if host is None:
            self._fail(hop)
            return
        for data in waiting:
            self._send_datagram(data, hop, host)

    def _send_datagram(self, data: bytes, hop: Hop, host: str) -> None:
        if self._udp is None:
            return
        self._sending = hop
        try:
            self._udp.sendto(data, (host, hop.port))
        except (OSError, ValueError):
            self._fail(hop)
        finally:
            self._sending = None

    def datagram_failed(self) -> None:
        """The system refused a datagram; only one being sent right now has a known hop."""
        if self._sending is not None:
            self._fail(self._sending)

    def _fail(self, hop: Hop) -> None:
        asyncio.get_running_loop().call_soon(self._report_failure, hop)

    def _report_failure(self, hop: Hop) -> None:
        if not self._closed:
            self._on_failed(hop)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="sip-hop")
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("sip.hop_failed", error=repr(task.exception()))

    # -- streams -----------------------------------------------------------------------------

    def stream_opened(self, hop: Hop, stream: _Stream) -> None:
        """A connection is up, ours or theirs."""
        if self._closed:
            self._abort(stream)
            return
        if len(self._streams) >= self._max_streams:
            theirs = (pair for pair in self._streams.items() if not pair[1].ours)
            idlest, old = next(theirs, (hop, stream))
            log.warning("sip.stream_displaced", streams=len(self._streams))
            self._streams.pop(idlest, None)
            self._abort(old)
            self._on_closed(idlest)
            if old is stream:
                return
        self._streams[hop] = stream

    def stream_heard(self, hop: Hop, data: bytes) -> None:
        """Bytes from a stream; it is now the least idle one."""
        if hop in self._streams:
            self._streams.move_to_end(hop)
            self.on_data(data, hop)

    def stream_closed(self, hop: Hop, stream: _Stream) -> None:
        """A connection is gone."""
        if self._streams.get(hop) is stream:
            del self._streams[hop]
            if not self._closed:
                self._on_closed(hop)

    @staticmethod
    def _abort(stream: _Stream) -> None:
        if stream.transport is not None:
            stream.transport.abort()


async def _bound(host: str, port: int) -> socket.socket:
    """A UDP socket bound there. Raises OSError that, unlike uvloop's own, says why not."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    family, kind, protocol, _, address = found[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def is_address(host: str) -> bool:
    """Whether ``host`` is a literal address."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


async def addresses(host: str, port: int, family: int = socket.AF_UNSPEC) -> list[str]:
    """The addresses of a name (A and AAAA, and what the system knows); none where it has none."""
    if is_address(host):
        return [host]
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(cast(str, item[4][0]) for item in found))


async def resolve(host: str, port: int, family: int = socket.AF_UNSPEC) -> str | None:
    """The first address of a name; None where it has none."""
    return next(iter(await addresses(host, port, family)), None)


def source_address(host: str) -> str | None:
    """Our address on the way to ``host``, a literal address; None where there is no route.

    Connecting a datagram socket sends nothing.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 9))
            return cast(str, probe.getsockname()[0])
    except (OSError, UnicodeError):
        return None
