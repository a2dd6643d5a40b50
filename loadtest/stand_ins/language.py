"""A language model that is none: OpenAI's streaming wire over HTTP, with replies and times given.

Chat completions as server-sent events
(https://platform.openai.com/docs/api-reference/chat-streaming). What it says to a conversation
and how long it takes is drawn from the seed and the conversation, not from the order in which
requests come, so that a run can be had again.
"""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any, Final

from ringtrue.loadtest.scenario.schema import Behaviour, Llm
from ringtrue.streaming.lifetime import Running

MODEL: Final = "stand-in"
MAX_HEAD: Final = 64 * 1024
MAX_BODY: Final = 4 << 20
SLOW: Final = 10.0
"""How many times longer everything takes when it is slow."""

IDLE_SECONDS: Final = 60.0
CREATED: Final = 1_700_000_000


class LanguageStandIn(Running):
    """The server. Use ``async with``; :attr:`behaviour` may change while it runs."""

    def __init__(self, given: Llm, seed: int, host: str = "127.0.0.1") -> None:
        """Speak as ``given``; nothing is bound yet."""
        self._given = given
        self._seed = seed
        self._host = host
        self._behaviour: Behaviour = given.behaviour
        self._server: asyncio.Server | None = None
        self._streams: dict[asyncio.StreamWriter, asyncio.Task[Any] | None] = {}
        self._port = 0
        self.requests = 0

    @property
    def base_url(self) -> str:
        """What clients are given as their base."""
        return f"http://{self._host}:{self._port}/v1"

    @property
    def behaviour(self) -> Behaviour:
        """How it behaves now."""
        return self._behaviour

    async def behave(self, behaviour: Behaviour) -> None:
        """Behave otherwise from now on; dead breaks off what it was saying."""
        self._behaviour = behaviour
        if behaviour == "dead":
            await self.close()
        elif self._server is None:
            await self._listen()

    async def start(self) -> None:
        """Listen on a free port. Raises OSError where that can't be done."""
        await self._listen()
        if self._behaviour == "dead":
            await self.close()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(
            self._serve, self._host, self._port, limit=MAX_HEAD
        )
        self._port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Close every connection, and listen no more. Idempotent."""
        if self._server is None:
            return
        self._server.close()
        serving = [task for task in self._streams.values() if task is not None]
        for writer, task in tuple(self._streams.items()):
            writer.transport.abort()
            if task is not None:
                task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._streams[writer] = asyncio.current_task()
        try:
            while (body := await _request(reader)) is not None:
                self.requests += 1
                await self._answer(writer, body)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            pass  # a client that goes away or speaks no HTTP ends its connection
        finally:
            self._streams.pop(writer, None)
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, body: bytes) -> None:
        messages = json.loads(body).get("messages", [])
        chance = random.Random(f"{self._seed}/{json.dumps(messages, sort_keys=True)}")
        if self._behaviour == "error":
            error = json.dumps({"error": {"message": "out of order", "type": "server_error"}})
            writer.write(_plain(500, error.encode()))
            await writer.drain()
            return
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        await self._event(writer, _delta({"role": "assistant", "content": ""}))
        if self._behaviour == "silent":
            await self._say_nothing()
        words = chance.choice(self._given.replies).split(" ")
        if self._behaviour == "mid_silent":
            words = words[: max(1, len(words) // 2)]
        for index, word in enumerate(words):
            await asyncio.sleep(self._seconds(first=index == 0, chance=chance))
            text = word if index == 0 else f" {word}"
            await self._event(writer, _delta({"content": text}))
        if self._behaviour == "mid_silent":
            await self._say_nothing()
        await self._event(writer, _delta({}, finish="stop"))
        usage = {"prompt_tokens": 1, "completion_tokens": len(words), "total_tokens": 1}
        await self._event(writer, {**_chunk(), "choices": [], "usage": usage})
        await _piece(writer, b"data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    def _seconds(self, *, first: bool, chance: random.Random) -> float:
        given = self._given
        base = given.first_token_ms if first else given.token_ms
        slow = SLOW if self._behaviour == "slow" else 1.0
        return base / 1000 * slow * chance.uniform(1 - given.jitter, 1 + given.jitter)

    async def _say_nothing(self) -> None:
        """Keep the stream open until the behaviour changes or the client has had enough."""
        now = self._behaviour
        for _ in range(round(IDLE_SECONDS / 0.1)):
            if self._behaviour != now:
                return
            await asyncio.sleep(0.1)

    @staticmethod
    async def _event(writer: asyncio.StreamWriter, data: dict[str, Any]) -> None:
        if writer.transport.is_closing():
            raise ConnectionResetError
        await _piece(writer, f"data: {json.dumps(data)}\n\n".encode())


async def _request(reader: asyncio.StreamReader) -> bytes | None:
    """The body of the next request; None where the client has closed."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            length = int(value)
    if not 0 < length <= MAX_BODY:
        raise ValueError("no body of a size that is taken")
    return await reader.readexactly(length)


async def _piece(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\n%s\r\n" % (len(data), data))
    await writer.drain()


def _plain(status: int, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status} Error\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _chunk() -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": MODEL,
    }


def _delta(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {**_chunk(), "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
