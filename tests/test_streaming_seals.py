"""The guard every leg has."""

from __future__ import annotations

import pytest
from gates import SPEECH, Voice, make

from ringtrue.streaming.errors import GateError
from ringtrue.streaming.gate import (
    Refusal,
    SealedFrame,
    SealGuard,
)
from ringtrue.streaming.refusals import RefusalReport


def test_the_guard_takes_genuine_frames_of_one_call_once() -> None:
    gate, other = make(), make(call_id="c2")
    guard = SealGuard()
    voice = Voice(gate)
    one, two = (gate.admit(voice.says(), 0.0) for _ in range(2))
    stranger = other.admit(Voice(other).says(), 0.0)
    assert guard.check(one) is one
    with pytest.raises(GateError, match="another call"):
        guard.check(stranger)
    assert guard.check(two) is two
    with pytest.raises(GateError, match="sent before"):
        guard.check(one)


@pytest.mark.parametrize("forged", [SPEECH, None, object(), tuple.__new__(SealedFrame)])
def test_the_guard_refuses_everything_else(forged: object) -> None:
    with pytest.raises(TypeError):
        SealGuard().check(forged)


def test_the_guard_refuses_what_has_the_fields_but_not_the_seal() -> None:
    gate = make()
    genuine = gate.admit(Voice(gate).says(), 0.0)
    for fields in (genuine[:-1], (*genuine[:-1], object()), (*genuine, genuine[-1])):
        with pytest.raises(TypeError):
            SealGuard().check(tuple.__new__(SealedFrame, fields))
    assert SealGuard().check(genuine) is genuine


def test_what_a_leg_is_offered_past_the_gate_is_counted_and_told() -> None:
    told: list[RefusalReport] = []
    gate, other = make(on_refusal=told.append), make(call_id="c2")
    guard, voice = SealGuard(), Voice(gate)
    frame = gate.admit(voice.says(), 5.0)
    guard.check(frame)
    for bad in (frame, other.admit(Voice(other).says(), 0.0), SPEECH):
        with pytest.raises((GateError, TypeError)):
            guard.check(bad)
    assert [(each.reason, each.since, each.at_wire) for each in told] == [
        (Refusal.SEQUENCE, 5.0, True),
        (Refusal.SESSION, 5.0, True),
        (Refusal.UNSEALED, 5.0, True),
    ]
    assert gate.stats.refused.total() == 3
