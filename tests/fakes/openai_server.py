"""A chat-completions endpoint (OpenAI's streaming wire format), scripted.

https://platform.openai.com/docs/api-reference/chat-streaming: server-sent events, one
``chat.completion.chunk`` per event, a usage chunk without choices, then ``[DONE]``.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass(frozen=True)
class Say:
    """One token."""

    text: str


@dataclass(frozen=True)
class Call:
    """A tool call; its arguments are streamed in two pieces, as OpenAI does."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Pause:
    """Nothing for ``seconds``, with the stream open."""

    seconds: float


@dataclass(frozen=True)
class Fail:
    """An HTTP error instead of a stream."""

    status: int
    message: str = "scripted failure"


@dataclass(frozen=True)
class Break:
    """The connection is gone in the middle of the stream."""


Step = Say | Call | Pause | Fail | Break


@dataclass
class OpenAiServer:
    """A running server."""

    base_url: str
    api_key: str
    scripts: deque[list[Step]] = field(default_factory=deque)
    """One per request, in order; without one the request gets a 500."""

    requests: list[dict[str, Any]] = field(default_factory=list)
    broken_off: int = 0
    """Streams the client left before their end."""

    def script(self, *steps: Step) -> None:
        """Answer the next request like this."""
        self.scripts.append(list(steps))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """``POST /v1/chat/completions``."""
        if request.headers.get("Authorization") != f"Bearer {self.api_key}":
            return _error(401, "Incorrect API key provided", "invalid_api_key")
        self.requests.append(await request.json())
        steps = self.scripts.popleft() if self.scripts else [Fail(500)]
        if isinstance(steps[0], Fail):
            return _error(steps[0].status, steps[0].message, "server_error")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            await self._stream(response, steps)
        except (ConnectionError, asyncio.CancelledError):
            self.broken_off += 1
            raise
        return response

    async def _stream(self, response: web.StreamResponse, steps: list[Step]) -> None:
        await _send(response, {"role": "assistant", "content": ""})
        calls = 0
        for step in steps:
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
            elif isinstance(step, Break):
                assert response._req is not None
                assert response._req.transport is not None
                response._req.transport.abort()
                return
            elif isinstance(step, Say):
                await _send(response, {"content": step.text})
            elif isinstance(step, Call):
                arguments = json.dumps(step.arguments)
                head = {"name": step.name, "arguments": ""}
                start = {"index": calls, "id": f"call_{calls}", "type": "function"}
                await _send(response, {"tool_calls": [{**start, "function": head}]})
                middle = len(arguments) // 2
                for piece in (arguments[:middle], arguments[middle:]):
                    delta = {"index": calls, "function": {"arguments": piece}}
                    await _send(response, {"tool_calls": [delta]})
                calls += 1
        await _send(response, {}, finish="tool_calls" if calls else "stop")
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        await _event(response, {**_chunk(), "choices": [], "usage": usage})
        await response.write(b"data: [DONE]\n\n")


def _chunk() -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "scripted-1",
    }


async def _send(response: web.StreamResponse, delta: dict[str, Any], finish: str = "") -> None:
    choice = {"index": 0, "delta": delta, "finish_reason": finish or None}
    await _event(response, {**_chunk(), "choices": [choice]})


async def _event(response: web.StreamResponse, data: dict[str, Any]) -> None:
    await response.write(f"data: {json.dumps(data)}\n\n".encode())


def _error(status: int, message: str, code: str) -> web.Response:
    body = {"error": {"message": message, "type": code, "param": None, "code": code}}
    return web.json_response(body, status=status)


@asynccontextmanager
async def openai_server(api_key: str = "sk-test") -> AsyncIterator[OpenAiServer]:
    """Serve on an ephemeral loopback port until the block ends."""
    app = web.Application()
    # A handler whose client has gone is cancelled, so that it can be counted.
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.2)
    server = OpenAiServer("", api_key)
    app.router.add_post("/v1/chat/completions", server.handle)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    server.base_url = f"http://{host}:{port}/v1"
    try:
        yield server
    finally:
        await runner.cleanup()
