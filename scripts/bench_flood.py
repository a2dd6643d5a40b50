"""A scanner's INVITEs while calls run: what the calls notice, what it costs, what is left.

    python scripts/bench_flood.py [--calls 10] [--seconds 30] [--per-second 500] [-o build/bench]

The server runs with its defaults, but takes calls however busy it is, in a process of its own; the
scanner sends from an address of its own, answers nothing and acknowledges nothing. The calls send
speech and are judged by the kernel's timestamps. One more caller calls in the midst of the flood,
and another once it is over. They all share the machine's cores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from ringtrue.agent.bench import machine
from ringtrue.loadtest.media_load import MediaResult, MediaSpec, read_result
from ringtrue.loadtest.scanner import scanning
from ringtrue.loadtest.served import Served, serving

LATE_GOAL = 0.01
SETTINGS = {"ADMISSION__ENABLED": "false"}
"""The calls are to run, however busy the machine is with other things."""

UP = 'ringtrue_calls_active{transport="sip"}'
RSS = "process_resident_memory_bytes"
FRAMES = "ringtrue_frames_sealed_total"
LOOK_SECONDS = 1.0
END_SECONDS = 10.0


@dataclass
class Flood:
    """What a flood came to."""

    seconds: float
    invites: int
    dropped: int
    """Messages the server did not look at."""

    refused_calls: dict[str, float]
    calls: int
    calls_up: int
    """Answered, and measured to the end."""

    frames: int
    """That the callers were sent."""

    late: int
    """Of these, over 20 ms later than their call's earliest."""

    missing: int
    late_before_percent: float
    """Without the flood."""

    late_p99_ms: float
    late_p99_before_ms: float
    ticks: int
    ticks_late: int
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
        return (self.late + self.missing) / max(1, self.frames)

    @property
    def ok(self) -> bool:
        """Nobody noticed."""
        heard = self.calls_up == self.calls and self.late_share <= LATE_GOAL
        return heard and None not in (self.setup_during_ms, self.setup_after_ms)


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


def lines(served: Served, calls: int, seconds: float, settle: float = 2.0) -> MediaResult:
    """Callers from an address that the scanner doesn't have, in a process of their own."""
    target = f"sip:reception@127.0.0.1:{served.sip_port}"
    spec = MediaSpec(target, calls, seconds, settle=settle)
    done = subprocess.run(
        [sys.executable, "-m", "ringtrue.loadtest.media_load"],
        input=json.dumps(asdict(spec)).encode(),
        capture_output=True,
        timeout=seconds + 60,
        check=True,
    )
    return read_result(done.stdout)


def ended(served: Served) -> dict[str, float]:
    """The server's metrics once no call is up: they are told when a call is over."""
    until = time.monotonic() + END_SECONDS
    while (page := served.metrics()).get(UP, 0.0) and time.monotonic() < until:
        time.sleep(0.2)
    return page


def measure(served: Served, calls: int, seconds: float, per_second: int) -> Flood:
    """First without, then with the flood."""
    start = served.metrics()
    quiet = lines(served, calls, 10.0)
    if quiet.up < calls:
        raise SystemExit(f"only {quiet.up} of {calls} calls were answered; log: {served.log}")
    before = ended(served)
    with _Memory(served) as memory, ThreadPoolExecutor(1) as callers:
        calling = callers.submit(lines, served, calls, seconds + 2)
        while served.metrics().get(UP, 0.0) < calls and not calling.done():
            time.sleep(0.2)
        began = time.monotonic()
        with scanning(served.sip_port, per_second=per_second) as scan:
            time.sleep(seconds / 2)
            newcomer = lines(served, 1, 0.2, 0.0)
            time.sleep(max(0.0, seconds - (time.monotonic() - began)))
        flooded = time.monotonic() - began
        after = lines(served, 1, 0.2, 0.0)
        result = calling.result()
        during = ended(served)
    end = served.metrics()
    spent = [cpu(before) - cpu(start), cpu(during) - cpu(before)]
    frames = [before[FRAMES] - start.get(FRAMES, 0), during[FRAMES] - before[FRAMES]]
    flood_cpu = spent[1] - frames[1] * spent[0] / max(1.0, frames[0])
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
        calls_up=result.up,
        frames=result.packets,
        late=result.late,
        missing=result.missing,
        late_before_percent=round(100 * quiet.late / max(1, quiet.packets), 2),
        late_p99_ms=result.late_p99_ms,
        late_p99_before_ms=quiet.late_p99_ms,
        ticks=int(during[tick] - before[tick]),
        ticks_late=int(during[late] - before[late]),
        rss_before_mib=round(before[RSS] / 2**20, 1),
        rss_most_mib=round(max(memory.most, during[RSS]) / 2**20, 1),
        rss_after_mib=round(end[RSS] / 2**20, 1),
        setup_during_ms=newcomer.setup_ms if newcomer.up else None,
        setup_after_ms=after.setup_ms if after.up else None,
        cpu_percent=round(100 * flood_cpu / flooded, 1),
    )


def main(calls: int, seconds: float, per_second: int, out: Path) -> int:
    """Measure, print, write; 0 if nobody noticed."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        served = stack.enter_context(serving(folder, SETTINGS))
        flood = measure(served, calls, seconds, per_second)
    print(
        f"{flood.invites} INVITEs in {flood.seconds} s beside {flood.calls_up} of {calls} calls\n"
        f"frames late {flood.late}, missing {flood.missing} of {flood.frames} "
        f"({100 * flood.late_share:.2f} %, goal 1 %; {flood.late_before_percent} % without the "
        f"flood); p99 {flood.late_p99_ms} ms, without {flood.late_p99_before_ms} ms; "
        f"ticks over 10 ms late {flood.ticks_late} of {flood.ticks}\n"
        f"dropped unread {flood.dropped}; others {flood.refused_calls}\n"
        f"memory {flood.rss_before_mib} MiB before, {flood.rss_most_mib} at most, "
        f"{flood.rss_after_mib} after; CPU of the flood {flood.cpu_percent} % of a core\n"
        f"another call in the midst of it: answered in {flood.setup_during_ms} ms; "
        f"right after it: in {flood.setup_after_ms} ms\n"
        f"on {machine()}; server, callers and scanner share the cores"
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
