"""Crews: every call that was begun is measured, whatever became of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from scripted_agent import ScriptedAgent, voice

from ringtrue.loadtest.crew import CallDone, Crew, CrewEnd, CrewEvent, CrewSpec, CrewState, Slot
from ringtrue.loadtest.results import MeasuredCall, Outcome, Transport
from ringtrue.loadtest.scenario.reading import parse_scenario
from ringtrue.loadtest.target import TargetError

pytestmark = pytest.mark.virtual_time

SCENARIO = parse_scenario(
    """
name: short
title: A short call
steps:
  - hear:
  - wait: [0.1, 0.4]
  - say: opening_hours
  - hear:
expect: {greeting_within_ms: 2000, answers_within_ms: 2000, no_gap_over_ms: 120, ends: caller,
         no_silence_over_ms: 1500, answered_within_ms: 1000}
""",
    "short.yaml",
)


async def done(
    agent: ScriptedAgent, slots: int = 3, duration: float | None = None, **more: object
) -> tuple[list[MeasuredCall], list[CrewEvent]]:
    events: list[CrewEvent] = []
    spec = CrewSpec(
        scenario=SCENARIO,
        target=agent.target,
        slots=tuple(Slot(number, 0.3 * number, number == 1) for number in range(slots)),
        seed=4,
        start_at=asyncio.get_running_loop().time() + 0.5,
        duration_s=duration,
        **more,  # type: ignore[arg-type]
    )
    await Crew(spec, events.append).run()
    return [event.call for event in events if isinstance(event, CallDone)], events


async def test_calls_are_measured_and_judged(tmp_path: Path) -> None:
    async with ScriptedAgent(voice(1), greeting=voice(1)) as agent:
        calls, events = await done(agent, clips=tmp_path, recordings=tmp_path / "calls")
    assert sorted(call.id for call in calls) == ["c0000-0", "c0001-0", "c0002-0"]
    for number, call in enumerate(sorted(calls, key=lambda call: call.id)):
        assert call.ok, call.expectations
        assert call.outcome is Outcome.COMPLETED
        assert call.transport is Transport.SIP
        assert call.turns_expected == 1
        assert len(call.expectations) == 6
        assert call.started_s == pytest.approx(0.3 * number, abs=0.02)
        assert call.heard is not None
        assert call.network.packets_received > 100
    assert len({call.seed for call in calls}) == 3
    states = [event for event in events if isinstance(event, CrewState)]
    assert max(state.up for state in states) == 3
    assert (states[-1].up, states[-1].ringing, states[-1].done) == (0, 0, 3)
    (end,) = [event for event in events if isinstance(event, CrewEnd)]
    assert end.ticks > 100
    assert end.skipped == 0
    assert [path.name for path in (tmp_path / "calls").iterdir()] == ["c0001-0.wav"]
    assert len(list((tmp_path / "audio").iterdir())) == 3


async def test_the_same_seed_draws_the_same_and_another_one_does_not() -> None:
    async with ScriptedAgent(voice(1), greeting=voice(1)) as agent:
        first, _ = await done(agent)
        again, _ = await done(agent)
    said = [[turn.said.start_ms for turn in c.heard.turns] for c in first if c.heard]
    assert len({str(one) for one in said}) == 3
    assert [c.seed for c in first] == [c.seed for c in again]


async def test_a_refusal_is_a_result_with_its_status() -> None:
    async with ScriptedAgent(answer_status=503) as agent:
        calls, events = await done(agent, slots=1)
    (call,) = calls
    assert call.outcome is Outcome.REFUSED
    assert call.refusal is not None
    assert call.refusal.status == 503
    assert call.answered_s is None
    assert not any(expected.passed for expected in call.expectations)
    assert [e.ringing for e in events if isinstance(e, CrewState)][-1] == 0


async def test_no_answer_is_a_result() -> None:
    async with ScriptedAgent(answer_status=0) as agent:
        calls, _ = await done(agent, slots=1)
    assert calls[0].outcome is Outcome.UNANSWERED
    assert "no answer within 10 s" in calls[0].detail


async def test_a_silent_agent_fails_its_call_and_its_expectations() -> None:
    async with ScriptedAgent(greeting=voice(1)) as agent:
        calls, _ = await done(agent, slots=1)
    assert calls[0].outcome is Outcome.FAILED
    failed = {expected.name for expected in calls[0].failed_expectations}
    assert failed == {"answers_within", "no_silence_over", "ends"}


async def test_with_a_duration_callers_call_again() -> None:
    async with ScriptedAgent(voice(0.5), greeting=voice(0.5)) as agent:
        calls, _ = await done(agent, slots=2, duration=14)
    assert len(calls) > 4
    assert len({call.id for call in calls}) == len(calls)
    assert all(call.started_s <= 14 for call in calls)
    assert max(call.ended_s for call in calls) > 14


async def test_who_was_refused_waits_before_calling_again() -> None:
    async with ScriptedAgent(answer_status=486) as agent:
        calls, _ = await done(agent, slots=1, duration=5)
    assert 4 <= len(calls) <= 6


async def test_a_target_the_scenario_is_not_for_is_refused() -> None:
    spec = CrewSpec(
        scenario=parse_scenario(
            "name: x\ntitle: x\ntransports: [webrtc]\nsteps: [{hear: }]", "x.yaml"
        ),
        target="sip:a@127.0.0.1:9",
        slots=(),
        seed=1,
        start_at=0.0,
    )
    with pytest.raises(TargetError, match="is not for sip"):
        await Crew(spec, lambda _: None).run()
