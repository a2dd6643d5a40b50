"""Service level objectives: limits read from YAML, and a run's verdicts on them.

A failed call counts like an infinite latency in every percentile, and a limit on something the
run didn't measure is broken, not met. A verdict says how sure it is: with few samples a
percentile may lie on either side of its limit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Final, Literal, get_args

from pydantic import ConfigDict, Field, model_validator

from ringtrue.config.errors import Problem, SettingsError
from ringtrue.config.layers import Layer, parse_yaml, validated
from ringtrue.config.section import Section
from ringtrue.loadtest.confidence import (
    Interval,
    percentile_interval,
    samples_needed,
    share_interval,
)
from ringtrue.loadtest.figures import STAGES, Figures, Series, Values, figures_of, series_of
from ringtrue.loadtest.results import RunResult

Limit = Annotated[float, Field(gt=0, le=600_000)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
StageName = Literal["endpointing", "recognizer", "language", "phrase", "synthesis", "wire", "ear"]

assert set(get_args(StageName)) == set(STAGES)

_MODES: Final = ("leave_out_refused", "unmeasured")
PARTS: Final = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
MAX_BYTES: Final = 64 * 1024


class Percentiles(Section):
    """Upper limits in milliseconds."""

    p50: Limit | None = None
    p95: Limit | None = None
    p99: Limit | None = None
    worst: Limit | None = None


class CallLimits(Section):
    """Largest shares of calls."""

    failed: Share | None = None
    """Not completed: refused, unanswered, broken off, and what failed in the caller itself."""

    refused: Share | None = None
    """Refused, politely or not, of all calls."""


class ExpectationLimits(Section):
    """Smallest shares of expectations met."""

    met: Share | None = None
    """Over all expectations together."""

    each: dict[str, Share] = {}
    """By an expectation's name."""


class PacketLimits(Section):
    """Largest shares of packets, as the callers counted them."""

    lost: Share | None = None
    late: Share | None = None


class Slo(Section):
    """What a run must keep to. At least one limit is given."""

    turn_latency_ms: Percentiles | None = None
    ttfa_ms: Percentiles | None = None
    greeting_ms: Percentiles | None = None
    setup_ms: Percentiles | None = None
    barge_in_stop_ms: Percentiles | None = None
    stages_ms: dict[StageName, Percentiles] = {}
    calls: CallLimits | None = None
    expectations: ExpectationLimits | None = None
    packets: PacketLimits | None = None
    unexplained_silences: Count | None = None
    """Most silences over 1.5 s in which the agent owed speech."""

    dropouts: Count | None = None
    """Most dropped blocks within the agent's speech."""

    speculation_wasted: Share | None = None
    """Of the answers begun early, the largest part that may be thrown away."""

    leave_out_refused: bool = False
    """Leave calls refused with 503 and Retry-After out of everything but ``calls.refused``: for
    runs beyond a target's capacity, in which the calls that were taken are to keep theirs."""

    unmeasured: Literal["broken", "skipped"] = "broken"
    """What a limit is on something that the run had no measurement of, such as the time to stop
    where nobody interrupted, or TTFA where the target gives no records."""

    @model_validator(mode="after")
    def _holds_something(self) -> Slo:
        given = self.model_dump(exclude_none=True, exclude_defaults=True)
        given = {name: value for name, value in given.items() if name not in _MODES}
        if not any(value or value == 0 for value in given.values()):
            names = [name for name in type(self).model_fields if name not in _MODES]
            raise ValueError(f"holds no limit; allowed: {', '.join(names)}")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One limit, judged."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    """The limit's place in the file, e.g. ``turn_latency_ms.p95``."""

    limit: float
    value: float | None
    """What was measured; None where it lies among the failed ones or wasn't measured."""

    ok: bool
    """Kept, or skipped for want of a measurement (then :attr:`samples` is 0)."""

    at_least: bool = False
    """The limit is a lower one."""

    samples: int
    failed: int = 0
    """Of the samples, those that stand for failures."""

    low: float | None = None
    """Ends of the interval that holds the true value with 95 % probability; None is unbounded."""

    high: float | None = None
    note: str = ""
    """Why the verdict is what it is, or how far it can be trusted."""

    def __str__(self) -> str:
        """One line."""
        value = "–" if self.value is None else f"{self.value:g}"
        sign = "≥" if self.at_least else "≤"
        note = f" ({self.note})" if self.note else ""
        word = "BROKEN" if not self.ok else "ok" if self.samples else "skipped"
        return f"{word}: {self.name} {value} {sign} {self.limit:g}{note}"


def load_slo(path: Path) -> Slo:
    """Read a file of limits. Raises :class:`~ringtrue.config.errors.SettingsError`."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SettingsError([Problem("", f"is larger than {MAX_BYTES} bytes", str(path))])
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SettingsError([Problem("", f"can't be read: {reason}", str(path))]) from None
    return parse_slo(text, str(path))


def parse_slo(text: str, source: str) -> Slo:
    """The same from text; ``source`` names it in errors."""
    return validated(Slo, [Layer(source, parse_yaml(text, source))])


def default_slo() -> Slo:
    """The shipped limits."""
    text = (resources.files("ringtrue.loadtest") / "slo.yaml").read_text(encoding="utf-8")
    return parse_slo(text, "shipped limits")


def judge(result: RunResult, slo: Slo) -> tuple[Verdict, ...]:
    """A verdict per limit, in the order of the file's keys as the schema lists them."""
    series = series_of(result, leave_out_polite=slo.leave_out_refused)
    figures = figures_of(result, leave_out_polite=slo.leave_out_refused)
    verdicts = (
        *_latencies(series, slo),
        *_shares(result, figures, slo),
        *_counts(figures, slo),
    )
    if slo.unmeasured == "broken":
        return verdicts
    return tuple(verdict if verdict.samples else replace(verdict, ok=True) for verdict in verdicts)


def broken(verdicts: Iterable[Verdict]) -> tuple[Verdict, ...]:
    """Those that were not kept: a command's exit code is 1 if there are any."""
    return tuple(verdict for verdict in verdicts if not verdict.ok)


def _latencies(series: Series, slo: Slo) -> list[Verdict]:
    limited: list[tuple[str, Percentiles | None, Values]] = [
        ("turn_latency_ms", slo.turn_latency_ms, series.turn_latency),
        ("ttfa_ms", slo.ttfa_ms, series.ttfa),
        ("greeting_ms", slo.greeting_ms, series.greeting),
        ("setup_ms", slo.setup_ms, series.setup),
        ("barge_in_stop_ms", slo.barge_in_stop_ms, series.barge_in_stop),
    ]
    limited += [
        (f"stages_ms.{name}", limits, series.stages[name]) for name, limits in slo.stages_ms.items()
    ]
    return [
        _percentile(f"{name}.{part}", part, limit, values)
        for name, limits, values in limited
        if limits is not None
        for part, limit in limits.model_dump(exclude_none=True).items()
    ]


def _percentile(name: str, part: str, limit: float, values: Values) -> Verdict:
    ranked = sorted(math.inf if value is None else value for value in values)
    count, failed = len(ranked), sum(map(math.isinf, ranked))
    if not count:
        note = "not measured"
        if name.startswith(("ttfa", "stages")):
            note = "not measured: the target gave no records of its turns"
        return Verdict(name=name, limit=limit, value=None, ok=False, samples=0, note=note)
    share = PARTS.get(part)
    at = ranked[-1] if share is None else ranked[math.ceil(share * count) - 1]
    ok = at <= limit
    interval = Interval(-math.inf, math.inf)
    notes = [f"{failed} of {count} failed"] if failed else []
    if share is not None:
        interval = percentile_interval(ranked, share)
        notes += _doubt(ok, limit, interval, count, share)
    return Verdict(
        name=name,
        limit=limit,
        value=None if math.isinf(at) else round(at, 1),
        ok=ok,
        samples=count,
        failed=failed,
        low=_finite(interval.low),
        high=_finite(interval.high),
        note="; ".join(notes),
    )


def _doubt(ok: bool, limit: float, interval: Interval, count: int, share: float) -> list[str]:
    """How far a percentile's verdict can be trusted."""
    if (interval.high <= limit) if ok else (interval.low > limit):
        return []
    if count < (needed := samples_needed(share)):
        return [f"not certain: {count} samples of the {needed} it takes"]
    low = 0.0 if math.isinf(interval.low) else interval.low
    high = "∞" if math.isinf(interval.high) else f"{interval.high:.0f}"
    return [f"not certain: 95 % interval {low:.0f} to {high}"]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _shares(result: RunResult, figures: Figures, slo: Slo) -> list[Verdict]:
    found = []
    if slo.calls is not None and slo.calls.failed is not None:
        found.append(_share("calls.failed", slo.calls.failed, figures.failed, figures.counted))
    if slo.calls is not None and slo.calls.refused is not None:
        refused = sum(call.refusal is not None for call in result.calls)
        found.append(_share("calls.refused", slo.calls.refused, refused, figures.calls))
    if (expectations := slo.expectations) is not None:
        rows = {row.name: row for row in figures.expectations}
        if expectations.met is not None:
            met, judged = sum(r.met for r in rows.values()), sum(r.judged for r in rows.values())
            found.append(_share("expectations.met", expectations.met, met, judged, at_least=True))
        for name, least in expectations.each.items():
            row = rows.get(name)
            met, judged = (row.met, row.judged) if row is not None else (0, 0)
            found.append(_share(f"expectations.each.{name}", least, met, judged, at_least=True))
    if slo.packets is not None:
        sent = figures.packets_received + figures.packets_lost
        for name, limit, hits, of in (
            ("packets.lost", slo.packets.lost, figures.packets_lost, sent),
            ("packets.late", slo.packets.late, figures.packets_late, figures.packets_received),
        ):
            if limit is not None:
                found.append(_share(name, limit, hits, of))
    if slo.speculation_wasted is not None:
        told = result.speculation
        dropped, begun = (told.dropped, told.begun) if told is not None else (0, 0)
        found.append(_share("speculation_wasted", slo.speculation_wasted, dropped, begun))
    return found


def _share(name: str, limit: float, hits: int, count: int, *, at_least: bool = False) -> Verdict:
    if not count:
        return Verdict(
            name=name,
            limit=limit,
            value=None,
            ok=False,
            at_least=at_least,
            samples=0,
            note="not measured",
        )
    share = hits / count
    ok = share >= limit if at_least else share <= limit
    interval = share_interval(hits, count)
    return Verdict(
        name=name,
        limit=limit,
        value=round(share, 6),
        ok=ok,
        at_least=at_least,
        samples=count,
        failed=count - hits if at_least else hits,
        low=interval.low,
        high=interval.high,
        note=f"{hits} of {count}",
    )


def _counts(figures: Figures, slo: Slo) -> list[Verdict]:
    return [
        Verdict(name=name, limit=limit, value=value, ok=value <= limit, samples=figures.counted)
        for name, limit, value in (
            ("unexplained_silences", slo.unexplained_silences, figures.silences),
            ("dropouts", slo.dropouts, figures.dropouts),
        )
        if limit is not None
    ]
