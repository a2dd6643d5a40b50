"""Reads what the process carries at present, twice a second (Linux)."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from ringtrue.agent.capacity import Load
from ringtrue.streaming.clock import ClockStats
from ringtrue.streaming.cpu_time import cpu_seconds

CGROUP: Final = Path("/sys/fs/cgroup")
SCHEDSTAT: Final = Path("/proc/thread-self/schedstat")
"""Nanoseconds that the calling thread ran, and that it waited for a processor (Linux,
scheduler/sched-stats.rst)."""

CLOCK_SECONDS: Final = 5.0
"""How far back the media clock's lateness is looked at."""


@dataclass(frozen=True, slots=True)
class Queues:
    """What waits for the engines."""

    recognizer_seconds: float = 0.0
    """Of audio, in the worst utterance."""

    synthesis_jobs: float = 0.0
    """Pieces of speech, for each thread."""


class Engined(Protocol):
    """Whoever owns the engines."""

    def recognizer_pids(self) -> tuple[int, ...]:
        """Process ids of the workers alive now."""
        ...

    def queues(self) -> Queues:
        """What waits for them."""
        ...


@dataclass(frozen=True, slots=True)
class CpuQuota:
    """Cores this process may use, and where its control group counts what it used."""

    cores: float
    usage: Path | None = None
    """``cpu.stat`` of a group with a limit of its own: what all of the group used counts then."""

    def used(self) -> float | None:
        """CPU seconds of the group so far; None where this process alone is to be counted."""
        if self.usage is None:
            return None
        try:
            fields = dict(line.split(maxsplit=1) for line in self.usage.read_text().splitlines())
            return int(fields["usage_usec"]) / 1e6
        except (OSError, ValueError, KeyError):
            return None


def cpu_quota(root: Path = CGROUP) -> CpuQuota:
    """What this process may use: its affinity, and the limit of its control group.

    Reads version 2's ``cpu.max`` and version 1's ``cpu.cfs_quota_us`` (Linux,
    admin-guide/cgroup-v2.rst; scheduler/sched-bwc.rst).
    """
    cores = float(len(os.sched_getaffinity(0)))
    try:
        limit, period = (root / "cpu.max").read_text().split()
        if limit != "max":
            return CpuQuota(min(cores, int(limit) / int(period)), root / "cpu.stat")
    except (OSError, ValueError, ZeroDivisionError):
        pass
    try:
        quota = int((root / "cpu" / "cpu.cfs_quota_us").read_text())
        period_us = int((root / "cpu" / "cpu.cfs_period_us").read_text())
        if quota > 0:
            return CpuQuota(min(cores, quota / period_us))
    except (OSError, ValueError, ZeroDivisionError):
        pass
    return CpuQuota(cores)


def thread_seconds() -> tuple[float, float]:
    """Seconds that the calling thread ran, and that it waited for a processor.

    Beside others that are busy too, a thread that is short of time runs little and waits.
    """
    try:
        ran, waited = SCHEDSTAT.read_text().split()[:2]
        return int(ran) / 1e9, int(waited) / 1e9
    except (OSError, ValueError):
        return time.thread_time(), 0.0


class Gauges:
    """Makes a :class:`~ringtrue.agent.capacity.Load` of counters. Serves the loop's thread."""

    def __init__(
        self,
        engines: Engined,
        clock: ClockStats,
        graph_wait: Callable[[], float],
        *,
        quota: CpuQuota | None = None,
    ) -> None:
        """``graph_wait`` gives seconds of callers' audio waiting for its graph, at worst."""
        self._engines = engines
        self._clock = clock
        self._graph_wait = graph_wait
        self._quota = quota or cpu_quota()
        self._before: tuple[float, float, float, float] | None = None
        self._ticks: deque[tuple[float, int]] = deque()
        self._workers: dict[int, float] = {}

    def read(self) -> Load:
        """What was used since the last reading, and what waits now."""
        latest = time.monotonic(), *thread_seconds(), self._cpu()
        before, self._before = self._before or latest, latest
        now, seconds = latest[0], latest[0] - before[0]
        loop, waited, cpu = (
            max(0.0, after - earlier) / seconds if seconds else 0.0
            for earlier, after in zip(before[1:], latest[1:], strict=True)
        )
        queues = self._engines.queues()
        return Load(
            loop=loop,
            loop_wait=waited,
            cpu=cpu,
            cores=self._quota.cores,
            tick_lateness=self._lateness(now),
            graph_wait=self._graph_wait(),
            recognizer_wait=queues.recognizer_seconds,
            synthesis_jobs=queues.synthesis_jobs,
        )

    def _cpu(self) -> float:
        """CPU seconds of the process and its recognizers, or of the whole control group."""
        group = self._quota.used()
        if group is not None:
            return group
        for pid in self._engines.recognizer_pids():
            self._workers[pid] = max(self._workers.get(pid, 0.0), cpu_seconds(pid))
        return time.process_time() + sum(self._workers.values())

    def _lateness(self, now: float) -> float:
        """p95 of the ticks of the last seconds; none, and nothing is late."""
        ticks, seen = self._clock.ticks, self._ticks
        while len(seen) > 1 and now - seen[1][0] >= CLOCK_SECONDS:
            seen.popleft()
        new = ticks - (seen[0][1] if seen else ticks)
        seen.append((now, ticks))
        lateness = self._clock.lateness
        new = min(new, len(lateness))
        if not new:
            return 0.0
        recent = sorted(lateness.last(new))
        return recent[min(new - 1, int(0.95 * new))]
