"""The ladder: which step is taken when, and only then. Literal times."""

from __future__ import annotations

import pytest

from ringtrue.streaming.budget.deadline import Deadline
from ringtrue.streaming.budget.ladder import Ladder, LadderPolicy, Rung
from ringtrue.streaming.stages import Stage

Taken = list[tuple[float, Rung, str]]


class Turn:
    """A turn whose caller fell silent at 100.0 and was done at ``ended``."""

    def __init__(self, policy: LadderPolicy, ended: float = 100.3) -> None:
        self.moments = {Stage.SPEECH_ENDED: 100.0, Stage.TURN_ENDED: ended}
        self.ladder = Ladder(policy)
        self.ladder.owe(ended, Deadline(None, self.moments))
        self.now = ended
        self.taken: Taken = []

    def until(self, end: float) -> Taken:
        """Follow :meth:`Ladder.due` up to ``end``."""
        for _ in range(100):
            due = self.ladder.due(self.now)
            if due is None or due > end:
                break
            assert due >= self.now
            self.now = due
            steps = self.ladder.advance(self.now)
            self.taken += [(round(s.at, 3), s.rung, s.reason) for s in steps]
        self.now = end
        return self.taken

    def reach(self, stage: Stage, at: float) -> None:
        self.until(at)
        self.moments[stage] = at


def test_a_silent_model_gets_an_opener_just_in_time_then_apologies_then_the_last_step() -> None:
    turn = Turn(LadderPolicy(last=Rung.TRANSFER))
    assert turn.until(110.0) == [
        (100.7, Rung.OPENER, "no_first_token"),
        (101.9, Rung.APOLOGY, "no_first_token"),
        (103.1, Rung.APOLOGY, "no_first_token"),
        (104.3, Rung.TRANSFER, "no_first_token"),
    ]
    assert not turn.ladder.owed


def test_an_answer_in_time_needs_no_step() -> None:
    turn = Turn(LadderPolicy(faster_voice=0.3))
    turn.reach(Stage.FIRST_TOKEN, 100.45)
    turn.reach(Stage.FIRST_PHRASE, 100.5)
    turn.reach(Stage.FIRST_AUDIO, 100.55)
    turn.ladder.heard(100.56)
    turn.ladder.settle()
    assert turn.until(120.0) == []


def test_a_turn_that_ended_late_leaves_the_model_its_share() -> None:
    """Else every caller who paused would hear an opener before an answer that is in time."""
    turn = Turn(LadderPolicy(), ended=101.5)
    assert turn.until(101.69) == []
    assert turn.until(101.8) == [(101.7, Rung.OPENER, "no_first_token")]


def test_slow_tokens_shorten_the_first_clause_before_anything_is_said() -> None:
    turn = Turn(LadderPolicy())
    turn.reach(Stage.FIRST_TOKEN, 100.5)
    assert turn.until(101.0) == [
        (100.6, Rung.SHORTER_CLAUSE, "slow_tokens"),
        (100.7, Rung.OPENER, "slow_tokens"),
    ]


def test_a_hurried_clause_is_given_a_moment_before_an_opener() -> None:
    turn = Turn(LadderPolicy())
    turn.reach(Stage.FIRST_TOKEN, 100.66)
    assert turn.until(100.74) == [(100.71, Rung.SHORTER_CLAUSE, "slow_tokens")]
    turn.reach(Stage.FIRST_PHRASE, 100.74)
    assert turn.until(100.85) == turn.taken[:1]
    assert turn.until(101.0)[1:] == [(100.86, Rung.OPENER, "no_audio")]


def test_a_slow_voice_is_replaced_by_a_faster_one_where_there_is_one() -> None:
    turn = Turn(LadderPolicy(faster_voice=0.5))
    turn.reach(Stage.FIRST_TOKEN, 100.4)
    turn.reach(Stage.FIRST_PHRASE, 100.42)
    assert turn.until(101.0) == [
        (100.72, Rung.OPENER, "no_audio"),
        (100.92, Rung.FASTER_VOICE, "no_audio"),
    ]


def test_without_openers_silence_is_broken_by_an_apology() -> None:
    turn = Turn(LadderPolicy(opener=False, apologies=0, last=Rung.HANGUP))
    assert turn.until(110.0) == [(101.5, Rung.HANGUP, "no_first_token")]


def test_speech_puts_the_apology_off() -> None:
    turn = Turn(LadderPolicy(opener=False))
    turn.reach(Stage.FIRST_TOKEN, 100.4)
    turn.reach(Stage.FIRST_PHRASE, 100.42)
    turn.reach(Stage.FIRST_AUDIO, 100.5)
    for tick in range(100):
        turn.ladder.heard(100.52 + tick * 0.02)
    turn.until(103.69)
    assert turn.taken == []
    (step,) = turn.until(104.0)
    assert step == (pytest.approx(102.5 + 1.2), Rung.APOLOGY, "silence")


def test_an_agent_that_speaks_first_is_watched_for_silence_alone() -> None:
    ladder = Ladder()
    ladder.owe(50.0, None)
    assert ladder.due(50.0) == pytest.approx(51.2)
    (step,) = ladder.advance(51.2, "llm")
    assert (step.rung, step.reason) == (Rung.APOLOGY, "llm")


def test_each_turn_climbs_anew() -> None:
    turn = Turn(LadderPolicy())
    turn.until(101.0)
    turn.moments = {Stage.SPEECH_ENDED: 110.0, Stage.TURN_ENDED: 110.3}
    turn.ladder.settle()
    assert turn.ladder.due(105.0) is None
    turn.ladder.owe(110.3, Deadline(None, turn.moments))
    turn.now = 110.3
    turn.until(111.0)
    assert [rung for _, rung, _ in turn.taken] == [Rung.OPENER, Rung.OPENER]
