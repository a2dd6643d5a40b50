"""Runs: crews in processes of their own, and what is gathered from them."""

from __future__ import annotations

import asyncio

import pytest
from scripted_agent import ScriptedAgent, voice

from ringtrue.loadtest.results import Outcome, dump_result, read_result
from ringtrue.loadtest.runner import CrewError, Progress, RunPlan, run
from ringtrue.loadtest.scenario.reading import parse_scenario
from ringtrue.loadtest.scenario.schema import Scenario
from ringtrue.loadtest.worker import SPEC, line_of, read_line


def scenario(more: str = "") -> Scenario:
    return parse_scenario(
        f"name: x\ntitle: x\nsteps:\n  - hear:\n  - say: yeah\n  - hear:\n{more}", "x.yaml"
    )


def plan(target: str = "sip:a@127.0.0.1:9", **more: object) -> RunPlan:
    return RunPlan(scenario=scenario(), target=target, **more)  # type: ignore[arg-type]


async def test_crews_run_in_processes_of_their_own() -> None:
    news: list[Progress] = []
    async with ScriptedAgent(voice(0.3), greeting=voice(0.3)) as agent:
        async with asyncio.timeout(60):
            result = await run(plan(agent.target, calls=3, processes=2), on_progress=news.append)
    assert [call.id for call in result.calls] == ["c0000-0", "c0001-0", "c0002-0"]
    assert not result.failures
    assert result.clock.method == "shared"
    assert result.clock.ticks > 100
    assert result.machine is not None
    assert result.machine.target_is_local
    assert result.load
    assert news[-1].done == 3
    assert len(news[-1].latencies) == 3
    assert read_result(dump_result(result)) == result


async def test_a_process_that_fails_is_an_error_with_its_last_words() -> None:
    wrong = scenario("transports: [webrtc]")
    with pytest.raises(CrewError, match="is not for sip"):
        await run(RunPlan(scenario=wrong, target="sip:a@127.0.0.1:9"))


@pytest.mark.virtual_time
async def test_here_the_callers_share_the_loop_and_its_time() -> None:
    acted: list[float] = []

    async def during(start: float) -> None:
        await asyncio.sleep(start + 1.5 - asyncio.get_running_loop().time())
        acted.append(asyncio.get_running_loop().time() - start)
        await asyncio.sleep(1000)

    async with ScriptedAgent(voice(0.5), greeting=voice(0.5)) as agent:
        result = await run(plan(agent.target, calls=2, ramp_s=4), during=during, here=True)
    assert acted == [pytest.approx(1.5)]
    assert all(call.outcome is Outcome.COMPLETED for call in result.calls)
    assert result.deterministic
    assert result.machine is None
    assert result.began is None
    assert result.peak == 1 or result.peak == 2


@pytest.mark.virtual_time
async def test_what_fails_beside_the_calls_fails_the_run() -> None:
    async def during(_: float) -> None:
        raise CrewError("the fault could not be made")

    async with ScriptedAgent(voice(0.5), greeting=voice(0.5)) as agent:
        with pytest.raises(CrewError, match="could not be made"):
            await run(plan(agent.target), during=during, here=True)


def test_a_ramp_spreads_the_calls_and_a_seed_repeats_it() -> None:
    slots = plan(calls=50, ramp_s=100, seed=3, listened=5).slots()
    begins = [slot.begin_s for slot in slots]
    assert begins == sorted(begins)
    assert begins[0] < 2
    assert 98 <= begins[-1] <= 100
    assert sum(slot.listened for slot in slots) == 5
    assert slots == plan(calls=50, ramp_s=100, seed=3, listened=5).slots()
    assert slots != plan(calls=50, ramp_s=100, seed=4, listened=5).slots()


@pytest.mark.parametrize(
    ("more", "said"),
    [({"calls": 0}, "calls is 0"), ({"ramp_s": -1}, "ramp is -1"), ({"duration_s": 0}, "1 to")],
)
def test_a_plan_out_of_range_says_what_is_allowed(more: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        plan(**more)


def test_orders_survive_the_way_to_a_process() -> None:
    from ringtrue.loadtest.crew import CrewSpec, CrewState, Slot

    spec = CrewSpec(
        scenario=scenario("expect: {stops_within_ms: 400}"),
        target="sip:a@127.0.0.1:9",
        slots=(Slot(1, 2.5, True),),
        seed=1,
        start_at=5.0,
    )
    assert SPEC.validate_json(SPEC.dump_json(spec, exclude_unset=True)) == spec
    state = CrewState(1.0, 2, 3, 4)
    assert read_line(line_of(state)) == state
    with pytest.raises(ValueError, match="kind"):
        read_line(b"{}")
