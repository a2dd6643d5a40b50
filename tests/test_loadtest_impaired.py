"""Calls through an emulated network: losses are those of the seed, and nothing else changes."""

from __future__ import annotations

import asyncio

import pytest
from scripted_agent import ScriptedAgent, voice

from ringtrue.loadtest.caller import CallResult, VirtualCaller
from ringtrue.loadtest.calling import CallerOptions
from ringtrue.loadtest.impaired import Deferred, emulators, impairments
from ringtrue.loadtest.netem import Impairments, Netem
from ringtrue.loadtest.phone import Phone
from ringtrue.loadtest.prompts import Prompt
from ringtrue.loadtest.report import report_call
from ringtrue.loadtest.scenario.schema import Network, OneWay

QUESTION = Prompt("question", "a question", voice(1.0), 8000)


def network(**paths: dict[str, float]) -> Network:
    return Network.model_validate(paths)


async def ask(caller: VirtualCaller) -> None:
    await caller.hear_out()
    await caller.say(QUESTION)
    await caller.hear_out()


async def called(how: Network, seed: int = 1) -> tuple[CallResult, ScriptedAgent]:
    async with ScriptedAgent(voice(4), greeting=voice(4)) as agent, Phone() as phone:
        result = await phone.call(agent.target, ask, options=CallerOptions(how, seed))
    return result, agent


@pytest.mark.virtual_time
async def test_what_is_lost_on_the_way_down_is_missed_and_counted() -> None:
    clean, _ = await called(Network())
    lossy, agent = await called(network(down={"loss": 0.1, "burst": 2}))
    assert clean.stats.packets_lost == 0
    sent = agent.calls[0].leg.stats.packets_sent
    assert 0.04 < lossy.stats.packets_lost / sent < 0.2
    assert agent.calls[0].leg.stats.packets_lost == 0


@pytest.mark.virtual_time
async def test_what_is_lost_on_the_way_up_is_missed_by_the_agent() -> None:
    result, agent = await called(network(up={"loss": 0.1}))
    assert result.stats.packets_lost == 0
    assert agent.calls[0].leg.stats.packets_lost > 5


@pytest.mark.virtual_time
async def test_delay_is_in_the_latency() -> None:
    near, _ = await called(Network())
    far, _ = await called(network(up={"delay_ms": 150}, down={"delay_ms": 100}))
    (quick,), (slow,) = report_call(near).turns, report_call(far).turns
    assert quick.latency_ms is not None
    assert slow.latency_ms is not None
    assert slow.latency_ms - quick.latency_ms == pytest.approx(250, abs=45)


@pytest.mark.virtual_time
async def test_a_drifting_clock_is_no_skipped_frame() -> None:
    async def long(caller: VirtualCaller) -> None:
        await caller.pause(60)

    async with ScriptedAgent() as agent, Phone(drift_ppm=900) as phone:
        result = await phone.call(agent.target, long)
    assert result.ok, result.detail
    assert not result.faults.skipped
    # A minute at 900 ppm is 54 ms: the caller sent some three frames more than the agent.
    legs = agent.calls[0].leg.stats.packets_received - result.stats.packets_received
    assert 1 <= legs <= 5


@pytest.mark.virtual_time
async def test_things_come_out_when_the_network_lets_them() -> None:
    loop = asyncio.get_running_loop()
    came: list[tuple[float, int]] = []
    start = loop.time()
    path: Netem[int] = Netem(Impairments(delay=0.05), 1)
    deferred = Deferred(path, lambda item: came.append((round(loop.time() - start, 6), item)))
    deferred.put(1)
    await asyncio.sleep(0.02)
    deferred.put(2)
    await asyncio.sleep(1)
    assert came == [(0.05, 1), (0.07, 2)]
    deferred.put(3)
    deferred.close()
    await asyncio.sleep(1)
    assert len(came) == 2


def test_a_scenarios_numbers_are_the_emulators() -> None:
    path = OneWay.model_validate({"loss": 0.2, "burst": 4, "jitter_ms": 10, "duplicate": 0.1})
    how = impairments(path)
    assert how.to_good == pytest.approx(0.25)
    assert how.to_bad == pytest.approx(0.0625)
    assert (how.jitter, how.duplicate) == (0.010, 0.1)
    up, down = emulators(network(down={"delay_ms": 5}), 1)
    assert up is None
    assert down is not None
    assert Network().words() is None
    assert network(down={"loss": 0.1}).words() == "down: loss 0.1"


@pytest.mark.uvloop
async def test_the_production_loop_has_the_same_network() -> None:
    how = network(up={"delay_ms": 20, "jitter_ms": 10}, down={"delay_ms": 20, "jitter_ms": 10})

    async def short(caller: VirtualCaller) -> None:
        await caller.wait_for_agent_to_start()
        await caller.pause(0.3)

    async with ScriptedAgent(greeting=voice(1)) as agent, Phone() as phone:
        result = await phone.call(agent.target, short, options=CallerOptions(how, 1))
    assert result.ok, result.detail
    assert result.stats.packets_received > 10
    assert agent.calls[0].leg.stats.packets_received > 10
