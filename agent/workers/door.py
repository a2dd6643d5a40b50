"""The web's listening end: looks at each connection's first bytes and hands it to a worker.

Nothing is read: the bytes stay in the connection's buffer for the worker. Workers close a
connection behind its first answer, so each request comes this way. What tells of all workers
(health, metrics) is answered here.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog

log = structlog.get_logger(__name__)

MAX_PEEK: Final = 160 * 1024
"""Bytes of a request that are looked at."""

MAX_BODY: Final = 128 * 1024
"""A longer body is not waited for."""

LOOK_SECONDS: Final = 5.0
"""How long a connection may take to show its first request."""

MAX_LOOKING: Final = 1024
"""Connections looked at at once; the one that came first gives way to a further one."""

BACKLOG: Final = 512
FIRST_PAUSE: Final = 0.002
LONGEST_PAUSE: Final = 0.1

_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*\r\n", re.IGNORECASE)
_LINE: Final = re.compile(rb"([A-Z]{1,20}) ([^ \r\n]{1,4096}) HTTP/1\.[01]\r\n")


@dataclass(frozen=True, slots=True)
class Seen:
    """A request, as far as it was looked at."""

    method: str
    path: str
    """Without the query."""

    data: bytes
    """Head, and body as far as it was waited for."""


@dataclass(frozen=True, slots=True)
class OwnAnswer:
    """What the door answers itself."""

    status: int
    body: bytes
    media_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


Pass = Callable[[socket.socket, Seen], bool]
"""Hands a connection over; False where nobody takes it."""

Own = Callable[[Seen], Awaitable[OwnAnswer | None]]

BUSY: Final = OwnAnswer(
    503, b'{"detail":"no worker can serve this now"}', headers=(("Retry-After", "2"),)
)

_REASONS: Final = {200: "OK", 503: "Service Unavailable"}


class Door:
    """Accepts, looks, hands over. Serves one event loop."""

    def __init__(self, listener: socket.socket, own: Own, hand: Pass) -> None:
        """``listener`` is bound. ``own`` gives the answers that are the door's, None for others."""
        self._listener = listener
        self._own, self._hand = own, hand
        self._looking: dict[asyncio.Task[None], None] = {}
        self._accepting: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Listen. Raises OSError."""
        self._listener.listen(BACKLOG)
        self._listener.setblocking(False)
        loop = asyncio.get_running_loop()
        self._accepting = loop.create_task(self._accept(), name="http-door")

    async def close(self) -> None:
        """Listen no more; connections not handed over yet are closed. Idempotent."""
        tasks = [*self._looking, *([self._accepting] if self._accepting is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listener.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._listener)
            except OSError as error:
                log.warning("workers.not_accepted", error=error.strerror)
                await asyncio.sleep(LONGEST_PAUSE)
                continue
            while len(self._looking) >= MAX_LOOKING:
                eldest = next(iter(self._looking))
                del self._looking[eldest]
                eldest.cancel()
            task = loop.create_task(self._see_to(connection), name="http-look")
            self._looking[task] = None
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._looking.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("workers.door_failed", error=repr(error), exc_info=error)

    async def _see_to(self, connection: socket.socket) -> None:
        with connection:
            connection.setblocking(False)
            with contextlib.suppress(TimeoutError, OSError):
                async with asyncio.timeout(LOOK_SECONDS):
                    seen = await self._look(connection)
                if seen is None:
                    return
                answer = await self._own(seen)
                if answer is None and self._hand(connection, seen):
                    return
                async with asyncio.timeout(LOOK_SECONDS):
                    await _answer(connection, answer or BUSY)

    async def _look(self, connection: socket.socket) -> Seen | None:
        """Wait for the request's head, and its body where that is short; None where none comes.

        A connection with bytes in its buffer is always readable, so waiting for more of them is
        looking again a little later.
        """
        await _readable(connection)
        pause, before = FIRST_PAUSE, -1
        while True:
            data = connection.recv(MAX_PEEK, socket.MSG_PEEK)
            whole = _whole(data)
            if not data or whole is False:
                return None
            if whole or len(data) >= MAX_PEEK:
                break
            pause = FIRST_PAUSE if len(data) != before else min(2 * pause, LONGEST_PAUSE)
            before = len(data)
            await asyncio.sleep(pause)
        line = _LINE.match(data)
        if line is None:
            return None
        target = line[2].decode("ascii", "replace")
        return Seen(line[1].decode(), target.partition("?")[0], data)


def _whole(data: bytes) -> bool | None:
    """Whether enough of a request came; None: not yet; False: it is none."""
    head, separator, body = data.partition(b"\r\n\r\n")
    if not separator:
        first = data.partition(b"\r\n")
        return False if first[1] and not _LINE.match(data) else None
    if not _LINE.match(data):
        return False
    length = _LENGTH.search(head + b"\r\n")
    if length is None or int(length[1]) > MAX_BODY or b"100-continue" in head.lower():
        return True
    return True if len(body) >= int(length[1]) else None


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def note() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(connection, note)
    try:
        await ready
    finally:
        loop.remove_reader(connection)


async def _answer(connection: socket.socket, answer: OwnAnswer) -> None:
    lines = [
        f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, 'Said')}",
        f"Content-Type: {answer.media_type}",
        f"Content-Length: {len(answer.body)}",
        "Cache-Control: no-store",
        "Connection: close",
        *(f"{name}: {value}" for name, value in answer.headers),
    ]
    head = "\r\n".join([*lines, "", ""]).encode()
    # What was only looked at is taken now: closing with bytes unread would reset the connection.
    with contextlib.suppress(BlockingIOError):
        connection.recv(MAX_PEEK)
    await asyncio.get_running_loop().sock_sendall(connection, head + answer.body)
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
