"""The report's tables and tiles."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from ringtrue.loadtest.figures import Figures
from ringtrue.loadtest.html.markup import Markup, el
from ringtrue.loadtest.html.turns import STAGE_NAMES
from ringtrue.loadtest.report import Distribution
from ringtrue.loadtest.results import MeasuredCall, RunResult, Speculation
from ringtrue.loadtest.slo import Verdict
from ringtrue.loadtest.stages import ladder_of, misses_of

MAX_FAILURES: Final = 200
MIB: Final = 1024 * 1024

Cell = tuple[str, str]
"""A class and a content."""


def table(titles: Sequence[Cell], rows: Iterable[Sequence[Cell]]) -> Markup:
    """A table; empty without rows."""
    drawn = [
        el("tr", *(el("td", content, class_=kind or None) for kind, content in row)) for row in rows
    ]
    if not drawn:
        return Markup()
    head = el("tr", *(el("th", title, class_=kind or None) for kind, title in titles))
    return el("div", el("table", el("thead", head), el("tbody", *drawn)), class_="scroll")


def tiles(result: RunResult, figures: Figures) -> Markup:
    """The numbers looked for first."""
    latency = figures.turn_latency
    answered = latency.count - latency.failed
    entries = [
        _percentile("turn latency p50", latency.p50, latency),
        _percentile("turn latency p95", latency.p95, latency),
        (f"{figures.ok} of {figures.calls}", "calls as they should be", figures.ok < figures.calls),
        (f"{answered} of {latency.count}", "turns answered", latency.failed > 0),
        (str(figures.peak), "calls at once, at most", False),
        (str(figures.silences), "unexplained silences", figures.silences > 0),
    ]
    if figures.ttfa.count:
        entries.insert(2, _percentile("TTFA p95", figures.ttfa.p95, figures.ttfa))
    if result.speculation is not None and result.speculation.wasted_share is not None:
        share = f"{100 * result.speculation.wasted_share:.0f} %"
        entries.append((share, "of early answers thrown away", False))
    return el(
        "div",
        *(
            el("div", el("b", value), el("span", name), class_="tile bad" if bad else "tile")
            for value, name, bad in entries
        ),
        class_="tiles",
    )


def _percentile(name: str, value: float | None, of: Distribution) -> tuple[str, str, bool]:
    if value is None:
        return ("failed" if of.count else "–"), name, of.count > 0
    return f"{value:.0f} ms", name, False


def failures(result: RunResult) -> Markup:
    """Every call that isn't as it should be, with the evidence."""
    failed = result.failures
    if not failed:
        return el("p", "None.")
    rows = [_failure(call) for call in failed[:MAX_FAILURES]]
    titles = [("", "call"), ("", "outcome"), ("n", "after"), ("", "what happened")]
    drawn = table(titles, rows)
    if len(failed) > MAX_FAILURES:
        more = f"… and {len(failed) - MAX_FAILURES} more: report.json has them all."
        return Markup(drawn + el("p", more))
    return drawn


def _failure(call: MeasuredCall) -> list[Cell]:
    said = [call.detail] if call.detail and call.refusal is None else []
    if call.refusal is not None:
        after = call.refusal.retry_after_s
        when = "no Retry-After" if after is None else f"Retry-After {after:g} s"
        said.append(f"{call.refusal.status} {call.refusal.reason}, {when}")
    for expected in call.failed_expectations:
        at = "" if expected.at_ms is None else f" at {expected.at_ms / 1000:.1f} s"
        said.append(f"{expected.text}: {expected.evidence}{at}")
    if call.heard is not None:
        said += [
            f"silence of {(s.end_ms - s.start_ms) / 1000:.1f} s at {s.start_ms / 1000:.1f} s"
            for s in call.heard.silences
        ]
    kind = "dim" if call.completed else "bad"
    lasted = f"{call.ended_s - call.started_s:.1f} s"
    return [("id", call.id), (kind, str(call.outcome)), ("n", lasted), ("text", "; ".join(said))]


def verdict_table(verdicts: Sequence[Verdict]) -> Markup:
    """Every limit."""
    titles = [("", "limit"), ("n", "measured"), ("n", "allowed"), ("", ""), ("n", "of"), ("", "")]
    rows = []
    for verdict in sorted(verdicts, key=lambda each: each.ok):
        word, kind = ("broken", "bad") if not verdict.ok else ("kept", "good")
        if not verdict.samples and verdict.ok:
            word, kind = "skipped", "dim"
        value = "–" if verdict.value is None else f"{verdict.value:.6g}"
        sign = "≥" if verdict.at_least else "≤"
        rows.append(
            [
                ("", verdict.name),
                ("n", value),
                ("n", f"{sign} {verdict.limit:g}"),
                (kind, word),
                ("n", str(verdict.samples)),
                ("dim", verdict.note),
            ]
        )
    return table(titles, rows)


def distributions(figures: Figures) -> Markup:
    """Percentiles of everything measured."""
    named = [
        ("turn latency", figures.turn_latency),
        ("greeting", figures.greeting),
        ("stop after an interruption", figures.barge_in_stop),
        ("call set-up", figures.setup),
        ("TTFA (by the target)", figures.ttfa),
        *((f"stage: {STAGE_NAMES.get(k, k)}", d) for k, d in figures.stages.items()),
    ]
    titles = [("", "ms"), *(("n", t) for t in ("count", "failed", "p50", "p95", "p99", "worst"))]
    return table(titles, [_distribution(name, d) for name, d in named if d.count])


def _distribution(name: str, d: Distribution) -> list[Cell]:
    numbers = [ms(value) for value in (d.p50, d.p95, d.p99, d.worst)]
    failed = ("n bad" if d.failed else "n", str(d.failed))
    return [("", name), ("n", str(d.count)), failed, *(("n", number) for number in numbers)]


def expectations(figures: Figures) -> Markup:
    """How often each was met."""
    titles = [("", "expectation"), ("n", "met"), ("n", "of"), ("n", "share")]
    rows = [
        [
            ("", row.text),
            ("n", str(row.met)),
            ("n", str(row.judged)),
            ("n bad" if row.met < row.judged else "n good", f"{100 * row.share:.1f} %"),
        ]
        for row in figures.expectations
    ]
    return table(titles, rows)


def budget(result: RunResult) -> Markup:
    """Why turns took longer than allotted, and what the target did about it, by its records."""
    turns = [turn for call in result.calls if call.heard for turn in call.heard.turns]
    recorded = sum(turn.server is not None for turn in turns)
    late: dict[tuple[str, str], list[float]] = defaultdict(list)
    steps: Counter[tuple[str, str]] = Counter()
    for turn in turns:
        for stage, reason, allotted, spent in misses_of(turn):
            late[stage, reason].append(spent - allotted)
        steps.update(ladder_of(turn))
    rows: list[list[Cell]] = [
        [
            ("", f"{stage} over its allotment"),
            ("", reason),
            ("n", str(len(over))),
            ("n", ms(sorted(over)[len(over) // 2])),
            ("n", ms(max(over))),
        ]
        for (stage, reason), over in sorted(late.items(), key=lambda entry: -len(entry[1]))
    ]
    rows += [
        [("", f"step taken: {step}"), ("", reason), ("n", str(count)), ("n", ""), ("n", "")]
        for (step, reason), count in steps.most_common()
    ]
    titles = [
        ("", ""),
        ("", "reason"),
        ("n", f"of {recorded} turns"),
        ("n", "over by, median ms"),
        ("n", "worst ms"),
    ]
    return table(titles, rows)


def comparison(
    names: Sequence[str], results: Sequence[RunResult], figures: Sequence[Figures]
) -> Markup:
    """Two runs side by side, and the difference."""
    first, second = figures
    rows: list[list[Cell]] = []
    for name, attribute in (
        ("turn latency", "turn_latency"),
        ("TTFA", "ttfa"),
        ("greeting", "greeting"),
    ):
        for part in ("p50", "p95", "p99"):
            one = getattr(getattr(first, attribute), part)
            two = getattr(getattr(second, attribute), part)
            if one is None and two is None:
                continue
            change = "–" if one is None or two is None else f"{one - two:+.0f}"
            row = [("", f"{name} {part}, ms"), ("n", ms(one)), ("n", ms(two)), ("n", change)]
            rows.append(row)
    shares = [f"{100 * each.failed_share:.1f} %" for each in figures]
    rows.append([("", "calls failed"), *(("n", share) for share in shares), ("n", "")])
    told = [run.speculation for run in results]
    if any(each is not None for each in told):
        for name, read in (
            ("answers begun early", lambda s: str(s.begun)),
            ("… and confirmed", lambda s: str(s.confirmed)),
            ("… and thrown away", lambda s: str(s.dropped)),
            ("share thrown away", _wasted),
            ("speech never heard, s", lambda s: f"{s.wasted_audio_ms / 1000:.1f}"),
            ("tokens never used", lambda s: str(s.wasted_tokens)),
        ):
            cells = [("n", "–" if each is None else read(each)) for each in told]
            rows.append([("", name), *cells, ("n", "")])
    titles = [("", ""), *(("n", name) for name in names), ("n", "difference")]
    return table(titles, rows)


def _wasted(speculation: Speculation) -> str:
    share = speculation.wasted_share
    return "–" if share is None else f"{100 * share:.1f} %"


def about(result: RunResult, figures: Figures) -> Markup:
    """Machine, versions, clocks, network."""
    clock, machine = result.clock, result.machine
    late = f"{clock.late} of {clock.ticks} ticks over 10 ms late, {clock.skipped} frames missed"
    rows: list[list[Cell]] = [
        [("dim", "calls"), ("", f"{figures.calls} of {result.calls_planned} planned")],
        [("dim", "ramp"), ("", f"{result.ramp_s:g} s")],
        [("dim", "callers' clock"), ("", f"{clock.method}; {late}")],
    ]
    if clock.method == "round-trip":
        offset = f"{clock.offset_ms:+.1f} ms, ± {clock.uncertainty_ms:.1f} ms"
        rows.append([("dim", "target's clock"), ("", offset)])
    rows.append(
        [
            ("dim", "packets"),
            (
                "",
                f"{figures.packets_received} received, {figures.packets_lost} lost "
                f"({100 * figures.lost_share:.2f} %), {figures.packets_late} late "
                f"({100 * figures.late_share:.2f} %); {figures.dropouts} dropped blocks in speech",
            ),
        ]
    )
    emulated = sorted({c.network.emulated for c in result.calls if c.network.emulated})
    rows += [[("dim", "callers' network"), ("", words)] for words in emulated]
    if machine is not None:
        where = "callers and target" if machine.target_is_local else "callers"
        memory = machine.memory_bytes / MIB / 1024
        words = f"{machine.cpu}, {machine.cores} cores, {memory:.1f} GiB, {machine.system}"
        rows.append([("dim", f"machine of the {where}"), ("", words)])
    versions = ", ".join(f"{name} {number}" for name, number in result.versions.items())
    rows += [[("dim", "versions"), ("", versions)]] if versions else []
    if result.deterministic:
        rows.append([("dim", "mode"), ("", "deterministic: virtual time, the same result twice")])
    return table([("", ""), ("", "")], rows)


def ms(value: float | None) -> str:
    """Milliseconds without a fraction."""
    return "–" if value is None else f"{value:.0f}"
