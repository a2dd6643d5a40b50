"""How late the event loop ran, and what held it up, for ``/metrics``."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from ringtrue.streaming.loop_watch import BOUNDS, LagMeter


class LoopCollector(Collector):
    """Reads the counters at scrape time, so that a beat pays nothing for them."""

    def __init__(self, meter: LagMeter) -> None:
        """Show ``meter``."""
        self._meter = meter

    def collect(self) -> Iterable[Metric]:
        """A histogram of lateness; stalls by culprit."""
        meter = self._meter
        bounds = [*(str(bound) for bound in BOUNDS), "+Inf"]
        lag = HistogramMetricFamily("ringtrue_loop_lag_seconds", "How late the event loop ran")
        buckets = list(zip(bounds, map(float, accumulate(meter.counts)), strict=True))
        lag.add_metric([], buckets=buckets, sum_value=meter.total)
        yield lag
        stalls = CounterMetricFamily(
            "ringtrue_loop_stalls",
            "Times the event loop ran over 20 ms late, by where it was seen",
            labels=["culprit"],
        )
        for culprit, count in sorted(meter.stalls.items()):
            stalls.add_metric([culprit], count)
        yield stalls
        yield CounterMetricFamily(
            "ringtrue_loop_stalled_seconds",
            "How late the event loop ran, over all those times",
            value=meter.stalled,
        )
