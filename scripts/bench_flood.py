"""A scanner's INVITEs while calls run: what the calls notice, what it costs, what is left.

    python scripts/bench_flood.py [--calls 10] [--seconds 30] [--per-second 500] [-o build/bench]

The server runs with its defaults, in a process of its own; the scanner sends from an address of
its own, answers nothing and acknowledges nothing. Once it has stopped, one more caller calls.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from ringtrue.agent.bench import machine
from ringtrue.loadtest.bench import BenchResult, BenchSpec, run_bench
from ringtrue.loadtest.scanner import scanning
from ringtrue.loadtest.served import Served, serving

LATE_GOAL = 0.01
UP = 'ringtrue_calls_active{transport="sip"}'
RSS = "process_resident_memory_bytes"
LOST = ("not_answered", "call_ended", "broken")
CALL_SECONDS = 'ringtrue_call_seconds_total{transport="sip"}'
LOOK_SECONDS = 1.0


@dataclass
class Flood:
    """What a flood came to."""

    seconds: float
    invites: int
    dropped: int
    """Messages the server did not look at."""

    refused_calls: dict[str, float]
    calls: int
    calls_lost: int
    """Not answered, or ended before their time."""

    calls_ok: int
    """Whose every question was answered in time."""

    calls_ok_before: int
    """The same, without the flood."""

    frames: int
    """That the callers were sent."""

    late_or_lost: int
    """Of these."""

    late_before_percent: float
    """Of the frames, without the flood."""

    dropouts: int
    """Gaps that were heard in speech."""

    ticks: int
    ticks_late: int
    turn_p95_ms: float | None
    turn_p95_before_ms: float | None
    rss_before_mib: float
    rss_most_mib: float
    rss_after_mib: float
    setup_during_ms: float | None
    """From INVITE to answer of one who calls in the midst of it."""

    setup_after_ms: float | None
    """From INVITE to answer of the caller who calls once it has stopped."""

    cpu_percent: float
    """Of a core, that the flood took on top of the calls."""

    @property
    def late_share(self) -> float:
        """Of the callers' frames."""
        return self.late_or_lost / max(1, self.frames)

    @property
    def ok(self) -> bool:
        """Nobody noticed."""
        quiet = not self.calls_lost and self.late_share <= LATE_GOAL
        return quiet and None not in (self.setup_during_ms, self.setup_after_ms)


class _Memory:
    """Looks at the server's memory now and then."""

    def __init__(self, served: Served) -> None:
        self.most = 0.0
        self._served = served
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="memory")

    def __enter__(self) -> _Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            self.most = max(self.most, self._served.metrics()[RSS])


def cpu(metrics: dict[str, float]) -> float:
    """CPU seconds of the server so far."""
    return metrics["process_cpu_seconds_total"]


def missed(result: BenchResult) -> int:
    """Frames that the callers didn't get in time."""
    return result.total("packets_late") + result.total("packets_lost")


def called(served: Served, calls: int, turns: int) -> BenchResult:
    """Callers from an address that the scanner doesn't have."""
    target = f"sip:reception@127.0.0.1:{served.sip_port}"
    return asyncio.run(run_bench(BenchSpec(target, calls, turns, stagger_seconds=2.0)))


def measure(served: Served, calls: int, seconds: float, per_second: int) -> Flood:
    """First without, then with the flood."""
    turns = max(2, round(seconds / 6))
    start = served.metrics()
    quiet = called(served, calls, turns)
    before = served.metrics()
    with _Memory(served) as memory, ThreadPoolExecutor(1) as callers:
        calling = callers.submit(called, served, calls, turns)
        while served.metrics().get(UP, 0.0) < calls and not calling.done():
            time.sleep(0.2)
        began = time.monotonic()
        with scanning(served.sip_port, per_second=per_second) as scan:
            time.sleep(seconds / 2)
            newcomer = called(served, 1, 1)
            time.sleep(max(0.0, seconds - (time.monotonic() - began)))
        flooded = time.monotonic() - began
        after = called(served, 1, 1)
        result = calling.result()
        during = served.metrics()
    end = served.metrics()
    spent = [cpu(before) - cpu(start), cpu(during) - cpu(before)]
    up = [
        before[CALL_SECONDS] - start.get(CALL_SECONDS, 0),
        during[CALL_SECONDS] - before[CALL_SECONDS],
    ]
    flood_cpu = spent[1] - up[1] * spent[0] / up[0]
    tick, late = "ringtrue_clock_ticks_total", "ringtrue_clock_late_ticks_total"
    refused = {
        key: value - before.get(key, 0.0)
        for key, value in end.items()
        if key.startswith(("ringtrue_calls_refused_total", "ringtrue_sip_callers_total"))
    }
    return Flood(
        seconds=round(flooded, 1),
        invites=scan.sent,
        dropped=int(end.get("ringtrue_sip_calls_dropped_total", 0)),
        refused_calls={key: value for key, value in refused.items() if value},
        calls=calls,
        calls_lost=sum(call.failure in LOST for call in result.calls),
        calls_ok=sum(call.ok for call in result.calls),
        calls_ok_before=sum(call.ok for call in quiet.calls),
        frames=result.total("packets_received"),
        late_or_lost=missed(result),
        late_before_percent=round(100 * missed(quiet) / quiet.total("packets_received"), 2),
        dropouts=result.dropouts,
        ticks=int(during[tick] - before[tick]),
        ticks_late=int(during[late] - before[late]),
        turn_p95_ms=result.turn_latency_ms.p95,
        turn_p95_before_ms=quiet.turn_latency_ms.p95,
        rss_before_mib=round(before[RSS] / 2**20, 1),
        rss_most_mib=round(max(memory.most, during[RSS]) / 2**20, 1),
        rss_after_mib=round(end[RSS] / 2**20, 1),
        setup_during_ms=newcomer.calls[0].setup_ms,
        setup_after_ms=after.calls[0].setup_ms,
        cpu_percent=round(100 * flood_cpu / flooded, 1),
    )


def main(calls: int, seconds: float, per_second: int, out: Path) -> int:
    """Measure, print, write; 0 if nobody noticed."""
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as served:
        flood = measure(served, calls, seconds, per_second)
    print(
        f"{flood.invites} INVITEs in {flood.seconds} s beside {calls} calls: "
        f"{flood.calls_lost} of them lost, {flood.calls_ok} went well "
        f"({flood.calls_ok_before} without the flood)\n"
        f"frames late or lost {flood.late_or_lost} of {flood.frames} "
        f"({100 * flood.late_share:.2f} %, goal 1 %; "
        f"{flood.late_before_percent} % without the flood), gaps heard {flood.dropouts}, "
        f"ticks over 10 ms late {flood.ticks_late} of {flood.ticks}\n"
        f"turn latency p95 {flood.turn_p95_ms} ms, without the flood "
        f"{flood.turn_p95_before_ms} ms\n"
        f"dropped unread {flood.dropped}; others {flood.refused_calls}\n"
        f"memory {flood.rss_before_mib} MiB before, {flood.rss_most_mib} at most, "
        f"{flood.rss_after_mib} after; CPU of the flood {flood.cpu_percent} % of a core\n"
        f"another call in the midst of it: answered in {flood.setup_during_ms} ms; "
        f"right after it: in {flood.setup_after_ms} ms\n"
        f"on {machine()}"
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / "flood.json").write_text(json.dumps(asdict(flood), indent=1) + "\n")
    return 0 if flood.ok else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="INVITE flood beside running calls.")
    parser.add_argument("--calls", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--per-second", type=int, default=500)
    parser.add_argument("-o", "--out", type=Path, default=Path("build/bench"))
    options = parser.parse_args()
    raise SystemExit(main(options.calls, options.seconds, options.per_second, options.out))
