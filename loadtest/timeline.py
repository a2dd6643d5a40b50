"""A call as lines of text: who spoke when, and how long each stage took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ringtrue.loadtest.report import CallReport, Distribution, Stretch

STAGES: Final = {
    "endpointing": "end of turn",
    "recognizer": "words",
    "language": "LLM",
    "phrase": "phrase",
    "synthesis": "speech",
    "wire": "wire",
    "ttfa": "TTFA",
}
"""Intervals of the server's record and their headings; the last spans the two before it."""

BAR_CELLS: Final = 12
BAR_MS: Final = 500.0
"""One cell of a bar."""

LABEL: Final = 8


def print_call(
    report: CallReport, console: Console, heard: Mapping[Stretch, str] | None = None
) -> None:
    """Print the lanes, the time line and the table of stages.

    ``heard`` gives the words of agent utterances where they are known.
    """
    _print_lanes(report, console)
    console.print()
    console.print(_lines(report, heard or {}))
    console.print(
        "\nlatency per turn in ms: at the caller's ear, and inside the server", style="bold"
    )
    console.print(_stages(report))


def _print_lanes(report: CallReport, console: Console) -> None:
    width = max(20, min(console.width, 110) - LABEL - 1)
    total = max(report.duration_ms, 1.0)
    said = [turn.said for turn in report.turns]
    for label, stretches, style in (("caller", said, "cyan"), ("agent", report.agent, "green")):
        line = Text(f"{label:<{LABEL}}")
        line.append(lane(stretches, total, width), style=style)
        console.print(line)
    end = f"{total / 1000:.1f} s"
    console.print(Text(f"{'':<{LABEL}}0 s{end:>{width - 3}}", style="dim"))


def lane(stretches: Sequence[Stretch], total_ms: float, width: int) -> str:
    """One character per ``total_ms / width``: a block where any of ``stretches`` lies."""
    cells = ["·"] * width
    for stretch in stretches:
        first = int(stretch.start_ms / total_ms * width)
        last = int(stretch.end_ms / total_ms * width)
        for cell in range(max(0, first), min(width, last + 1)):
            cells[cell] = "█"
    return "".join(cells)


def _lines(report: CallReport, heard: Mapping[Stretch, str]) -> Table:
    table = plain_table()
    for title in ("at", "who", "for", "", "what (the agent's words as recognized)"):
        table.add_column(title, justify="right" if title in ("at", "for") else "left")
    events: list[tuple[Stretch, str, str]] = []
    for turn in report.turns:
        note = ""
        if turn.interrupts and turn.stop_ms is not None:
            note = f"  (interrupts: the agent stops after {turn.stop_ms:.0f} ms)"
        events.append((turn.said, "caller", turn.text + note))
    latencies = {turn.answer.start_ms: turn.latency_ms for turn in report.turns if turn.answer}
    for stretch in report.agent:
        latency = latencies.get(stretch.start_ms)
        note = "" if latency is None else f"  (after {latency:.0f} ms)"
        events.append((stretch, "agent", heard.get(stretch, "") + note))
    for stretch, who, what in sorted(events, key=lambda event: event[0].start_ms):
        length = stretch.end_ms - stretch.start_ms
        bar = "▇" * max(1, min(BAR_CELLS, round(length / BAR_MS)))
        style = "cyan" if who == "caller" else "green"
        table.add_row(
            f"{stretch.start_ms / 1000:.2f} s",
            Text(who, style=style),
            f"{length / 1000:.2f} s",
            Text(bar, style=style),
            Text(what.strip()),
        )
    return table


def _stages(report: CallReport) -> Table:
    table = plain_table()
    table.add_column("turn", no_wrap=True, min_width=13)
    for title in ("ear", "stops after", *STAGES.values()):
        table.add_column(title, justify="right")
    for turn in report.turns:
        intervals = turn.server["intervals_ms"] if turn.server else {}
        table.add_row(
            turn.prompt,
            _ms(turn.latency_ms),
            _ms(turn.stop_ms),
            *(_ms(intervals.get(stage)) for stage in STAGES),
        )
    return table


def plain_table() -> Table:
    """A table without lines: narrow enough for a terminal of 80 columns."""
    return Table(header_style="dim", box=None, pad_edge=False)


def add_distribution(table: Table, name: str, values: Distribution) -> None:
    """Append a row: name, count, failed, p50, p95, p99, worst."""
    table.add_row(
        name,
        str(values.count),
        str(values.failed),
        *(_ms(value) for value in (values.p50, values.p95, values.p99, values.worst)),
    )


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"
