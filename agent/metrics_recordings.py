"""Metrics of recordings, read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from ringtrue.agent.recordings import Recordings

_HELP: Final = {
    "begun": "Recordings of calls that were begun",
    "failed": "Recordings that could not begin, or ended before their call",
    "expired": "Recordings erased because they were kept no longer",
}


class RecordingsCollector(Collector):
    """Counters of a process's recordings."""

    def __init__(self, recordings: Recordings) -> None:
        """Of ``recordings``."""
        self._recordings = recordings

    def collect(self) -> Iterator[Metric]:
        """The counters as they are now."""
        stats = self._recordings.stats
        for name, text in _HELP.items():
            value = getattr(stats, name)
            yield CounterMetricFamily(f"ringtrue_recordings_{name}", text, value=value)
        yield CounterMetricFamily(
            "ringtrue_recording_frames_dropped",
            "20 ms frames that are silence in a recording because the disk did not keep up",
            value=stats.dropped,
        )
