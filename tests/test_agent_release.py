"""An ended call is freed at once, by reference counts alone."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from pipecat.frames.frames import Frame

from fakes.calls import ScriptedCall, ScriptedEngines
from ringtrue.agent.calls import ActiveCall, Calls
from ringtrue.agent.loopback import loopback_server
from ringtrue.agent.metrics import Metrics
from ringtrue.agent.records import RecordStore
from ringtrue.config.agent_schema import load_agents
from ringtrue.config.settings import load_settings
from ringtrue.loadtest.caller import VirtualCaller
from ringtrue.loadtest.phone import Phone
from ringtrue.streaming.graph import SharedModels
from ringtrue.streaming.llm.actions import CallActionFrame, Hangup
from ringtrue.streaming.ports import EndReason
from ringtrue.streaming.record import CallRecord

AGENT = load_agents()["reception"]


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Nothing but reference counts frees anything, once it is asked for."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Parts:
    """What must be gone once the call is over."""

    def __init__(self, active: ActiveCall) -> None:
        graph = active.graph
        self.references = {
            type(part).__name__: weakref.ref(part)
            for part in (
                active.call,
                getattr(active.call, "_media", active.call.leg),
                graph,
                graph.context,
                graph.session,
                graph.session.output,
                graph._listener,
                graph._worker,
                *graph._worker.pipeline.processors,
            )
        }

    def left(self) -> list[str]:
        return [name for name, part in self.references.items() if part() is not None]


def hanging_up() -> Frame:
    return CallActionFrame(Hangup(), "goodbye")


@asynccontextmanager
async def scripted(models: SharedModels, *then: object) -> AsyncIterator[Calls]:
    """Calls with scripted services."""
    calls = Calls(
        load_settings(environ={}),
        ScriptedEngines(models, then=then),  # type: ignore[arg-type]
        metrics=Metrics(),
        records=RecordStore(None, 0),
    )
    yield calls
    await calls.drain(0)


def begun(calls: Calls, call: ScriptedCall) -> asyncio.Task[CallRecord]:
    """``call``, running; only its task holds it."""
    assert calls.reserve() is None
    return asyncio.get_running_loop().create_task(calls.run(call, AGENT))


async def parts_of(calls: Calls) -> Parts:
    """Those of the one call, a moment into it."""
    await asyncio.sleep(1)
    (active,) = calls._active.values()
    return Parts(active)


@pytest.mark.virtual_time
@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize(
    ("then", "outcome"),
    [
        ((), EndReason.CALLER_HUNG_UP),
        ((hanging_up,), EndReason.AGENT_HUNG_UP),
        ((), EndReason.SHUTDOWN),
    ],
)
async def test_nothing_of_a_call_outlives_it(
    models: SharedModels, then: tuple[object, ...], outcome: EndReason
) -> None:
    async with scripted(models, *then) as calls:
        call = ScriptedCall()
        running = begun(calls, call)
        parts = await parts_of(calls)
        assert len(parts.left()) == len(parts.references) > 10
        if outcome is EndReason.CALLER_HUNG_UP:
            call.far_end_hangs_up()
        elif outcome is EndReason.SHUTDOWN:
            calls.hurry()
        del call
        record = await running
        assert record.outcome == outcome
        await asyncio.sleep(0.1)  # the loop's last references
        assert parts.left() == []


@pytest.mark.virtual_time
@pytest.mark.usefixtures("uncollected")
async def test_a_call_whose_task_is_cancelled_is_freed(models: SharedModels) -> None:
    async with scripted(models) as calls:
        running = begun(calls, ScriptedCall())
        parts = await parts_of(calls)
        running.cancel()
        await asyncio.wait([running])
        del running
        await asyncio.sleep(0.1)
        assert parts.left() == []


@pytest.mark.uvloop
@pytest.mark.usefixtures("uncollected")
@pytest.mark.keeps("the recognizer's and the engines' threads end with the server")
async def test_nothing_of_a_sip_call_outlives_it() -> None:
    found: list[Parts] = []
    async with loopback_server(load_settings(environ={})) as server, Phone() as phone:

        async def greeted(caller: VirtualCaller) -> None:
            await caller.wait_for_agent_to_start()
            # The call before it may still be on its way out.
            found.append(Parts([*server.calls._active.values()][-1]))
            await caller.hangup()

        for _ in range(2):
            result = await phone.call(f"sip:reception@127.0.0.1:{server.sip_port}", greeted)
            assert result.ok, result.detail
        await server.calls.last_record()
        await asyncio.sleep(0.5)
        assert len(server.calls.records) == 2
        assert [parts.left() for parts in found] == [[], []]
