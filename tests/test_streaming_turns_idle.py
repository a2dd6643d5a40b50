"""Callers who say nothing: when they are spoken to, with what, and when not."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from anticipating import call
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    FunctionCallInProgressFrame,
    FunctionCallResultFrame,
    TranscriptionFrame,
    TTSSpeakFrame,
    UserBackchannelFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from speech import pause, say

from fakes.graphs import Graph, running
from ringtrue.config.agent_schema import load_agents
from ringtrue.config.agent_turns import IdleFile, turn_words
from ringtrue.config.settings import DialogueSettings
from ringtrue.streaming.llm.actions import CallActionFrame, Hangup
from ringtrue.streaming.turn_taking import TurnTaking
from ringtrue.streaming.turns.idle import IdleCaller, IdleKeeper, IdlePolicy, Prompt
from ringtrue.streaming.turns.of_agent import idle_of

POLICY = IdlePolicy(10.0, ("Still there?", "Hello?"), ("Can you hear me?",), ("Goodbye.",))


def test_two_prompts_then_the_end() -> None:
    caller = IdleCaller(POLICY, 0.0)
    caller.heard(1.0)
    assert caller.due(10.9) is None
    assert caller.due(11.0) == Prompt("Still there?")
    assert caller.due(11.5) is None
    caller.busy(13.0)
    assert caller.due(22.9) is None
    assert caller.due(23.0) == Prompt("Hello?")
    assert caller.due(33.0) == Prompt("Goodbye.", last=True)
    assert caller.due(99.0) is None


def test_a_caller_never_heard_is_asked_something_else() -> None:
    caller = IdleCaller(POLICY, 0.0)
    assert caller.due(10.0) == Prompt("Can you hear me?")
    assert caller.due(20.0) == Prompt("Goodbye.", last=True)
    caller.heard(21.0)
    assert caller.due(31.0) == Prompt("Still there?"), "who speaks begins anew"


def said(graph: Graph) -> list[str]:
    return [frame.text for frame in graph.down(TTSSpeakFrame)]


@pytest.mark.virtual_time
async def test_silence_counts_from_the_last_word_of_either() -> None:
    record, resting = TurnTaking(), False
    async with running(IdleKeeper(POLICY, record, rests=lambda: resting)) as graph:
        exit_ = graph.exit
        await exit_.push_frame(BotStartedSpeakingFrame(), FrameDirection.UPSTREAM)
        await asyncio.sleep(30)
        assert said(graph) == [], "the agent speaks"
        await exit_.push_frame(BotStoppedSpeakingFrame(), FrameDirection.UPSTREAM)
        await asyncio.sleep(8)
        await graph.push(VADUserStartedSpeakingFrame())
        await asyncio.sleep(30)
        await graph.push(VADUserStoppedSpeakingFrame(), TranscriptionFrame("hi", "", ""))
        await asyncio.sleep(9)
        resting = True
        await asyncio.sleep(60)
        resting = False
        await asyncio.sleep(9)
        assert said(graph) == [], "the call rested"
        await asyncio.sleep(2)
        assert said(graph) == ["Still there?"]
        await asyncio.sleep(10.5)
        assert said(graph) == ["Still there?", "Hello?"]
        await graph.push(UserBackchannelFrame("mm-hm", "", ""))
        await asyncio.sleep(32)
        assert said(graph) == ["Still there?", "Hello?", "Still there?", "Hello?", "Goodbye."]
        (action,) = graph.down(CallActionFrame)
        assert (action.action, action.reason) == (Hangup(), "idle")
        await asyncio.sleep(60)
        assert record.idle_prompts == 5


@pytest.mark.virtual_time
async def test_a_tool_that_works_is_no_silence() -> None:
    async with running(IdleKeeper(POLICY, TurnTaking(), rests=lambda: False)) as graph:
        await graph.push(FunctionCallInProgressFrame("look_up", "t1", {}))
        await asyncio.sleep(40)
        assert said(graph) == []
        await graph.push(FunctionCallResultFrame("look_up", "t1", {}, "done"))
        await asyncio.sleep(10.5)
        assert said(graph) == ["Can you hear me?"]


def test_an_agents_own_texts_its_languages_and_none() -> None:
    agent = load_agents()["reception"]
    words = turn_words("en")
    policy = idle_of(agent)
    assert policy is not None
    assert policy.still_there == words.still_there
    assert policy.goodbye == (words.goodbye,)
    own = IdleFile(seconds=5, goodbye=("Bye from {company}.",))
    policy = idle_of(agent.model_copy(update={"idle": own}))
    assert policy is not None
    assert (policy.seconds, policy.goodbye) == (5, ("Bye from Meridian Supplies.",))
    assert idle_of(agent.model_copy(update={"idle": IdleFile(enabled=False)})) is None


@pytest.mark.virtual_time
async def test_a_silent_call_is_ended_once_the_goodbye_was_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policy = IdlePolicy(8.0, ("Still there?",), ("Can you hear me?",), ("So long.",))
    dialogue = DialogueSettings(engine="dialogue")
    async with call(monkeypatch, dialogue, [], [0.9], idle=policy) as it:
        await asyncio.sleep(8)
        assert it.graph.context.messages[-1]["content"] == "Can you hear me?"
        assert it.actions == []
        await asyncio.sleep(9)
        assert it.graph.context.messages[-1]["content"] == "So long."
        assert [frame.action for frame in it.actions] == [Hangup()]
        assert it.record.turn_taking.idle_prompts == 2
        assert it.record.unexplained_silences == []


@pytest.mark.virtual_time
async def test_a_caller_who_speaks_over_the_goodbye_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = IdlePolicy(8.0, (), (), (f"So long {'and thanks ' * 10}.",))
    dialogue, question = DialogueSettings(engine="dialogue"), "where is my order"
    async with call(monkeypatch, dialogue, [("", question)], [0.9], idle=policy) as it:
        it.leg.play(np.concatenate((pause(5.0), say(question), pause(3))).astype("<i2").tobytes())
        await asyncio.sleep(10)
        assert it.record.turn_taking.idle_prompts == 1
        assert it.record.interruptions == 1
        assert it.actions == [], "what was not heard is not done"
        said = [message["content"] for message in it.graph.context.messages]
        assert "So long" in said[-3]
        assert said[-2] == question
