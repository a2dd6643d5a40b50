"""Fifty conversing callers at a server of two workers, with a stand-in for the recognizer.

    python scripts/bench_fifty.py [--calls 50] [--runs 1] [--recognizer-ms 10] [--cold] [-o DIR]

Each run starts a server of its own with the settings of the scenario ``fifty``. Before it counts,
a few callers converse for a minute, so that each worker has said most of its answers before, and
the spare worker is loaded. ``--cold`` leaves that out. The stand-in takes 10 ms from the end of
speech to the text, as the embedded recognizer does. Callers and server share the machine; how
fast that is at the moment is told by a loop of fixed length, before and after each run, and by what
other processes used and the hypervisor kept (``steal``) meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import httpx

from ringtrue.agent.bench import machine
from ringtrue.loadtest.joining import join_records
from ringtrue.loadtest.processes import FamilyProbe
from ringtrue.loadtest.report import Distribution, distribution
from ringtrue.loadtest.reporting import write
from ringtrue.loadtest.results import RunResult, Transport
from ringtrue.loadtest.runner import RunPlan, run
from ringtrue.loadtest.scenario.reading import find_scenario, load_scenario
from ringtrue.loadtest.scenario.schema import Scenario
from ringtrue.loadtest.slo import Verdict, judge
from ringtrue.loadtest.spawn import Spawned, laid_over, spawned
from ringtrue.streaming.stages import INTERVALS

RAMP_SECONDS: Final = 6.0
WARMING: Final = 16
WARMING_SECONDS: Final = 45.0
"""Callers of a run that only warms, eight for each worker, and how long they call again."""

SPARE_SECONDS: Final = 40.0
RECORD_SECONDS: Final = 10.0
STEPS: Final = 2_000_000
"""Of the loop that tells how fast the machine is."""

ENDPOINTING: Final = {
    "pause": ("speech_ended", "vad_stopped"),
    "words": ("vad_stopped", "turn_ended"),
}
"""What a turn's end waits for: the pause, then its words and the judgement."""


@dataclass(frozen=True, slots=True)
class Row:
    """One run."""

    calls: int
    recognizer_ms: float
    warmed: bool
    verdicts: tuple[Verdict, ...]
    turn_latency_ms: Distribution
    stages_ms: dict[str, Distribution]
    calls_failed: int
    silences: int
    premature: int
    """Turns in which the agent was heard before the caller was done."""

    turn_taking: dict[str, float]
    """Sums of what the call records say of it."""

    server_cores: float
    """Mean CPU of the server's processes, the supervisor's too, while all calls were up."""

    callers_cores: float
    callers_late_percent: float
    """Of the callers' own ticks."""

    others_cores: float
    """CPU that all other processes of the machine used meanwhile."""

    steal_percent: float
    """Of the machine's processor time, what its hypervisor gave to others though there was work."""

    loop_seconds: tuple[float, float]
    """What the loop of fixed length took before and after the run."""


@dataclass(frozen=True, slots=True)
class Machine:
    """CPU seconds of all processors together so far, from ``/proc/stat`` (proc(5))."""

    busy: float
    stolen: float
    total: float

    @classmethod
    def now(cls) -> Machine:
        """As it stands."""
        fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
        user, nice, system, idle, iowait, irq, softirq, steal = (
            int(field) / os.sysconf("SC_CLK_TCK") for field in fields
        )
        busy = user + nice + system + irq + softirq
        return cls(busy, steal, busy + idle + iowait + steal)


def fixed_loop() -> float:
    """CPU seconds of a loop of :data:`STEPS` steps; the least of three."""
    taken = []
    for _ in range(3):
        began, total = time.process_time(), 0
        for step in range(STEPS):
            total += step * step
        taken.append(time.process_time() - began)
    return round(min(taken), 3)


@dataclass(frozen=True, slots=True)
class Spent:
    """CPU seconds of everybody so far, or between two moments."""

    server: float
    callers: float
    machine: Machine

    @classmethod
    def now(cls, probe: FamilyProbe) -> Spent:
        """As it stands; the callers' process counts once it has ended."""
        server, *_ = probe.read()
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return cls(server or 0.0, ended.ru_utime + ended.ru_stime, Machine.now())

    def since(self, other: Spent) -> Spent:
        """What was spent after ``other``."""
        ours, theirs = self.machine, other.machine
        machine = Machine(
            ours.busy - theirs.busy, ours.stolen - theirs.stolen, ours.total - theirs.total
        )
        return Spent(self.server - other.server, self.callers - other.callers, machine)


async def measure(calls: int, seed: int, recognizer_ms: float, *, cold: bool, out: Path) -> Row:
    """One run with a server of its own."""
    scenario = load_scenario(find_scenario("fifty"))
    given: dict[str, Any] = {
        "server": {"max_calls": calls + 10},
        "stt": {"settings": {"final_ms": recognizer_ms}},
    }
    serve = scenario.serve.model_copy(
        update={"settings": laid_over(scenario.serve.settings, given)}
    )
    scenario = scenario.model_copy(update={"serve": serve})
    before = await asyncio.to_thread(fixed_loop)
    async with spawned(scenario, out / "target", seed) as server:
        plan = RunPlan(
            scenario=scenario,
            target=server.target(Transport.SIP, scenario.agent),
            calls=calls,
            ramp_s=RAMP_SECONDS,
            seed=seed,
            clips=out,
            processes=1,
        )
        if not cold:
            warming = replace(plan, calls=WARMING, ramp_s=2.0, duration_s=WARMING_SECONDS)
            await run(replace(warming, seed=seed + 1000, clips=None))
            await _records(server, 2 * WARMING)
            for path in (server.folder / "records").glob("*.json"):
                path.unlink()
            await _until_spare(server, scenario)
        probe = FamilyProbe(server.process.pid)
        began, begun = Spent.now(probe), time.monotonic()
        result = await run(plan, probe=FamilyProbe(server.process.pid))
        spent, seconds = Spent.now(probe).since(began), time.monotonic() - begun
        answered = sum(call.answered_s is not None for call in result.calls)
        result = join_records(result, await _records(server, answered))
    after = await asyncio.to_thread(fixed_loop)
    await asyncio.to_thread(write, out, result, slo=scenario.slo)
    return _row(result, scenario, recognizer_ms, not cold, spent, seconds, (before, after))


def _row(
    result: RunResult,
    scenario: Scenario,
    recognizer_ms: float,
    warmed: bool,
    spent: Spent,
    seconds: float,
    loops: tuple[float, float],
) -> Row:
    heard = [call.heard for call in result.calls if call.heard is not None]
    turns = [turn for report in heard for turn in report.turns]
    stages: dict[str, list[float]] = {}
    for turn in turns:
        told = turn.server or {}
        for name in INTERVALS:
            value = told.get("intervals_ms", {}).get(name)
            if value is not None:
                stages.setdefault(name, []).append(value)
        moments = told.get("at_ms", {})
        for name, (first, last) in ENDPOINTING.items():
            if first in moments and last in moments:
                stages.setdefault(name, []).append(moments[last] - moments[first])
        inside = told.get("intervals_ms", {}).get("turn_latency")
        if inside is not None and turn.latency_ms is not None:
            stages.setdefault("ear", []).append(turn.latency_ms - inside)
    taking: Counter[str] = Counter()
    for report in heard:
        for key, value in ((report.server or {}).get("turn_taking") or {}).items():
            if isinstance(value, dict):
                taking.update({f"{key}.{name}": count for name, count in value.items()})
            elif isinstance(value, int | float):
                taking[key] += value  # type: ignore[assignment]
    latencies = [turn.latency_ms for turn in turns]
    missing = sum(call.turns_expected for call in result.calls) - len(turns)
    whole = [s.cpu_cores for s in result.load if s.up == len(result.calls) and s.cpu_cores]
    assert scenario.slo is not None
    return Row(
        calls=len(result.calls),
        recognizer_ms=recognizer_ms,
        warmed=warmed,
        verdicts=judge(result, scenario.slo),
        turn_latency_ms=distribution([*latencies, *[None] * max(0, missing)]),
        stages_ms={name: distribution(round(v, 1) for v in vs) for name, vs in stages.items()},
        calls_failed=sum(not call.ok for call in result.calls),
        silences=sum(len(report.silences) for report in heard),
        premature=sum(turn.premature for turn in turns),
        turn_taking={key: round(value, 1) for key, value in sorted(taking.items()) if value},
        server_cores=round(statistics.mean(whole), 2) if whole else 0.0,
        callers_cores=round(spent.callers / seconds, 2),
        callers_late_percent=round(100 * result.clock.late / max(1, result.clock.ticks), 1),
        others_cores=round((spent.machine.busy - spent.server - spent.callers) / seconds, 2),
        steal_percent=round(100 * spent.machine.stolen / spent.machine.total, 1),
        loop_seconds=loops,
    )


async def _until_spare(server: Spawned, scenario: Scenario) -> None:
    """Wait until the spare worker has loaded: it is one process more, and at rest."""
    if scenario.serve.workers == 1:
        return
    probe = FamilyProbe(server.process.pid)
    async with httpx.AsyncClient(timeout=2.0) as client:
        for _ in range(round(SPARE_SECONDS)):
            first, *_ = await asyncio.to_thread(probe.read)
            await asyncio.sleep(1.0)
            last, *_ = await asyncio.to_thread(probe.read)
            told = (await client.get(f"{server.url}/healthz")).json()
            if told.get("spare") and first is not None and last is not None and last - first < 0.3:
                return
    print("the spare worker has not loaded", file=sys.stderr)


async def _records(server: Spawned, wanted: int) -> list[dict[str, Any]]:
    """The target's call records, once there are as many as ``wanted``, or no more come."""
    folder = server.folder / "records"
    for _ in range(round(RECORD_SECONDS / 0.2)):
        paths = sorted(folder.glob("*.json"))
        if len(paths) >= wanted:
            break
        await asyncio.sleep(0.2)
    return [json.loads(path.read_bytes()) for path in paths]


def shown(row: Row) -> str:
    """A few lines of the report."""
    turn, stages = row.turn_latency_ms, row.stages_ms
    return "\n".join(
        [
            f"{row.calls} calls, recognizer {row.recognizer_ms:g} ms, "
            f"{'warmed' if row.warmed else 'cold'}: turn latency p50 {turn.p50} p95 {turn.p95} "
            f"p99 {turn.p99} ms of {turn.count} turns, {turn.failed} failed; "
            f"calls failed {row.calls_failed}, silences {row.silences}, premature {row.premature}",
            *(f"  {v}; 95 % interval {v.low} to {v.high}" for v in row.verdicts),
            "  stages p50/p95 ms: "
            + ", ".join(f"{name} {d.p50}/{d.p95}" for name, d in stages.items()),
            f"  turn-taking: {row.turn_taking}",
            f"  CPU: server {row.server_cores}, callers {row.callers_cores} of a core; callers' "
            f"ticks late {row.callers_late_percent} %; other processes {row.others_cores} of a "
            f"core, steal {row.steal_percent} %; fixed loop {row.loop_seconds} s",
        ]
    )


def main() -> int:
    """Measure, print, write; 0 where every run kept every limit."""
    parser = argparse.ArgumentParser(description="Fifty callers, a stand-in for the recognizer.")
    parser.add_argument("--calls", type=int, default=50)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--recognizer-ms", type=float, default=10.0, help="from speech to text")
    parser.add_argument("--cold", action="store_true", help="a server that was just started")
    parser.add_argument("-o", "--out", type=Path, default=Path("build/bench/fifty"))
    given = parser.parse_args()
    rows = []
    for number in range(given.runs):
        out = given.out / f"run{number + 1}"
        out.mkdir(parents=True, exist_ok=True)
        row = asyncio.run(
            measure(given.calls, given.seed + number, given.recognizer_ms, cold=given.cold, out=out)
        )
        print(shown(row), flush=True)
        rows.append(row)
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"on {machine()}; load average {load}; results: {given.out}")
    (given.out / "fifty.json").write_text(
        json.dumps([asdict(row) for row in rows], indent=1, default=str) + "\n"
    )
    return 0 if all(verdict.ok for row in rows for verdict in row.verdicts) else 1


if __name__ == "__main__":
    raise SystemExit(main())
