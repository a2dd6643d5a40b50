"""CPU time by part."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from ringtrue.agent.cpu import WORKING, CpuMeter
from ringtrue.streaming.clock import ClockStats

USED = 0.15
"""CPU seconds that a worker uses: many of the kernel's 10 ms ticks."""


class Owner:
    """Owns the given processes."""

    def __init__(self) -> None:
        self.pids: list[int] = []
        self.vad = 0.0

    def vad_seconds(self) -> float:
        return self.vad

    def recognizer_pids(self) -> tuple[int, ...]:
        return tuple(self.pids)


def use(clock: int = time.CLOCK_THREAD_CPUTIME_ID) -> None:
    """Use :data:`USED` seconds of this thread."""
    until = time.clock_gettime(clock) + USED
    while time.clock_gettime(clock) < until:
        sum(range(1000))


@contextmanager
def worked(name: str) -> Iterator[None]:
    """A thread called ``name`` that has worked and waits to be ended."""
    done, end = threading.Event(), threading.Event()

    def work() -> None:
        use()
        done.set()
        end.wait()

    thread = threading.Thread(target=work, name=name)
    thread.start()
    assert done.wait(30)
    try:
        yield
    finally:
        end.set()
        thread.join()


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("turns_0", "turns"),
        ("flite-1", "synthesis"),
        ("whisper_0", "recognizer"),
        ("asyncio_3", "other"),
    ],
)
def test_a_thread_counts_for_the_part_it_works_for(name: str, part: str) -> None:
    meter = CpuMeter(Owner(), ClockStats())
    before = meter.parts()
    with worked(name):
        during = meter.parts()
        grown = {p: during[p] - before[p] for p in WORKING}
        assert grown.pop(part) == pytest.approx(USED, abs=0.05)
        assert max(grown.values()) < 0.05
    after = meter.parts()
    assert after[part] >= during[part]
    assert meter.parts()[part] == pytest.approx(after[part], abs=0.02)


def test_the_recognizers_processes_count_even_once_they_are_gone() -> None:
    script = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"
    owner = Owner()
    meter = CpuMeter(owner, ClockStats())
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        owner.pids = [child.pid]
        while_up = meter.parts()["recognizer"]
        assert while_up == pytest.approx(0.3, abs=0.1)
        child.communicate(b"\n")
    assert meter.parts()["recognizer"] == while_up
    owner.pids = []
    assert meter.parts()["recognizer"] == while_up


def test_the_loops_thread_is_media_and_graph() -> None:
    stats = ClockStats()
    owner = Owner()
    meter = CpuMeter(owner, stats)
    before = meter.parts()
    use()
    stats.busy += 0.05
    owner.vad += 0.02
    after = meter.parts()
    assert after["media"] - before["media"] == pytest.approx(0.05)
    assert after["vad"] - before["vad"] == pytest.approx(0.02)
    assert after["graph"] - before["graph"] == pytest.approx(USED - 0.07, abs=0.05)
    stats.busy = 1e6
    assert meter.parts()["graph"] == 0.0


def test_metrics_show_every_part() -> None:
    registry = CollectorRegistry()
    registry.register(CpuMeter(Owner(), ClockStats()))
    page = generate_latest(registry).decode()
    for part in ("media", "graph", "vad", *WORKING):
        assert f'ringtrue_cpu_seconds_total{{part="{part}"}}' in page
