"""Reports of the quality bench: kept, compared, and held against their goals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ringtrue.voices.quality.report import TOLERANCE, Report, ReportError, Row, drops, goals, table

BASE = Row("ada", "base", 0.6, 0.7, 0.1, 0.0, 0.0, 3.2, 0.10, 0.2)
CLONED = Row("ada", "cloned", 0.85, 0.7, 1.0, 0.5, 0.9, 3.4, 0.11, 0.2, 21.0)
REAL = Row("ada", "real", 0.93, 0.7, 1.0, 1.2, 1.0, 3.9)
REPORT = Report((REAL, BASE, CLONED))


def changed(**figures: float) -> Report:
    return Report((REAL, BASE, replace(CLONED, **figures)))  # type: ignore[arg-type]


def test_a_report_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "deeper" / "report.json"
    REPORT.write(path)
    assert Report.read(path) == REPORT
    path.write_text('{"rows": [{"speaker": "ada"}]}')
    with pytest.raises(ReportError, match=r"report\.json is no report"):
        Report.read(path)
    with pytest.raises(ReportError, match="is no report"):
        Report.read(tmp_path / "absent.json")


@pytest.mark.parametrize("name", TOLERANCE)
def test_a_figure_may_fall_a_little_and_no_further(name: str) -> None:
    sign = 1 if name.startswith("wer") else -1
    value = getattr(CLONED, name)
    within = changed(**{name: value + sign * 0.9 * TOLERANCE[name]})
    beyond = changed(**{name: value + sign * 1.1 * TOLERANCE[name]})
    better = changed(**{name: value - sign * 2 * TOLERANCE[name]})
    assert drops(within, REPORT) == []
    assert drops(better, REPORT) == []
    (line,) = drops(beyond, REPORT)
    assert line.startswith(f"ada: {name} ")


def test_what_is_no_longer_measured_has_fallen() -> None:
    assert drops(Report((REAL, BASE)), REPORT) == ["ada: not measured"]
    assert drops(changed(wer=None), REPORT) == ["ada: wer not measured"]  # type: ignore[arg-type]
    assert drops(REPORT, changed(wer=None)) == []  # type: ignore[arg-type]


def test_goals_are_reached_or_not() -> None:
    assert all(reached for _, reached in goals(REPORT))
    for report in (
        changed(cosine=0.81),
        changed(wer=0.13),
        changed(wer_general=0.23),
        changed(top1=0.95),
        changed(llr_top1=0.5),
        changed(p808=3.3),
    ):
        assert [reached for _, reached in goals(report)].count(False) == 1
    unheard = changed(wer_general=None)  # type: ignore[arg-type]
    assert goals(unheard) == [("every clone and base was recognized", False)]
    assert goals(Report((CLONED,))) == [("every clone has its base beside it", False)]


def test_the_table_has_a_line_for_each_row() -> None:
    lines = list(table(REPORT.rows))
    assert len(lines) == 4
    assert lines[0].split()[:3] == ["speaker", "kind", "cosine"]
    assert lines[3].split()[2] == "0.850"
    assert lines[1].split()[-1] == "-"
