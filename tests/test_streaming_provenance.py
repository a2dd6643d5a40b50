"""Seals: what was not made here, for this call and turn, is not heard."""

from __future__ import annotations

from typing import Any

import pytest
from gates import RATE, SPEECH, Leave, Voice, make, refused

from ringtrue.streaming.gate import (
    DigitEvent,
    Draft,
    FrameKind,
    Refusal,
)
from ringtrue.streaming.provenance import Lane, unsealed


def test_refuses_another_session_however_it_is_dressed_up() -> None:
    gate, other = make(), make(call_id="c2")
    mine, foreign = Voice(gate), Voice(other)
    chunk = foreign.sealer.seal(SPEECH, 0.0)
    assert refused(gate, Draft.whole(foreign.ticket, chunk), 0.0) is Refusal.SESSION
    assert refused(gate, Draft.whole(mine.ticket, chunk), 0.0) is Refusal.SESSION
    renamed = chunk._replace(session="c1")
    assert refused(gate, Draft.whole(mine.ticket, renamed), 0.0) is Refusal.UNSEALED
    own = mine.sealer.seal(SPEECH, 0.0)
    assert refused(gate, Draft.whole(foreign.ticket, own), 0.0) is Refusal.SESSION


def test_two_gates_of_one_call_id_have_nothing_in_common() -> None:
    gate, twin = make(), make()
    ticket, chunk = gate.open_utterance(), Voice(twin).sealer.seal(SPEECH, 0.0)
    assert refused(gate, Draft.whole(ticket, chunk), 0.0) is Refusal.UNSEALED


def test_refuses_what_nobody_sealed() -> None:
    gate = make()
    ticket = gate.open_utterance()
    assert refused(gate, Draft.whole(ticket, unsealed(SPEECH, RATE, 0.0)), 0.0) is Refusal.UNSEALED


@pytest.mark.parametrize(
    "change",
    [
        {"pcm": SPEECH[::-1]},
        {"pcm": bytearray(SPEECH)},
        {"pcm": SPEECH[:-2]},
        {"made_at": 99.0},
        {"seq": 7},
        {"seq": -1},
        {"utterance": 2},
        {"lane": Lane.TONES},
        {"lane": 9},
        {"kind": FrameKind.TONE},
        {"kind": "?"},
        {"rate": 16000},
        {"digit": DigitEvent("5", 160, True, False)},
        {"licence": None},
        {"tag": bytes(16)},
        {"tag": b"x"},
        {"tag": b""},
        {"tag": None},
    ],
    ids=str,
)
def test_a_seal_fits_nothing_but_what_was_sealed(change: dict[str, Any]) -> None:
    gate = make()
    voice = Voice(gate)
    chunk = voice.sealer.seal(SPEECH, 0.0, licence=Leave())
    forged = chunk._replace(**change)
    assert refused(gate, Draft.whole(voice.ticket, forged), 0.0) is Refusal.UNSEALED
    assert gate.admit(Draft.whole(voice.ticket, chunk), 0.0).pcm == SPEECH


def test_refuses_what_was_made_before_the_turn_was_cut() -> None:
    gate = make()
    voice = Voice(gate)
    gate.admit(voice.says(), 0.0)
    waiting, unopened = voice.says(), gate.provenance.utterance().seal(SPEECH, 0.0)
    gate.provenance.supersede()
    answer = gate.provenance.utterance().seal(SPEECH, 0.0)  # begun before the cut came through
    gate.cut()
    ticket = gate.open_utterance()
    for chunk in (waiting.pieces[0].chunk, unopened, voice.sealer.seal(SPEECH, 0.0)):
        assert refused(gate, Draft.whole(ticket, chunk), 0.0) is Refusal.STALE_TURN
    assert gate.admit(Draft.whole(ticket, answer), 0.0).pcm == SPEECH


def test_refuses_an_utterance_after_a_later_one_but_not_after_a_tone() -> None:
    gate = make()
    ticket = gate.open_utterance()
    early, late = (gate.provenance.utterance() for _ in range(2))
    tone = gate.provenance.utterance(Lane.TONES)
    for sealer, kind in ((early, FrameKind.SPEECH), (tone, FrameKind.TONE)):
        gate.admit(Draft.whole(ticket, sealer.seal(SPEECH, 0.0, kind=kind)), 0.0)
    assert gate.admit(Draft.whole(ticket, early.seal(SPEECH, 0.0)), 0.0).pcm == SPEECH
    assert gate.admit(Draft.whole(ticket, late.seal(SPEECH, 0.0)), 0.0).pcm == SPEECH
    assert refused(gate, Draft.whole(ticket, early.seal(SPEECH, 0.0)), 0.0) is Refusal.STALE_TURN


def test_refuses_replay_and_reorder() -> None:
    gate = make()
    voice = Voice(gate)
    first, second, third = (voice.says() for _ in range(3))
    gate.admit(second, 0.0)
    assert refused(gate, second, 0.0) is Refusal.SEQUENCE
    assert refused(gate, first, 0.0) is Refusal.SEQUENCE
    assert gate.admit(third, 0.0).pcm == SPEECH
    assert refused(gate, second, 0.0) is Refusal.SEQUENCE
