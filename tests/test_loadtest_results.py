"""Records survive JSON, and contradict nobody."""

from __future__ import annotations

import json

import pytest
from load_results import completed, refused, run_of, sample_run, unanswered

from ringtrue.loadtest.results import (
    Network,
    Outcome,
    ResultError,
    dump_result,
    peak_of,
    read_result,
)
from ringtrue.streaming.ports import LegStats


def test_json_and_back() -> None:
    result = sample_run()
    text = dump_result(result)
    assert read_result(text) == result
    assert dump_result(read_result(text)) == text
    assert json.loads(text)["schema"] == 1


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        (("schema",), 2, "schema 2; allowed: 1"),
        (("calls", 0, "outcome"), "fine", "calls.0.outcome"),
        (("calls", 0, "id"), "../../etc/passwd", "allowed: 1 to 64 letters"),
        (("calls", 0, "id"), "call-0001", "used twice"),
        (("calls", 0, "colour"), "red", "colour"),
        (("calls", 0, "refusal"), {"status": 503, "after_ms": 1}, "contradict"),
        (("calls", 0, "answered_s"), None, "without answered_s"),
        (("clock",), None, "clock"),
    ],
)
def test_what_is_no_result_is_refused(
    path: tuple[str | int, ...], value: object, complaint: str
) -> None:
    data = json.loads(dump_result(sample_run()))
    node = data
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = value
    with pytest.raises(ResultError, match=complaint):
        read_result(json.dumps(data).encode())


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff\xfe"])
def test_what_is_no_json_is_refused(text: bytes) -> None:
    with pytest.raises(ResultError):
        read_result(text)


def test_failures_come_worst_first() -> None:
    calls = [
        completed("a", [300]),
        refused("b"),
        completed("c", [], outcome=Outcome.FAILED),
        unanswered("d"),
    ]
    assert [call.id for call in run_of(calls).failures] == ["d", "b", "c"]


def test_the_peak_counts_calls_that_touch_as_one() -> None:
    assert peak_of([(0, 10), (10, 20), (15, 16)]) == 2
    assert peak_of([]) == 0
    assert sample_run().peak > 10


def test_a_refusal_is_polite_with_a_time_to_come_back() -> None:
    with_time, without = refused("a").refusal, refused("b", retry=None).refusal
    assert with_time is not None
    assert without is not None
    assert (with_time.polite, without.polite) == (True, False)


def test_a_legs_counters() -> None:
    stats = LegStats(packets_received=10, packets_sent=11, packets_lost=1, jitter_ms=1.234)
    network = Network.of(stats, emulated="1 % loss")
    assert (network.packets_received, network.packets_sent, network.packets_lost) == (10, 11, 1)
    assert (network.jitter_ms, network.emulated) == (1.23, "1 % loss")
