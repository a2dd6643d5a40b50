"""Uvicorn in the server's own loop: on an address of its own, or with connections handed over."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import structlog
import uvicorn

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = structlog.get_logger(__name__)

HTTP_GRACE_SECONDS: Final = 5


class _QuietUvicorn(uvicorn.Server):
    """Leaves signals to the process that runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class WebServer:
    """Serves one application."""

    def __init__(self, app: object, host: str, port: int, *, listens: bool = True) -> None:
        """Where it doesn't listen, connections come by :meth:`take`, one request in each."""
        config = uvicorn.Config(
            app if listens else OneRequest(app),  # type: ignore[arg-type]
            host=host,
            port=port,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=HTTP_GRACE_SECONDS,
            ws="websockets-sansio",
            ws_max_size=65536,
        )
        self._server = _QuietUvicorn(config)
        self._listens = listens
        self._task: asyncio.Task[None] | None = None
        self._taking: set[asyncio.Task[None]] = set()
        self.port = port

    async def start(self) -> None:
        """Bind and serve. Raises OSError where the port is taken."""
        sockets: list[socket.socket] = []
        if self._listens:
            sockets = [bound(self._server.config.host, self._server.config.port)]
            self.port = sockets[0].getsockname()[1]
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._server.serve(sockets=sockets), name="http")
        while not self._server.started:
            if self._task.done():
                self._task.result()
                raise OSError("the web server ended while starting")
            await asyncio.sleep(0.01)

    def take(self, connection: socket.socket) -> None:
        """Serve an accepted connection."""
        if self._task is None or self._server.should_exit:
            connection.close()
            return
        work = self._take(connection)
        task = asyncio.get_running_loop().create_task(work, name="http-take")
        self._taking.add(task)
        task.add_done_callback(self._taking.discard)

    async def _take(self, connection: socket.socket) -> None:
        config, state = self._server.config, self._server.server_state
        connection.setblocking(False)

        def protocol() -> asyncio.Protocol:
            made: asyncio.Protocol = config.http_protocol_class(  # type: ignore[call-arg]
                config=config, server_state=state, app_state=self._server.lifespan.state
            )
            return made

        try:
            await asyncio.get_running_loop().connect_accepted_socket(protocol, connection)
        except OSError as error:
            log.info("http.connection_lost", error=type(error).__name__)
            connection.close()

    async def stop(self) -> None:
        """Finish what is being answered, then close."""
        self._server.should_exit = True
        await asyncio.gather(*self._taking, return_exceptions=True)
        if self._task is not None:
            await self._task


class OneRequest:
    """Closes each connection behind its first answer, so that the next request is routed anew."""

    def __init__(self, app: object) -> None:
        """Wrap ``app``."""
        self._app: ASGIApp = app  # type: ignore[assignment]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [(k, v) for k, v in message.get("headers", ()) if k.lower() != b"connection"]
                message = {**message, "headers": [*kept, (b"connection", b"close")]}
            await send(message)

        await self._app(scope, receive, closing)


def bound(host: str, port: int) -> socket.socket:
    """A TCP socket bound there, not yet listening. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock
