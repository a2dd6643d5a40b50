"""A language model that is always the same: OpenAI's streaming wire format, fixed delays.

``python llm.py PORT``. The first token comes after FIRST_TOKEN_SECONDS, the others
TOKEN_SECONDS apart. https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any, Final

from aiohttp import web

FIRST_TOKEN_SECONDS: Final = 0.12
TOKEN_SECONDS: Final = 0.012
REPLY: Final = (
    "We open at nine. You can reach us until six in the evening on every day of the week."
)


async def answer(request: web.Request) -> web.StreamResponse:
    """``POST /v1/chat/completions``."""
    body = await request.json()
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await _send(response, {"role": "assistant", "content": ""})
    loop = asyncio.get_running_loop()
    due = loop.time() + FIRST_TOKEN_SECONDS
    for word in REPLY.split(" "):
        await asyncio.sleep(max(0.0, due - loop.time()))
        await _send(response, {"content": word + " "})
        due += TOKEN_SECONDS
    await _send(response, {}, "stop")
    if (body.get("stream_options") or {}).get("include_usage"):
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        await _event(response, {"choices": [], "usage": usage})
    await response.write(b"data: [DONE]\n\n")
    return response


async def _send(response: web.StreamResponse, delta: dict[str, Any], finish: str = "") -> None:
    choice = {"index": 0, "delta": delta, "finish_reason": finish or None}
    await _event(response, {"choices": [choice]})


async def _event(response: web.StreamResponse, data: dict[str, Any]) -> None:
    head = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "fixed"}
    await response.write(f"data: {json.dumps({**head, **data})}\n\n".encode())


def main() -> None:
    """Serve until terminated."""
    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)


if __name__ == "__main__":
    main()
