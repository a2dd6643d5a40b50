"""Answers begun before the turn's end: said at once if it was one, gone without a trace if not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from anticipating import RATE, Call, call
from pydantic import SecretStr
from speech import pause, say
from test_streaming_graph import caller

from fakes.openai_server import Call as ToolCall
from fakes.openai_server import OpenAiServer, Pause, Say, openai_server
from ringtrue.config.settings import DialogueSettings, OpenAiSettings
from ringtrue.streaming.clock import TICK
from ringtrue.streaming.llm.actions import Hangup, Transfer
from ringtrue.streaming.llm.dialogue_state import Filling
from ringtrue.streaming.llm.embedded import DialogueLLMService
from ringtrue.streaming.record import Stage

pytestmark = pytest.mark.virtual_time
DIALOGUE = DialogueSettings(engine="dialogue")
QUESTION = "where is my order"
ASKED = "What is your order number?"


def openai(server: OpenAiServer) -> OpenAiSettings:
    return OpenAiSettings(
        engine="openai",
        model="scripted-1",
        base_url=server.base_url,
        api_key=SecretStr(server.api_key),
    )


def state(it: Call) -> object:
    assert isinstance(it.language.llm, DialogueLLMService)
    return it.language.llm.state.waiting


async def ask(it: Call, *parts: float | str, then: float = 6.0) -> float:
    """Let the caller speak texts and keep silent for seconds; when the last text ended."""
    sound = [pause(part) if isinstance(part, float) else say(part) for part in parts]
    began = asyncio.get_running_loop().time()
    it.leg.play(caller(*sound, pause(then)))
    seconds = sum(map(len, sound)) / RATE
    await asyncio.sleep(seconds + then)
    return began + seconds


async def test_an_answer_is_ready_when_the_turn_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    async with call(monkeypatch, DIALOGUE, [(QUESTION, QUESTION)], [0.9]) as it:
        await ask(it, 0.3, QUESTION)
        turn = it.record.turns[-1]
        taking = it.record.turn_taking
        assert (taking.speculations, taking.confirmed) == (1, 1)
        assert not taking.dropped
        assert taking.wasted_ms == taking.wasted_tokens == 0
        assert taking.saved_ms > 15
        assert turn.stages[Stage.FIRST_PACKET] - turn.stages[Stage.TURN_ENDED] <= TICK
        assert it.engine.asked == [ASKED]
        assert it.graph.context.messages[-2:] == [
            {"role": "user", "content": QUESTION},
            {"role": "assistant", "content": f"{ASKED} You can say it or key it in, "
             "followed by the hash key."},
        ]  # fmt: skip
        assert state(it) == Filling("order_status", "order_number")


async def test_speculation_buys_what_a_slow_model_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    latency = {}
    for anticipate in (False, True):
        async with openai_server() as server:
            server.script(Pause(0.4), Say("It is on "), Say("its way to you. "), Say("Good?"))
            script = [(QUESTION, QUESTION)]
            async with call(
                monkeypatch, openai(server), script, [0.3], anticipate=anticipate
            ) as it:
                ended = await ask(it, 0.3, QUESTION)
                heard = it.speech_after(ended)
                assert heard is not None
                latency[anticipate] = heard - ended
                assert len(server.requests) == 1
                assert it.record.turn_taking.confirmed == int(anticipate)
                assert it.graph.context.messages[-2]["content"] == QUESTION
    assert latency[False] - latency[True] > 0.3
    assert latency[True] < 0.95


async def test_a_caller_who_goes_on_has_not_been_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    async with openai_server() as server:
        server.script(Say("You can "), Say("open one "), Say("by phone."), Pause(30))
        server.script(Say("We open at nine."))
        script = [("when do you open", "when do you open"), ("on sunday", "on sunday")]
        async with call(monkeypatch, openai(server), script, [0.3, 0.3, 0.9]) as it:
            disclosed = it.language.disclosure.attempts
            await ask(it, 0.3, "when do you open", 0.55, "on sunday")
            taking = it.record.turn_taking
            assert taking.dropped["resumed"] == 1
            assert taking.confirmed == taking.speculations - taking.dropped.total()
            assert taking.wasted_tokens == 3
            assert taking.wasted_ms > 0
            assert server.broken_off == 1
            assert it.graph.context.messages[-2:] == [
                {"role": "user", "content": "when do you open on sunday"},
                {"role": "assistant", "content": "We open at nine."},
            ]
            assert it.language.disclosure.attempts == disclosed
            assert all("phone" not in str(m) for m in it.graph.context.messages)
            assert len(it.record.turns) == 1
            assert it.record.interruptions == 0


async def test_other_words_in_the_end_are_answered_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    script = [("what are your", QUESTION)]
    async with call(monkeypatch, DIALOGUE, script, [0.9]) as it:
        await ask(it, 0.3, QUESTION)
        assert it.record.turn_taking.dropped == {"other_words": 1}
        assert it.record.turn_taking.confirmed == 0
        assert it.graph.context.messages[-2] == {"role": "user", "content": QUESTION}
        assert it.graph.context.messages[-1]["content"].startswith(ASKED)
        assert state(it) == Filling("order_status", "order_number")


async def test_a_dialogue_acts_only_once_the_turn_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = [("sales please", "sales please"), (QUESTION, QUESTION)]
    async with call(monkeypatch, DIALOGUE, script, [0.3, 0.3, 0.9]) as it:
        await ask(it, 0.3, "sales please", 0.27, QUESTION)
        assert it.record.turn_taking.dropped["resumed"] == 1, it.record.turn_taking
        assert it.actions == []
    async with call(monkeypatch, DIALOGUE, script[:1], [0.9]) as it:
        await ask(it, 0.3, "sales please", then=10.0)
        assert it.record.turn_taking.confirmed == 1, it.record.turn_taking
        assert [frame.action for frame in it.actions] == [Transfer("sales")]


async def test_a_goodbye_whose_early_answer_is_refused_too_late_is_answered_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A loop that is held up lets the refusal and the end of the turn cross."""
    async with call(monkeypatch, DIALOGUE, [("goodbye", "goodbye")], [0.9]) as it:
        llm = it.language.llm
        told = llm.broadcast_frame

        async def late(*args: Any, **kwargs: Any) -> None:
            await asyncio.sleep(0.5)
            await told(*args, **kwargs)

        monkeypatch.setattr(llm, "broadcast_frame", late)
        await ask(it, 0.3, "goodbye", then=10.0)
        taking = it.record.turn_taking
        assert (taking.speculations, taking.confirmed) == (1, 1), "or nothing crossed"
        assert [frame.action for frame in it.actions] == [Hangup()]
        assert it.graph.context.messages[-2] == {"role": "user", "content": "goodbye"}
        assert "oodbye" in str(it.graph.context.messages[-1]["content"])


async def test_a_tool_is_not_called_ahead_of_the_turns_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async with openai_server() as server:
        for _ in range(2):
            server.script(ToolCall("hangup", {"say": "Goodbye."}))
        async with call(monkeypatch, openai(server), [("bye", "bye")], [0.3]) as it:
            await ask(it, 0.3, "good bye")
            taking = it.record.turn_taking
            assert taking.dropped == {"refused": 1}
            assert [frame.action for frame in it.actions] == [Hangup()]
            assert len(server.requests) == 2
            spoken = [m for m in it.graph.context.messages if m.get("content") == "Goodbye."]
            assert len(spoken) == 1


async def test_it_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    script = [(QUESTION, QUESTION)]
    async with call(monkeypatch, DIALOGUE, script, [0.9], anticipate=False) as it:
        await ask(it, 0.3, QUESTION)
        assert it.record.turn_taking.speculations == 0
        assert it.engine.asked == [ASKED]


async def test_one_turn_begins_few_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    script = [(f"part {n}", f"part {n}") for n in range(5)]
    async with call(monkeypatch, DIALOGUE, script, [0.3]) as it:
        parts = [part for _ in range(5) for part in (QUESTION, 0.55)]
        await ask(it, 0.3, *parts[:-1])
        assert it.record.turn_taking.speculations <= 2
