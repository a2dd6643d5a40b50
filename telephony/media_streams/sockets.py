"""Starlette's websockets and bodies, as carriers' requests need them."""

from __future__ import annotations

from typing import Final

from fastapi import Request, WebSocket, WebSocketDisconnect

from ringtrue.telephony.media_streams.calls import ABNORMAL, SocketClosedError
from ringtrue.telephony.media_streams.wire import Message

MAX_BODY: Final = 32 * 1024
"""Bytes of a webhook's body; carriers' have a few thousand."""


class StarletteSocket:
    """Starlette's websocket as a :class:`~ringtrue.telephony.media_streams.calls.StreamSocket`."""

    def __init__(self, websocket: WebSocket) -> None:
        """Wrap an accepted websocket."""
        self._websocket = websocket

    async def receive(self) -> Message:
        """The next message. Raises :class:`SocketClosedError` once it is closed."""
        try:
            received = await self._websocket.receive()
        except RuntimeError as error:  # Starlette's word for "closed before"
            raise SocketClosedError from error
        if received["type"] == "websocket.disconnect":
            # uvicorn calls a lost connection 1005 too, and names a reason only of a close frame
            lost = "reason" not in received
            raise SocketClosedError(ABNORMAL if lost else received["code"])
        text = received.get("text")
        if isinstance(text, str):
            return text
        return bytes(received.get("bytes") or b"")

    async def send(self, message: Message) -> None:
        """Send a message. Raises :class:`SocketClosedError` once it is closed."""
        try:
            if isinstance(message, str):
                await self._websocket.send_text(message)
            else:
                await self._websocket.send_bytes(message)
        except (RuntimeError, WebSocketDisconnect) as error:
            raise SocketClosedError from error

    async def close(self, code: int) -> None:
        """Close with ``code``; harmless when closed already."""
        try:
            await self._websocket.close(code)
        except (RuntimeError, WebSocketDisconnect):
            return


async def read_body(request: Request) -> bytes | None:
    """The body, or None if it is larger than a webhook's ever is."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            return None
    return body


def public_address(request: Request, public_url: str | None) -> str:
    """The URL that a carrier asked for, as it knows it."""
    if public_url is None:
        return str(request.url)
    query = request.url.query
    return public_url.rstrip("/") + request.url.path + (f"?{query}" if query else "")
