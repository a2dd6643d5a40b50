"""The whole report: verdict and failures first, then latencies, time, turns, and how it was run.

One file that loads nothing and runs nothing: its Content-Security-Policy allows only its own
style sheet, by hash, and pictures and audio that it holds itself.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

from ringtrue.loadtest.capacity import Capacity
from ringtrue.loadtest.clips import read_clip, worst_turns
from ringtrue.loadtest.figures import Figures, Series
from ringtrue.loadtest.html.charts import (
    Curve,
    Mark,
    capacity_chart,
    cdf_chart,
    lanes_chart,
    load_chart,
)
from ringtrue.loadtest.html.markup import Markup, el, style
from ringtrue.loadtest.html.tables import (
    about,
    budget,
    comparison,
    distributions,
    expectations,
    failures,
    tiles,
    verdict_table,
)
from ringtrue.loadtest.html.turns import sound, typical, waterfall
from ringtrue.loadtest.report import TurnReport
from ringtrue.loadtest.results import RunResult
from ringtrue.loadtest.slo import PARTS, Verdict, broken
from ringtrue.loadtest.stages import ladder_of, misses_of

WORST: Final = 10


@dataclass(frozen=True, slots=True)
class Page:
    """What one run's report is made of."""

    result: RunResult
    figures: Figures
    series: Series
    verdicts: tuple[Verdict, ...]
    capacity: Capacity | None
    directory: Path
    """Where the run's clips lie."""


def render(page: Page, other: Page | None = None) -> str:
    """The HTML; with ``other``, that run is laid beside this one."""
    css = (resources.files("ringtrue.loadtest.html") / "page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; media-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="referrer", content="no-referrer"),
        el("title", f"{page.result.scenario}: load test"),
        style(css),
    )
    sections = [
        _header(page),
        tiles(page.result, page.figures),
        _section(
            "Failures",
            "Calls that did not complete or broke an expectation; worst first.",
            failures(page.result),
        ),
        _section("Limits", "", verdict_table(page.verdicts)),
        *([] if other is None else [_comparison(page, other)]),
        _latencies(page),
        _stages(page),
        _section(
            "Load",
            "Every call from its first request to its end. In the notches the caller waits.",
            load_chart(page.result),
            lanes_chart(page.result),
        ),
        _capacity(page.capacity),
        _worst(page),
        _section("Expectations", "", expectations(page.figures)),
        _section("How it was measured", "", about(page.result, page.figures)),
    ]
    body = el("body", el("main", *sections))
    return f"<!doctype html>\n{el('html', head, body, lang='en')}\n"


def _section(title: str, lead: str, *content: str) -> Markup:
    if not any(content):
        return Markup()
    text = (el("p", lead),) if lead else ()
    return el("section", el("h2", title), *text, el("div", *content, class_="card"))


def _header(page: Page) -> Markup:
    result, failed = page.result, broken(page.verdicts)
    when = f", {result.began}" if result.began else ""
    parts = [
        el("h1", result.scenario),
        el("p", f"{result.target} · seed {result.seed} · {result.duration_s:.0f} s{when}"),
        *(el("p", note) for note in result.notes),
    ]
    if not page.verdicts:
        words, detail, kind = "Measured", "no limits were given", "verdict card"
    elif failed:
        words = f"{len(failed)} of {len(page.verdicts)} limits broken"
        detail, kind = ", ".join(verdict.name for verdict in failed), "verdict card bad"
    else:
        judged = sum(verdict.samples > 0 for verdict in page.verdicts)
        words, kind = "Every limit kept", "verdict card"
        detail = f"{judged} judged, {len(page.verdicts) - judged} not measured"
    banner = el("div", el("strong", words), el("span", detail, class_="dim"), class_=kind)
    return el("header", *parts, banner)


def _latencies(page: Page) -> Markup:
    series = page.series
    curves = [
        Curve("turn latency", "c1", series.turn_latency),
        Curve("greeting", "c3", series.greeting),
        Curve("stop after an interruption", "c2", series.barge_in_stop),
        Curve("TTFA (by the target)", "c4", series.ttfa),
    ]
    return _section(
        "Latencies",
        "At the caller's ear. A curve that ends below 100 % lacks the measurements that failed; "
        "dashed lines are limits.",
        cdf_chart([curve for curve in curves if curve.values], _marks(page.verdicts)),
        distributions(page.figures),
    )


def _marks(verdicts: Sequence[Verdict]) -> list[Mark]:
    names = ("turn_latency_ms", "ttfa_ms", "greeting_ms", "barge_in_stop_ms")
    marks = []
    for verdict in verdicts:
        name, _, part = verdict.name.partition(".")
        if name in names and part in PARTS and verdict.samples:
            marks.append(Mark(verdict.name, PARTS[part], verdict.limit, verdict.ok))
    return marks


def _stages(page: Page) -> Markup:
    return _section(
        "Stages of a turn",
        "By the target's own records of the turns it answered: the median, and paler the 95th "
        "percentile, in ms. Words are recognized while the end of the turn is awaited.",
        typical(page.series.stages),
        budget(page.result),
    )


def _comparison(page: Page, other: Page) -> Markup:
    names = _names(page.result, other.result)
    curves = [
        Curve(name, kind, each.series.turn_latency)
        for name, kind, each in zip(names, ("c1", "c2"), (page, other), strict=True)
    ]
    return _section(
        "Compared",
        "Turn latency of both runs, and what answers begun early cost.",
        cdf_chart(curves),
        comparison(names, (page.result, other.result), (page.figures, other.figures)),
    )


def _names(first: RunResult, second: RunResult) -> tuple[str, str]:
    modes = [run.speculation.enabled if run.speculation else None for run in (first, second)]
    if None not in modes and modes[0] is not modes[1]:
        words = {True: "with speculation", False: "without speculation"}
        return words[bool(modes[0])], words[bool(modes[1])]
    if first.scenario != second.scenario:
        return first.scenario, second.scenario
    return "this run", "the other run"


def _capacity(capacity: Capacity | None) -> Markup:
    if capacity is None:
        return Markup()
    said = [el("p", line) for line in capacity.lines()]
    lead = "Turn latency's 95th percentile by calls at once; the report above is one run's."
    return _section("Capacity", lead, *said, capacity_chart(capacity))


def _worst(page: Page) -> Markup:
    worst = worst_turns(page.result, WORST)
    longest = max((t.turn.latency_ms or 0.0 for t in worst), default=0.0)
    parts = []
    for number, each in enumerate(worst, 1):
        clip = read_clip(page.directory, each)
        parts.append(
            el(
                "div",
                el("h3", f"{number}. {_outcome(each.turn)}"),
                el(
                    "p",
                    f"call {each.call.id}, turn {each.index + 1} at "
                    f"{each.turn.said.end_ms / 1000:.1f} s: “{each.turn.text}” "
                    f"({each.turn.prompt})",
                ),
                sound(clip, each.turn) if clip is not None else Markup(),
                waterfall(each.turn, longest),
                *(el("p", line) for line in _told(each.turn)),
                class_="turn",
            )
        )
    lead = (
        "Caller left and above, agent right and below; the red bar is what the caller waited. "
        "Where the target gave its record, its stages follow."
    )
    return _section(f"The worst {len(worst)} turns", lead, *parts) if worst else Markup()


def _told(turn: TurnReport) -> list[str]:
    """What the target's record says of the turn's budget."""
    misses = [
        f"{stage} took {spent:.0f} of {allotted:.0f} ms ({reason})"
        for stage, reason, allotted, spent in misses_of(turn)
    ]
    steps = [f"{step} ({reason})" for step, reason in ladder_of(turn)]
    said = [f"Over its budget: {', '.join(misses)}."] if misses else []
    return said + ([f"Done about it: {', '.join(steps)}."] if steps else [])


def _outcome(turn: TurnReport) -> str:
    if turn.premature:
        return "the agent spoke before the caller had finished"
    if turn.latency_ms is None:
        return "no answer"
    return f"{turn.latency_ms:.0f} ms"
