"""A call's way from its answer to its record, on virtual time with scripted services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pipecat.frames.frames import (
    CancelWorkerFrame,
    EndWorkerFrame,
    Frame,
    InterruptionFrame,
)
from speech import pause, say

from fakes.calls import (
    WORD_SECONDS,
    Blocked,
    DeafToEnd,
    NotifiedCall,
    ScriptedCall,
    ScriptedEngines,
)
from ringtrue.agent.calls import (
    GOODBYE_SECONDS,
    LOST_FACTOR,
    Admission,
    Calls,
)
from ringtrue.agent.last_words import LAST_WORDS_SECONDS
from ringtrue.agent.metrics import Metrics
from ringtrue.agent.records import RecordStore
from ringtrue.config.agent_schema import load_agents
from ringtrue.config.settings import Settings, load_settings
from ringtrue.streaming.clock import TICK
from ringtrue.streaming.gate import FrameKind
from ringtrue.streaming.graph import START_SECONDS, SharedModels
from ringtrue.streaming.listen import Listener
from ringtrue.streaming.llm.actions import CallActionFrame, Hangup, Transfer
from ringtrue.streaming.ports import EndReason, Inbound
from ringtrue.streaming.record import CallRecord

pytestmark = pytest.mark.virtual_time
AGENT = load_agents()["reception"]
WORDS = 10
SPEECH_SECONDS = WORDS * WORD_SECONDS


def settings(**server: Any) -> Settings:
    shipped = load_settings(environ={})
    return shipped.model_copy(update={"server": shipped.server.model_copy(update=server)})


@dataclass
class House:
    """Calls with scripted services, and the calls it was given."""

    calls: Calls
    engines: ScriptedEngines
    metrics: Metrics
    store: RecordStore

    def __post_init__(self) -> None:
        self.running: list[asyncio.Task[CallRecord]] = []

    def take(self, call: ScriptedCall) -> asyncio.Task[CallRecord]:
        """Reserve a place for ``call`` and run it."""
        assert self.calls.reserve() is None
        task = asyncio.get_running_loop().create_task(self.calls.run(call, AGENT))
        self.running.append(task)
        return task

    def metric(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)

    def empty(self) -> bool:
        """Whether nothing of any call is left."""
        return len(self.calls) == len(self.calls.clock) == len(self.calls._active) == 0


@asynccontextmanager
async def house(
    models: SharedModels, *, records: Path | None = None, limits: Settings | None = None, **how: Any
) -> AsyncIterator[House]:
    """``how`` goes to :class:`ScriptedEngines`. Ends what is still up."""
    engines, metrics = ScriptedEngines(models, **how), Metrics()
    store = RecordStore(records, 10)
    calls = Calls(limits or settings(), engines, metrics=metrics, records=store)  # type: ignore[arg-type]
    made = House(calls, engines, metrics, store)
    try:
        yield made
    finally:
        await calls.drain(0)
        await asyncio.gather(*made.running, return_exceptions=True)
        assert made.empty()


def hanging_up() -> Frame:
    return CallActionFrame(Hangup(), "goodbye")


def speech_ticks(call: ScriptedCall) -> list[float]:
    """When each frame of speech was sent."""
    sent = zip(call.leg.sent, call.leg.sent_at, strict=True)
    return [at for frame, at in sent if frame.kind is FrameKind.SPEECH]


# -- admission -----------------------------------------------------------------------------------


async def test_no_more_calls_than_there_is_room_for(models: SharedModels) -> None:
    async with house(models, limits=settings(max_calls=2)) as h:
        first, second = ScriptedCall(), ScriptedCall()
        running = h.take(first)
        assert not h.calls.full()
        h.take(second)
        assert h.calls.full()
        assert h.calls.reserve() is Admission.FULL
        assert h.calls.refused == {Admission.FULL: 1}
        assert h.metric("ringtrue_calls_refused_total", reason="full") == 1
        await asyncio.sleep(1)
        first.far_end_hangs_up()
        await running
        assert not h.calls.full()
        h.take(ScriptedCall())
        assert h.calls.full()


async def test_a_place_for_a_call_that_never_came_is_given_back(models: SharedModels) -> None:
    async with house(models, limits=settings(max_calls=1)) as h:
        assert h.calls.reserve() is None
        assert h.calls.full()
        h.calls.release()
        assert not h.calls.full()


# -- how a call ends -----------------------------------------------------------------------------


async def test_the_caller_hangs_up(models: SharedModels, tmp_path: Path) -> None:
    async with house(models, records=tmp_path) as h:
        call = ScriptedCall()
        running = h.take(call)
        await asyncio.sleep(1)
        assert h.metric("ringtrue_calls_active", transport="scripted") == 1
        call.far_end_hangs_up()
        record = await running
        assert record.outcome == "caller_hung_up"
        assert record.interruptions == 0
        assert record.errors == {}
        assert record.ended_at == pytest.approx(record.answered_at + 1, abs=0.1)
        assert record.frames_sealed == len(call.leg.sent) == pytest.approx(50, abs=2)
        assert record.turns[0].heard_samples == pytest.approx(8000, abs=480)
        assert call.hung_up == []
        assert [path.stem for path in tmp_path.iterdir()] == [call.id]
        kept = h.store.recent.last()
        assert kept is not None
        assert kept.as_dict() == record.as_dict()
        assert h.metric("ringtrue_calls_active", transport="scripted") == 0
        ended = {"transport": "scripted", "outcome": "caller_hung_up"}
        assert h.metric("ringtrue_calls_total", **ended) == 1
        assert h.empty()


async def test_the_agent_hangs_up_once_its_words_were_heard(models: SharedModels) -> None:
    async with house(models, words=WORDS, then=[hanging_up]) as h:
        call = ScriptedCall()
        record = await h.take(call)
        ticks = speech_ticks(call)
        assert record.outcome == "agent_hung_up"
        assert call.hung_up == [EndReason.AGENT_HUNG_UP]
        assert len(ticks) * TICK == pytest.approx(SPEECH_SECONDS)
        assert call.hung_up_at is not None
        assert call.hung_up_at >= ticks[-1]
        assert call.hung_up_at == pytest.approx(ticks[-1], abs=0.1)


async def test_an_interrupted_goodbye_is_no_goodbye(models: SharedModels) -> None:
    async with house(models, words=WORDS, then=[hanging_up]) as h:
        call = ScriptedCall()
        running = h.take(call)
        await asyncio.sleep(1)
        (active,) = h.calls._active.values()
        await active.graph.session.output.queue_frame(InterruptionFrame())
        await asyncio.sleep(SPEECH_SECONDS)
        assert call.hung_up == []
        assert not running.done()
        call.far_end_hangs_up()
        assert (await running).interruptions == 1


async def test_a_transfer_is_noted_and_ends_the_call(models: SharedModels) -> None:
    def transfer() -> Frame:
        return CallActionFrame(Transfer("billing"), "billing")

    async with house(models, words=2, then=[transfer]) as h:
        call = ScriptedCall()
        record = await h.take(call)
        assert record.outcome == "transfer_requested"
        assert record.transfer_requested == "billing"
        assert call.hung_up == [EndReason.TRANSFER_REQUESTED]
        assert len(speech_ticks(call)) * TICK == pytest.approx(2 * WORD_SECONDS)


async def test_no_call_is_longer_than_allowed(models: SharedModels) -> None:
    async with house(models, limits=settings(max_call_seconds=7.0)) as h:
        call = ScriptedCall()
        record = await h.take(call)
        assert record.outcome == "max_duration"
        assert call.hung_up == [EndReason.MAX_DURATION]
        assert record.ended_at == pytest.approx(record.answered_at + 7, abs=1.2)


@pytest.mark.parametrize(
    ("transport", "heard_before", "limit"),
    [("sip", True, 20), ("webrtc", True, 5), ("twilio", True, 8), ("sip", False, 10)],
)
async def test_a_far_end_that_is_gone(
    models: SharedModels, transport: str, heard_before: bool, limit: float
) -> None:
    async with house(models) as h:
        call = ScriptedCall()
        call.transport = transport
        gone = asyncio.get_running_loop().time() + (5 if heard_before else 0)
        running = h.take(call)
        if heard_before:
            await asyncio.sleep(5)
            (active,) = h.calls._active.values()
            assert active.graph.session.gate._policy.far_end_timeout == limit
        call.leg.heard = gone if heard_before else None
        call.leg.alive = False
        record = await running
        assert record.outcome == "far_end_lost"
        assert record.ended_at == pytest.approx(gone + LOST_FACTOR * limit, abs=1.2)
        assert call.hung_up == [EndReason.FAR_END_LOST]


async def test_a_far_end_has_its_grace_before_it_is_first_heard(models: SharedModels) -> None:
    shipped = settings()
    gate = shipped.gate.model_copy(update={"far_end_grace_seconds": 20})
    async with house(models, limits=shipped.model_copy(update={"gate": gate})) as h:
        call = ScriptedCall()
        call.leg.alive = False
        record = await h.take(call)
        assert record.outcome == "far_end_lost"
        lasted = (record.ended_at or 0) - record.answered_at
        assert lasted == pytest.approx(LOST_FACTOR * 20, abs=1.2)


async def test_a_far_end_that_never_confirms_keeps_no_place(models: SharedModels) -> None:
    async with house(models, words=1, then=[hanging_up]) as h:
        call = ScriptedCall(confirms_hangup=False)
        record = await h.take(call)
        assert record.outcome == "agent_hung_up"
        assert call.hung_up_at is not None
        waited = asyncio.get_running_loop().time() - call.hung_up_at
        assert waited == pytest.approx(GOODBYE_SECONDS)
        assert h.empty()
        call.far_end_hangs_up()


async def test_a_caller_who_hangs_up_first_needs_no_last_words(models: SharedModels) -> None:
    async with house(models, words=1, then=[hanging_up], before_tts=DeafToEnd) as h:
        call = ScriptedCall()
        running = h.take(call)
        await asyncio.sleep(2)
        assert not running.done()
        call.far_end_hangs_up()
        async with asyncio.timeout(1):
            assert (await running).outcome == "agent_hung_up"


async def test_last_words_that_never_end(models: SharedModels) -> None:
    async with house(models, words=1, then=[hanging_up], before_tts=DeafToEnd) as h:
        call = ScriptedCall()
        record = await h.take(call)
        assert record.outcome == "agent_hung_up"
        assert record.ended_at is not None
        assert record.ended_at - record.answered_at == pytest.approx(LAST_WORDS_SECONDS, abs=1)


# -- what goes wrong -----------------------------------------------------------------------------


async def test_services_that_cannot_be_built(models: SharedModels) -> None:
    async with house(models, fails=ValueError("no such voice")) as h:
        call = ScriptedCall()
        record = await h.take(call)
        assert record.outcome == "error"
        assert record.errors == {"ValueError": 1}
        assert call.hung_up == [EndReason.ERROR]
        assert h.metric("ringtrue_errors_total", type="ValueError") == 1
        assert h.empty()


async def test_a_graph_that_does_not_start(models: SharedModels) -> None:
    async with house(models, before_tts=Blocked) as h:
        call = ScriptedCall()
        record = await h.take(call)
        assert record.outcome == "error"
        assert record.errors["GraphError"] == 1
        assert record.ended_at is not None
        assert record.ended_at - record.answered_at == pytest.approx(START_SECONDS, abs=1)
        assert call.hung_up == [EndReason.ERROR]
        assert h.empty()


async def test_a_graph_cancelled_from_inside_ends_the_call(models: SharedModels) -> None:
    async with house(models, words=5, then=[CancelWorkerFrame]) as h:
        call = ScriptedCall()
        async with asyncio.timeout(10):
            record = await h.take(call)
        assert record.outcome == "error"
        assert record.errors == {"GraphError": 1}
        assert call.hung_up == [EndReason.ERROR]


async def test_a_graph_ended_from_inside_hangs_up_in_order(models: SharedModels) -> None:
    """Pipecat's own way for a service to end a call."""
    async with house(models, words=WORDS, then=[EndWorkerFrame]) as h:
        call = ScriptedCall()
        async with asyncio.timeout(10):
            record = await h.take(call)
        assert record.outcome == "agent_hung_up"
        assert record.errors == {}
        assert call.hung_up == [EndReason.AGENT_HUNG_UP]
        assert len(speech_ticks(call)) * TICK == pytest.approx(SPEECH_SECONDS)


async def test_a_call_that_goes_deaf_is_ended(
    models: SharedModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(self: Listener, pcm: bytes) -> None:
        raise RuntimeError("no model")

    monkeypatch.setattr(Listener, "hear", broken)
    async with house(models) as h:
        call = ScriptedCall()
        async with asyncio.timeout(10):
            record = await h.take(call)
        assert record.outcome == "error"
        assert record.errors == {"RuntimeError": 1}


async def test_a_tick_that_fails_ends_only_its_own_call(
    models: SharedModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(models) as h:
        well, ill = ScriptedCall(), ScriptedCall()
        good, bad = h.take(well), h.take(ill)
        await asyncio.sleep(1)

        def pull(now: float) -> Inbound:
            raise RuntimeError("leg is broken")

        monkeypatch.setattr(ill.leg, "pull", pull)
        record = await bad
        assert record.outcome == "error"
        assert record.errors == {"RuntimeError": 1}
        assert ill.hung_up == [EndReason.ERROR]
        sent = len(well.leg.sent)
        await asyncio.sleep(2)
        assert len(well.leg.sent) - sent == pytest.approx(100, abs=2)
        assert h.calls.clock.stats.faults == 1
        well.far_end_hangs_up()
        assert (await good).outcome == "caller_hung_up"


async def test_a_record_that_cannot_be_kept_costs_no_place(
    models: SharedModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(models) as h:

        async def refuse(record: CallRecord) -> None:
            raise TypeError("not serialisable")

        monkeypatch.setattr(h.store, "write", refuse)
        call = ScriptedCall()
        running = h.take(call)
        await asyncio.sleep(1)
        call.far_end_hangs_up()
        with pytest.raises(TypeError):
            await running
        assert h.empty()


async def test_a_cancelled_call_is_taken_down(models: SharedModels) -> None:
    async with house(models) as h:
        call = ScriptedCall()
        running = h.take(call)
        await asyncio.sleep(1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert call.hung_up == [EndReason.SHUTDOWN]
        assert [kept.outcome for kept in h.store.recent.all()][-1:] == ["shutdown"]
        assert h.metric("ringtrue_calls_active", transport="scripted") == 0
        assert h.empty()


# -- draining ------------------------------------------------------------------------------------


async def test_draining_lets_calls_finish_and_takes_no_more(models: SharedModels) -> None:
    async with house(models, words=WORDS, then=[hanging_up]) as h:
        call = ScriptedCall()
        running = h.take(call)
        await asyncio.sleep(1)
        draining = asyncio.get_running_loop().create_task(h.calls.drain(30))
        await asyncio.sleep(0.5)
        assert h.calls.full()
        assert h.calls.reserve() is Admission.DRAINING
        assert h.metric("ringtrue_calls_refused_total", reason="draining") == 1
        await draining
        assert running.done()
        assert running.result().outcome == "agent_hung_up"
        assert len(speech_ticks(call)) * TICK == pytest.approx(SPEECH_SECONDS)


async def test_draining_ends_what_does_not_finish(models: SharedModels) -> None:
    async with house(models) as h:
        loop = asyncio.get_running_loop()
        calls = [ScriptedCall() for _ in range(3)]
        running = [h.take(call) for call in calls]
        await asyncio.sleep(1)
        began = loop.time()
        await h.calls.drain(4)
        assert loop.time() - began == pytest.approx(4, abs=0.5)
        assert [task.result().outcome for task in running] == ["shutdown"] * 3
        assert [call.hung_up for call in calls] == [[EndReason.SHUTDOWN]] * 3
        assert h.empty()


async def test_a_call_answered_too_late_is_ended_at_once(models: SharedModels) -> None:
    """Its place was reserved before draining; its far end took its time to be ready."""
    async with house(models) as h:
        assert h.calls.reserve() is None
        draining = asyncio.get_running_loop().create_task(h.calls.drain(2))
        await asyncio.sleep(3)
        call = ScriptedCall()
        record = await h.calls.run(call, AGENT)
        assert record.outcome == "shutdown"
        async with asyncio.timeout(1):
            await draining


# -- the side channel ----------------------------------------------------------------------------


async def test_the_side_channel_is_told_what_was_said_and_heard(models: SharedModels) -> None:
    async with house(models, words=3) as h:
        call = NotifiedCall()
        running = h.take(call)
        await asyncio.sleep(2)
        greeting = call.events[:]
        call.events.clear()
        question = say("What are your opening hours please?")
        line = np.concatenate([question, pause(4)])
        call.leg.play(line.astype(np.int16).tobytes())
        await asyncio.sleep(len(line) / 8000)
        call.far_end_hangs_up()
        record = await running
    assert [event for event in greeting if event["type"] != "agent"] == [
        {"type": "state", "state": "speaking"},
        {"type": "state", "state": "listening"},
    ]
    words = [event["text"] for event in greeting if event["type"] == "agent"]
    assert words == ["w0", "w0 w1", "w0 w1 w2"]
    kinds = [event["type"] for event in call.events]
    assert {"type": "final", "text": "hours"} in call.events
    (latency,) = (event for event in call.events if event["type"] == "latency")
    interval = record.turns[1].interval("turn_latency")
    assert interval is not None
    assert latency["ms"] == round(interval * 1000)
    assert latency["turn"] == 1
    assert kinds.index("final") < kinds.index("latency") < kinds.index("agent")
    last = [event for event in call.events if event["type"] == "agent"][-1]
    assert last == {"type": "agent", "text": "w0 w1 w2", "turn": 2, "interrupted": False}


async def test_a_call_without_a_side_channel_needs_none(models: SharedModels) -> None:
    async with house(models, words=1, then=[hanging_up]) as h:
        assert (await h.take(ScriptedCall())).outcome == "agent_hung_up"
