"""Sealed frames, and the guard every leg has."""

from __future__ import annotations

import copy
import pickle

import pytest
from gates import SPEECH, Voice, make

from ringtrue.streaming.errors import GateError
from ringtrue.streaming.gate import (
    Refusal,
    SealedFrame,
    SealGuard,
)
from ringtrue.streaming.refusals import RefusalReport


def test_sealed_frames_cant_be_made_changed_copied_or_subclassed() -> None:
    gate = make()
    frame = gate.admit(Voice(gate).says(), 0.0)
    with pytest.raises(GateError):
        SealedFrame(SPEECH, 8000)
    with pytest.raises(AttributeError):
        frame.pcm = b""
    with pytest.raises(AttributeError):
        del frame.pcm
    with pytest.raises(TypeError):
        copy.copy(frame)
    with pytest.raises(TypeError):
        pickle.dumps(frame)
    with pytest.raises(TypeError):
        type("Forged", (SealedFrame,), {})


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


@pytest.mark.parametrize("forged", [SPEECH, None, object(), object.__new__(SealedFrame)])
def test_the_guard_refuses_everything_else(forged: object) -> None:
    with pytest.raises(TypeError):
        SealGuard().check(forged)


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
