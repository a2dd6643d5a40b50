"""The gate: nothing but checked, marked, recorded frames of its own call leave it."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from gates import RATE, SILENCE, SPEECH, Far, Leave, Voice, make, refused
from hypothesis import given
from hypothesis import strategies as st

from ringtrue.streaming.gate import (
    DigitEvent,
    Draft,
    FrameKind,
    Piece,
    Refusal,
    Ticket,
    UtteranceDigest,
)
from ringtrue.streaming.ports import Licence
from ringtrue.streaming.provenance import unsealed


def test_a_good_draft_is_sealed_as_it_is() -> None:
    gate = make()
    frame = gate.admit(Voice(gate).says(), 1.0)
    assert (frame.pcm, frame.rate, frame.call_id, frame.kind) == (SPEECH, 8000, "c1", "speech")
    assert frame.talkspurt
    assert not gate.stats.refused


def test_talkspurt_is_set_on_the_first_audible_frame_only() -> None:
    gate = make()
    marks = [gate.admit(Draft(), 0.0).talkspurt]
    voice = Voice(gate)
    marks += [gate.admit(voice.says(), 0.0).talkspurt for _ in range(2)]
    marks.append(gate.admit(Draft(), 0.0).talkspurt)
    marks.append(gate.admit(voice.says(), 0.0).talkspurt)
    assert marks == [False, True, False, False, True]


@given(st.lists(st.integers(1, 1599), max_size=8))
def test_frames_are_put_together_from_chunks_of_any_length(cuts: list[int]) -> None:
    pcm = np.random.default_rng(len(cuts)).integers(1, 9999, 1600, np.int16).tobytes()
    gate = make()
    voice = Voice(gate)
    edges = [0, *sorted({2 * cut for cut in cuts}), len(pcm)]
    chunks = deque(voice.sealer.seal(pcm[a:b], 0.0) for a, b in pairwise(edges))
    sent, offset = b"", 0
    while chunks:
        pieces, need = [], 320
        while need and chunks:
            stop = min(len(chunks[0].pcm), offset + need)
            pieces.append(Piece(chunks[0], offset, stop))
            need, offset = need - (stop - offset), stop
            if stop == len(chunks[0].pcm):
                chunks.popleft()
                offset = 0
        sent += gate.admit(Draft(voice.ticket, tuple(pieces)), 0.0).pcm
    assert sent == pcm
    assert not gate.stats.refused


@pytest.mark.parametrize(
    "pieces",
    [(None,), ((None, 0, 320),), (object(),), ((b"", 0, 320), 1)],
    ids=["none", "no-chunk", "object", "bytes"],
)
def test_a_draft_of_something_else_holds_nothing_up(pieces: Any) -> None:
    gate = make()
    assert refused(gate, Draft(gate.open_utterance(), pieces), 0.0) is Refusal.UNSEALED


def test_refuses_a_forged_ticket_and_one_of_an_earlier_utterance() -> None:
    gate = make()
    voice = Voice(gate)
    old = voice.ticket
    gate.open_utterance()
    for ticket in (old, Ticket("c1", 99), None):
        draft = Draft.whole(ticket, voice.sealer.seal(SPEECH, 0.0))
        assert refused(gate, draft, 0.0) is Refusal.STALE_TURN


def test_refuses_after_the_utterance_ended() -> None:
    gate = make()
    voice = Voice(gate)
    gate.end_utterance()
    assert refused(gate, voice.says(), 0.0) is Refusal.STALE_TURN


def test_refuses_to_say_a_part_of_a_chunk_twice() -> None:
    gate = make()
    voice = Voice(gate)
    chunk = voice.sealer.seal(SPEECH * 3, 0.0)

    def part(start: int, stop: int) -> Draft:
        return Draft(voice.ticket, (Piece(chunk, start, stop),))

    assert gate.admit(part(0, 320), 0.0).pcm == SPEECH
    assert refused(gate, part(0, 320), 0.0) is Refusal.SEQUENCE
    assert refused(gate, part(318, 638), 0.0) is Refusal.SEQUENCE
    assert gate.admit(part(320, 640), 0.0).pcm == SPEECH
    twice = Draft(voice.ticket, (Piece(chunk, 640, 800), Piece(chunk, 640, 800)))
    assert refused(gate, twice, 0.0) is Refusal.SEQUENCE


def test_refuses_stale_audio_whatever_queue_it_comes_from() -> None:
    gate = make(Far())
    assert refused(gate, Voice(gate).says(at=0.0), 30.5) is Refusal.EXPIRED


def test_refuses_when_the_far_end_went_quiet_and_recovers() -> None:
    far = Far()
    gate = make(far)
    voice = Voice(gate)
    assert gate.admit(voice.says(at=9.9), 9.9).pcm == SPEECH
    assert refused(gate, voice.says(at=10.1), 10.1) is Refusal.FAR_END
    far.heard = 10.2
    assert gate.admit(voice.says(at=10.2), 10.2).pcm == SPEECH


def test_grants_a_grace_before_anything_was_heard() -> None:
    far = Far()
    far.heard = None
    gate = make(far)
    voice = Voice(gate)
    assert gate.admit(voice.says(), 4.9).pcm == SPEECH
    assert refused(gate, voice.says(), 5.1) is Refusal.FAR_END


@pytest.mark.parametrize(("start", "stop"), [(0, 322), (0, 0), (2, 1), (0, 319), (0, 400)])
def test_refuses_anything_but_one_frame(start: int, stop: int) -> None:
    gate = make()
    voice = Voice(gate)
    chunk = voice.sealer.seal(SPEECH + b"\1\0", 0.0)
    draft = Draft(voice.ticket, (Piece(chunk, start, stop),))
    assert refused(gate, draft, 0.0) is Refusal.FORMAT


def test_what_is_short_is_filled_up_with_silence() -> None:
    gate = make()
    assert gate.admit(Voice(gate).says(SPEECH[:100]), 0.0).pcm == SPEECH[:100] + bytes(220)


def test_refuses_a_frame_of_two_kinds_or_licences() -> None:
    for fields in ({"kind": FrameKind.TONE}, {"licence": Leave()}):
        gate = make()
        voice = Voice(gate)
        one, two = voice.sealer.seal(SPEECH, 0.0), voice.sealer.seal(SPEECH, 0.0, **fields)
        draft = Draft(voice.ticket, (Piece(one, 0, 160), Piece(two, 0, 160)))
        assert refused(gate, draft, 0.0) is Refusal.FORMAT


def test_refuses_everything_audible_after_close() -> None:
    gate = make()
    voice = Voice(gate)
    gate.close()
    assert refused(gate, voice.says(), 0.0) is Refusal.CALL_DOWN
    gate.admit(Draft(), 0.0)
    assert gate.stats.refused == {Refusal.CALL_DOWN: 1}


def test_silence_is_what_the_gate_makes_itself() -> None:
    gate = make()
    voice = Voice(gate)
    assert refused(gate, voice.says(kind=FrameKind.SILENCE), 0.0) is Refusal.FORMAT
    assert refused(gate, Draft(voice.ticket), 0.0) is Refusal.FORMAT


def test_a_digit_rides_on_a_digits_frame_only() -> None:
    event = DigitEvent("5", 160, first=True, last=False)
    for kind, digit in ((FrameKind.SPEECH, event), (FrameKind.DIGIT, None)):
        gate = make()
        assert refused(gate, Voice(gate).says(kind=kind, digit=digit), 0.0) is Refusal.FORMAT


class Marker:
    """A watermark stage that answers with what it was made with."""

    id = "test"

    def __init__(self, answer: Callable[[bytes, FrameKind], bytes]) -> None:
        self._answer = answer

    def mark(self, pcm: bytes, kind: FrameKind) -> bytes:
        return self._answer(pcm, kind)


def test_what_the_watermarker_returns_is_what_is_sent_and_hashed() -> None:
    digests: list[UtteranceDigest] = []
    gate = make(watermarker=Marker(lambda pcm, _: pcm[::-1]), digests=digests)
    frame = gate.admit(Voice(gate).says(), 0.0)
    gate.end_utterance()
    assert frame.pcm == SPEECH[::-1]
    assert digests[0].sha256 == hashlib.sha256(SPEECH[::-1]).hexdigest()
    assert digests[0].watermark == "test"


def _fail(pcm: bytes, kind: FrameKind) -> bytes:
    raise OSError("key ring")


@pytest.mark.parametrize("broken", [_fail, lambda pcm, _: pcm[:-2], lambda pcm, _: bytearray(pcm)])
def test_a_failing_watermarker_means_silence(broken: Callable[[bytes, FrameKind], bytes]) -> None:
    gate = make(watermarker=Marker(broken))
    assert refused(gate, Voice(gate).says(), 0.0) is Refusal.WATERMARK


def test_what_is_refused_is_replaced_by_marked_comfort_noise() -> None:
    comfort = b"\3\0" * 160
    kinds: list[FrameKind] = []

    def mark(pcm: bytes, kind: FrameKind) -> bytes:
        kinds.append(kind)
        return comfort if pcm == SILENCE else pcm

    gate = make(watermarker=Marker(mark))
    ticket = gate.open_utterance()
    frame = gate.admit(Draft.whole(ticket, unsealed(SPEECH, RATE, 0.0)), 0.0)
    assert (frame.pcm, frame.kind, frame.digit) == (comfort, FrameKind.SILENCE, None)
    assert kinds == [FrameKind.SILENCE]


def test_digests_chain_over_utterances_and_cover_refused_frames_as_sent() -> None:
    digests: list[UtteranceDigest] = []
    gate = make(digests=digests)
    first = Voice(gate).says()
    gate.admit(first, 0.0)
    gate.admit(first, 0.0)  # a replay: silence goes out in its place
    gate.admit(Voice(gate).says(), 0.0)
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


def test_refuses_a_cloned_voice_whose_licence_does_not_hold() -> None:
    gate = make()
    voice, licence = Voice(gate), Leave(until=1.0)
    assert gate.admit(voice.says(licence=licence), 0.99).pcm == SPEECH
    assert refused(gate, voice.says(licence=licence), 1.0) is Refusal.CONSENT
    assert gate.admit(voice.says(), 1.0).pcm == SPEECH


def test_a_licence_that_raises_does_not_hold() -> None:
    gate = make()
    assert refused(gate, Voice(gate).says(licence=Leave(-1)), 0.0) is Refusal.CONSENT


def test_the_chain_knows_whose_voice_it_was() -> None:
    def chain(*licences: Leave | None) -> tuple[str | None, str | None, str, str]:
        digests: list[UtteranceDigest] = []
        gate = make(digests=digests)
        voice = Voice(gate)
        for licence in licences:
            gate.admit(voice.says(licence=licence), 0.0)
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


class Watch:
    """Listens to a cloned voice, and vouches for it until told otherwise."""

    def __init__(self) -> None:
        self.good = True
        self.pcm = b""

    def vouches(self, licence: Licence) -> bool:
        return self.good

    def heard(self, pcm: bytes, licence: Licence) -> None:
        self.pcm += pcm


def test_a_cloned_voice_that_is_not_vouched_for_is_refused_and_others_are_not() -> None:
    watch = Watch()
    gate = make(watch=watch)
    voice, licence = Voice(gate), Leave()
    assert gate.admit(voice.says(licence=licence), 0.0).pcm == SPEECH
    gate.admit(voice.says(), 0.0)
    gate.admit(Draft(), 0.0)
    assert watch.pcm == SPEECH  # what was sent in the cloned voice, nothing else
    watch.good = False
    assert refused(gate, voice.says(licence=licence), 0.0) is Refusal.LIKENESS
    assert gate.admit(voice.says(), 0.0).pcm == SPEECH
