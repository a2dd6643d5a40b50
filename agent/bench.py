"""``ringtrue bench``: latency, CPU and delay of a server under its own load.

The server runs in this process, the callers in another, so that the CPU counted is the
server's. Latencies at the caller's ear come from the callers' audio; stages, TTFA and delays
from the server's call records; CPU from the kernel's accounting of threads and processes.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from ringtrue.agent.cpu import CpuMeter
from ringtrue.agent.gate_bench import GateCost, lines, measure_all
from ringtrue.agent.loopback import loopback_server
from ringtrue.agent.server import settle_memory
from ringtrue.config.settings import PipecatService, Settings
from ringtrue.loadtest.bench import BenchResult, BenchSpec, print_bench, run_bench
from ringtrue.loadtest.report import Distribution, distribution
from ringtrue.loadtest.spawn import RECOGNIZER
from ringtrue.loadtest.timeline import add_distribution, plain_table
from ringtrue.streaming.built import media_built
from ringtrue.streaming.record import INTERVALS, CallRecord
from ringtrue.streaming.turn_taking import TurnTaking, total

TTFA_GOAL_MS: Final = 200.0
OVERHEAD_GOAL_PERCENT: Final = 1.0


@dataclass(slots=True)
class Row:
    """What one number of calls gave."""

    callers: BenchResult
    anticipates: bool
    """Whether answers were begun before it was certain that the caller was done."""

    recognizer: str
    intervals_ms: dict[str, Distribution]
    """Each stage over all turns, from the call records."""

    cpu_percent: dict[str, float]
    """Percent of one core per call, by part, while calls were up."""

    standing_in_ms: float
    standing_out_ms: float
    """Largest standing delay of any call."""

    underruns: int
    refused: int
    late_ticks: int
    ticks: int
    worst_tick_ms: float
    turn_taking: TurnTaking
    """What turn-taking did, all calls together."""

    @property
    def overhead(self) -> float:
        """Media and graph (voice activity counted apart), in percent of a core per call."""
        return self.cpu_percent["media"] + self.cpu_percent["graph"]

    @property
    def callers_cpu(self) -> float:
        """What a caller costs on the same machine, in percent of a core."""
        up = sum(call.duration_ms for call in self.callers.calls) / 1000
        return round(100 * self.callers.caller_cpu_seconds / up, 2) if up else 0.0

    @property
    def ok(self) -> bool:
        """Nobody failed, and the first audio came within its budget."""
        p95 = self.intervals_ms["ttfa"].p95
        return not self.callers.failures and p95 is not None and p95 < TTFA_GOAL_MS

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "calls": self.callers.spec.calls,
            "turns": self.callers.spec.turns,
            "anticipates": self.anticipates,
            "recognizer": self.recognizer,
            "callers_cpu_percent_per_call": self.callers_cpu,
            "callers": json.loads(self.callers.to_json()),
            "intervals_ms": {name: asdict(value) for name, value in self.intervals_ms.items()},
            "cpu_percent_per_call": self.cpu_percent,
            "standing_in_ms": self.standing_in_ms,
            "standing_out_ms": self.standing_out_ms,
            "underruns": self.underruns,
            "refused": self.refused,
            "late_ticks": self.late_ticks,
            "ticks": self.ticks,
            "worst_tick_ms": self.worst_tick_ms,
            "turn_taking": self.turn_taking.as_dict(),
        }


async def run(
    settings: Settings,
    calls: Sequence[int],
    turns: int,
    out: Path,
    *,
    stand_in: bool = False,
    compare: bool = False,
) -> int:
    """Measure each number of ``calls``, print and write the results; 0 if all is in budget.

    ``stand_in`` puts a recognizer that costs next to nothing in place of the configured one;
    ``compare`` measures each number once more without answers begun early, and sets both beside
    each other.
    """
    console = Console()
    if stand_in:
        stt = PipecatService(engine="pipecat", service=RECOGNIZER)
        settings = settings.model_copy(update={"stt": stt})
    wanted = (True, False) if compare else (settings.turns.anticipate,)
    rows = []
    for count in calls:
        for anticipate in wanted:
            console.print(f"measuring {count} calls, {turns} turns each ...", style="dim")
            turning = settings.turns.model_copy(update={"anticipate": anticipate})
            row = await measure(settings.model_copy(update={"turns": turning}), count, turns)
            print_row(row, console)
            rows.append(row)
    if compare:
        print_compared(rows, console)
    costs = await asyncio.to_thread(measure_all)
    for line in lines(costs):
        console.print(line, highlight=False)
    path = await asyncio.to_thread(_write, rows, costs, out)
    console.print(f"on {machine()}; results: {path}")
    return 0 if all(row.ok for row in rows) else 1


def _write(rows: Sequence[Row], costs: Sequence[GateCost], out: Path) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    path = out / "bench.json"
    report = {
        "machine": machine(),
        "rows": [row.as_dict() for row in rows],
        "gate": [cost.as_dict() for cost in costs],
    }
    path.write_text(json.dumps(report, indent=1) + "\n")
    return path


async def measure(settings: Settings, calls: int, turns: int) -> Row:
    """One run of ``calls`` at once against a server of its own."""
    async with loopback_server(settings) as server:
        settle_memory()
        meter = CpuMeter(server.engines, server.calls.clock.stats)
        before = meter.parts()
        spec = BenchSpec(
            target=f"sip:reception@127.0.0.1:{server.sip_port}", calls=calls, turns=turns
        )
        result = await run_bench(spec)
        await server.calls.last_record()
        after = meter.parts()
        records = list(server.calls.records)
        clock = server.calls.clock.stats
        up = sum(record.ended_at - record.answered_at for record in records if record.ended_at)
        return Row(
            callers=result,
            anticipates=settings.turns.anticipate,
            recognizer=getattr(settings.stt, "service", settings.stt.engine),
            intervals_ms=intervals(records),
            cpu_percent={
                part: round(100 * (after[part] - before[part]) / up, 3) if up else 0.0
                for part in after
            },
            standing_in_ms=max((r.standing_delay_in_ms for r in records), default=0.0),
            standing_out_ms=max((r.standing_delay_out_ms for r in records), default=0.0),
            underruns=sum(record.underruns for record in records),
            refused=sum(sum(record.refused.values()) for record in records),
            late_ticks=clock.late,
            ticks=clock.ticks,
            worst_tick_ms=round(1000 * max(clock.lateness, default=0.0), 1),
            turn_taking=total(record.turn_taking for record in records),
        )


def intervals(records: Iterable[CallRecord]) -> dict[str, Distribution]:
    """Each interval's distribution over the turns that have it, in milliseconds."""
    turns = [turn for record in records for turn in record.turns]
    return {
        name: distribution(
            round(value * 1000, 1) for turn in turns if (value := turn.interval(name)) is not None
        )
        for name in INTERVALS
    }


def print_row(row: Row, console: Console) -> None:
    """Print one row's tables."""
    print_bench(row.callers, console)
    console.print("stages, from the server's call records (ms)", style="bold")
    table = plain_table()
    for title in ("", "count", "failed", "p50", "p95", "p99", "worst"):
        table.add_column(title, justify="left" if not title else "right")
    for name, value in row.intervals_ms.items():
        add_distribution(table, name, value)
    console.print(table)
    parts = ", ".join(f"{part} {value:.2f}" for part, value in row.cpu_percent.items())
    console.print(f"CPU per call, % of a core: {parts}; a caller's own: {row.callers_cpu}")
    console.print(
        f"media + graph {row.overhead:.2f} % of a core per call (goal {OVERHEAD_GOAL_PERCENT:g}); "
        f"TTFA p95 {row.intervals_ms['ttfa'].p95} ms (goal under {TTFA_GOAL_MS:g})"
    )
    console.print(
        f"standing delay in {row.standing_in_ms:.0f} ms, out {row.standing_out_ms:.0f} ms (worst); "
        f"underruns {row.underruns}, refused frames {row.refused}; "
        f"ticks late {row.late_ticks} of {row.ticks}, worst {row.worst_tick_ms} ms"
    )
    taking = row.turn_taking
    saved = taking.saved_ms / taking.confirmed if taking.confirmed else 0.0
    console.print(
        f"answers begun before their turn's end {taking.speculations}: "
        f"said {taking.confirmed}, dropped {taking.dropped.total()} "
        f"({100 * taking.wasted_rate:.0f} % wasted: {taking.wasted_tokens} tokens, "
        f"{taking.wasted_ms:.0f} ms of speech); {saved:.0f} ms of work ahead of each said"
    )
    premature = sum(turn.premature for call in row.callers.calls for turn in call.turns)
    console.print(
        f"turns ended although the caller went on {taking.cut_short}, "
        f"answers heard before the caller was done {premature}"
    )


def print_compared(rows: Sequence[Row], console: Console) -> None:
    """Print what beginning answers early bought, and what it wasted."""
    console.print("answers begun early, and not (ms)", style="bold")
    table = plain_table()
    for title in ("calls", "begun early", "turn p50", "p95", "TTFA p50", "p95", "wasted"):
        table.add_column(title, justify="right")
    for row in rows:
        turn, ttfa = row.callers.turn_latency_ms, row.intervals_ms["ttfa"]
        table.add_row(
            str(row.callers.spec.calls),
            str(row.turn_taking.speculations) if row.anticipates else "off",
            *(str(value) for value in (turn.p50, turn.p95, ttfa.p50, ttfa.p95)),
            f"{100 * row.turn_taking.wasted_rate:.0f} %",
        )
    console.print(table)


def machine() -> str:
    """Where it was measured, and whether what a tick goes through is compiled."""
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    python = platform.python_version()
    return f"{os.cpu_count()} cores, {model}, Python {python}, {media_built()}"
