"""The watchdog: no failure of a language model is heard as silence."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from textwrap import dedent

import pytest
from pipecat.frames.frames import (
    FunctionCallsStartedFrame,
    InterruptionFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMRunFrame,
    LLMTextFrame,
    TTSSpeakFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.llm_service import LLMService
from pipecat.services.settings import LLMSettings
from pipecat.utils.errors import ErrorCategory

from fakes.graphs import Graph, running
from ringtrue.config.agent_schema import parse_agent
from ringtrue.streaming.llm.actions import CallActionFrame, Hangup, Transfer
from ringtrue.streaming.llm.deadline import LlmWatchdog, StallReason, StallReport, WatchdogPolicy
from ringtrue.streaming.llm.dialogue import Dialogue
from ringtrue.streaming.llm.embedded import DialogueLLMService
from ringtrue.streaming.llm.hook import hooked
from ringtrue.streaming.record import Stage

pytestmark = pytest.mark.virtual_time

POLICY = WatchdogPolicy(
    first_chunk=2.0,
    inter_chunk=1.0,
    filler=("Filler.",),
    apology=("Sorry.", "Sorry again."),
    give_up_after=2,
    give_up_say=("I give up.",),
    give_up_action=Transfer("desk"),
)
Step = str | float | Exception


class ScriptedLlm(LLMService):  # type: ignore[type-arg]
    """Pushes tokens (text) and waits (numbers) as scripted, the way Pipecat's services do."""

    def __init__(self, *scripts: Sequence[Step]) -> None:
        super().__init__(
            settings=LLMSettings(
                model="scripted",
                system_instruction=None,
                temperature=None,
                max_tokens=None,
                top_p=None,
                top_k=None,
                frequency_penalty=None,
                presence_penalty=None,
                seed=None,
                filter_incomplete_user_turns=False,
                user_turn_completion_config=None,
            )
        )
        self.scripts = [list(script) for script in scripts]
        self.cancelled = 0
        self.wedged = False
        """It takes what it is asked, and never begins to respond."""

    async def process_frame(self, frame: object, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)  # type: ignore[arg-type]
        if not isinstance(frame, LLMContextFrame):
            await self.push_frame(frame, direction)  # type: ignore[arg-type]
            return
        if self.wedged:
            await asyncio.sleep(3600)
        try:
            await self.push_frame(LLMFullResponseStartFrame())
            for step in self.scripts.pop(0):
                if isinstance(step, str):
                    await self.push_frame(LLMTextFrame(step))
                elif isinstance(step, Exception):
                    raise step
                else:
                    await asyncio.sleep(step)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        except ConnectionError as error:
            await self.push_error("failed", exception=error, category=ErrorCategory.CONNECTIVITY)
        finally:
            await self.push_frame(LLMFullResponseEndFrame())


def scripted(*scripts: Sequence[Step]) -> ScriptedLlm:
    made = hooked(ScriptedLlm)(*scripts)
    assert isinstance(made, ScriptedLlm)
    return made


def ask(text: str = "hello") -> LLMContextFrame:
    return LLMContextFrame(LLMContext(messages=[{"role": "user", "content": text}]))


def spoken(graph: Graph) -> list[str]:
    """Everything the synthesizer would be given, in order."""
    return [f.text for f in graph.exit.frames if isinstance(f, LLMTextFrame | TTSSpeakFrame)]


def balanced(graph: Graph) -> bool:
    """Whether starts and ends of responses alternate."""
    kinds = [
        type(f)
        for f in graph.exit.frames
        if isinstance(f, LLMFullResponseStartFrame | LLMFullResponseEndFrame)
    ]
    return kinds == [LLMFullResponseStartFrame, LLMFullResponseEndFrame] * (len(kinds) // 2)


async def test_tokens_pass_untouched_and_the_first_is_probed() -> None:
    llm = scripted(["Hello", " there.", 0.5, " More."])
    stages: list[Stage] = []
    reports: list[StallReport] = []
    watchdog = LlmWatchdog(llm, POLICY, probe=stages.append, on_stall=reports.append)
    async with running(llm, watchdog) as graph:
        await graph.push(ask())
        await graph.until(lambda: graph.down(LLMFullResponseEndFrame))
        await asyncio.sleep(5)
        assert spoken(graph) == ["Hello", " there.", " More."]
        assert stages == [Stage.FIRST_TOKEN]
        assert reports == []
        assert balanced(graph)


async def test_silence_before_the_first_token_is_filled_and_asked_again() -> None:
    llm = scripted([60.0, "too late"], ["Answer."])
    reports: list[StallReport] = []
    async with running(llm, LlmWatchdog(llm, POLICY, on_stall=reports.append)) as graph:
        begun = asyncio.get_running_loop().time()
        await graph.push(ask())
        await graph.until(lambda: graph.down(TTSSpeakFrame))
        filler = graph.down(TTSSpeakFrame)[0]
        assert graph.at(filler) - begun == pytest.approx(2.0, abs=0.02)
        assert not filler.append_to_context
        await graph.until(lambda: graph.up(LLMRunFrame))
        assert llm.cancelled == 1
        await graph.push(ask())
        await asyncio.sleep(120)
        assert spoken(graph) == ["Filler.", "Answer."]
        assert balanced(graph)
    assert [(r.reason, r.chunks, r.consecutive) for r in reports] == [
        (StallReason.FIRST_CHUNK, 0, 1)
    ]
    assert reports[0].waited == pytest.approx(2.0, abs=0.02)


async def test_silence_in_the_middle_is_apologised_for_and_late_tokens_are_dropped() -> None:
    llm = scripted(["Your order", 60.0, " is late"], ["Fine."])
    reports: list[StallReport] = []
    async with running(llm, LlmWatchdog(llm, POLICY, on_stall=reports.append)) as graph:
        await graph.push(ask())
        await graph.until(lambda: graph.down(TTSSpeakFrame))
        await asyncio.sleep(120)
        assert spoken(graph) == ["Your order", "Sorry."]
        assert graph.down(TTSSpeakFrame)[0].append_to_context
        assert graph.up(LLMRunFrame) == []
        await graph.push(ask())
        await graph.until(lambda: "Fine." in spoken(graph))
        assert balanced(graph)
    assert [(r.reason, r.chunks) for r in reports] == [(StallReason.INTER_CHUNK, 1)]


async def test_an_llm_that_cannot_be_cancelled_is_dropped_instead() -> None:
    llm = ScriptedLlm(["One", 3.0, " late", " later"], ["Two."])
    async with running(llm, LlmWatchdog(llm, POLICY)) as graph:
        await graph.push(ask())
        await asyncio.sleep(10)
        await graph.push(ask())
        await graph.until(lambda: "Two." in spoken(graph))
        assert spoken(graph) == ["One", "Sorry.", "Two."]
        assert llm.cancelled == 0
        assert balanced(graph)


async def test_the_second_failure_in_a_row_gives_up() -> None:
    llm = scripted([60.0], [60.0])
    watchdog = LlmWatchdog(llm, POLICY)
    async with running(llm, watchdog) as graph:
        await graph.push(ask())
        await graph.until(lambda: graph.up(LLMRunFrame))
        await graph.push(ask())
        await graph.until(lambda: graph.down(CallActionFrame))
        assert spoken(graph) == ["Filler.", "I give up."]
        action = graph.down(CallActionFrame)[0]
        assert (action.action, action.reason) == (Transfer("desk"), "llm_stalled")
        assert isinstance(graph.exit.frames[-1], CallActionFrame)
        assert watchdog.stalls == {StallReason.FIRST_CHUNK: 2}


async def test_a_good_answer_between_two_failures_resets_the_count() -> None:
    llm = scripted([60.0], ["Fine."], ["And", 60.0])
    async with running(llm, LlmWatchdog(llm, POLICY)) as graph:
        await graph.push(ask())
        await graph.until(lambda: graph.up(LLMRunFrame))
        await graph.push(ask())
        await graph.until(lambda: "Fine." in spoken(graph))
        await graph.push(ask())
        await asyncio.sleep(10)
        assert spoken(graph) == ["Filler.", "Fine.", "And", "Sorry."]
        assert graph.down(CallActionFrame) == []


async def test_an_error_is_apologised_for() -> None:
    llm = scripted([ConnectionError("refused")], ["Half", ConnectionError("reset")])
    reports: list[StallReport] = []
    policy = WatchdogPolicy(retry=False, apology=("Sorry.", "Sorry again."), give_up_after=3)
    async with running(llm, LlmWatchdog(llm, policy, on_stall=reports.append)) as graph:
        await graph.push(ask())
        await graph.until(lambda: graph.down(TTSSpeakFrame))
        await graph.push(ask())
        await graph.until(lambda: len(graph.down(TTSSpeakFrame)) == 2)
        assert spoken(graph) == ["Sorry.", "Half", "Sorry again."]
        assert balanced(graph)
    assert [(r.reason, r.detail, r.chunks) for r in reports] == [
        (StallReason.ERROR, "connectivity", 0),
        (StallReason.ERROR, "connectivity", 1),
    ]


async def test_an_empty_answer_is_a_failure() -> None:
    llm = scripted([])
    reports: list[StallReport] = []
    async with running(llm, LlmWatchdog(llm, POLICY, on_stall=reports.append)) as graph:
        await graph.push(ask())
        await graph.until(lambda: graph.down(TTSSpeakFrame))
    assert [r.reason for r in reports] == [StallReason.EMPTY]


async def test_a_tool_call_without_words_is_no_failure() -> None:
    llm = scripted([])
    watchdog = LlmWatchdog(llm, POLICY)
    async with running(llm, watchdog) as graph:
        await watchdog.process_frame(LLMFullResponseStartFrame(), FrameDirection.DOWNSTREAM)
        started = FunctionCallsStartedFrame(function_calls=[])
        await watchdog.process_frame(started, FrameDirection.DOWNSTREAM)
        await watchdog.process_frame(LLMFullResponseEndFrame(), FrameDirection.DOWNSTREAM)
        await asyncio.sleep(10)
        assert graph.down(TTSSpeakFrame) == []


async def test_an_action_without_words_is_no_failure() -> None:
    text = """
        name: curt
        title: Curt
        greeting: Hello?
        dialogue:
          intents: {over: {examples: [that is all], action: hangup}}
          fallbacks: ["Pardon?"]
          give_up: {say: Goodbye.}
    """
    agent = parse_agent(dedent(text), "curt.yaml")
    llm = DialogueLLMService(Dialogue(agent))
    reports: list[StallReport] = []
    async with running(llm, LlmWatchdog(llm, POLICY, on_stall=reports.append)) as graph:
        await graph.push(ask("that is all"))
        await graph.until(lambda: graph.down(CallActionFrame))
        await asyncio.sleep(10)
        assert reports == spoken(graph) == []
        assert [type(frame.action) for frame in graph.down(CallActionFrame)] == [Hangup]


@pytest.mark.parametrize("after", [0.5, 2.0, 3.0])
async def test_an_interruption_is_no_failure(after: float) -> None:
    llm = scripted([60.0, "late"], ["Yes."])
    reports: list[StallReport] = []
    policy = WatchdogPolicy(first_chunk=5.0)
    async with running(llm, LlmWatchdog(llm, policy, on_stall=reports.append)) as graph:
        await graph.push(ask())
        await asyncio.sleep(after)
        await graph.push(InterruptionFrame())
        await asyncio.sleep(30)
        assert reports == []
        await graph.push(ask())
        await graph.until(lambda: "Yes." in spoken(graph))
        assert spoken(graph) == ["Yes."]


async def test_an_interruption_during_a_stall_leaves_a_working_llm() -> None:
    llm = scripted([60.0], ["Yes."])
    async with running(llm, LlmWatchdog(llm, POLICY)) as graph:
        await graph.push(ask())
        await asyncio.sleep(2.0)
        await graph.push(InterruptionFrame())
        await asyncio.sleep(0.1)
        await graph.push(ask())
        await graph.until(lambda: "Yes." in spoken(graph))


async def test_apologies_vary() -> None:
    llm = scripted(["a", 60.0], ["ok"], ["b", 60.0])
    async with running(llm, LlmWatchdog(llm, POLICY)) as graph:
        for count in (1, 1, 2):
            await graph.push(ask())
            await asyncio.sleep(10)
            assert len(graph.down(TTSSpeakFrame)) == count
        assert [f.text for f in graph.down(TTSSpeakFrame)] == ["Sorry.", "Sorry again."]
