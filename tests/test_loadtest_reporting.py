"""What a run leaves on disk, made again from it, and as a browser shows it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from load_results import completed, run_of, sample_run

from peers.chromium import chromium
from ringtrue.loadtest.caller import CallResult
from ringtrue.loadtest.clips import ClipKeeper, worst_turns
from ringtrue.loadtest.recording import Recording
from ringtrue.loadtest.reporting import (
    HTML_NAME,
    JSON_NAME,
    JUNIT_NAME,
    read_report,
    rerender,
    write,
)
from ringtrue.loadtest.results import ResultError
from ringtrue.loadtest.slo import default_slo, parse_slo


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def test_three_files_the_same_twice_and_again_from_the_json(tmp_path: Path) -> None:
    result = sample_run()
    for name in ("a", "b"):
        report = write(tmp_path / name, result, slo=default_slo())
        assert (report.ok, report.exit_code) == (False, 1)
    first = files(tmp_path / "a")
    assert set(first) == {JSON_NAME, HTML_NAME, JUNIT_NAME}
    assert files(tmp_path / "b") == first
    for name in (HTML_NAME, JUNIT_NAME):
        (tmp_path / "a" / name).unlink()
    again, path = rerender(tmp_path / "a")
    assert again == report
    assert path == tmp_path / "a" / HTML_NAME
    assert files(tmp_path / "a") == first


def test_the_json_says_it_all(tmp_path: Path) -> None:
    write(tmp_path, sample_run(), slo=default_slo())
    data = json.loads((tmp_path / JSON_NAME).read_bytes())
    assert data["schema"] == 1
    assert data["ok"] is False
    assert data["figures"]["turn_latency"]["failed"] == 11
    assert {verdict["name"] for verdict in data["verdicts"] if not verdict["ok"]} >= {
        "calls.failed",
        "unexplained_silences",
    }
    assert data["slo"]["turn_latency_ms"]["p95"] == 800
    assert len(data["result"]["calls"]) == 40
    assert read_report(tmp_path).result == sample_run()


def test_other_limits_judge_anew(tmp_path: Path) -> None:
    assert write(tmp_path, sample_run(), slo=default_slo()).exit_code == 1
    loose = parse_slo("turn_latency_ms: {p50: 5000}", "test")
    report, _ = rerender(tmp_path, slo=loose)
    assert report.exit_code == read_report(tmp_path).exit_code == 0
    assert b"Every limit kept" in (tmp_path / HTML_NAME).read_bytes()


def test_without_limits_nothing_breaks(tmp_path: Path) -> None:
    report = write(tmp_path, sample_run())
    assert (report.exit_code, report.verdicts) == (0, ())


def test_another_run_beside_it(tmp_path: Path) -> None:
    write(tmp_path / "a", sample_run())
    write(tmp_path / "b", sample_run(speculative=False))
    _, path = rerender(tmp_path / "a", tmp_path / "b")
    assert "without speculation" in path.read_text()
    assert "without speculation" not in (tmp_path / "b" / HTML_NAME).read_text()


def test_what_is_no_report_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        rerender(tmp_path)
    write(tmp_path, run_of([completed("a", [300.0])]))
    data = json.loads((tmp_path / JSON_NAME).read_bytes())
    for change, complaint in (
        ({"schema": 2}, "schema 2; allowed: 1"),
        ({"result": 7}, "no report: result"),
        ({"more": 1}, "no report: more"),
    ):
        (tmp_path / JSON_NAME).write_text(json.dumps(data | change))
        with pytest.raises(ResultError, match=complaint):
            rerender(tmp_path)


async def test_a_browser_shows_all_of_it_and_obeys_its_policy(tmp_path: Path) -> None:
    result = sample_run()
    keeper = ClipKeeper(tmp_path)
    recording = Recording(8000, 160)
    noise = np.random.default_rng(2).normal(0, 2000, 35 * 8000).astype("<i2")
    recording.sent(noise.tobytes())
    recording.heard(noise.tobytes())
    for worst in worst_turns(result):
        report = worst.call.heard
        assert report is not None
        keeper.offer(
            worst.call.id,
            CallResult("caller", answered=0, recording=recording),
            replace(report, turns=report.turns[: worst.index + 1]),
        )
    write(tmp_path, result, slo=default_slo())
    said: list[str] = []
    async with chromium() as browser:
        page = await browser.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("requestfailed", lambda request: said.append(f"failed: {request.url[:80]}"))
        await page.goto((tmp_path / HTML_NAME).as_uri())
        assert await page.locator("audio").count() >= 1
        await page.wait_for_function(
            "[...document.querySelectorAll('audio')].every(a => a.duration > 1)"
        )
        wide = await page.evaluate(
            "[...document.querySelectorAll('svg')].every(s => s.clientWidth > 500)"
        )
        heading = await page.evaluate(
            "getComputedStyle(document.querySelector('.tile b')).fontSize"
        )
        overflow = await page.evaluate(
            "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        )
        await page.close()
    assert said == []
    assert wide
    assert heading == "22px"
    assert not overflow
