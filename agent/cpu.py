"""Where the CPU time goes: media, graph, voice activity, turns, synthesis, recognition."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from ringtrue.streaming.clock import ClockStats
from ringtrue.streaming.cpu_time import cpu_seconds

THREADS: Final[Mapping[str, str]] = {
    "turns": "turns",
    "flite": "synthesis",
    "whisper": "recognizer",
}
"""Prefix of a thread's name → the part it works for."""

WORKING: Final = ("turns", "synthesis", "recognizer", "other")
"""The parts that work outside the loop's thread."""


class Inference(Protocol):
    """Whoever owns the models."""

    def vad_seconds(self) -> float:
        """CPU seconds that the voice-activity network took on the loop's thread."""
        ...

    def recognizer_pids(self) -> tuple[int, ...]:
        """Process ids of the workers alive now."""
        ...


class CpuMeter(Collector):
    """Counts CPU seconds by part, at scrape time (Linux).

    ``media`` is what the media clock's ticks took, ``vad`` the voice-activity network, ``graph``
    the rest of the loop's thread, sockets and web included; the others are their own threads and
    processes. What those that have ended used stays counted, up to the last scrape before.
    """

    def __init__(self, owner: Inference, clock: ClockStats) -> None:
        """Make it on the loop's thread: that is the one these three share."""
        self._owner = owner
        self._clock = clock
        self._loop_thread = threading.get_native_id()
        self._seen: dict[tuple[str, int], float] = {}
        self._ended: dict[str, float] = dict.fromkeys(WORKING, 0.0)

    def parts(self) -> dict[str, float]:
        """CPU seconds so far, by part. Call it on the loop's thread."""
        loop = time.thread_time()
        now: dict[tuple[str, int], float] = {}
        for thread in threading.enumerate():
            if thread.native_id in (None, self._loop_thread):
                continue
            part = next((p for n, p in THREADS.items() if thread.name.startswith(n)), "other")
            now[part, thread.native_id] = cpu_seconds(thread.native_id, thread=True)
        for pid in self._owner.recognizer_pids():
            now["recognizer", pid] = cpu_seconds(pid)
        for (part, number), seconds in self._seen.items():
            if now.get((part, number), 0.0) < seconds:  # it ended; its number may be another's
                self._ended[part] += seconds
        self._seen = now
        media, vad = self._clock.busy, self._owner.vad_seconds()
        parts = {"media": media, "graph": max(0.0, loop - media - vad), "vad": vad}
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
