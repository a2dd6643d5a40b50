"""Records find their calls by when speech left and was heard."""

from __future__ import annotations

import random
from typing import Any

import pytest
from load_results import completed, heard, run_of, server_turn, turn

from ringtrue.loadtest.joining import join_records, speculation_of
from ringtrue.loadtest.report import Stretch
from ringtrue.loadtest.results import MeasuredCall, RunResult


def conversation(
    number: int, chance: random.Random, turns: int = 4
) -> tuple[MeasuredCall, dict[str, Any]]:
    """A call of one script, which others follow too, and the target's record of it."""
    at, said, served = 5000.0 + chance.uniform(-400, 400), [], []
    for index in range(turns):
        latency = chance.uniform(300, 900)
        said.append(turn(latency, said_ms=at))
        # The target's clock began a few milliseconds before the caller's.
        served.append(server_turn(latency, at + chance.uniform(1, 6)) | {"index": index})
        at += latency + chance.uniform(4000, 5000)
    agent = [each.answer for each in said if each.answer is not None]
    report = heard(said, agent=(Stretch(500, 2500), *agent), duration_ms=at)
    call = completed(f"c{number:03d}", [None] * turns, heard=report)
    record = {
        "call_id": f"sip-{number + 7}",
        "duration_ms": at + 30,
        "turns": served,
        "turn_taking": {
            "speculations": 3,
            "confirmed": 2,
            "dropped": {"resumed": 1},
            "wasted_ms": 400.0,
            "wasted_tokens": 5,
        },
    }
    return call, record


def crowd(count: int) -> tuple[RunResult, list[dict[str, Any]]]:
    chance = random.Random(5)
    pairs = [conversation(number, chance) for number in range(count)]
    records = [record for _, record in pairs]
    chance.shuffle(records)
    return run_of([call for call, _ in pairs]), records


def test_every_record_finds_its_call() -> None:
    result, records = crowd(60)
    joined = join_records(result, records)
    for number, call in enumerate(joined.calls):
        assert call.heard is not None
        assert call.heard.server is not None
        assert call.heard.server["call_id"] == f"sip-{number + 7}"
        assert "turns" not in call.heard.server
        assert [t.server["index"] for t in call.heard.turns if t.server] == [0, 1, 2, 3]
    assert joined.speculation is not None
    assert (joined.speculation.begun, joined.speculation.dropped) == (180, 60)
    assert joined.speculation.wasted_share == pytest.approx(1 / 3)
    assert joined.speculation.wasted_audio_ms == 24_000


def test_what_belongs_to_nobody_is_left_out() -> None:
    result, records = crowd(5)
    stranger = conversation(90, random.Random(99))[1]
    strange: list[Any] = [{}, {"turns": "x"}, {"turns": [{"at_ms": {"first_packet": "soon"}}]}, 7]
    joined = join_records(result, [stranger, *strange, *records[:3]])
    served = [call.heard.server for call in joined.calls if call.heard and call.heard.server]
    assert {record["call_id"] for record in served} == {r["call_id"] for r in records[:3]}
    assert joined.speculation is not None
    assert joined.speculation.begun == 9


def test_a_target_that_tells_nothing_leaves_the_result_as_it_is() -> None:
    result, _ = crowd(3)
    assert join_records(result, []) == result
    assert speculation_of([{"turns": []}]) is None


def test_speculation_switched_off_is_told_apart_from_none_needed() -> None:
    quiet = {"turns": [], "turn_taking": {"speculations": 0, "confirmed": 0, "dropped": {}}}
    for enabled in (True, False):
        told = speculation_of([quiet], enabled)
        assert told is not None
        assert (told.enabled, told.begun, told.wasted_share) == (enabled, 0, None)
