"""Whether what a server holds grows: robust slopes of readings over a long run.

Memory is read as a staircase with noise: the slope is the median of the slopes between all pairs
of readings (Theil and Sen), which a few steps and outliers leave alone, with Sen's interval for
it (P. K. Sen, JASA 63, 1968). Readings are first made into medians over a minute or so, for
neighbouring ones repeat each other and would make the interval too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import NormalDist, median
from typing import Final

from pydantic import ConfigDict

HOUR: Final = 3600.0
MIB: Final = 1024 * 1024
LIMIT_MIB: Final = 1.0
"""Growth an hour that memory must stay below."""

WARM_UP: Final = 0.25
WARM_UP_SECONDS: Final = 600.0
"""What is read in the first quarter, and within ten minutes at most, is left out: caches fill."""

CALLS_KEPT: Final = 100
"""A server keeps the records of so many calls: until as many have ended, its memory must grow, and
what is read is left out too, up to half of the run."""

WARM_UP_MOST: Final = 0.5

FAILURES_TOLD: Final = 10
BINS: Final = 60
MIN_BINS: Final = 8
TASKS_MORE: Final = 2
"""Tasks more than at first that are no leak: both ends of a kept connection."""

DESCRIPTORS_MORE: Final = 4
"""Likewise of descriptors: connections kept, a file of the log."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the server's processes held at one moment."""

    at_s: float
    rss_bytes: float
    descriptors: float
    processes: Mapping[str, int] = field(default_factory=dict)
    """Resident bytes by what a process is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What the server held while no call was up and the last was forgotten."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    rss_bytes: int
    descriptors: int
    tasks: int
    rtp_ports: int
    sip_calls: int


@dataclass(frozen=True, slots=True)
class Slope:
    """Growth per hour, and the interval that holds it with 95 % probability."""

    per_hour: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """What became of a server over a long run."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    seconds: float
    """Of readings judged, the warm-up left out."""

    warm_up_seconds: float
    warm_up_mib: float
    """What memory grew by in the warm-up: caches and histories of bounded length filled."""

    warm: bool
    """Whether :data:`CALLS_KEPT` calls had ended by then."""

    calls: int
    failed: int
    failures: tuple[str, ...]
    """When and how the first of them failed."""

    rss_mib: Slope
    processes_mib: Mapping[str, Slope]
    """Of each process."""

    descriptors: Slope
    before: Held
    after: Held

    @property
    def problems(self) -> tuple[str, ...]:
        """What is not as it should be."""
        found = []
        if self.rss_mib.per_hour >= LIMIT_MIB:
            found.append(f"memory grows by {self.rss_mib.per_hour:.2f} MiB an hour")
        more = self.after.descriptors - self.before.descriptors
        if more > DESCRIPTORS_MORE:
            found.append(f"{more} descriptors more than at first")
        more = self.after.tasks - self.before.tasks
        if more > TASKS_MORE:
            found.append(f"{more} tasks more than at first")
        if self.after.rtp_ports:
            found.append(f"{self.after.rtp_ports} RTP ports in use without a call")
        if self.after.sip_calls:
            found.append(f"{self.after.sip_calls} calls kept by SIP without a call")
        if self.failed:
            found.append(f"{self.failed} of {self.calls} calls failed: {'; '.join(self.failures)}")
        return tuple(found)

    @property
    def ok(self) -> bool:
        """Whether everything is."""
        return not self.problems

    @property
    def certain(self) -> bool:
        """Whether the limit lies outside the slope's interval."""
        return not self.rss_mib.low < LIMIT_MIB <= self.rss_mib.high

    def lines(self) -> list[str]:
        """It in words."""
        rss, before, after = self.rss_mib, self.before, self.after
        doubt = "" if self.certain else "; the run is too short to be certain"
        warm_up = (
            f"warm-up, not judged: {self.warm_up_seconds / 60:.0f} min in which memory grew by "
            f"{self.warm_up_mib:+.1f} MiB"
        )
        if not self.warm:
            warm_up += f"; fewer than {CALLS_KEPT} calls had ended: what is kept of them grew on"
        return [
            f"{'PASS' if self.ok else 'FAIL'}: {self.calls} calls, {self.failed} failed, "
            f"{self.seconds / 60:.0f} min after warm-up",
            f"memory {rss.per_hour:+.2f} MiB an hour (95 % interval {rss.low:+.2f} to "
            f"{rss.high:+.2f}; limit {LIMIT_MIB:g}{doubt})",
            *(
                f"of it {name} {one.per_hour:+.2f} ({one.low:+.2f} to {one.high:+.2f})"
                for name, one in self.processes_mib.items()
            ),
            warm_up,
            f"descriptors during calls {self.descriptors.per_hour:+.2f} an hour "
            f"({self.descriptors.low:+.2f} to {self.descriptors.high:+.2f})",
            f"at rest, before and after: {before.rss_bytes / MIB:.1f} and "
            f"{after.rss_bytes / MIB:.1f} MiB, {before.descriptors} and {after.descriptors} "
            f"descriptors, {before.tasks} and {after.tasks} tasks, {before.rtp_ports} and "
            f"{after.rtp_ports} RTP ports, {before.sip_calls} and {after.sip_calls} SIP calls",
            *self.problems,
        ]


def drift_of(
    readings: Sequence[Reading],
    before: Held,
    after: Held,
    *,
    ended: Sequence[float],
    failures: Sequence[str] = (),
) -> Drift:
    """Judge a run's readings; ``ended`` is when its calls did, in seconds of the run, and
    ``failures`` says how each that failed did.

    Raises ``ValueError`` for too few of them.
    """
    if not readings:
        raise ValueError("there are no readings")
    last = readings[-1].at_s
    kept_at = sorted(ended)[CALLS_KEPT - 1] if len(ended) >= CALLS_KEPT else math.inf
    first = max(min(WARM_UP * last, WARM_UP_SECONDS), min(WARM_UP_MOST * last, kept_at))
    kept = [reading for reading in readings if reading.at_s >= first]
    width = max(1.0, (last - first) / BINS)
    memory = binned(((r.at_s, r.rss_bytes / MIB) for r in kept), width)
    files = binned(((r.at_s, r.descriptors) for r in kept), width)
    if len(memory) < MIN_BINS:
        raise ValueError(f"{len(memory)} minutes of readings; allowed: {MIN_BINS} and more")
    each: dict[str, list[tuple[float, float]]] = {}
    for reading in kept:
        for name, held in reading.processes.items():
            each.setdefault(name, []).append((reading.at_s, held / MIB))
    early = binned(((r.at_s, r.rss_bytes / MIB) for r in readings), width)
    return Drift(
        seconds=round(last - first, 1),
        warm_up_seconds=round(first, 1),
        warm_up_mib=round(memory[0][1] - early[0][1], 2),
        warm=kept_at <= first,
        calls=len(ended),
        failed=len(failures),
        failures=tuple(failures[:FAILURES_TOLD]),
        rss_mib=theil_sen(memory),
        processes_mib={name: theil_sen(binned(found, width)) for name, found in each.items()},
        descriptors=theil_sen(files),
        before=before,
        after=after,
    )


def binned(points: Iterable[tuple[float, float]], width: float) -> list[tuple[float, float]]:
    """Medians over stretches of ``width`` seconds, at their middle."""
    bins: dict[int, list[float]] = {}
    for at, value in points:
        bins.setdefault(int(at / width), []).append(value)
    return [((index + 0.5) * width, median(bins[index])) for index in sorted(bins)]


def theil_sen(points: Sequence[tuple[float, float]], level: float = 0.95) -> Slope:
    """The slope per hour of (seconds, value). Raises ``ValueError`` for fewer than 3 points."""
    if len(points) < 3:
        raise ValueError(f"{len(points)} points have no slope; allowed: 3 and more")
    slopes = sorted(
        HOUR * (later[1] - earlier[1]) / (later[0] - earlier[0])
        for earlier, later in combinations(points, 2)
        if later[0] > earlier[0]
    )
    count, pairs = len(points), len(slopes)
    spread = NormalDist().inv_cdf((1 + level) / 2) * math.sqrt(
        count * (count - 1) * (2 * count + 5) / 18
    )
    low = max(0, math.floor((pairs - spread) / 2))
    high = min(pairs - 1, math.ceil((pairs + spread) / 2))
    return Slope(round(median(slopes), 4), round(slopes[low], 4), round(slopes[high], 4))
