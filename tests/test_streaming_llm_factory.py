"""The language stage as configured."""

from __future__ import annotations

import pytest
from pipecat.frames.frames import (
    AggregatedTextFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMMessagesAppendFrame,
    TTSSpeakFrame,
)
from pipecat.processors.aggregators.llm_response_universal import LLMUserAggregator
from pydantic import SecretStr

from fakes.graphs import running
from fakes.openai_server import Pause, Say, openai_server
from ringtrue.config.agent_schema import Agent, load_agents
from ringtrue.config.settings import (
    DeadlineSettings,
    DialogueSettings,
    OpenAiSettings,
    PipecatService,
)
from ringtrue.streaming.errors import LanguageError
from ringtrue.streaming.llm.actions import Transfer
from ringtrue.streaming.llm.compatible import OpenAiLlm
from ringtrue.streaming.llm.embedded import DialogueLLMService
from ringtrue.streaming.llm.factory import build_language, watchdog_policy
from ringtrue.streaming.record import Stage

AGENTS = load_agents()
DEADLINES = DeadlineSettings()
DIALOGUE = DialogueSettings(engine="dialogue")


@pytest.mark.virtual_time
async def test_the_dialogue_speaks_the_greeting_in_phrases() -> None:
    stages: list[Stage] = []
    stage = build_language(DIALOGUE, AGENTS["reception"], DEADLINES, probe=stages.append)
    assert isinstance(stage.llm, DialogueLLMService)
    async with running(stage.llm, *stage.before_tts) as graph:
        await graph.push(LLMContextFrame(stage.context))
        await graph.until(lambda: graph.down(LLMFullResponseEndFrame))
        phrases = [frame.text for frame in graph.down(AggregatedTextFrame)]
    assert phrases[:2] == [
        "Hello, this is the automated assistant",
        "of Meridian Supplies, an AI.",
    ]
    assert phrases[-1] == "How can I help?"
    assert stages == [Stage.FIRST_TOKEN, Stage.FIRST_PHRASE]


@pytest.mark.virtual_time
async def test_a_stalled_model_is_asked_again_through_the_user_context() -> None:
    async with openai_server() as server:
        server.script(Pause(3600))
        server.script(Say("We open at nine."))
        settings = OpenAiSettings(
            engine="openai",
            model="scripted-1",
            base_url=server.base_url,
            api_key=SecretStr(server.api_key),
        )
        stage = build_language(settings, AGENTS["reception"], DEADLINES)
        user = LLMUserAggregator(stage.context)
        async with running(user, stage.llm, *stage.before_tts) as graph:
            question = {"role": "user", "content": "when do you open"}
            await graph.push(LLMMessagesAppendFrame(messages=[question], run_llm=True))
            await graph.until(lambda: graph.down(AggregatedTextFrame)[-1:], 30)
            await graph.until(lambda: graph.down(AggregatedTextFrame)[-1].text[-5:] == "nine.", 30)
            heard = [
                frame.text
                for frame in graph.exit.frames
                if isinstance(frame, TTSSpeakFrame | AggregatedTextFrame)
            ]
        assert " ".join(heard) == (
            "Hello, this is the automated assistant of Meridian Supplies, an AI. "
            "One moment, please. We open at nine."
        )
        assert [r["messages"][-1] for r in server.requests] == [question, question]


def test_each_engine_is_built() -> None:
    openai = OpenAiSettings(engine="openai", model="m", base_url="http://127.0.0.1:9/v1")
    assert isinstance(build_language(openai, AGENTS["demo"], DEADLINES).llm, OpenAiLlm)
    named = PipecatService(engine="pipecat", service="ollama", settings={"model": "m"})
    stage = build_language(named, AGENTS["demo"], DEADLINES)
    assert type(stage.llm).__name__ == "OLLamaLLMService"
    assert stage.llm.greeting in AGENTS["demo"].greeting


def test_variables_of_the_call_are_filled_in_everywhere() -> None:
    openai = OpenAiSettings(engine="openai", model="m", base_url="http://127.0.0.1:9/v1")
    stage = build_language(
        openai, AGENTS["reminder"], DEADLINES, variables={"customer": "Ms. Lane"}
    )
    assert "Ms. Lane" in stage.llm.greeting
    assert "Ms. Lane" in str(stage.llm.settings.system_instruction)  # type: ignore[attr-defined]
    for engine in (openai, DIALOGUE):
        with pytest.raises(LanguageError, match="'nobody'; variables: appointment"):
            build_language(engine, AGENTS["reminder"], DEADLINES, variables={"nobody": "x"})


def test_deadlines_and_words_reach_the_watchdog() -> None:
    deadlines = DeadlineSettings(llm_first_chunk_seconds=1.5, llm_inter_chunk_seconds=0.5)
    policy = watchdog_policy(AGENTS["reception"], deadlines, {})
    assert (policy.first_chunk, policy.inter_chunk) == (1.5, 0.5)
    assert policy.give_up_action == Transfer("operator")
    assert policy.filler == AGENTS["reception"].stalls.filler


def test_an_agent_without_dialogue_needs_a_model() -> None:
    bare = Agent(name="bare", title="Bare", greeting=("Hello.",))
    with pytest.raises(LanguageError, match="has no dialogue"):
        build_language(DIALOGUE, bare, DEADLINES)
