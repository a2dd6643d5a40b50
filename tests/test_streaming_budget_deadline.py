"""Deadlines: what each stage has spent and has left, and why it was late. Literal times."""

from __future__ import annotations

import pytest

from ringtrue.streaming.budget.deadline import BudgetPolicy, BudgetStage, Deadline
from ringtrue.streaming.stages import Stage

MOMENTS = (
    (Stage.SPEECH_ENDED, 100.0),
    (Stage.VAD_STOPPED, 100.2),
    (Stage.TRANSCRIPT, 100.25),
    (Stage.TURN_ENDED, 100.3),
    (Stage.FIRST_TOKEN, 100.4),
    (Stage.FIRST_PHRASE, 100.44),
    (Stage.FIRST_AUDIO, 100.5),
    (Stage.FIRST_SEALED, 100.52),
    (Stage.FIRST_PACKET, 100.521),
)


def at(*, until: Stage | None = None, **moved: float) -> Deadline:
    """A turn in time, up to ``until``; ``moved`` are seconds by which moments come later."""
    moments: dict[Stage, float] = {}
    for stage, when in MOMENTS:
        moments[stage] = when + moved.get(stage, 0.0)
        if stage is until:
            break
    return Deadline(BudgetPolicy(), moments)


def test_a_turn_in_time_misses_nothing() -> None:
    deadline = at()
    assert deadline.misses() == []
    assert deadline.overrun == {}
    assert deadline.current() is None
    assert deadline.spent(BudgetStage.ENDPOINTING) == pytest.approx(0.3)
    assert deadline.spent(BudgetStage.RECOGNIZER) == pytest.approx(0.05)
    assert deadline.spent(BudgetStage.WIRE) == pytest.approx(0.001)


def test_the_default_shares_add_up_to_both_totals() -> None:
    policy = BudgetPolicy()
    shares = dict(policy.allotments)
    del shares[BudgetStage.RECOGNIZER]
    assert sum(shares.values()) == pytest.approx(policy.turn)
    speaking = (BudgetStage.FIRST_PCM, BudgetStage.GATE, BudgetStage.WIRE)
    assert sum(shares[stage] for stage in speaking) == pytest.approx(policy.ttfa)


def test_the_stages_come_one_after_the_other() -> None:
    seen = [at(until=stage).current() for stage, _ in MOMENTS]
    assert seen == [
        *[BudgetStage.ENDPOINTING] * 3,
        BudgetStage.FIRST_TOKEN,
        BudgetStage.FIRST_CLAUSE,
        BudgetStage.FIRST_PCM,
        BudgetStage.GATE,
        BudgetStage.WIRE,
        None,
    ]
    assert Deadline().current() is None


def test_what_is_saved_may_be_spent_later_and_what_is_overrun_is_not_taken_away() -> None:
    early = at(until=Stage.TURN_ENDED)
    assert early.remaining(BudgetStage.FIRST_TOKEN, 100.3) == pytest.approx(0.2 + 0.05)
    late = Deadline(BudgetPolicy(), {Stage.SPEECH_ENDED: 100.0, Stage.TURN_ENDED: 101.5})
    assert late.remaining(BudgetStage.FIRST_TOKEN, 101.5) == pytest.approx(0.2)
    assert late.remaining(BudgetStage.FIRST_TOKEN, 101.8) == pytest.approx(-0.1)
    assert late.left(101.5) == pytest.approx(-0.7)
    assert early.left(100.3) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("moved", "stage", "reason", "over"),
    [
        (Stage.FIRST_TOKEN, BudgetStage.FIRST_TOKEN, "slow_model", 0.6),
        (Stage.FIRST_PHRASE, BudgetStage.FIRST_CLAUSE, "slow_tokens", 0.69),
        (Stage.FIRST_AUDIO, BudgetStage.FIRST_PCM, "slow_engine", 0.64),
        (Stage.FIRST_SEALED, BudgetStage.GATE, "queued", 0.66),
        (Stage.FIRST_PACKET, BudgetStage.WIRE, "late_tick", 0.681),
    ],
)
def test_a_late_stage_is_named_with_its_reason(
    moved: Stage, stage: BudgetStage, reason: str, over: float
) -> None:
    order = [each for each, _ in MOMENTS]
    later = {str(each): 0.7 for each in order[order.index(moved) :]}
    deadline = at(**later)
    assert set(deadline.overrun) == {stage}
    assert deadline.overrun[stage] == pytest.approx(over, abs=0.02)
    missed = {miss.stage: miss.reason for miss in deadline.misses()}
    assert missed[stage] == reason
    assert missed["turn"] == stage
    speaking = stage in (BudgetStage.FIRST_PCM, BudgetStage.GATE, BudgetStage.WIRE)
    assert missed.get("ttfa") == (stage if speaking else None)


def test_endpointing_says_whether_the_pause_or_the_recognizer_took_long() -> None:
    def reason(moments: dict[Stage, float]) -> str:
        return next(m.reason for m in Deadline(None, moments).misses() if m.stage == "endpointing")

    begun = {Stage.SPEECH_ENDED: 100.0, Stage.VAD_STOPPED: 100.2}
    assert reason(begun | {Stage.TRANSCRIPT: 100.3, Stage.TURN_ENDED: 101.4}) == (
        "sounded_unfinished"
    )
    assert reason(begun | {Stage.TRANSCRIPT: 101.3, Stage.TURN_ENDED: 101.4}) == "slow_recognizer"
    assert reason(begun | {Stage.TURN_ENDED: 101.4}) == "no_text"


def test_what_knows_better_may_say_why() -> None:
    deadline = at(until=Stage.TURN_ENDED)
    deadline.explain(BudgetStage.FIRST_TOKEN, "llm_error")
    (miss,) = deadline.misses(now=101.0)
    assert miss.as_dict() == {
        "stage": "first_token",
        "reason": "llm_error",
        "allotted_ms": 200.0,
        "spent_ms": 700.0,
    }
    assert deadline.misses() == []


def test_what_was_made_ahead_of_the_turns_end_costs_no_time() -> None:
    moments = dict(MOMENTS)
    moments |= {Stage.FIRST_TOKEN: 100.1, Stage.FIRST_PHRASE: 100.12, Stage.FIRST_AUDIO: 100.15}
    deadline = Deadline(BudgetPolicy(), moments | {Stage.FIRST_SEALED: 100.31})
    for stage in (BudgetStage.FIRST_TOKEN, BudgetStage.FIRST_CLAUSE, BudgetStage.FIRST_PCM):
        assert deadline.spent(stage) == 0
    assert deadline.spent(BudgetStage.GATE) == pytest.approx(0.01)


def test_an_agent_that_speaks_of_its_own_accord_has_a_ttfa_and_no_turn() -> None:
    deadline = Deadline(None, {Stage.FIRST_PHRASE: 100.0, Stage.FIRST_PACKET: 100.5})
    assert deadline.began is None
    assert {miss.stage for miss in deadline.misses()} == {"ttfa"}
