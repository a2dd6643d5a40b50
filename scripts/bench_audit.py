"""Utterances logged a second against the lateness of a 20 ms tick on the same loop.

    python scripts/bench_audit.py [--rate 1000] [--seconds 30] [--dir DIRECTORY]

The same loop first ticks without a log. The directory's disk is what fsync is measured on.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import uvloop

from ringtrue.agent.audit.entries import Event, Kind, Output
from ringtrue.agent.audit.log import AuditLog
from ringtrue.agent.audit.texts import TextKeeper, TextPolicy
from ringtrue.agent.audit.verifying import verify
from ringtrue.streaming.clock import LATE, TICK
from ringtrue.voices.keys.signing import Signer

OUTPUT = Output("ab" * 32, "cd" * 32, 8000, 8000, 0, 49)


def event(number: int) -> Event:
    """An utterance like those of calls."""
    return Event(
        Kind.UTTERANCE,
        tenant="default",
        call=f"call-{number % 200}",
        agent="reception",
        voice="v_0123456789abcdef",
        consent="ab" * 16,
        engine="embedded-1",
        model="1",
        watermark="rt1:k1:00000000",
        output=OUTPUT,
        text="we are open from nine to five on weekdays",
    )


async def ticking(seconds: float, rate: int, log: AuditLog | None) -> tuple[list[float], float]:
    """Lateness of every tick, and the seconds spent recording."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    end = due + seconds
    late, spent, number = [], 0.0, 0
    while due < end:
        due += TICK
        await asyncio.sleep(max(0.0, due - loop.time()))
        late.append(loop.time() - due)
        if log is not None:
            began = time.perf_counter()
            for _ in range(round(rate * TICK)):
                log.record(event(number))
                number += 1
            spent += time.perf_counter() - began
    return late, spent


def shown(name: str, late: list[float]) -> str:
    """A line of the report."""
    ranks = statistics.quantiles(late, n=1000)
    over = sum(lateness > LATE for lateness in late)
    values = (ranks[499], ranks[989], ranks[998], max(late))
    ms = " / ".join(f"{1000 * value:.1f}" for value in values)
    return f"{name:12} lateness p50/p99/p99.9/max {ms} ms, {over} of {len(late)} ticks late"


async def measure(directory: Path, rate: int, seconds: float) -> Signer:
    """Tick without and with a log, and print how late; what signed the log."""
    late, _ = await ticking(seconds, 0, None)
    print(shown("no log", late))
    signer = Signer.generate()
    texts = TextKeeper(bytes(32), TextPolicy.ENCRYPTED)
    async with AuditLog.open(directory, signer, texts) as log:
        cpu = time.process_time()
        late, spent = await ticking(seconds, rate, log)
        flushed = await log.flush()
        cpu = time.process_time() - cpu
        stats = log.stats
    print(shown(f"{rate}/s", late))
    print(
        f"{stats.entries} entries in {stats.groups} groups, {stats.checkpoints} checkpoints, "
        f"lost {stats.lost}, deepest queue {stats.deepest}, all durable: {flushed}"
    )
    print(f"record() {1e6 * spent / stats.entries:.1f} µs, all CPU {100 * cpu / seconds:.1f} %")
    return signer


def check(directory: Path, signer: Signer) -> None:
    """Verify what was written."""
    began = time.perf_counter()
    report = verify(directory, [signer.public])
    took = time.perf_counter() - began
    size = sum(path.stat().st_size for path in directory.rglob("*.jsonl"))
    print(
        f"verified in {took:.2f} s ({'good' if report.good else 'BAD'}), "
        f"{size / report.logs[0].size:.0f} bytes an entry"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--dir", type=Path, default=None)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.dir) as place:
        log = Path(place) / "audit"
        check(log, uvloop.run(measure(log, given.rate, given.seconds)))
