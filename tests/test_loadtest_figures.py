"""Failures stay in the denominator, and stages lie where the target says they lay."""

from __future__ import annotations

import pytest
from load_results import (
    completed,
    heard,
    refused,
    run_of,
    sample_run,
    server_turn,
    turn,
    unanswered,
)

from ringtrue.loadtest.figures import figures_of, series_of
from ringtrue.loadtest.results import Outcome
from ringtrue.loadtest.stages import StageBar, ear_ms, stage_ms, stages_of


def test_turns_that_never_came_count_as_failed() -> None:
    cut = completed("c", [310], outcome=Outcome.FAILED, turns_expected=3)
    unknown = completed("d", [320], outcome=Outcome.FAILED, turns_expected=0)
    result = run_of([completed("a", [300, None]), unanswered("b"), cut, unknown])
    values = series_of(result).turn_latency
    assert values == [300, None, None, None, 310, None, None, 320, None]
    figures = figures_of(result)
    assert (figures.turns, figures.turn_latency.failed) == (9, 6)
    assert (figures.failed, figures.failed_share) == (3, 0.75)


def test_polite_refusals_can_be_left_out_and_rude_ones_cannot() -> None:
    result = run_of([completed("a", [300]), refused("b"), refused("c", retry=None)])
    everything, without = figures_of(result), figures_of(result, leave_out_polite=True)
    assert (everything.counted, everything.failed, everything.polite) == (3, 2, 1)
    assert (without.counted, without.failed, without.polite) == (2, 1, 1)
    assert (everything.turn_latency.failed, without.turn_latency.failed) == (4, 2)


def test_records_of_the_target_are_used_where_there_are_any() -> None:
    recorded = turn(400, server=server_turn(400))
    plain, failed = turn(500), turn(None)
    call = completed("a", [None] * 3, heard=heard([recorded, plain, failed]))
    series = series_of(run_of([call]))
    ttfa = stage_ms(recorded, "ttfa")
    assert ttfa == pytest.approx(0.25 * 390, abs=0.1)
    # The turn that merely lacks a record is unknown; the one without an answer has failed.
    assert series.ttfa == [ttfa, None]
    assert series.stages["ear"] == [pytest.approx(10), None]
    without = series_of(run_of([completed("a", [500, None])]))
    assert without.ttfa == []
    assert without.stages["endpointing"] == []


def test_the_stages_fill_the_turn() -> None:
    bars = stages_of(turn(400, said_ms=5000, server=server_turn(400, said_ms=4996)))
    by_name = {bar.name: bar for bar in bars}
    assert list(by_name) == [
        "endpointing",
        "recognizer",
        "language",
        "phrase",
        "synthesis",
        "wire",
        "ear",
    ]
    assert by_name["endpointing"].begin_ms == 0
    assert by_name["ear"] == StageBar("ear", 390, 400)
    chain = [by_name[n] for n in ("endpointing", "language", "phrase", "synthesis", "wire", "ear")]
    for before, after in zip(chain, chain[1:], strict=False):
        assert after.begin_ms == pytest.approx(before.end_ms)


def test_work_begun_early_lies_before_the_end_of_the_turn() -> None:
    record = server_turn(400)
    record["at_ms"] |= {"first_token": 5050.0, "turn_ended": 5200.0}
    bars = {bar.name: bar for bar in stages_of(turn(400, server=record))}
    assert (bars["language"].begin_ms, bars["language"].end_ms) == (50, 50)


@pytest.mark.parametrize(
    "record",
    [
        None,
        {},
        {"at_ms": None, "intervals_ms": []},
        {"at_ms": {"speech_ended": "x"}, "intervals_ms": {"ttfa": True}},
        {"at_ms": {"speech_ended": float("nan")}, "intervals_ms": {"ttfa": float("inf")}},
    ],
)
def test_a_record_that_is_none_gives_nothing(record: dict[str, object] | None) -> None:
    strange = turn(400, server=record)
    assert stages_of(strange) == ()
    assert stage_ms(strange, "ttfa") is None
    assert ear_ms(strange) is None


def test_expectations_by_name() -> None:
    figures = figures_of(sample_run())
    greeting, stops = figures.expectations
    assert (greeting.name, stops.name) == ("greeting_within", "stops_within")
    assert 0 < greeting.met < greeting.judged == 37
    assert stops.share == 1
    assert figures.met_share == (greeting.met + stops.met) / (greeting.judged + stops.judged)
    assert figures.silences == 1
    assert figures.outcomes[Outcome.COMPLETED] == 37
    assert sum(figures.outcomes.values()) == figures.calls == 40
