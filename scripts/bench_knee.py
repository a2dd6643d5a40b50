"""Twice as many callers as the server can carry: who is refused, and what the others notice.

    python scripts/bench_knee.py [--calls 80] [--per-second 4] [--turns 4] [-o build/bench]

The server runs in a process of its own, its callers in others; each calls once, asks its questions
and hangs up. The same load is offered twice: with admission by measurement, and without it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ringtrue.agent.bench import machine
from ringtrue.loadtest.bench import BenchSpec, run_bench
from ringtrue.loadtest.report import Distribution, distribution
from ringtrue.loadtest.served import serving

PROCESSES = 2
"""That the callers run in: their clocks must not be what is late."""

MOST = 1000
UP = 'ringtrue_calls_active{transport="sip"}'


@dataclass
class Offered:
    """What one load came to."""

    admission: bool
    offered: int
    taken: int
    refused: dict[str, int]
    """By the callers' own account."""

    signals: dict[str, float]
    """By the server's: what would not have held."""

    peak: int
    """Calls up at the same time, at most."""

    failed: dict[str, int]
    """Calls that were taken and did not go well."""

    turn_latency_ms: Distribution
    """Of the calls taken, at the callers' ears."""

    ttfa_ms: Distribution
    """Of the calls taken, from the server's records."""

    setup_ms: Distribution
    dropouts: int
    ticks_late_percent: float
    callers_late_percent: float
    """Ticks of the callers' own clocks over 10 ms late: what they measured is as good as this."""


async def callers(target: str, calls: int, turns: int, seconds: float) -> list[Any]:
    """All callers, shared among processes."""
    share = [calls // PROCESSES + (number < calls % PROCESSES) for number in range(PROCESSES)]
    specs = [
        BenchSpec(target, count, turns, stagger_seconds=seconds, first=sum(share[:number]))
        for number, count in enumerate(share)
    ]
    return list(await asyncio.gather(*map(run_bench, specs)))


def offer(calls: int, per_second: float, turns: int, *, admission: bool) -> Offered:
    """One load against a server of its own."""
    settings = {
        "SERVER__MAX_CALLS": str(MOST),
        "ADMISSION__ENABLED": str(admission).lower(),
        "SIP__CALLERS__CALLS_PER_SECOND": "1000",
        "SIP__CALLERS__CALLS_AT_ONCE": "1000",
    }
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), settings) as served:
        target = f"sip:reception@127.0.0.1:{served.sip_port}"
        peak = 0
        with ThreadPoolExecutor(1) as pool:
            work = callers(target, calls, turns, calls / per_second)
            running = pool.submit(asyncio.run, work)
            while not running.done():
                peak = max(peak, int(served.metrics().get(UP, 0)))
                time.sleep(0.5)
        results = running.result()
        page = served.metrics()
        records = [json.loads(path.read_text()) for path in served.records_dir.glob("*.json")]
    reports = [call for result in results for call in result.calls]
    taken = [call for call in reports if call.failure != "not_answered"]
    refused = Counter(call.detail for call in reports if call.failure == "not_answered")
    latencies: list[float | None] = []
    for call in taken:
        measured = [turn.latency_ms for turn in call.turns][:turns]
        latencies += measured + [None] * (turns - len(measured))
    ttfa = [turn["intervals_ms"].get("ttfa") for record in records for turn in record["turns"]]
    prefix = "ringtrue_admission_refused_total{"
    ticks = max(1.0, page["ringtrue_clock_ticks_total"])
    own = sum(result.clock_ticks for result in results)
    return Offered(
        admission=admission,
        offered=calls,
        taken=len(taken),
        refused=dict(refused),
        signals={k.removeprefix(prefix): v for k, v in page.items() if k.startswith(prefix)},
        peak=peak,
        failed=dict(Counter(call.failure or "?" for call in taken if not call.ok)),
        turn_latency_ms=distribution(latencies),
        ttfa_ms=distribution(value for value in ttfa if value is not None),
        setup_ms=distribution(call.setup_ms for call in taken),
        dropouts=sum(len(call.dropouts) for call in taken),
        ticks_late_percent=round(100 * page["ringtrue_clock_late_ticks_total"] / ticks, 2),
        callers_late_percent=round(
            100 * sum(result.clock_late for result in results) / max(1, own), 2
        ),
    )


def shown(row: Offered) -> str:
    """A few lines of the report."""
    turn, ttfa = row.turn_latency_ms, row.ttfa_ms
    how = "with admission" if row.admission else "without"
    return (
        f"{how}: {row.offered} offered, {row.taken} taken ({row.peak} at once), "
        f"refused {row.refused or 'none'}\n"
        f"  taken calls: turn latency p50/p95/p99 {turn.p50}/{turn.p95}/{turn.p99} ms, "
        f"{turn.failed} of {turn.count} turns failed; "
        f"TTFA p50/p95/p99 {ttfa.p50}/{ttfa.p95}/{ttfa.p99} ms; calls failed {row.failed}\n"
        f"  set-up p95 {row.setup_ms.p95} ms, gaps heard {row.dropouts}, ticks late "
        f"{row.ticks_late_percent} % (callers' own {row.callers_late_percent} %); "
        f"signals {row.signals}"
    )


def main(calls: int, per_second: float, turns: int, out: Path) -> int:
    """Measure, print, write."""
    rows = []
    for admission in (True, False):
        rows.append(offer(calls, per_second, turns, admission=admission))
        print(shown(rows[-1]), flush=True)
    print(f"on {machine()}")
    out.mkdir(parents=True, exist_ok=True)
    (out / "knee.json").write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="More callers than the server can carry.")
    parser.add_argument("--calls", type=int, default=80)
    parser.add_argument("--per-second", type=float, default=4.0)
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("-o", "--out", type=Path, default=Path("build/bench"))
    options = parser.parse_args()
    raise SystemExit(main(options.calls, options.per_second, options.turns, options.out))
