"""The language model that is none: OpenAI's wire, as its own client reads it."""

from __future__ import annotations

import asyncio
import contextlib

import openai
import pytest

from ringtrue.loadtest.scenario.schema import Llm
from ringtrue.loadtest.stand_ins.language import LanguageStandIn

REPLIES = ("One two three.", "Four five six seven.", "Eight.")


def given(behaviour: str = "normal") -> Llm:
    return Llm.model_validate(
        {"replies": REPLIES, "first_token_ms": 5, "token_ms": 1, "behaviour": behaviour}
    )


async def ask(model: LanguageStandIn, words: str = "hello", seconds: float = 5.0) -> str:
    """What it says; an open stream that stays silent is a timeout."""
    client = openai.AsyncOpenAI(base_url=model.base_url, api_key="x", max_retries=0)
    text = ""
    try:
        async with asyncio.timeout(seconds):
            stream = await client.chat.completions.create(
                model="x", messages=[{"role": "user", "content": words}], stream=True
            )
            async for chunk in stream:
                for choice in chunk.choices:
                    text += choice.delta.content or ""
        return text
    except TimeoutError:
        return f"{text}…"
    finally:
        await client.close()


async def test_it_speaks_as_its_client_expects_and_the_same_again() -> None:
    async with LanguageStandIn(given(), 1) as model:
        first = [await ask(model, f"question {number}") for number in range(6)]
        again = [await ask(model, f"question {number}") for number in range(6)]
        assert model.requests == 12
    assert first == again
    assert set(first) <= set(REPLIES)
    assert len(set(first)) > 1


async def test_it_may_fall_silent_at_once_or_halfway() -> None:
    async with LanguageStandIn(given("silent"), 1) as model:
        assert await ask(model, seconds=0.3) == "…"
    async with LanguageStandIn(given("mid_silent"), 1) as model:
        half = await ask(model, seconds=0.5)
    assert half.endswith("…")
    assert any(reply.startswith(half[:-1]) for reply in REPLIES)
    assert half[:-1] not in REPLIES or half == "Eight.…"


async def test_it_may_fail_die_and_come_back() -> None:
    async with LanguageStandIn(given("error"), 1) as model:
        with pytest.raises(openai.InternalServerError):
            await ask(model)
        await model.behave("dead")
        with pytest.raises(openai.APIConnectionError):
            await ask(model)
        await model.behave("normal")
        assert await ask(model) in REPLIES


async def test_dying_breaks_off_what_was_being_said() -> None:
    slow = given("silent")
    async with LanguageStandIn(slow, 1) as model:
        asking = asyncio.create_task(ask(model))
        await asyncio.sleep(0.2)
        await model.behave("dead")
        with pytest.raises(openai.APIConnectionError):
            await asking


async def test_it_may_be_slow() -> None:
    loop = asyncio.get_running_loop()
    async with LanguageStandIn(given("slow"), 1) as model:
        begun = loop.time()
        assert await ask(model) in REPLIES
        # Ten times 5 ms, less what it may vary.
        assert loop.time() - begun > 0.04


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 100_000, b"POST / HTTP/1.1\r\n"
     b"Content-Length: 3\r\n\r\n{{{", b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n"],
)  # fmt: skip
async def test_what_is_no_request_ends_its_connection(sent: bytes) -> None:
    async with LanguageStandIn(given(), 1) as model:
        port = int(model.base_url.rsplit(":", 1)[1].partition("/")[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        writer.write_eof()
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(reader.read(), 5)
        writer.close()
        assert await ask(model) in REPLIES
