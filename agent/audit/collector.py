"""What ``/metrics`` shows of the audit log."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ringtrue.agent.audit.log import AuditLog


class AuditCollector(Collector):
    """Reads a log's counters at scrape time."""

    def __init__(self, audit: AuditLog) -> None:
        """Show ``audit``."""
        self._audit = audit

    def collect(self) -> Iterable[Metric]:
        """Two gauges to raise an alarm by, and counters."""
        audit, stats = self._audit, self._audit.stats
        for name, text, value in (
            ("writable", "1 while entries are kept; at 0 no cloned voice begins", audit.writable),
            ("witness_ok", "0 while the witness takes no checkpoints", not audit.witness_fault),
            ("waiting", "Events that are not durable yet", audit.waiting),
        ):
            yield GaugeMetricFamily(f"ringtrue_audit_{name}", text, value=float(value))
        for name, text, count in (
            ("entries", "Entries made durable", stats.entries),
            ("groups", "Groups of entries, each one fsync", stats.groups),
            ("checkpoints", "Signed checkpoints", stats.checkpoints),
            ("lost", "Events that found the queue full", stats.lost),
            ("faults", "Times that the log could not be written", stats.faults),
        ):
            yield CounterMetricFamily(f"ringtrue_audit_{name}", text, value=count)
