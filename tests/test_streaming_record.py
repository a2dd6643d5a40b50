"""The call record: moments fall into the right turn, once, and come out as milliseconds."""

from __future__ import annotations

import json

import pytest

from ringtrue.streaming.budget.ladder import Rung
from ringtrue.streaming.record import CallRecord, Stage, TurnLog, TurnRecord


def make() -> tuple[CallRecord, TurnLog, list[TurnRecord]]:
    """A record, its log, and the turns it announced."""
    record = CallRecord("c1", "sip", "inbound", "reception", 8000, answered_at=100.0)
    turns: list[TurnRecord] = []
    return record, TurnLog(record, on_turn=turns.append), turns


def answer(log: TurnLog, at: float) -> None:
    """The agent's moments, 10 ms apart."""
    stages = (Stage.FIRST_TOKEN, Stage.FIRST_PHRASE, Stage.FIRST_AUDIO, Stage.FIRST_PACKET)
    for n, stage in enumerate(stages):
        log.report(stage, at + n * 0.01)


def test_a_greeting_is_a_turn_without_a_caller() -> None:
    record, log, turns = make()
    answer(log, 100.1)
    assert len(record.turns) == 1
    assert turns == record.turns
    assert turns[0].interval("turn_latency") is None
    assert turns[0].interval("ttfa") == pytest.approx(0.02)


def test_intervals_of_a_turn() -> None:
    record, log, _ = make()
    log.report(Stage.SPEECH_ENDED, 101.0)
    log.report(Stage.VAD_STOPPED, 101.2)
    log.report(Stage.TRANSCRIPT, 101.25)
    log.report(Stage.TURN_ENDED, 101.3)
    answer(log, 101.31)
    turn = record.as_dict()["turns"][0]
    assert turn["intervals_ms"] == {
        "endpointing": 300.0,
        "recognizer": 50.0,
        "language": 10.0,
        "phrase": 10.0,
        "synthesis": 10.0,
        "wire": 10.0,
        "ttfa": 20.0,
        "turn_latency": 340.0,
    }
    assert turn["at_ms"]["speech_ended"] == 1000.0


def test_a_caller_who_pauses_counts_from_the_last_pause() -> None:
    record, log, _ = make()
    for at in (101.0, 103.0):
        log.report(Stage.SPEECH_ENDED, at)
        log.report(Stage.VAD_STOPPED, at + 0.2)
    log.report(Stage.TURN_ENDED, 103.3)
    answer(log, 103.4)
    assert record.turns[0].interval("turn_latency") == pytest.approx(0.43)


def test_each_moment_counts_once_and_later_phrases_open_no_turn() -> None:
    record, log, _ = make()
    log.report(Stage.TURN_ENDED, 101.0)
    answer(log, 101.1)
    log.report(Stage.FIRST_AUDIO, 109.0)
    log.report(Stage.FIRST_PACKET, 109.0)
    assert len(record.turns) == 1
    assert record.turns[0].stages[Stage.FIRST_PACKET] == pytest.approx(101.13)


def test_interruptions_and_what_was_heard() -> None:
    record, log, _ = make()
    answer(log, 100.0)
    log.heard(800)
    answer(log, 105.0)
    log.interrupted(106.0, 4000)
    log.stalled("first_chunk")
    turns = record.as_dict()["turns"]
    assert turns[0]["heard_ms"] == 100.0
    assert turns[1]["heard_ms"] == 500.0
    assert turns[1]["interrupted_at_ms"] == 6000.0
    assert turns[1]["stalls"] == {"first_chunk": 1}
    assert record.interruptions == 1


def test_what_is_still_being_heard_belongs_to_its_own_turn() -> None:
    record, log, _ = make()
    answer(log, 100.0)
    log.report(Stage.FIRST_PHRASE, 102.0)  # an apology, queued behind
    log.heard(800)
    log.report(Stage.FIRST_PACKET, 103.0)
    log.heard(1600)
    assert [turn.heard_samples for turn in record.turns] == [800, 1600]


def test_the_record_is_json() -> None:
    record, log, _ = make()
    answer(log, 100.0)
    record.ended_at = 160.0
    assert json.loads(json.dumps(record.as_dict()))["duration_ms"] == 60000.0


def test_a_filler_and_the_answer_behind_it_are_one_turn() -> None:
    record, log, turns = make()
    log.report(Stage.SPEECH_ENDED, 101.0)
    log.report(Stage.TURN_ENDED, 101.3)
    log.stepped(Rung.OPENER, "no_first_token", 101.7)
    log.filled(101.7)
    log.report(Stage.FIRST_AUDIO, 101.71)
    log.report(Stage.FIRST_PACKET, 101.72)
    log.report(Stage.FIRST_TOKEN, 102.5)
    log.report(Stage.FIRST_PHRASE, 102.6)
    log.report(Stage.FIRST_AUDIO, 102.65)
    log.report(Stage.FIRST_PACKET, 102.66)
    (turn,) = record.turns
    assert turns == [turn]
    assert turn.interval("turn_latency") == pytest.approx(0.72)
    assert turn.answer == {Stage.FIRST_PHRASE: 102.6, Stage.FIRST_PACKET: 102.66}
    log.report(Stage.TURN_ENDED, 110.0)
    written = record.as_dict()["turns"][0]
    assert written["ladder"] == [
        {"step": "opener", "reason": "no_first_token", "at_ms": 1700.0},
    ]
    assert written["answer_at_ms"] == {"first_phrase": 2600.0, "first_packet": 2660.0}
    assert [miss["stage"] for miss in written["misses"]] == ["first_token"]


def test_what_was_late_is_in_the_turn_with_its_reason() -> None:
    record, log, _ = make()
    log.report(Stage.SPEECH_ENDED, 101.0)
    log.report(Stage.VAD_STOPPED, 101.2)
    log.report(Stage.TRANSCRIPT, 101.25)
    log.report(Stage.TURN_ENDED, 101.3)
    assert log.deadline is record.turns[0].deadline
    assert log.deadline.left(101.5) == pytest.approx(0.3)
    answer(log, 102.3)
    assert [(miss.stage, miss.reason) for miss in record.turns[0].misses] == [
        ("first_token", "slow_model"),
        ("turn", "first_token"),
    ]


def test_while_the_caller_speaks_the_deadline_is_the_coming_turns() -> None:
    _, log, _ = make()
    answer(log, 100.0)
    log.report(Stage.SPEECH_ENDED, 105.0)
    assert log.deadline.began == 105.0
