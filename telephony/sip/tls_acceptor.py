"""Taking TLS connections: a bounded number of strangers may be in their handshake at once."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Final, cast

import structlog

log = structlog.get_logger(__name__)

HANDSHAKE_LIMIT: Final = 5.0
"""Seconds a stranger's handshake may take."""

MAX_HANDSHAKES: Final = 128
"""Handshakes at once (each holds some 256 KiB); further connections wait in the backlog."""

BACKLOG: Final = 128
PAUSE: Final = 0.2
"""Seconds until the next try where a connection can't be taken (no file descriptor left)."""


class TlsAcceptor:
    """Listens; each connection whose handshake succeeds gets a protocol."""

    def __init__(self, context: ssl.SSLContext, make: Callable[[], asyncio.Protocol]) -> None:
        """``make`` makes the protocol of one connection."""
        self._context = context
        self._make = make
        self._slots = asyncio.Semaphore(MAX_HANDSHAKES)
        self._socket: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, host: str, port: int) -> int:
        """Bind and listen; returns the port. Raises OSError where it is taken."""
        loop = asyncio.get_running_loop()
        flags = socket.AI_PASSIVE
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setblocking(False)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
        self._socket = listener
        self._spawn(loop.create_task(self._accept(listener), name="sip-tls-accept"))
        return cast(int, listener.getsockname()[1])

    async def close(self) -> None:
        """Listen no more; handshakes under way are dropped. Idempotent."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _spawn(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("sip.tls_accept_failed", error=repr(task.exception()))

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._slots.acquire()
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as error:
                self._slots.release()
                log.warning("sip.tls_not_accepted", error=error.strerror)
                await asyncio.sleep(PAUSE)
                continue
            self._spawn(loop.create_task(self._shake(connection), name="sip-tls-handshake"))

    async def _shake(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                self._make,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=HANDSHAKE_LIMIT,
            )
        except OSError as error:  # TLS errors and timeouts are such too
            log.debug("sip.tls_handshake_failed", error=type(error).__name__)
            connection.close()
        except BaseException:
            connection.close()
            raise
        finally:
            self._slots.release()
