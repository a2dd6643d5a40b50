"""Percentiles count what failed; turns are measured at the caller's ear."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtrue.loadtest.caller import CallResult, Failure
from ringtrue.loadtest.ear import Span, find_speech
from ringtrue.loadtest.line import Said
from ringtrue.loadtest.recording import Recording
from ringtrue.loadtest.report import Stretch, distribution, report_call

RATE = 8000


def test_percentiles_by_nearest_rank() -> None:
    values = distribution(float(value) for value in range(1, 101))
    assert (values.count, values.failed) == (100, 0)
    assert (values.p50, values.p95, values.p99, values.worst) == (50, 95, 99, 100)


def test_failures_stay_in_the_denominator() -> None:
    values = distribution([100.0] * 94 + [None] * 6)
    assert (values.count, values.failed) == (100, 6)
    assert (values.p50, values.p95, values.p99, values.worst) == (100, None, None, None)
    assert distribution([100.0] * 95 + [None] * 5).p95 == 100


def test_nothing_measured_is_nothing() -> None:
    assert distribution([]).p50 is None
    assert distribution([None]).p50 is None


@given(st.lists(st.one_of(st.none(), st.floats(0, 1e5)), max_size=50))
def test_a_failure_never_improves_a_percentile(values: list[float | None]) -> None:
    fewer, more = distribution(values), distribution([*values, None])
    for name in ("p50", "p95", "p99", "worst"):
        before, after = getattr(fewer, name), getattr(more, name)
        assert after is None or before is None or after >= before
        assert not (before is None and values and after is not None)


def call(said: list[Said], *agent: tuple[int, int], answered: int = 0) -> CallResult:
    """A ten-second call in which the agent speaks in the given stretches."""
    heard = np.zeros(10 * RATE, "<i2")
    for start, end in agent:
        heard[start:end] = np.random.default_rng(3).choice([-3000, 3000], end - start)
    recording = Recording(RATE, 160)
    recording.heard(heard[160:].tobytes())
    recording.sent(bytes(2 * len(heard)))
    spans = find_speech(recording.agent, RATE)
    assert spans == [Span(*stretch) for stretch in agent]
    return CallResult(
        "caller", setup_seconds=0.01, answered=answered, said=said, agent=spans, recording=recording
    )


def said(name: str, start: int, end: int, *, interrupts: bool = False) -> Said:
    return Said(name, name, Span(start, end), interrupts)


def test_latency_runs_from_the_last_sample_said_to_the_first_heard() -> None:
    result = call([said("hours", 16_000, 24_008)], (2000, 8000), (28_000, 40_000), answered=80)
    report = report_call(result)
    assert report.greeting_ms == pytest.approx((2000 - 80) / 8)
    (turn,) = report.turns
    assert turn.latency_ms == (28_000 - 24_008) / 8
    assert turn.answer == Stretch((28_000 - 80) / 8, (40_000 - 80) / 8)
    assert turn.said == Stretch((16_000 - 80) / 8, (24_008 - 80) / 8)
    assert not turn.premature
    assert report.dropouts == ()


def test_an_interruption_is_measured_to_the_agents_last_sample() -> None:
    result = call(
        [said("long", 4000, 8000), said("wait", 20_000, 28_000, interrupts=True)],
        (10_000, 22_400),
        (34_000, 50_000),
    )
    first, second = report_call(result).turns
    assert first.stop_ms is None
    assert first.latency_ms == 250
    assert first.answer == Stretch(1250, 2800)
    assert second.stop_ms == 300
    assert second.latency_ms == 750


def test_no_answer_is_no_latency() -> None:
    result = call([said("a", 8000, 12_000), said("b", 30_000, 34_000)], (40_000, 44_000))
    first, second = report_call(result).turns
    assert (first.latency_ms, first.answer) == (None, None)
    assert second.latency_ms == 750


def test_an_agent_that_talks_into_the_question_has_no_latency() -> None:
    result = call([said("a", 8000, 16_000)], (14_000, 15_000), (20_000, 24_000))
    (turn,) = report_call(result).turns
    assert turn.premature
    assert turn.latency_ms is None


def record(*first_packets: float | None) -> dict[str, Any]:
    turns = []
    for index, at in enumerate(first_packets):
        moments = {"turn_ended": 1.0} | ({} if at is None else {"first_packet": at})
        turns.append({"index": index, "at_ms": moments, "intervals_ms": {"ttfa": 10.0 * index}})
    return {"call_id": "x", "transport": "sip", "turns": turns}


def test_server_turns_are_found_by_their_first_packet() -> None:
    result = call([said("hours", 16_000, 24_000)], (2000, 8000), (28_000, 40_000))
    report = report_call(result, record(230.0, None, 3420.0, 9000.0))
    server = report.turns[0].server
    assert server is not None
    assert server["index"] == 2
    assert report.server == {"call_id": "x", "transport": "sip"}
    assert report_call(result, record(230.0)).turns[0].server is None


def test_a_dropped_block_is_reported_unless_the_network_lost_it() -> None:
    result = call([], (2000, 20_000))
    assert result.recording is not None
    heard = np.frombuffer(result.recording.agent, "<i2").copy()
    heard[8000:8320] = 0
    heard[9600:9760] = 0
    result.recording = Recording(RATE, 160)
    result.recording.heard(heard[160:].tobytes())
    result.faults.concealed.append(Span(9600, 9760))
    report = report_call(result)
    assert report.dropouts == (Stretch(1000, 1040),)
    assert report.concealed_frames == 1


def test_a_call_that_was_never_answered_is_a_report_too() -> None:
    result = CallResult("caller", failure=Failure.NOT_ANSWERED, detail="503")
    report = report_call(result)
    assert not report.ok
    assert report.greeting_ms is None
    assert json.loads(json.dumps(report.as_dict()))["failure"] == "not_answered"


def test_speech_that_was_owed_and_what_excuses_it() -> None:
    result = call([said("a", 16_000, 24_000)], (2000, 8000), (44_000, 50_000))
    assert report_call(result).silences == (Stretch(3000, 5500),)
    assert report_call(result, excused=[Span(25_000, 43_000)]).silences == ()
    silent = call([said("a", 16_000, 24_000)], (2000, 8000))
    assert report_call(silent).silences == (Stretch(3000, 10_000),)
