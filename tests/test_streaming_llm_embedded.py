"""The dialogue behind the LLM hook: context in, tokens and actions out."""

from __future__ import annotations

import asyncio
from datetime import datetime

import pytest
from pipecat.frames.frames import (
    EagerEndOfTurnCancelFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext

from fakes.graphs import Graph, running
from ringtrue.config.agent_schema import load_agents
from ringtrue.streaming.llm.actions import CallActionFrame, Hangup, Transfer
from ringtrue.streaming.llm.dialogue import Dialogue
from ringtrue.streaming.llm.dialogue_state import Event, Filling, Keyed, Spoken
from ringtrue.streaming.llm.disclosure import Disclosure
from ringtrue.streaming.llm.embedded import DialogueLLMService, last_input

pytestmark = pytest.mark.virtual_time
DIALOGUE = Dialogue(load_agents()["reception"])


def service() -> DialogueLLMService:
    return DialogueLLMService(DIALOGUE, now=lambda: datetime(2026, 11, 21, 10, 5))


def heard(text: str) -> LLMContext:
    return LLMContext(messages=[{"role": "user", "content": text}])


async def settle(graph: Graph, responses: int) -> None:
    await graph.until(lambda: len(graph.down(LLMFullResponseEndFrame)) >= responses)
    await asyncio.sleep(0.01)


def text_of(graph: Graph) -> str:
    return "".join(frame.text for frame in graph.down(LLMTextFrame))


def test_what_the_context_means() -> None:
    assert last_input(LLMContext()) is Event.START
    assert last_input(LLMContext(messages=[{"role": "system", "content": "x"}])) is Event.START
    assert last_input(heard("hello")) == Spoken("hello")
    assert last_input(heard("DTMF: 12#")) == Keyed("12#")
    assert last_input(heard("um DTMF: 4")) == Keyed("4")
    assert last_input(heard("  ")) is Event.UNHEARD
    parts = LLMContext(messages=[{"role": "user", "content": [{"type": "text", "text": "hi"}]}])
    assert last_input(parts) == Spoken("hi")
    prompted = heard("x")
    prompted.add_message({"role": "developer", "content": "The user may have said something"})
    assert last_input(prompted) is Event.UNHEARD
    answered = heard("x")
    answered.add_message({"role": "assistant", "content": "y"})
    assert last_input(answered) is None


async def test_greeting_is_streamed_word_by_word() -> None:
    async with running(service()) as graph:
        await graph.push(LLMContextFrame(LLMContext()))
        await settle(graph, 1)
        kinds = [type(frame) for frame in graph.exit.frames]
        assert kinds.index(LLMFullResponseStartFrame) < kinds.index(LLMTextFrame)
        assert len(graph.down(LLMTextFrame)) == len(text_of(graph).split())
        assert text_of(graph).startswith("Ask about opening hours")


async def test_action_comes_after_the_response() -> None:
    async with running(service()) as graph:
        await graph.push(LLMContextFrame(heard("sales please")))
        await graph.until(lambda: graph.down(CallActionFrame))
        assert isinstance(graph.exit.frames[-1], CallActionFrame)
        assert graph.down(CallActionFrame)[0].action == Transfer("sales")
        assert graph.down(CallActionFrame)[0].reason == "sales"
        assert isinstance(graph.exit.frames[-2], LLMFullResponseEndFrame)


async def test_the_state_is_carried_from_turn_to_turn() -> None:
    llm = service()
    async with running(llm) as graph:
        await graph.push(LLMContextFrame(heard("where is my order")))
        await settle(graph, 1)
        assert llm.state.waiting == Filling("order_status", "order_number")
        await graph.push(LLMContextFrame(heard("DTMF: 12345#")))
        await settle(graph, 2)
        assert "1 2 3 4 5" in text_of(graph)


async def test_nothing_is_said_after_the_agents_own_words() -> None:
    context = heard("hello")
    context.add_message({"role": "assistant", "content": "Hello."})
    async with running(service()) as graph:
        await graph.push(LLMContextFrame(context))
        await asyncio.sleep(0.1)
        assert graph.down(LLMFullResponseStartFrame) == []


async def test_a_withdrawn_speculation_leaves_no_trace() -> None:
    llm = service()
    async with running(llm) as graph:
        before = llm.state
        await graph.push(UserStartedSpeakingFrame())
        await graph.push(LLMContextFrame(heard("where is my order"), speculation=True))
        await asyncio.sleep(0.05)
        assert llm.state is before
        await graph.push(EagerEndOfTurnCancelFrame())
        await asyncio.sleep(0.05)
        assert graph.down(LLMTextFrame) == []
        assert llm.state is before


async def test_a_goodbye_is_not_answered_before_it_is_known_how_sure_it_is() -> None:
    llm = service()
    async with running(llm) as graph:
        await graph.push(UserStartedSpeakingFrame())
        await graph.push(LLMContextFrame(heard("goodbye"), speculation=True))
        await graph.until(lambda: graph.down(EagerEndOfTurnCancelFrame))
        llm.believe(0.45)
        await graph.push(UserStoppedSpeakingFrame(), LLMContextFrame(heard("goodbye")))
        await settle(graph, 1)
        assert text_of(graph) == "Did you want to end the call?"
        assert graph.down(CallActionFrame) == []
        llm.believe(0.9)
        await graph.push(LLMContextFrame(heard("goodbye")))
        await graph.until(lambda: graph.down(CallActionFrame))
        assert graph.down(CallActionFrame)[0].action == Hangup()


async def test_a_confirmed_speculation_is_spoken_and_kept() -> None:
    llm = service()
    async with running(llm) as graph:
        await graph.push(UserStartedSpeakingFrame())
        await graph.push(LLMContextFrame(heard("where is my order"), speculation=True))
        await asyncio.sleep(0.05)
        assert graph.down(LLMTextFrame) == []
        await graph.push(UserStoppedSpeakingFrame())
        await settle(graph, 1)
        assert "order number" in text_of(graph)
        assert llm.state.waiting == Filling("order_status", "order_number")


async def test_an_answer_to_a_speculative_question_waits_for_its_turn() -> None:
    llm = service()
    texts = load_agents()["reception"].disclosed()
    llm.disclosure = Disclosure(texts)
    async with running(llm) as graph:
        for confirmed in (False, True):
            await graph.push(UserStartedSpeakingFrame())
            await graph.push(LLMContextFrame(heard("are you a robot"), speculation=True))
            await asyncio.sleep(0.05)
            assert text_of(graph) == ""
            await graph.push(
                UserStoppedSpeakingFrame() if confirmed else EagerEndOfTurnCancelFrame()
            )
        await settle(graph, 1)
        assert text_of(graph) == texts.answer


def test_what_no_recording_may_keep_is_known_while_it_is_asked() -> None:
    agent = load_agents()["reception"]
    assert agent.dialogue is not None
    slots = {
        name: slot.model_copy(update={"sensitive": True})
        for name, slot in agent.dialogue.slots.items()
    }
    file = agent.dialogue.model_copy(update={"slots": slots})
    dialogue = Dialogue(agent.model_copy(update={"dialogue": file}))
    now = datetime(2026, 11, 21, 10, 5)
    start = dialogue.reply(Event.START, dialogue.start(), now).state
    asking = dialogue.reply(Keyed("4"), start, now).state
    given = dialogue.reply(Keyed("12345"), asking, now).state
    assert [dialogue.sensitive(state) for state in (start, asking, given)] == [False, True, False]
    plain = DIALOGUE.reply(Keyed("4"), start, now).state
    assert isinstance(plain.waiting, Filling)
    assert not DIALOGUE.sensitive(plain)
