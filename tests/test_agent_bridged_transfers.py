"""Callers are put through to somebody we call: asked, joined, taken over; on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from pipecat.frames.frames import Frame
from test_agent_transfers import Listening, now

from fakes.calls import ScriptedCall, ScriptedEngines
from ringtrue.agent.calls import Calls
from ringtrue.agent.consultation import Reached
from ringtrue.agent.handing import Desk
from ringtrue.agent.metrics import Metrics
from ringtrue.agent.records import RecordStore
from ringtrue.agent.transfers import Transfers
from ringtrue.config.agent_schema import Agent, load_agents
from ringtrue.config.agent_transfers import ACCEPT, TransferPolicy
from ringtrue.config.recording_settings import RecordingFile
from ringtrue.config.settings import load_settings
from ringtrue.streaming.gate import FrameKind
from ringtrue.streaming.graph import Services, SharedModels
from ringtrue.streaming.llm.actions import CallAction, CallActionFrame, Hangup, Transfer
from ringtrue.streaming.ports import (
    Call,
    EndReason,
    TransferOutcome,
    TransferResult,
)
from ringtrue.streaming.record import CallRecord

pytestmark = pytest.mark.virtual_time
RECEPTION = load_agents()["reception"]
RINGS = 1.0
TAKEN_OVER = TransferResult(TransferOutcome.TRANSFERRED, 200)
UNSUPPORTED = TransferResult(TransferOutcome.UNSUPPORTED, 405)


class Phone(ScriptedCall):
    """A caller whose phone may be sent on."""

    def __init__(self, result: TransferResult) -> None:
        super().__init__()
        self.result = result
        self.replaced: list[Call | None] = []

    async def transfer(
        self, to: str, *, within: float, replaces: Call | None = None
    ) -> TransferResult:
        self.replaced.append(replaces)
        await asyncio.sleep(0.5)
        return self.result


class Voices(ScriptedEngines):
    """The caller's agent asks for a transfer; who answers there does what is scripted."""

    def __init__(self, models: SharedModels, answer: CallAction | None, said: list[str]) -> None:
        super().__init__(models, words=2, before_tts=lambda: Listening(said))
        self.answer = answer
        self.served: list[Agent] = []

    def services(self, agent: Agent, **others: Any) -> Services:
        self.served.append(agent)
        asked = ACCEPT in agent.transfers
        action = self.answer if asked else Transfer("billing", "It is about an invoice")
        self.then: list[Callable[[], Frame]] = (
            [] if action is None else [lambda: CallActionFrame(action, "test")]
        )
        return super().services(agent, **others)


class OurLine:
    """Calls a human, who answers unless ``status`` says otherwise."""

    def __init__(self, calls: Calls, status: int) -> None:
        self.calls, self.status = calls, status
        self.asked: list[tuple[str, float]] = []
        self.human: ScriptedCall | None = None
        self.tasks: list[asyncio.Task[CallRecord]] = []
        self.given_up = 0

    def usable(self, tenant: str) -> bool:
        return tenant == "default"

    async def call(self, agent: Agent, to: str, *, within: float, desk: Desk) -> Reached:
        self.asked.append((to, within))
        try:
            await asyncio.sleep(RINGS)
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        if self.status != 200:
            return Reached(None, False, self.status)
        self.human = ScriptedCall()
        assert self.calls.reserve() is None
        run = self.calls.run(self.human, agent, desk=desk)
        self.tasks.append(asyncio.get_running_loop().create_task(run))
        return Reached(self.human.id, True)


class House:
    """Everything of one test."""

    def __init__(self, calls: Calls, caller: ScriptedCall, line: OurLine) -> None:
        self.calls, self.caller, self.line = calls, caller, line
        self.said: list[str] = []
        self.task: asyncio.Task[CallRecord]
        self.engines: Voices

    async def until(self, true: Callable[[], object], seconds: float = 30) -> None:
        end = now() + seconds
        while not true():
            assert now() < end, "it never came"
            await asyncio.sleep(0.02)

    @property
    def human(self) -> ScriptedCall:
        assert self.line.human is not None
        return self.line.human

    @property
    def joined(self) -> bool:
        active = self.calls._active.get(self.caller.id)
        return active is not None and active.graph.session.bridged


@asynccontextmanager
async def house(
    models: SharedModels,
    caller: ScriptedCall,
    *,
    how: str = "attended",
    answer: CallAction | None = None,
    status: int = 200,
    policy: TransferPolicy | None = None,
    recorded: bool = False,
) -> AsyncIterator[House]:
    billing = RECEPTION.transfers["billing"].model_copy(update={"how": how})
    agent = RECEPTION.model_copy(
        update={
            "transfers": {"billing": billing},
            "transferring": policy or TransferPolicy(),
            "recording": RecordingFile(enabled=recorded),
        }
    )
    said: list[str] = []
    engines = Voices(models, answer, said)
    calls = Calls(
        load_settings(environ={}),
        engines,  # type: ignore[arg-type]
        metrics=Metrics(),
        records=RecordStore(None, 10),
    )
    line = OurLine(calls, status)
    calls.desk = lambda talk: Transfers(talk, line)
    made = House(calls, caller, line)
    made.said, made.engines = said, engines
    assert calls.reserve() is None
    made.task = asyncio.get_running_loop().create_task(calls.run(caller, agent))
    try:
        yield made
    finally:
        await calls.drain(0)
        await asyncio.gather(made.task, *line.tasks, return_exceptions=True)
        assert len(calls) == len(calls._active) == 0


def noise(seconds: float, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    return rng.integers(-3000, 3000, int(seconds * 8000)).astype("<i2").tobytes()


def relayed(call: ScriptedCall) -> bytes:
    return b"".join(f.pcm for f in call.leg.sent if f.kind is FrameKind.RELAY)


def spoken(call: ScriptedCall) -> int:
    return sum(frame.kind is FrameKind.SPEECH for frame in call.leg.sent)


# -- attended ------------------------------------------------------------------------------------


async def test_the_callers_phone_takes_the_call_over(models: SharedModels) -> None:
    phone = Phone(TAKEN_OVER)
    async with house(models, phone, answer=Transfer(ACCEPT)) as h:
        record = await h.task
        await h.line.tasks[0]
    assert h.line.asked == [(RECEPTION.transfers["billing"].to, 45)]
    assert phone.replaced == [h.human]
    assert record.outcome == "transferred"
    assert phone.hung_up == h.human.hung_up == [EndReason.TRANSFERRED]
    (transfer,) = record.as_dict()["transfers"]
    assert (transfer["outcome"], transfer["how"], transfer["call"]) == (
        "transferred",
        "replaces",
        h.human.id,
    )
    assert spoken(h.human) == 30  # two words: what it was asked
    briefing = h.engines.served[1]
    assert briefing.variables["briefing"] == "It is about an invoice."
    assert briefing.name == "reception"  # whose consent the voice speaks by


async def test_a_phone_that_cannot_is_joined_with_the_other(models: SharedModels) -> None:
    phone = Phone(UNSUPPORTED)
    async with house(models, phone, answer=Transfer(ACCEPT)) as h:
        await h.until(lambda: h.joined)
        one, two = noise(1.0, 1), noise(1.0, 2)
        phone.leg.play(one)
        h.human.leg.play(two)
        await asyncio.sleep(1.5)
        assert one in relayed(h.human)
        assert two in relayed(phone)
        assert await h.calls.hold(phone.id) is False
        h.human.far_end_hangs_up()
        record = await h.task
    assert record.outcome == "transferred"
    (transfer,) = record.transfers
    assert (transfer.outcome, transfer.how) == (TransferOutcome.TRANSFERRED, "bridge")
    assert record.refused == {}


async def test_it_may_be_told_to_join_always(models: SharedModels) -> None:
    phone = Phone(TAKEN_OVER)
    policy = TransferPolicy(hand_over="bridge")
    async with house(models, phone, answer=Transfer(ACCEPT), policy=policy) as h:
        await h.until(lambda: h.joined)
        phone.far_end_hangs_up()
        record = await h.task
        other = await h.line.tasks[0]
    assert phone.replaced == []
    assert record.outcome == "caller_hung_up"
    assert other.outcome == "transferred"
    assert h.human.hung_up == [EndReason.TRANSFERRED]


async def test_they_decline_and_the_agent_is_back(models: SharedModels) -> None:
    phone = Phone(TAKEN_OVER)
    policy = TransferPolicy(failed=("Sorry, {place} is busy.",))
    async with house(models, phone, answer=Hangup(), policy=policy) as h:
        await h.until(lambda: h.said)
        active = h.calls._active[phone.id]
        assert not active.transfers.busy
        assert not active.graph.session.held
        assert h.said == ["Sorry, the billing department is busy."]
        phone.far_end_hangs_up()
        record = await h.task
    assert phone.replaced == []
    assert record.transfers[0].outcome is TransferOutcome.DECLINED
    assert h.human.hung_up == [EndReason.AGENT_HUNG_UP]
    assert relayed(phone) == relayed(h.human) == b""


async def test_nobody_says_a_word(models: SharedModels) -> None:
    """An answering machine, for one."""
    phone = Phone(TAKEN_OVER)
    policy = TransferPolicy.model_validate({"briefing": {"seconds": 8}})
    async with house(models, phone, answer=None, policy=policy) as h:
        await h.until(lambda: h.line.human is not None)
        began = now()
        await h.until(lambda: h.said)
        assert now() - began == pytest.approx(8, abs=0.5)
        await h.until(lambda: h.human.hung_up)
        phone.far_end_hangs_up()
        record = await h.task
    assert record.transfers[0].outcome is TransferOutcome.DECLINED


@pytest.mark.parametrize("status", [486, 480])
async def test_nobody_answers(models: SharedModels, status: int) -> None:
    phone = Phone(TAKEN_OVER)
    async with house(models, phone, status=status) as h:
        await h.until(lambda: h.said)
        phone.far_end_hangs_up()
        record = await h.task
    (transfer,) = record.transfers
    assert (transfer.outcome, transfer.status) == (TransferOutcome.FAILED, status)


async def test_they_hang_up_on_the_question(models: SharedModels) -> None:
    phone = Phone(TAKEN_OVER)
    async with house(models, phone, answer=None) as h:
        await h.until(lambda: h.line.human is not None and spoken(h.line.human) > 5)
        h.human.far_end_hangs_up()
        await h.until(lambda: h.said)
        phone.far_end_hangs_up()
        record = await h.task
    assert record.transfers[0].outcome is TransferOutcome.DECLINED


@pytest.mark.parametrize("when", ["ringing", "asked"])
async def test_the_caller_hangs_up_first(models: SharedModels, when: str) -> None:
    phone = Phone(TAKEN_OVER)
    async with house(models, phone, answer=None) as h:
        await h.until(lambda: h.line.asked)
        if when == "asked":
            await h.until(lambda: h.line.human is not None and spoken(h.line.human) > 5)
        phone.far_end_hangs_up()
        record = await h.task
        if when == "asked":
            await h.until(lambda: h.human.hung_up)
    assert h.line.given_up == (when == "ringing")
    assert record.outcome == "caller_hung_up"
    assert record.transfers[0].outcome is TransferOutcome.UNCONFIRMED


# -- other transports ----------------------------------------------------------------------------


async def test_a_caller_who_has_no_phone_is_joined_without_a_word(models: SharedModels) -> None:
    """A browser, or Twilio; a blind transfer asks nobody."""
    caller = ScriptedCall()
    async with house(models, caller, how="blind") as h:
        await h.until(lambda: h.joined)
        h.human.leg.play(noise(0.5, 2))
        await asyncio.sleep(1)
        assert spoken(h.human) == 0
        assert noise(0.5, 2) in relayed(caller)
        h.human.far_end_hangs_up()
        record = await h.task
    assert record.outcome == "transferred"
    assert record.transfers[0].how == "bridge"


async def test_a_phone_that_takes_no_refer_is_joined(models: SharedModels) -> None:
    phone = Phone(UNSUPPORTED)
    async with house(models, phone, how="blind") as h:
        await h.until(lambda: h.joined)
        phone.far_end_hangs_up()
        assert (await h.task).transfers[0].outcome is TransferOutcome.TRANSFERRED
    assert phone.replaced == [None]


async def test_who_is_recorded_is_told_so_and_asked(models: SharedModels) -> None:
    caller = ScriptedCall()
    async with house(models, caller, how="blind", recorded=True, answer=Transfer(ACCEPT)) as h:
        await h.until(lambda: h.joined)
        assert spoken(h.human) == 30
        caller.far_end_hangs_up()
        await h.task
    briefing = h.engines.served[1]
    assert briefing.disclosed().recording
    assert not briefing.recording.enabled  # they are in the caller's


# -- conference ----------------------------------------------------------------------------------


async def test_the_agent_stays_leaves_and_comes_back(models: SharedModels) -> None:
    phone = Phone(TAKEN_OVER)
    policy = TransferPolicy(introduction=("Here is {place}.",), returned=("Back again.",))
    async with house(models, phone, how="conference", answer=Transfer(ACCEPT), policy=policy) as h:
        await h.until(lambda: h.joined)
        session = h.calls._active[phone.id].graph.session
        await h.until(lambda: h.said)
        assert h.said == ["Here is the billing department."]
        assert not session.held
        before = spoken(h.human)
        await h.calls._active[phone.id].graph.respond()
        await asyncio.sleep(2)
        assert spoken(h.human) > before + 20  # what it says now is for both
        h.human.far_end_hangs_up()
        await h.until(lambda: len(h.said) > 1)
        assert h.said[1:] == ["Back again."]
        assert not session.bridged
        assert not h.calls._active[phone.id].transfers.busy
        phone.far_end_hangs_up()
        record = await h.task
    assert phone.replaced == []
    assert record.outcome == "caller_hung_up"
    assert record.transfers[0].how == "conference"


async def test_an_agent_that_hangs_up_leaves_the_others_alone(models: SharedModels) -> None:
    phone = Phone(TAKEN_OVER)
    async with house(models, phone, how="conference", answer=Transfer(ACCEPT)) as h:
        await h.until(lambda: h.joined)
        active = h.calls._active[phone.id]
        h.calls._act(active, CallActionFrame(Hangup(), "goodbye"))
        await asyncio.sleep(1)
        assert active.graph.session.held
        assert active.graph.session.bridged
        h.human.far_end_hangs_up()
        record = await h.task
    assert record.outcome == "transferred"
