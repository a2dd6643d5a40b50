"""The files a run leaves: ``report.json`` with everything, ``report.html``, ``junit.xml``.

``report.json`` is the source of the other two: :func:`rerender` makes them anew from it, and
can lay another run beside it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ConfigDict, TypeAdapter, ValidationError

from ringtrue.loadtest.capacity import Capacity
from ringtrue.loadtest.figures import Figures, figures_of, series_of
from ringtrue.loadtest.html.page import Page, render
from ringtrue.loadtest.junit import junit
from ringtrue.loadtest.results import SCHEMA, ResultError, RunResult, wrong
from ringtrue.loadtest.slo import Slo, Verdict, broken, judge

JSON_NAME: Final = "report.json"
HTML_NAME: Final = "report.html"
JUNIT_NAME: Final = "junit.xml"
MAX_BYTES: Final = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A run, what it was held to, and what came of it. ``report.json`` is this."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    schema: int
    ok: bool
    """Whether every limit was kept."""

    verdicts: tuple[Verdict, ...]
    figures: Figures
    """With calls left out as the limits say."""

    capacity: Capacity | None
    slo: Slo | None
    result: RunResult

    @property
    def exit_code(self) -> int:
        """What a command ends with: 1 where a limit broke, 0 otherwise."""
        return 0 if self.ok else 1


_REPORT: Final = TypeAdapter(Report)


def make_report(
    result: RunResult, *, slo: Slo | None = None, capacity: Capacity | None = None
) -> Report:
    """Judge ``result``; without ``slo`` nothing can break."""
    verdicts = () if slo is None else judge(result, slo)
    return Report(
        schema=SCHEMA,
        ok=not broken(verdicts),
        verdicts=verdicts,
        figures=figures_of(result, leave_out_polite=_left_out(slo)),
        capacity=capacity,
        slo=slo,
        result=result,
    )


def write(
    directory: Path,
    result: RunResult,
    *,
    slo: Slo | None = None,
    capacity: Capacity | None = None,
) -> Report:
    """Judge ``result`` and write its three files; clips of turns are looked for beside them.

    Blocks on files. Raises OSError where they can't be written.
    """
    report = make_report(result, slo=slo, capacity=capacity)
    directory.mkdir(parents=True, exist_ok=True)
    _replace(directory / JSON_NAME, _REPORT.dump_json(report, indent=1) + b"\n")
    _render(directory, report, None)
    return report


def rerender(
    directory: Path, against: Path | None = None, *, slo: Slo | None = None
) -> tuple[Report, Path]:
    """Make the HTML and the JUnit file anew from a run's ``report.json``; returns the HTML's path.

    ``against`` is another run's directory, laid beside this one. ``slo`` replaces the limits
    that the run was held to. Raises :class:`~ringtrue.loadtest.results.ResultError` for a file
    that is no report, and OSError.
    """
    report = read_report(directory)
    if slo is not None:
        report = make_report(report.result, slo=slo, capacity=report.capacity)
        _replace(directory / JSON_NAME, _REPORT.dump_json(report, indent=1) + b"\n")
    other = None if against is None else _page(against, read_report(against))
    return report, _render(directory, report, other)


def read_report(directory: Path) -> Report:
    """A run's ``report.json``. Raises :class:`~ringtrue.loadtest.results.ResultError`, OSError."""
    path = directory / JSON_NAME
    if path.stat().st_size > MAX_BYTES:
        raise ResultError(f"{path} is larger than {MAX_BYTES} bytes")
    try:
        report = _REPORT.validate_json(path.read_bytes())
    except ValidationError as error:
        raise ResultError(f"{path} is no report: {wrong(error)}") from None
    if report.schema != SCHEMA:
        raise ResultError(f"{path} has schema {report.schema}; allowed: {SCHEMA}")
    return report


def _render(directory: Path, report: Report, other: Page | None) -> Path:
    _replace(directory / JUNIT_NAME, junit(report.result, report.verdicts))
    path = directory / HTML_NAME
    _replace(path, render(_page(directory, report), other).encode())
    return path


def _page(directory: Path, report: Report) -> Page:
    return Page(
        result=report.result,
        figures=report.figures,
        series=series_of(report.result, leave_out_polite=_left_out(report.slo)),
        verdicts=report.verdicts,
        capacity=report.capacity,
        directory=directory,
    )


def _left_out(slo: Slo | None) -> bool:
    return slo is not None and slo.leave_out_refused


def _replace(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    os.replace(part, path)
