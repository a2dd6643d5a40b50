"""A run's progress in plain lines and on a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from ringtrue.loadtest.progress import ProgressView, line
from ringtrue.loadtest.runner import Progress


def test_plain_lines_come_now_and_then() -> None:
    text = io.StringIO()
    with ProgressView(Console(file=text, width=200), "a test") as view:
        for second in range(25):
            view.show(Progress(float(second), up=2, done=1, planned=3, latencies=[300.0]))
    lines = text.getvalue().splitlines()
    assert lines[0] == "a test"
    assert [row.split()[0] for row in lines[1:]] == ["0", "10", "20", "24"]
    assert "1 of 3 done" in lines[1]
    assert "p50 300 ms" in lines[1]


def test_a_terminal_has_a_live_table_that_goes_away() -> None:
    text = io.StringIO()
    console = Console(file=text, width=120, force_terminal=True)
    with ProgressView(console, "a test") as view:
        view.show(Progress(3.0, up=7, failed=1, done=4))
    shown = text.getvalue()
    assert "a test" in shown
    assert "ringing" in shown


def test_without_measurements_there_is_a_dash() -> None:
    assert "p95 –" in line(Progress())
