"""The metrics of several processes as one server's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

SUMMED: Final = ("counter", "histogram", "summary")

WORST: Final[Mapping[str, Callable[[float, float], float]]] = {
    "process_start_time_seconds": min,
    "process_max_fds": min,
    "ringtrue_audit_writable": min,
    "ringtrue_audit_witness_ok": min,
    "ringtrue_revocations_connected": min,
    "ringtrue_redis_breaker": max,
    "ringtrue_voices_open": min,
    "ringtrue_sip_registration": max,
    "ringtrue_admission_open": max,
    "ringtrue_admission_pressure": max,
    "ringtrue_admission_call_cores": max,
}
"""Gauges of which the sum would say nothing, at what an operator has to know: the worst, but for
admission, which is open while any worker takes calls. Quantiles are taken at their largest."""

Key = tuple[str, tuple[tuple[str, str], ...]]
"""A sample's name and labels."""


class Totals:
    """Samples by family. What processes that have ended counted stays in it."""

    def __init__(self) -> None:
        """Start with nothing."""
        self._latest: dict[int, list[Metric]] = {}
        self._ended: dict[str, Metric] = {}

    def take(self, owner: int, text: bytes) -> None:
        """The exposition text of a process. Raises ValueError where it is none."""
        self._latest[owner] = list(text_string_to_metric_families(text.decode()))

    def end(self, owner: int) -> None:
        """A process is gone; what it counted up to its last text stays counted."""
        families = [f for f in self._latest.pop(owner, ()) if f.type in SUMMED]
        merged = _merged([list(self._ended.values()), families])
        self._ended = {family.name: family for family in merged}

    def families(self) -> list[Metric]:
        """The sum of all."""
        return _merged([list(self._ended.values()), *self._latest.values()])

    def render(self, *own: Metric) -> bytes:
        """The exposition text of the sum, with ``own`` families in it."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Given(_merged([self.families(), own])))
        return generate_latest(registry)


class _Given(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """What was given."""
        return self._families


def _merged(groups: Iterable[Iterable[Metric]]) -> list[Metric]:
    found: dict[str, tuple[Metric, dict[Key, Sample]]] = {}
    for group in groups:
        for family in group:
            known = found.setdefault(family.name, (family, {}))[1]
            join = _joining(family)
            for sample in family.samples:
                if sample.name.endswith("_created"):
                    continue
                key = (sample.name, tuple(sorted(sample.labels.items())))
                before = known.get(key)
                value = sample.value if before is None else join(before.value, sample.value)
                known[key] = Sample(sample.name, sample.labels, value)
    merged = []
    for family, samples in found.values():
        whole = Metric(family.name, family.documentation, family.type, family.unit)
        whole.samples = list(samples.values())
        merged.append(whole)
    return merged


def _joining(family: Metric) -> Callable[[float, float], float]:
    if family.type in SUMMED:
        return _sum
    if family.name in WORST:
        return WORST[family.name]
    quantiles = any("quantile" in sample.labels for sample in family.samples)
    return max if quantiles else _sum


def _sum(one: float, other: float) -> float:
    return one + other
