"""The gate: nothing but checked, marked, recorded frames of its own call leave it."""

from __future__ import annotations

import copy
import hashlib
import pickle
from collections.abc import Callable
from dataclasses import replace

import pytest

from ringtrue.streaming.errors import GateError
from ringtrue.streaming.gate import (
    DigitEvent,
    Draft,
    FrameKind,
    Gate,
    GatePolicy,
    Refusal,
    SealedFrame,
    SealGuard,
    Ticket,
    UtteranceDigest,
)

RATE = 8000
SPEECH = bytes(range(160)) * 2
SILENCE = bytes(320)


class Far:
    """A far end whose last sign of life the test sets."""

    def __init__(self) -> None:
        self.heard: float | None = 0.0

    def __call__(self) -> float | None:
        return self.heard


def make(
    far: Callable[[], float | None] | None = None,
    *,
    call_id: str = "c1",
    digests: list[UtteranceDigest] | None = None,
    watermarker: object = None,
) -> Gate:
    """A gate opened at t=0."""
    return Gate(
        call_id,
        RATE,
        opened_at=0.0,
        last_heard=far or Far(),
        policy=GatePolicy(far_end_timeout=10, far_end_grace=5, max_age=30),
        watermarker=watermarker,  # type: ignore[arg-type]
        on_digest=None if digests is None else digests.append,
    )


def speech(ticket: Ticket | None, seq: int, pcm: bytes = SPEECH, at: float = 0.0) -> Draft:
    """A draft of speech."""
    return Draft(pcm, FrameKind.SPEECH, ticket, seq, at)


def test_a_good_draft_is_sealed_as_it_is() -> None:
    gate = make()
    frame = gate.admit(speech(gate.open_utterance(), 0), 1.0)
    assert (frame.pcm, frame.rate, frame.call_id, frame.kind) == (SPEECH, 8000, "c1", "speech")
    assert frame.talkspurt
    assert not gate.stats.refused


def test_talkspurt_is_set_on_the_first_audible_frame_only() -> None:
    gate = make()
    quiet = Draft(SILENCE, FrameKind.SILENCE, None, 0, 0.0)
    marks = [gate.admit(quiet, 0.0).talkspurt]
    ticket = gate.open_utterance()
    marks += [gate.admit(speech(ticket, n), 0.0).talkspurt for n in range(2)]
    marks.append(gate.admit(quiet, 0.0).talkspurt)
    marks.append(gate.admit(speech(ticket, 2), 0.0).talkspurt)
    assert marks == [False, True, False, False, True]


def refused(gate: Gate, draft: Draft, now: float) -> Refusal:
    """Admit and return the one reason for which silence went out."""
    before = gate.stats.refused.copy()
    frame = gate.admit(draft, now)
    assert frame.pcm == SILENCE
    assert frame.kind is FrameKind.SILENCE
    (reason,) = (gate.stats.refused - before).elements()
    return reason


def test_refuses_another_session() -> None:
    gate, other = make(), make(call_id="c2")
    gate.open_utterance()
    assert refused(gate, speech(other.open_utterance(), 0), 0.0) is Refusal.SESSION


def test_refuses_a_forged_ticket_of_an_earlier_utterance() -> None:
    gate = make()
    old = gate.open_utterance()
    gate.open_utterance()
    assert refused(gate, speech(old, 0), 0.0) is Refusal.STALE_TURN
    assert refused(gate, speech(Ticket("c1", 99), 0), 0.0) is Refusal.STALE_TURN


def test_refuses_after_the_utterance_ended() -> None:
    gate = make()
    ticket = gate.open_utterance()
    gate.end_utterance()
    assert refused(gate, speech(ticket, 0), 0.0) is Refusal.STALE_TURN


def test_refuses_replay_and_reorder() -> None:
    gate = make()
    ticket = gate.open_utterance()
    gate.admit(speech(ticket, 5), 0.0)
    assert refused(gate, speech(ticket, 5), 0.0) is Refusal.SEQUENCE
    assert refused(gate, speech(ticket, 4), 0.0) is Refusal.SEQUENCE
    assert gate.admit(speech(ticket, 6), 0.0).pcm == SPEECH


def test_refuses_stale_audio() -> None:
    gate = make(Far())
    ticket = gate.open_utterance()
    assert refused(gate, speech(ticket, 0, at=0.0), 30.5) is Refusal.EXPIRED


def test_refuses_when_the_far_end_went_quiet_and_recovers() -> None:
    far = Far()
    gate = make(far)
    ticket = gate.open_utterance()
    assert gate.admit(speech(ticket, 0, at=9.9), 9.9).pcm == SPEECH
    assert refused(gate, speech(ticket, 1, at=10.1), 10.1) is Refusal.FAR_END
    far.heard = 10.2
    assert gate.admit(speech(ticket, 2, at=10.2), 10.2).pcm == SPEECH


def test_grants_a_grace_before_anything_was_heard() -> None:
    far = Far()
    far.heard = None
    gate = make(far)
    ticket = gate.open_utterance()
    assert gate.admit(speech(ticket, 0), 4.9).pcm == SPEECH
    assert refused(gate, speech(ticket, 1), 5.1) is Refusal.FAR_END


@pytest.mark.parametrize("pcm", [b"", SPEECH[:-2], SPEECH + b"\0\0", SPEECH[:-1]])
def test_refuses_anything_but_one_frame(pcm: bytes) -> None:
    gate = make()
    assert refused(gate, speech(gate.open_utterance(), 0, pcm), 0.0) is Refusal.FORMAT


def test_refuses_everything_audible_after_close() -> None:
    gate = make()
    ticket = gate.open_utterance()
    gate.close()
    assert refused(gate, speech(ticket, 0), 0.0) is Refusal.CALL_DOWN


def test_sound_without_a_ticket_is_refused_even_when_called_silence() -> None:
    gate = make()
    assert refused(gate, Draft(SPEECH, FrameKind.SILENCE, None, 0, 0.0), 0.0) is Refusal.STALE_TURN
    assert refused(gate, Draft(SPEECH, FrameKind.TONE, None, 0, 0.0), 0.0) is Refusal.STALE_TURN


def test_sound_called_silence_is_refused_with_a_ticket_too() -> None:
    gate = make()
    draft = Draft(SPEECH, FrameKind.SILENCE, gate.open_utterance(), 0, 0.0)
    assert refused(gate, draft, 0.0) is Refusal.FORMAT


def test_a_digit_rides_on_a_digits_frame_only() -> None:
    event = DigitEvent("5", 160, first=True, last=False)
    for kind, digit in ((FrameKind.SPEECH, event), (FrameKind.DIGIT, None)):
        gate = make()
        draft = Draft(SPEECH, kind, gate.open_utterance(), 0, 0.0, digit)
        assert refused(gate, draft, 0.0) is Refusal.FORMAT


class Marker:
    """A watermark stage that answers with what it was made with."""

    id = "test"

    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        self._answer = answer

    def mark(self, pcm: bytes, kind: FrameKind) -> bytes:
        return self._answer(pcm)


def test_what_the_watermarker_returns_is_what_is_sent_and_hashed() -> None:
    digests: list[UtteranceDigest] = []
    gate = make(watermarker=Marker(lambda pcm: pcm[::-1]), digests=digests)
    frame = gate.admit(speech(gate.open_utterance(), 0), 0.0)
    gate.end_utterance()
    assert frame.pcm == SPEECH[::-1]
    assert digests[0].sha256 == hashlib.sha256(SPEECH[::-1]).hexdigest()
    assert digests[0].watermark == "test"


def _fail(pcm: bytes) -> bytes:
    raise OSError("key ring")


@pytest.mark.parametrize("broken", [_fail, lambda pcm: pcm[:-2], lambda pcm: bytearray(pcm)])
def test_a_failing_watermarker_means_silence(broken: Callable[[bytes], bytes]) -> None:
    gate = make(watermarker=Marker(broken))
    assert refused(gate, speech(gate.open_utterance(), 0), 0.0) is Refusal.WATERMARK


def test_digests_chain_over_utterances_and_cover_refused_frames_as_sent() -> None:
    digests: list[UtteranceDigest] = []
    gate = make(digests=digests)
    first = gate.open_utterance()
    gate.admit(speech(first, 0), 0.0)
    gate.admit(speech(first, 0), 0.0)  # a replay: silence goes out in its place
    second = gate.open_utterance()
    gate.admit(speech(second, 0), 0.0)
    gate.close()
    assert [d.samples for d in digests] == [320, 160]
    assert digests[0].sha256 == hashlib.sha256(SPEECH + SILENCE).hexdigest()
    start = hashlib.sha256(b"c1").digest()
    link = hashlib.sha256(start + bytes.fromhex(digests[0].sha256)).digest()
    assert digests[0].chain == link.hex()
    link = hashlib.sha256(link + bytes.fromhex(digests[1].sha256)).digest()
    assert digests[1].chain == link.hex()


def test_an_utterance_of_which_nothing_was_sent_leaves_no_digest() -> None:
    digests: list[UtteranceDigest] = []
    gate = make(digests=digests)
    gate.open_utterance()
    gate.end_utterance()
    gate.end_utterance()
    assert digests == []


def test_sealed_frames_cant_be_made_changed_copied_or_subclassed() -> None:
    gate = make()
    frame = gate.admit(speech(gate.open_utterance(), 0), 0.0)
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
    ticket = gate.open_utterance()
    one, two = (gate.admit(speech(ticket, n), 0.0) for n in range(2))
    stranger = other.admit(speech(other.open_utterance(), 0), 0.0)
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


class Leave:
    """A licence that holds until it is told otherwise, or raises."""

    voice, consent = "v_1", "serial-1"

    def __init__(self, until: float = 1e9) -> None:
        self.until = until

    def holds(self, now: float) -> bool:
        if self.until < 0:
            raise RuntimeError("the register is gone")
        return now < self.until


def licensed(ticket: Ticket | None, seq: int, licence: Leave) -> Draft:
    return replace(speech(ticket, seq), licence=licence)


def test_refuses_a_cloned_voice_whose_licence_does_not_hold() -> None:
    gate = make()
    ticket, licence = gate.open_utterance(), Leave(until=1.0)
    assert gate.admit(licensed(ticket, 0, licence), 0.99).pcm == SPEECH
    assert refused(gate, licensed(ticket, 1, licence), 1.0) is Refusal.CONSENT
    assert gate.admit(speech(ticket, 2), 1.0).pcm == SPEECH


def test_a_licence_that_raises_does_not_hold() -> None:
    gate = make()
    assert refused(gate, licensed(gate.open_utterance(), 0, Leave(-1)), 0.0) is Refusal.CONSENT


def test_the_chain_knows_whose_voice_it_was() -> None:
    def chain(*licences: Leave | None) -> tuple[str | None, str | None, str, str]:
        digests: list[UtteranceDigest] = []
        gate = make(digests=digests)
        ticket = gate.open_utterance()
        for seq, licence in enumerate(licences):
            gate.admit(replace(speech(ticket, seq), licence=licence), 0.0)
        gate.end_utterance()
        (one,) = digests
        return one.voice, one.consent, one.sha256, one.chain

    cloned, stock = chain(Leave(), Leave()), chain(None, None)
    assert cloned[:2] == ("v_1", "serial-1")
    assert stock[:2] == (None, None)
    assert cloned[2] == stock[2]
    assert cloned[3] != stock[3]
    assert chain(Leave(), Leave(until=-1))[:2] == ("v_1", "serial-1")
    assert chain(Leave(until=-1))[:2] == (None, None)
