"""Limits are read strictly and judged with every failure counted."""

from __future__ import annotations

from pathlib import Path

import pytest
from load_results import completed, heard, refused, run_of, sample_run, turn, unanswered

from ringtrue.config.errors import SettingsError
from ringtrue.loadtest.results import MeasuredCall, Speculation
from ringtrue.loadtest.slo import Verdict, broken, default_slo, judge, load_slo, parse_slo


def calls(count: int, latency: float = 300.0, turns: int = 1) -> list[MeasuredCall]:
    return [completed(f"c{n}", [latency + n * 0.1] * turns) for n in range(count)]


def one(text: str, made: list[MeasuredCall]) -> Verdict:
    (verdict,) = judge(run_of(made), parse_slo(text, "test"))
    return verdict


@pytest.mark.parametrize(
    ("text", "complaints"),
    [
        ("", ["holds no limit; allowed: turn_latency_ms, ttfa_ms"]),
        ("leave_out_refused: true", ["holds no limit"]),
        ("turn_latency: {p95: 1}", ["unknown key", "did you mean turn_latency_ms?"]),
        ("turn_latency_ms: {p90: 1}", ["turn_latency_ms.p90", "allowed: p50, p95, p99, worst"]),
        ("turn_latency_ms: {p95: -1}", ["turn_latency_ms.p95: is -1", "above 0"]),
        ("stages_ms: {llm: {p95: 1}}", ["stages_ms.llm", "endpointing"]),
        ("calls: {failed: 2}", ["calls.failed: is 2", "at most 1"]),
        ("unmeasured: maybe", ["broken, skipped"]),
        ("calls: [", ["not valid YAML at line 1"]),
    ],
)
def test_errors_name_the_key_the_value_and_what_is_allowed(
    text: str, complaints: list[str]
) -> None:
    with pytest.raises(SettingsError) as error:
        parse_slo(text, "slo.yaml")
    for complaint in complaints:
        assert complaint in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.yaml"):
        load_slo(tmp_path / "none.yaml")


def test_percentiles_and_how_sure_they_are() -> None:
    kept = one("turn_latency_ms: {p95: 400}", calls(100))
    assert (kept.ok, kept.value, kept.samples, kept.note) == (True, 309.4, 100, "")
    few = one("turn_latency_ms: {p95: 400}", calls(20))
    assert few.ok
    assert few.note == "not certain: 20 samples of the 72 it takes"
    close = one("turn_latency_ms: {p50: 305.2}", calls(100))
    assert close.ok
    assert close.note == "not certain: 95 % interval 304 to 306"
    over = one("turn_latency_ms: {p50: 200}", calls(100))
    assert (over.ok, over.note) == (False, "")


def test_failed_calls_break_a_percentile() -> None:
    made = [*calls(94), *(unanswered(f"u{n}", turns=1) for n in range(6))]
    verdict = one("turn_latency_ms: {p95: 400}", made)
    assert (verdict.ok, verdict.value, verdict.failed) == (False, None, 6)
    assert "6 of 100 failed" in verdict.note
    assert str(verdict).startswith("BROKEN: turn_latency_ms.p95 – ≤ 400")
    assert one("turn_latency_ms: {p50: 400}", made).ok


def test_above_capacity_polite_refusals_are_left_out_on_request() -> None:
    made = [*calls(80), *(refused(f"r{n}", turns=1) for n in range(80))]
    limits = "turn_latency_ms: {p95: 400}\ncalls: {failed: 0.0, refused: 0.6}\n"
    strict = judge(run_of(made), parse_slo(limits, "test"))
    assert [verdict.ok for verdict in strict] == [False, False, True]
    fair = judge(run_of(made), parse_slo(limits + "leave_out_refused: true", "test"))
    assert [verdict.ok for verdict in fair] == [True, True, True]
    assert fair[2].value == 0.5


def test_what_was_not_measured_is_broken_unless_skipped() -> None:
    limits = "ttfa_ms: {p95: 200}\nbarge_in_stop_ms: {worst: 200}\nspeculation_wasted: 0.5\n"
    made = run_of(calls(3))
    strict = judge(made, parse_slo(limits, "test"))
    assert len(broken(strict)) == 3
    assert "gave no records" in strict[0].note
    skipped = judge(made, parse_slo(limits + "unmeasured: skipped", "test"))
    assert broken(skipped) == ()
    assert all(str(verdict).startswith("skipped") for verdict in skipped)


def test_shares_counts_and_expectations() -> None:
    result = sample_run()
    text = """
    expectations: {met: 0.99, each: {stops_within: 1.0, no_such: 0.5}}
    packets: {lost: 0.01, late: 0}
    unexplained_silences: 0
    dropouts: 0
    speculation_wasted: 0.25
    """
    verdicts = {verdict.name: verdict for verdict in judge(result, parse_slo(text, "test"))}
    assert {name: verdict.ok for name, verdict in verdicts.items()} == {
        "expectations.met": False,
        "expectations.each.stops_within": True,
        "expectations.each.no_such": False,
        "packets.lost": True,
        "packets.late": True,
        "unexplained_silences": False,
        "dropouts": True,
        "speculation_wasted": True,
    }
    assert verdicts["expectations.met"].at_least
    assert verdicts["speculation_wasted"].value == pytest.approx(29 / 150, abs=1e-6)


def test_the_worst_and_the_barge_in() -> None:
    made = [completed("a", [], heard=heard([turn(300, stop_ms=ms) for ms in (80, 190, 240)]))]
    assert not one("barge_in_stop_ms: {worst: 200}", made).ok
    assert one("barge_in_stop_ms: {p50: 200}", made).ok


def test_the_shipped_limits() -> None:
    slo = default_slo()
    assert slo.turn_latency_ms is not None
    assert (slo.turn_latency_ms.p50, slo.turn_latency_ms.p95) == (450, 800)
    names = {verdict.name for verdict in broken(judge(sample_run(), slo))}
    assert names == {
        "turn_latency_ms.p95",
        "ttfa_ms.p95",
        "greeting_ms.p95",
        "calls.failed",
        "expectations.met",
        "unexplained_silences",
    }
    assert broken(judge(run_of(calls(30)), slo)) == ()
    wasteful = run_of(calls(30), speculation=Speculation(enabled=True, begun=10, dropped=9))
    assert broken(judge(wasteful, slo)) == ()
