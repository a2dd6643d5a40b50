"""One end of the socket between supervisor and worker."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final, cast

import structlog

from ringtrue.agent.workers.wire import Message, MessageReader, WireError

log = structlog.get_logger(__name__)

MAX_UNREAD: Final = 4 << 20
"""Bytes that the other end may leave unread; then messages are dropped until it reads on."""


class Channel(asyncio.Protocol):
    """Messages both ways.

    Overflow policy: what does not fit behind :data:`MAX_UNREAD` is dropped and counted, as the
    network would drop it; whoever leaves so much unread is being given up as hung.
    """

    def __init__(self, on_message: Callable[[Message], None], on_lost: Callable[[], None]) -> None:
        """``on_lost`` is called once the other end is gone, or said what is no message."""
        self._on_message = on_message
        self._on_lost = on_lost
        self._reader = MessageReader()
        self._transport: asyncio.Transport | None = None
        self.dropped = 0
        """Messages."""

    async def open(self, end: socket.socket) -> None:
        """Take over ``end`` of a socket pair."""
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: self, sock=end)

    def send(self, message: Message) -> bool:
        """Send; False where it is dropped."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return False
        if transport.get_write_buffer_size() > MAX_UNREAD:
            self.dropped += 1
            return False
        transport.write(message.encode())
        return True

    def close(self) -> None:
        """Close once what was sent is written. Idempotent."""
        if self._transport is not None:
            self._transport.close()

    # -- asyncio's side ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is taken over."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Bytes from the other end."""
        try:
            messages = self._reader.feed(data)
        except WireError as error:
            log.error("workers.channel_broken", error=str(error))
            assert self._transport is not None
            self._transport.abort()
            return
        for message in messages:
            try:
                self._on_message(message)
            except Exception as error:  # let through, it would close the channel, and end all calls
                log.error("workers.message_failed", kind=int(message.kind), exc_info=error)

    def connection_lost(self, exc: Exception | None) -> None:
        """The other end is gone."""
        self._on_lost()
