"""Cartesia's two websockets, speech to text and text to speech, as far as calls use them.

https://docs.cartesia.ai/api-reference/stt/stt and https://docs.cartesia.ai/api-reference/tts/websocket:
the key travels in ``X-API-Key``, audio to be recognized as binary messages, everything else as
JSON (or, to the recognizer, the bare commands ``finalize`` and ``done``).
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

SAMPLES_PER_WORD = 1600


@dataclass
class CartesiaServer:
    """A running server."""

    url: str
    api_key: str
    transcripts: list[str] = field(default_factory=list)
    """What the recognizer "hears", one per ``finalize``."""

    queries: list[dict[str, list[str]]] = field(default_factory=list)
    heard: bytearray = field(default_factory=bytearray)
    spoken: list[dict[str, Any]] = field(default_factory=list)
    """Every request to speak."""

    cancelled: list[str] = field(default_factory=list)

    def check(self, connection: ServerConnection, request: Request) -> Response | None:
        """Refuse a handshake without the right key."""
        if request.headers.get("X-API-Key") != self.api_key:
            return connection.respond(HTTPStatus.UNAUTHORIZED, "invalid api key\n")
        return None

    async def handle(self, connection: ServerConnection) -> None:
        """One connection, by its path."""
        assert connection.request is not None
        url = urlsplit(connection.request.path)
        self.queries.append(parse_qs(url.query))
        try:
            if url.path == "/stt/websocket":
                await self._recognize(connection)
            elif url.path == "/tts/websocket":
                await self._speak(connection)
        except ConnectionClosed:
            pass

    async def _recognize(self, connection: ServerConnection) -> None:
        async for message in connection:
            if isinstance(message, bytes):
                self.heard += message
                continue
            if message == "finalize":
                text = self.transcripts.pop(0)
                for final in (False, True):
                    said = text if final else text.split()[0]
                    await _send(connection, type="transcript", is_final=final, text=said)
                await _send(connection, type="flush_done")
            elif message == "done":
                await _send(connection, type="done")

    async def _speak(self, connection: ServerConnection) -> None:
        ends: dict[str, float] = {}
        async for message in connection:
            request = json.loads(message)
            context = request["context_id"]
            if request.get("cancel"):
                self.cancelled.append(context)
                continue
            self.spoken.append(request)
            rate = request["output_format"]["sample_rate"]
            words = request["transcript"].split()
            start = ends.get(context, 0.0)
            step = SAMPLES_PER_WORD / rate
            starts = [start + step * index for index in range(len(words))]
            ends[context] = start + step * len(words)
            for index, _word in enumerate(words):
                times = np.arange(SAMPLES_PER_WORD) / rate
                tone = 8000 * np.sin(2 * np.pi * (200 + 40 * index) * times)
                data = base64.b64encode(tone.astype("<i2").tobytes()).decode()
                await _send(connection, type="chunk", context_id=context, data=data, done=False)
            if words:
                stamps = {"words": words, "start": starts, "end": [s + step for s in starts]}
                await _send(
                    connection, type="timestamps", context_id=context, word_timestamps=stamps
                )
            if not request["continue"]:
                await _send(connection, type="done", context_id=context, done=True)


async def _send(connection: ServerConnection, **message: Any) -> None:
    await connection.send(json.dumps(message))


@asynccontextmanager
async def cartesia_server(api_key: str = "sk-car-test") -> AsyncIterator[CartesiaServer]:
    """Serve on an ephemeral loopback port until the block ends."""
    server = CartesiaServer("", api_key)
    async with serve(
        server.handle, "127.0.0.1", 0, process_request=server.check, close_timeout=1
    ) as listening:
        host, port = next(iter(listening.sockets)).getsockname()[:2]
        server.url = f"ws://{host}:{port}"
        yield server
