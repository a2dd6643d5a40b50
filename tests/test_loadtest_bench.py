"""The benchmark's callers: seeded, complete in their counts, the same from a process."""

from __future__ import annotations

import asyncio
import io

import pytest
from rich.console import Console
from scripted_agent import ScriptedAgent, voice

from ringtrue.loadtest.bench import (
    BenchError,
    BenchResult,
    BenchSpec,
    call_from_here,
    print_bench,
    read_result,
    run_bench,
)


@pytest.mark.virtual_time
async def test_every_turn_of_every_caller_is_measured() -> None:
    async with ScriptedAgent(*[voice(1)] * 3, greeting=voice(1), delay=0.5) as agent:
        spec = BenchSpec(agent.target, calls=5, turns=3, seed=4)
        result = await call_from_here(spec)
        assert not result.failures
        assert [call.name for call in result.calls] == [f"caller {n}" for n in range(5)]
        assert result.turn_latency_ms.count == 15
        assert result.turn_latency_ms.failed == 0
        assert result.turn_latency_ms.p50 is not None
        assert 700 <= result.turn_latency_ms.p50 <= 1000
        assert result.greeting_ms.count == result.setup_ms.count == 5
        assert result.dropouts == result.total("packets_lost") == 0
        assert result.total("packets_received") > 5 * 400
        assert len({call.turns[0].prompt for call in result.calls}) > 1
        again = read_result(result.to_json())
    assert again == result


@pytest.mark.virtual_time
async def test_what_was_not_answered_counts_as_failed() -> None:
    async with ScriptedAgent(voice(1), greeting=voice(1)) as agent:
        result = await call_from_here(BenchSpec(agent.target, calls=2, turns=4))
    assert len(result.failures) == 2
    assert result.turn_latency_ms.count == 8
    assert result.turn_latency_ms.failed == 6
    assert result.turn_latency_ms.p50 is None
    console = Console(file=io.StringIO(), width=120)
    print_bench(result, console)
    assert isinstance(console.file, io.StringIO)
    assert "agent_silent" in console.file.getvalue()


@pytest.mark.virtual_time
async def test_refused_calls_stay_in_the_count() -> None:
    async with ScriptedAgent(answer_status=503) as agent:
        result = await call_from_here(BenchSpec(agent.target, calls=3, turns=2))
    assert result.turn_latency_ms.failed == result.turn_latency_ms.count == 6
    assert result.setup_ms.failed == 3


async def test_callers_run_in_a_process_of_their_own() -> None:
    async with ScriptedAgent(voice(0.3), greeting=voice(0.3), delay=0.3) as agent:
        spec = BenchSpec(agent.target, calls=2, turns=1, stagger_seconds=0.2)
        async with asyncio.timeout(60):
            result = await run_bench(spec)
        assert len(agent.calls) == 2
    assert isinstance(result, BenchResult)
    assert result.spec == spec
    assert not result.failures
    assert result.turn_latency_ms.failed == 0
    assert result.caller_cpu_seconds > 0


async def test_a_process_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(BenchError, match="ended with 1"):
        await run_bench(BenchSpec("sip:x@127.0.0.1:9", calls=1))


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"calls": 0}, "calls is 0"),
        ({"turns": 1000}, "turns is 1000"),
        ({"stagger_seconds": -1.0}, "stagger_seconds is -1"),
        ({"questions": ("nonsense",)}, "opening_hours"),
    ],
)
def test_a_bad_specification_names_what_is_wrong(wrong: dict[str, int], named: str) -> None:
    fields = {"target": "sip:x@127.0.0.1", "calls": 1} | wrong
    with pytest.raises(ValueError, match=named):
        BenchSpec(**fields)  # type: ignore[arg-type]
