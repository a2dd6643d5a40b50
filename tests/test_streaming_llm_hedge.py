"""A second request beside a real HTTP server: slow, silent, dying and refusing models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pipecat.frames.frames import (
    FunctionCallsStartedFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMTextFrame,
    TTSSpeakFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext

from fakes.graphs import Graph, running
from fakes.openai_server import Break, Call, Fail, OpenAiServer, Pause, Say, openai_server
from ringtrue.config.agent_schema import load_agents
from ringtrue.config.settings import OpenAiSettings
from ringtrue.streaming.llm.actions import CallActionFrame
from ringtrue.streaming.llm.compatible import (
    OpenAiLlm,
    SecondRequest,
    build_openai,
    call_tools,
    second_request,
)
from ringtrue.streaming.llm.deadline import LlmWatchdog, StallReason, WatchdogPolicy
from ringtrue.streaming.llm.hedge import FAILED, SLOW, Hedged, first_to_answer

AGENT = load_agents()["reception"]


def settings(server: OpenAiServer, **fields: Any) -> OpenAiSettings:
    base = {"engine": "openai", "model": "first", "base_url": server.base_url}
    return OpenAiSettings.model_validate(base | {"api_key": server.api_key} | fields)


@asynccontextmanager
async def asking(
    llm: OpenAiLlm, policy: WatchdogPolicy | None = None
) -> AsyncIterator[tuple[Graph, LlmWatchdog]]:
    watchdog = LlmWatchdog(llm, policy)
    async with running(llm, watchdog) as graph:
        messages: Any = [{"role": "user", "content": "hello"}]
        await graph.push(LLMContextFrame(LLMContext(messages, tools=call_tools(AGENT))))
        yield graph, watchdog


def said(graph: Graph) -> str:
    return "".join(frame.text for frame in graph.down(LLMTextFrame))


def hedging(
    server: OpenAiServer, delay: float | None, **second: Any
) -> tuple[OpenAiLlm, list[str]]:
    llm = build_openai(settings(server), "")
    reasons: list[str] = []
    llm.second = SecondRequest(delay, **second)
    llm.on_hedge = lambda hedged: reasons.append(hedged.reason)
    return llm, reasons


async def test_a_quick_model_is_asked_once() -> None:
    async with openai_server() as server:
        server.script(Say("Hello"), Pause(0.4), Say(" there."))
        llm, reasons = hedging(server, 0.2)
        async with asking(llm) as (graph, _):
            await graph.until(lambda: graph.down(LLMFullResponseEndFrame))
            assert said(graph) == "Hello there."
    assert len(server.requests) == 1
    assert reasons == []


async def test_a_slow_model_is_overtaken_and_cancelled() -> None:
    async with openai_server() as server:
        server.script(Pause(20), Say("too late"))
        server.script(Say("Hello"), Say(" there."))
        llm, reasons = hedging(server, 0.1, model="second")
        async with asking(llm) as (graph, watchdog):
            await graph.until(lambda: graph.down(LLMFullResponseEndFrame))
            assert said(graph) == "Hello there."
            assert not watchdog.stalls
            await graph.until(lambda: server.broken_off == 1)
    assert [request["model"] for request in server.requests] == ["first", "second"]
    assert reasons == [SLOW]


async def test_the_first_may_still_win_and_the_second_is_cancelled() -> None:
    async with openai_server() as server:
        server.script(Pause(0.3), Say("First."))
        server.script(Pause(20), Say("too late"))
        llm, _ = hedging(server, 0.1)
        async with asking(llm) as (graph, _):
            await graph.until(lambda: graph.down(LLMFullResponseEndFrame))
            assert said(graph) == "First."
            await graph.until(lambda: server.broken_off == 1)
    assert len(server.requests) == 2


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_model_that_refuses_is_replaced_at_once(status: int) -> None:
    async with openai_server() as server, openai_server("another-key") as other:
        server.script(Fail(status))
        other.script(Say("Hello."))
        llm, reasons = hedging(
            server, None, model="second", base_url=other.base_url, api_key="another-key"
        )
        async with asking(llm) as (graph, watchdog):
            await graph.until(lambda: graph.down(LLMFullResponseEndFrame))
            assert said(graph) == "Hello."
            assert not watchdog.stalls
    assert (len(server.requests), len(other.requests)) == (1, 1)
    assert reasons == [FAILED]


async def test_a_stream_that_dies_before_its_first_token_is_replaced() -> None:
    async with openai_server() as server:
        server.script(Pause(0.05), Break())
        server.script(Say("Hello."))
        llm, reasons = hedging(server, 5.0)
        async with asking(llm) as (graph, _):
            await graph.until(lambda: graph.down(LLMFullResponseEndFrame))
            assert said(graph) == "Hello."
    assert reasons == [FAILED]


async def test_a_stream_that_dies_later_is_apologised_for() -> None:
    policy = WatchdogPolicy(apology=("Sorry.",))
    async with openai_server() as server:
        server.script(Say("Your order"), Break())
        llm, reasons = hedging(server, 5.0)
        async with asking(llm, policy) as (graph, watchdog):
            await graph.until(lambda: graph.down(TTSSpeakFrame))
            assert said(graph) == "Your order"
            assert watchdog.stalls == {StallReason.ERROR: 1}
    assert len(server.requests) == 1
    assert reasons == []


async def test_where_both_fail_the_watchdog_is_told() -> None:
    policy = WatchdogPolicy(filler=("Moment.",))
    async with openai_server() as server:
        server.script(Fail(500))
        server.script(Fail(500))
        llm, _ = hedging(server, 1.0)
        async with asking(llm, policy) as (graph, watchdog):
            await graph.until(lambda: graph.down(TTSSpeakFrame))
            assert watchdog.stalls == {StallReason.ERROR: 1}
            assert len(server.requests) == 2


async def test_both_silent_after_their_headers_is_a_failure_with_a_deadline() -> None:
    policy = WatchdogPolicy(first_chunk=0.4, filler=("Moment.",), retry=True)
    async with openai_server() as server:
        server.script(Pause(20))
        server.script(Pause(20))
        llm, reasons = hedging(server, 0.1)
        async with asking(llm, policy) as (graph, watchdog):
            await graph.until(lambda: graph.down(TTSSpeakFrame))
            assert watchdog.stalls == {StallReason.FIRST_CHUNK: 1}
            await graph.until(lambda: server.broken_off == 2)
    assert reasons == [SLOW]


async def test_no_tool_is_called_twice() -> None:
    call = Call("hangup", {"say": "Goodbye."})
    async with openai_server() as server:
        server.script(Pause(0.3), call)
        server.script(Pause(0.25), call)
        llm, _ = hedging(server, 0.1)
        async with asking(llm) as (graph, _):
            await graph.until(lambda: graph.down(CallActionFrame))
            await asyncio.sleep(0.5)
            assert len(graph.down(FunctionCallsStartedFrame)) == 1
            assert len(graph.down(CallActionFrame)) == 1
            assert [frame.text for frame in graph.down(TTSSpeakFrame)] == ["Goodbye."]
    assert len(server.requests) == 2


async def test_an_interruption_ends_both_requests() -> None:
    async with openai_server() as server:
        server.script(Pause(20))
        server.script(Pause(20))
        llm, _ = hedging(server, 0.05)
        async with asking(llm) as (graph, _):
            await graph.until(lambda: len(server.requests) == 2)
            await llm.cancel_generation()
            await graph.until(lambda: server.broken_off == 2)


async def test_an_answer_without_a_token_is_an_answer_unless_another_has_one() -> None:
    async def empty() -> AsyncIterator[str]:
        await asyncio.sleep(0.05)
        return aiter_of("")

    async def full() -> AsyncIterator[str]:
        await asyncio.sleep(0.05)
        return aiter_of("a", "b")

    hedged: list[Hedged] = []
    alone = await first_to_answer((empty, full), bool, 1.0, hedged.append)
    assert (alone.ended, alone.early) == (True, [""])
    assert hedged == []
    better = await first_to_answer((empty, full), bool, 0.01, hedged.append)
    assert better.early == ["a"]
    assert hedged == [Hedged(SLOW)]
    await better.close()


async def aiter_of(*chunks: str) -> AsyncIterator[str]:
    for chunk in chunks:
        yield chunk


async def test_all_that_fail_raise_what_the_first_raised() -> None:
    async def refuses() -> AsyncIterator[str]:
        raise KeyError("first")

    async def fails() -> AsyncIterator[str]:
        raise ValueError("second")

    with pytest.raises(KeyError, match="first"):
        await first_to_answer((refuses, fails), bool, None, lambda hedged: None)


def test_what_is_configured() -> None:
    server = OpenAiServer("http://127.0.0.1:1/v1", "k")
    assert second_request(settings(server), 2.0) is None
    assert second_request(settings(server, hedge_seconds=0.6), 2.0) == SecondRequest(0.6)
    other = {"model": "small", "base_url": "http://127.0.0.1:2/v1", "api_key": "k2"}
    assert second_request(settings(server, fallback=other), 2.0) == SecondRequest(
        1.0, "small", "http://127.0.0.1:2/v1", "k2"
    )
