"""Where the process's CPU time goes: media, graph, turn detection, synthesis, recognition."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Protocol

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from ringtrue.streaming.clock import ClockStats

THREADS: Final[Mapping[str, str]] = {
    "turns": "turns",
    "flite": "synthesis",
    "whisper": "recognizer",
}
"""Prefix of a thread's name → the part it works for."""

WORKING: Final = ("turns", "synthesis", "recognizer", "other")
"""The parts that work outside the loop's thread."""

TICKS_PER_SECOND: Final = 100
"""Unit of utime and stime in /proc/*/stat on Linux (USER_HZ)."""


class HasProcesses(Protocol):
    """Whoever owns the recognizer's worker processes."""

    def recognizer_pids(self) -> tuple[int, ...]:
        """Process ids of the workers alive now."""
        ...


def _seconds(stat: Path) -> float:
    """CPU seconds of the task whose ``stat`` file this is; 0 where it has ended."""
    try:
        fields = stat.read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


class CpuMeter(Collector):
    """Counts CPU seconds by part, at scrape time (Linux).

    ``media`` is what the media clock's ticks took; ``graph`` the rest of the loop's thread,
    sockets and web included; the others are their own threads and processes. What those that
    have ended used stays counted, up to the last scrape before.
    """

    def __init__(self, owner: HasProcesses, clock: ClockStats) -> None:
        """Make it on the loop's thread: that is the one ``media`` and ``graph`` share."""
        self._owner = owner
        self._clock = clock
        self._loop_thread = threading.get_native_id()
        self._seen: dict[tuple[str, int], float] = {}
        self._ended: dict[str, float] = dict.fromkeys(WORKING, 0.0)

    def parts(self) -> dict[str, float]:
        """CPU seconds so far, by part."""
        task = Path("/proc/self/task")
        loop = _seconds(task / str(self._loop_thread) / "stat")
        now: dict[tuple[str, int], float] = {}
        for thread in threading.enumerate():
            if thread.native_id in (None, self._loop_thread):
                continue
            part = next((p for n, p in THREADS.items() if thread.name.startswith(n)), "other")
            now[part, thread.native_id] = _seconds(task / str(thread.native_id) / "stat")
        for pid in self._owner.recognizer_pids():
            now["recognizer", pid] = _seconds(Path(f"/proc/{pid}/stat"))
        for (part, number), seconds in self._seen.items():
            if now.get((part, number), 0.0) < seconds:  # it ended; its number may be another's
                self._ended[part] += seconds
        self._seen = now
        parts = {"media": self._clock.busy, "graph": max(0.0, loop - self._clock.busy)}
        parts |= self._ended
        for (part, _), seconds in now.items():
            parts[part] += seconds
        return parts

    def collect(self) -> Iterable[Metric]:
        """One counter with a label per part."""
        family = CounterMetricFamily(
            "ringtrue_cpu_seconds", "CPU time by part of the server", labels=["part"]
        )
        for part, seconds in self.parts().items():
            family.add_metric([part], seconds)
        yield family
