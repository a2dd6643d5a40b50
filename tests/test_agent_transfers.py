"""A caller is handed over, or comes back: on virtual time with scripted services and far ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from pipecat.frames.frames import Frame, TTSSpeakFrame
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from fakes.calls import ScriptedCall, ScriptedEngines
from ringtrue.agent.audit.entries import Event, Kind
from ringtrue.agent.calls import Calls
from ringtrue.agent.metrics import Metrics
from ringtrue.agent.records import RecordStore
from ringtrue.agent.transfers import MAX_ATTEMPTS
from ringtrue.config.agent_schema import Agent, TransferPolicy, load_agents
from ringtrue.config.settings import load_settings
from ringtrue.streaming.gate import FrameKind
from ringtrue.streaming.graph import SharedModels
from ringtrue.streaming.llm.actions import CallActionFrame, Transfer
from ringtrue.streaming.ports import EndReason, TransferOutcome, TransferResult
from ringtrue.streaming.record import CallRecord
from ringtrue.telephony.sip.errors import SipStateError

pytestmark = pytest.mark.virtual_time
RECEPTION = load_agents()["reception"]
BILLING = RECEPTION.transfers["billing"].to
RINGS = 3.0
OK = TransferResult(TransferOutcome.TRANSFERRED, 200)
BUSY = TransferResult(TransferOutcome.FAILED, 486)


class PhoneCall(ScriptedCall):
    """One whose far end can be transferred; what came of each is scripted."""

    def __init__(self, *results: TransferResult | Exception) -> None:
        super().__init__()
        self.results = list(results)
        self.asked: list[tuple[str, float]] = []

    async def transfer(self, to: str, *, within: float) -> TransferResult:
        self.asked.append((to, within))
        await asyncio.sleep(RINGS)
        result = self.results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result


class Listening(FrameProcessor):
    """Notes what is said of the agent's own accord."""

    def __init__(self, said: list[str]) -> None:
        super().__init__()
        self._said = said

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSSpeakFrame):
            self._said.append(frame.text)
        await self.push_frame(frame, direction)


class Kept:
    """An audit log that is a list."""

    writable = True

    def __init__(self) -> None:
        self.events: list[Event] = []

    def record(self, event: Event) -> None:
        self.events.append(event)


class NamedEngines(ScriptedEngines):
    """Those of an audited call."""

    speaker = "scripted"


def to_billing(name: str = "billing") -> Callable[[], Frame]:
    return lambda: CallActionFrame(Transfer(name), "billing")


@asynccontextmanager
async def running(
    models: SharedModels,
    call: ScriptedCall,
    *,
    to: str = "billing",
    policy: TransferPolicy | None = None,
    said: list[str] | None = None,
    audit: Kept | None = None,
) -> AsyncIterator[tuple[asyncio.Task[CallRecord], Calls]]:
    """``call`` with an agent that says two words and asks for a transfer.

    ``said`` takes what it says of its own accord then.
    """
    agent: Agent = RECEPTION.model_copy(update={"transferring": policy or TransferPolicy()})
    words = [] if said is None else said
    engines = NamedEngines(
        models, words=2, then=[to_billing(to)], before_tts=lambda: Listening(words)
    )
    calls = Calls(
        load_settings(environ={}),
        engines,  # type: ignore[arg-type]
        metrics=Metrics(),
        records=RecordStore(None, 10),
        audit=audit,
    )
    assert calls.reserve() is None
    task = asyncio.get_running_loop().create_task(calls.run(call, agent))
    try:
        yield task, calls
    finally:
        await calls.drain(0)
        await asyncio.gather(task, return_exceptions=True)
        assert len(calls) == len(calls._active) == 0


def kinds(call: ScriptedCall, since: float, until: float) -> set[FrameKind]:
    """What was sent from ``since`` to ``until``."""
    sent = zip(call.leg.sent, call.leg.sent_at, strict=True)
    return {frame.kind for frame, at in sent if since < at < until}


def now() -> float:
    return asyncio.get_running_loop().time()


async def asked(call: PhoneCall) -> float:
    """When the far end is asked."""
    for _ in range(1000):
        if call.asked:
            return now()
        await asyncio.sleep(0.02)
    raise AssertionError("no transfer was asked for")


async def test_the_caller_is_handed_over_after_the_last_word(models: SharedModels) -> None:
    call = PhoneCall(OK)
    async with running(models, call) as (task, _):
        began = await asked(call)
        record = await task
    assert call.asked == [(BILLING, 45)]
    speech = [
        at
        for frame, at in zip(call.leg.sent, call.leg.sent_at, strict=True)
        if frame.kind is FrameKind.SPEECH
    ]
    assert len(speech) == 30  # two words, whole
    assert max(speech) <= began
    assert kinds(call, began + 0.1, began + RINGS - 0.1) == {FrameKind.TONE}
    assert record.outcome == "transferred"
    assert call.hung_up == [EndReason.TRANSFERRED]
    (transfer,) = record.as_dict()["transfers"]
    assert transfer["to"] == "billing"
    assert (transfer["outcome"], transfer["sip_status"]) == ("transferred", 200)
    assert transfer["ended_at_ms"] - transfer["began_at_ms"] == pytest.approx(3000, abs=50)


async def test_a_busy_place_brings_the_agent_back(models: SharedModels) -> None:
    policy = TransferPolicy(failed=("Sorry, {place} is out.",), seconds=20, music=False)
    call = PhoneCall(BUSY)
    said: list[str] = []
    log = Kept()
    async with running(models, call, policy=policy, said=said, audit=log) as (task, calls):
        began = await asked(call)
        await asyncio.sleep(RINGS + 2)
        (active,) = calls._active.values()
        assert not active.transfers.busy
        call.far_end_hangs_up()
        record = await task
    assert call.asked == [(BILLING, 20)]
    assert kinds(call, began + 0.1, began + RINGS - 0.1) == {FrameKind.SILENCE}
    assert record.outcome == "caller_hung_up"
    assert [t.outcome for t in record.transfers] == [TransferOutcome.FAILED]
    assert record.transfers[0].status == 486
    (entry,) = [event for event in log.events if event.kind is Kind.CALL_TRANSFER]
    assert entry.detail == {
        "to": "billing",
        "outcome": "transfer_failed",
        "status": 486,
        "how": "refer",
        "call": "",
    }
    assert said == ["Sorry, the billing department is out."]


async def test_it_cannot_be_asked(models: SharedModels) -> None:
    call = PhoneCall(SipStateError("the call is over"))
    async with running(models, call) as (task, _):
        await asked(call)
        await asyncio.sleep(RINGS + 1)
        assert not task.done()
        call.far_end_hangs_up()
        assert [t.outcome for t in (await task).transfers] == [TransferOutcome.NOT_TRIED]


async def test_only_places_of_the_list(models: SharedModels) -> None:
    call = PhoneCall(OK)
    async with running(models, call, to="sip:me@evil.example") as (task, _):
        await asyncio.sleep(5)
        assert not task.done()
        call.far_end_hangs_up()
        record = await task
    assert call.asked == []
    assert [t.outcome for t in record.transfers] == [TransferOutcome.NOT_TRIED]


async def test_a_caller_who_hangs_up_meanwhile(models: SharedModels) -> None:
    call = PhoneCall(OK)
    async with running(models, call) as (task, calls):
        await asked(call)
        assert await calls.hold(call.id) is False
        call.far_end_hangs_up()
        record = await task
    assert record.outcome == "caller_hung_up"
    assert [t.outcome for t in record.transfers] == [TransferOutcome.UNCONFIRMED]
    assert record.transfers[0].ended_at is not None


async def test_not_without_end(models: SharedModels) -> None:
    """The far end is asked a bounded number of times."""
    call = PhoneCall(*[BUSY] * 20)
    async with running(models, call) as (task, calls):
        await asked(call)
        (active,) = calls._active.values()
        for _ in range(MAX_ATTEMPTS + 2):
            active.transfers.begin(Transfer("billing"))  # under way: nothing
            await asyncio.sleep(RINGS + 2)
            active.transfers.begin(Transfer("billing"))
        call.far_end_hangs_up()
        record = await task
    assert len(call.asked) == MAX_ATTEMPTS
    assert record.transfers[-1].outcome is TransferOutcome.NOT_TRIED


async def test_what_breaks_ends_the_call(models: SharedModels) -> None:
    call = PhoneCall(ValueError("no such thing"))
    async with running(models, call) as (task, _):
        record = await task
    assert record.outcome == "error"
    assert record.errors == {"ValueError": 1}


async def test_a_transport_that_cannot(models: SharedModels) -> None:
    call = ScriptedCall()
    async with running(models, call) as (task, _):
        record = await task
    assert record.outcome == "transfer_requested"
    assert record.transfer_requested == "billing"
    assert record.transfers == []
