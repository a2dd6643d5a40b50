"""When a worker's place is filled again."""

from __future__ import annotations

from ringtrue.agent.workers.slots import LONGEST_PAUSE, LOOPING, YOUNG, Slot, SlotState


def test_pauses_grow_while_workers_die_young_up_to_a_bound() -> None:
    slot = Slot(0)
    pauses = [slot.died(1.0) for _ in range(12)]
    assert pauses[:4] == [0.2, 0.4, 0.8, 1.6]
    assert pauses == sorted(pauses)
    assert max(pauses) == LONGEST_PAUSE
    assert slot.restarts == 12
    assert slot.state is SlotState.WAITING


def test_a_crash_loop_is_one_until_a_worker_lives() -> None:
    slot = Slot(1)
    for _ in range(LOOPING):
        assert not slot.looping
        slot.died(1.0)
    assert slot.looping
    assert slot.told()["crash_loop"]
    assert slot.died(YOUNG + 1) == 0.1
    assert not slot.looping
