"""``ringtrue loadtest report``: a run's report made again, judged again, and compared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from load_results import sample_run
from typer.testing import CliRunner

from ringtrue.agent.loadtest_cli import loadtest
from ringtrue.loadtest.reporting import write
from ringtrue.loadtest.results import ResultError
from ringtrue.loadtest.slo import default_slo


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    write(tmp_path / "run", sample_run(), slo=default_slo())
    return tmp_path / "run"


def test_a_report_is_made_again(run_folder: Path) -> None:
    page = run_folder / "report.html"
    before = page.read_bytes()
    page.unlink()
    ran = CliRunner().invoke(loadtest, ["report", str(run_folder)])
    assert ran.exit_code == 1
    assert "call-0011: unanswered" in ran.output
    assert "BROKEN: calls.failed" in ran.output
    assert page.read_bytes() == before


def test_limits_and_another_run_can_be_given(run_folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "other", sample_run(speculative=False))
    limits = tmp_path / "limits.yaml"
    limits.write_text("turn_latency_ms: {p50: 1000}\n")
    given = ["report", str(run_folder), str(tmp_path / "other"), "--slo", str(limits), "--json"]
    ran = CliRunner().invoke(loadtest, given)
    assert ran.exit_code == 0
    assert json.loads(ran.stdout)["ok"] is True
    assert "without speculation" in (run_folder / "report.html").read_text()


def test_what_is_no_report_is_an_error(run_folder: Path) -> None:
    (run_folder / "report.json").write_text("{}")
    ran = CliRunner().invoke(loadtest, ["report", str(run_folder)])
    assert isinstance(ran.exception, ResultError)
    assert CliRunner().invoke(loadtest, ["report", str(run_folder / "none")]).exit_code == 2
