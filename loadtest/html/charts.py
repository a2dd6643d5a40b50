"""The report's charts: distributions, load over time, calls, and the search for the knee."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ringtrue.loadtest.capacity import Capacity
from ringtrue.loadtest.html.markup import Markup, joined
from ringtrue.loadtest.html.svg import (
    Plot,
    legend,
    line,
    rect,
    rounded_up,
    svg,
    text,
)
from ringtrue.loadtest.results import MeasuredCall, Outcome, RunResult

MAX_POINTS: Final = 300
MAX_LANES: Final = 200
MIB: Final = 1024 * 1024

OUTCOMES: Final = {
    Outcome.COMPLETED: ("good", "completed"),
    Outcome.FAILED: ("bad", "failed"),
    Outcome.REFUSED: ("c1", "refused"),
    Outcome.UNANSWERED: ("c4", "not answered"),
    Outcome.BROKEN: ("c6", "the caller broke"),
}
"""Colour and name of an outcome."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Measurements to be shown as a cumulative distribution; None is a failed one."""

    name: str
    kind: str
    """Its colour's class."""

    values: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Mark:
    """A limit on a curve."""

    name: str
    part: float
    """0 to 1."""

    limit_ms: float
    kept: bool


def cdf_chart(curves: Sequence[Curve], marks: Sequence[Mark] = ()) -> Markup:
    """Shares of measurements at or below so many milliseconds. Failures never get there."""
    finite = [v for curve in curves for v in curve.values if v is not None]
    if not finite:
        return Markup()
    # A rare outlier may leave the picture, so that the rest can be seen.
    reach = max(sorted(c)[math.ceil(0.995 * len(c)) - 1] for c in _finite(curves))
    plot = Plot(rounded_up(max([reach, *(mark.limit_ms for mark in marks)]) * 1.02), 1.0)
    parts: list[str] = [
        plot.grid("ms", y_text=lambda v: f"{100 * v:g} %", y_ticks=(0, 0.25, 0.5, 0.75, 0.95, 1))
    ]
    for mark in marks:
        kind = "good" if mark.kept else "bad"
        x, y = plot.x(mark.limit_ms), plot.y(mark.part)
        parts.append(line(x, y, x, plot.base, f"limit {kind}"))
        parts.append(rect(x - 4, y - 4, 8, 8, f"fill {kind}", f"{mark.name} ≤ {mark.limit_ms:g}"))
    for curve in curves:
        points = list(_steps(curve.values, plot.x_max))
        if points:
            failed = sum(value is None for value in curve.values)
            title = f"{curve.name}: {len(curve.values)} measured, {failed} failed"
            parts.append(plot.path(points, curve.kind, title))
    keys = [(c.kind, f"{c.name} ({len(c.values)})") for c in curves if c.values]
    chart = svg(plot.height, *parts, label="cumulative distributions of latencies")
    return joined((legend(keys), chart))


def _finite(curves: Iterable[Curve]) -> list[list[float]]:
    listed = [[v for v in curve.values if v is not None] for curve in curves]
    return [values for values in listed if values]


def _steps(values: Sequence[float | None], x_max: float) -> Iterable[tuple[float, float]]:
    ranked = sorted(value for value in values if value is not None)
    if not ranked:
        return
    count, stride = len(values), max(1, len(ranked) // MAX_POINTS)
    yield ranked[0], 0.0
    share = 0.0
    for rank in [*range(0, len(ranked), stride), len(ranked) - 1]:
        if ranked[rank] > x_max:
            break
        yield ranked[rank], share
        share = (rank + 1) / count
        yield ranked[rank], share
    yield x_max, share


def load_chart(result: RunResult) -> Markup:
    """Calls up at once, and below what the target used meanwhile."""
    end = max([result.duration_s, *(call.ended_s for call in result.calls), 1.0])
    steps = list(_concurrency(result.calls, end))
    peak = max([up for _, up in steps] or [0])
    plot = Plot(end, rounded_up(max(peak, 1)), height=200)
    parts = [
        plot.grid("s"),
        plot.area(steps, "c1", f"calls up at once, {peak} at most"),
        plot.path(steps, "c1", f"calls up at once, {peak} at most"),
    ]
    charts = [legend([("c1", f"calls up at once (peak {peak})")])]
    charts.append(svg(plot.height, *parts, label="calls up at once over time"))
    cpu = [(s.at_s, s.cpu_cores) for s in result.load if s.cpu_cores is not None]
    memory = [(s.at_s, s.rss_bytes / MIB) for s in result.load if s.rss_bytes is not None]
    for name, unit, kind, points in (
        ("target's CPU", "cores", "c2", cpu),
        ("target's memory", "MiB", "c3", memory),
    ):
        if len(points) < 2:
            continue
        low, high = min(v for _, v in points), max(v for _, v in points)
        # Memory hardly moves: its axis begins near what it began with.
        floor = 0.0 if unit == "cores" else math.floor(low / 10) * 10
        small = Plot(end, max(rounded_up(high - floor) + floor, floor + 1), 110, y_min=floor)
        title = f"{name}: {low:.2f} to {high:.2f} {unit}"
        charts.append(legend([(kind, f"{name} ({low:.4g} to {high:.4g} {unit})")]))
        drawn = small.path(points, kind, title)
        middle = (floor, (floor + small.y_max) / 2, small.y_max)
        grid = small.grid(
            "s", y_ticks=middle, y_text=lambda v: f"{v:.3g}" if v < 10 else f"{v:.0f}"
        )
        charts.append(svg(small.height, grid, drawn, label=f"{name} over time"))
    return joined(charts)


def _concurrency(calls: Iterable[MeasuredCall], end: float) -> Iterable[tuple[float, float]]:
    steps = sorted(
        step
        for call in calls
        if call.answered_s is not None
        for step in ((call.answered_s, 1), (call.ended_s, -1))
    )
    up = 0
    yield 0.0, 0.0
    for at, change in steps:
        yield at, up
        up += change
        yield at, up
    yield end, up


def lanes_chart(result: RunResult) -> Markup:
    """One line per call, from its first request to its end."""
    calls = sorted(result.calls, key=lambda call: (call.started_s, call.id))[:MAX_LANES]
    if not calls:
        return Markup()
    end = max([result.duration_s, *(call.ended_s for call in calls), 1.0])
    pitch = 12 if len(calls) <= 30 else 7 if len(calls) <= 80 else 4
    plot = Plot(end, len(calls), height=12 + pitch * len(calls) + 34)
    parts: list[str] = [plot.grid("s", y_ticks=())]
    for number, call in enumerate(calls):
        y = 12 + pitch * number
        kind, name = OUTCOMES[call.outcome]
        if call.completed and call.failed_expectations:
            kind, name = "c2", "completed, an expectation failed"
        detail = f": {call.detail}" if call.detail else ""
        title = f"{call.id}: {name}{detail}"
        x = plot.x(call.started_s)
        width = max(2.0, plot.x(call.ended_s) - x)
        parts.append(rect(x, y, width, pitch - 2, f"fill {kind}", title))
        for turn in call.heard.turns if call.heard is not None else ():
            if turn.answer is not None and call.answered_s is not None and pitch > 4:
                begin = plot.x(call.answered_s + turn.said.end_ms / 1000)
                until = plot.x(call.answered_s + turn.answer.start_ms / 1000)
                parts.append(rect(begin, y, max(1.0, until - begin), pitch - 2, "wait"))
    present = dict.fromkeys(OUTCOMES[call.outcome] for call in calls)
    if any(call.completed and call.failed_expectations for call in calls):
        present["c2", "completed, an expectation failed"] = None
    chart = svg(plot.height, *parts, label="every call from first request to end")
    return joined((legend(present), chart))


def capacity_chart(capacity: Capacity) -> Markup:
    """Turn latency's p95 by load, and which runs kept every limit."""
    known = [trial.turn_latency.p95 for trial in capacity.trials]
    top = rounded_up(1.05 * max([value for value in known if value is not None] or [1000.0]))
    widest = max((trial.calls for trial in capacity.trials), default=1)
    plot = Plot(rounded_up(widest * 1.05), top, height=240)
    parts: list[str] = [plot.grid("calls at once")]
    if capacity.knee:
        x = plot.x(capacity.knee)
        parts.append(line(x, 12, x, plot.base, "limit good"))
        parts.append(text(x - 6, 24, f"knee: {capacity.knee}", "tick end"))
    for trial in capacity.trials:
        p95 = trial.turn_latency.p95
        y = plot.y(top if p95 is None else p95)
        broke = ", ".join(verdict.name for verdict in trial.broken) or "every limit kept"
        title = f"{trial.calls} calls, p95 {'–' if p95 is None else f'{p95:.0f} ms'}: {broke}"
        kind = "good" if trial.ok else "bad"
        parts.append(rect(plot.x(trial.calls) - 5, y - 5, 10, 10, f"fill {kind}", title))
    keys = [("good", "run kept every limit"), ("bad", "run broke one (top: p95 is a failure)")]
    chart = svg(plot.height, *parts, label="turn latency p95 by calls at once")
    return joined((legend(keys), chart))
