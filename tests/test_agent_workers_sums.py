"""Several processes' metrics as one."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from ringtrue.agent.workers.sums import Totals


def text(calls: int, active: int, lag: float, *, writable: int = 1, lateness: float = 0.0) -> bytes:
    """One process's exposition text."""
    registry = CollectorRegistry()
    Counter("ringtrue_calls", "Calls", ["outcome"], registry=registry).labels("done").inc(calls)
    Gauge("ringtrue_calls_active", "Now", registry=registry).set(active)
    Histogram("ringtrue_lag_seconds", "Lag", buckets=(0.1, 1), registry=registry).observe(lag)
    Gauge("ringtrue_audit_writable", "Kept", registry=registry).set(writable)
    late = Gauge("ringtrue_clock_lateness_seconds", "Late", ["quantile"], registry=registry)
    late.labels("0.99").set(lateness)
    return generate_latest(registry)


def values(rendered: bytes) -> dict[str, float]:
    return {
        sample.name + "".join(f",{v}" for v in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(rendered.decode())
        for sample in family.samples
    }


def test_counts_are_added_and_states_taken_at_their_worst() -> None:
    totals = Totals()
    totals.take(1, text(3, 2, 0.05, lateness=0.004))
    totals.take(2, text(4, 5, 0.5, writable=0, lateness=0.009))
    found = values(totals.render())
    assert found["ringtrue_calls_total,done"] == 7
    assert found["ringtrue_calls_active"] == 7
    assert found["ringtrue_lag_seconds_bucket,0.1"] == 1
    assert found["ringtrue_lag_seconds_bucket,+Inf"] == 2
    assert found["ringtrue_lag_seconds_count"] == 2
    assert found["ringtrue_audit_writable"] == 0
    assert found["ringtrue_clock_lateness_seconds,0.99"] == 0.009


def test_a_later_text_replaces_the_same_processs() -> None:
    totals = Totals()
    totals.take(1, text(3, 2, 0.05))
    totals.take(1, text(5, 1, 0.05))
    assert values(totals.render())["ringtrue_calls_total,done"] == 5


def test_what_a_dead_process_counted_stays_counted_and_what_it_had_is_gone() -> None:
    totals = Totals()
    totals.take(1, text(3, 2, 0.05))
    totals.take(2, text(4, 1, 0.05))
    totals.end(1)
    totals.end(9)
    found = values(totals.render())
    assert found["ringtrue_calls_total,done"] == 7
    assert found["ringtrue_calls_active"] == 1
    totals.take(3, text(1, 1, 0.05))
    totals.end(2)
    assert values(totals.render())["ringtrue_calls_total,done"] == 8


def test_the_supervisors_own_are_among_them() -> None:
    own = CounterMetricFamily("ringtrue_workers_restarts", "Restarts", value=2)
    assert values(Totals().render(own))["ringtrue_workers_restarts_total"] == 2
