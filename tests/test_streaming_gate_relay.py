"""What the gate lets through from other calls: people, live, once, unmarked, and nothing made."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pytest
from gates import RATE, SILENCE, SPEECH, Far, Voice, make

from ringtrue.streaming.gate import (
    RELAY_DIGEST_SECONDS,
    RELAY_MAX_AGE,
    Draft,
    FrameKind,
    Refusal,
    UtteranceDigest,
)
from ringtrue.streaming.provenance import Chunk, Lane

OTHER = np.full(160, 700, "<i2").tobytes()


@dataclass
class Elsewhere:
    """The far end of another call."""

    call: str = "c2"
    there: bool = True

    def live(self, now: float) -> bool:
        return self.there


class Mark:
    id = "seen"

    def mark(self, pcm: bytes, kind: FrameKind) -> bytes:
        return (np.frombuffer(pcm, "<i2") + np.int16(8)).astype("<i2").tobytes()


def test_it_is_sent_as_it_came_without_a_mark() -> None:
    gate = make(watermarker=Mark())
    frame = gate.admit(Draft(), 1.0, gate.provenance.relay().seal(OTHER, 1.0, Elsewhere()))
    assert (frame.pcm, frame.kind, frame.talkspurt) == (OTHER, FrameKind.RELAY, True)
    frame = gate.admit(Draft(), 1.02)
    assert (frame.pcm[:2], frame.kind) == (b"\x08\x00", FrameKind.SILENCE)


def test_speech_keeps_its_mark_beneath_it() -> None:
    gate = make(watermarker=Mark())
    voice, relay = Voice(gate), gate.provenance.relay()
    frame = gate.admit(voice.says(), 0.0, relay.seal(OTHER, 0.0, Elsewhere()))
    expected = np.clip(np.frombuffer(SPEECH, "<i2").astype(int) + 8 + 700, -32768, 32767)
    assert np.array_equal(np.frombuffer(frame.pcm, "<i2"), expected)
    assert frame.kind is FrameKind.SPEECH


@pytest.mark.parametrize("lane", [Lane.SPEECH, Lane.TONES, Lane.HOLD])
def test_what_was_made_here_is_not_relayed(lane: Lane) -> None:
    gate = make()
    sealer = gate.provenance.utterance(lane)
    with pytest.raises(ValueError, match="made here"):
        sealer.seal(OTHER, 0.0, kind=FrameKind.RELAY)
    made = sealer.seal(OTHER, 0.0)
    assert gate.admit(Draft(), 0.0, made).pcm == SILENCE
    for forged in (
        made._replace(kind=FrameKind.RELAY, lane=Lane.RELAY, origin=Elsewhere()),
        made._replace(kind=FrameKind.RELAY),
    ):
        assert gate.admit(Draft(), 0.0, forged).pcm == SILENCE
    assert gate.stats.refused == {Refusal.FORMAT: 1, Refusal.UNSEALED: 2}
    with pytest.raises(ValueError, match=r"Provenance\.relay"):
        gate.provenance.utterance(Lane.RELAY)


def test_what_is_relayed_is_no_speech_of_ours() -> None:
    gate = make()
    chunk = gate.provenance.relay().seal(OTHER, 0.0, Elsewhere())
    assert gate.admit(Draft.whole(gate.open_utterance(), chunk), 0.0).pcm == SILENCE
    assert gate.stats.refused == {Refusal.FORMAT: 1}


def test_it_is_of_this_call_once_live_and_from_somebody_there() -> None:
    gate, other, far = make(), make(call_id="c9"), Far()
    relay, origin = gate.provenance.relay(), Elsewhere()
    chunk = relay.seal(OTHER, 1.0, origin)
    assert gate.admit(Draft(), 1.0, chunk).pcm == OTHER
    bad = {
        Refusal.SEQUENCE: chunk,
        Refusal.SESSION: other.provenance.relay().seal(OTHER, 1.0, origin),
        Refusal.EXPIRED: relay.seal(OTHER, 1.0 - RELAY_MAX_AGE - 0.01, origin),
        Refusal.UNSEALED: relay.seal(OTHER, 1.0, origin)._replace(pcm=SPEECH),
        Refusal.ORIGIN: relay.seal(OTHER, 1.0, Elsewhere(there=False)),
        Refusal.FORMAT: relay.seal(OTHER + OTHER, 1.0, origin),
    }
    for reason, offered in bad.items():
        assert gate.admit(Draft(), 1.0, offered).kind is FrameKind.SILENCE
        assert gate.stats.refused[reason] == 1, reason
    renamed = relay.seal(OTHER, 1.0, origin)._replace(origin=Elsewhere("c3"))
    assert gate.admit(Draft(), 1.0, renamed).kind is FrameKind.SILENCE
    assert gate.stats.refused[Refusal.UNSEALED] == 2

    lonely = make(far)
    late = lonely.provenance.relay().seal(OTHER, 10.5, origin)
    assert lonely.admit(Draft(), 10.5, late).pcm == SILENCE
    assert lonely.stats.refused == {Refusal.FAR_END: 1}
    lonely.close()
    last = lonely.provenance.relay().seal(OTHER, 10.5, origin)
    assert lonely.admit(Draft(), 10.5, last).pcm == SILENCE
    assert lonely.stats.refused[Refusal.CALL_DOWN] == 1


def test_an_origin_that_breaks_is_nobody() -> None:
    class Broken(Elsewhere):
        def live(self, now: float) -> bool:
            raise RuntimeError("gone")

    gate = make()
    chunk = gate.provenance.relay().seal(OTHER, 0.0, Broken())
    assert gate.admit(Draft(), 0.0, chunk).pcm == SILENCE
    assert gate.stats.refused == {Refusal.UNSEALED: 1}


def test_a_mark_that_fails_silences_the_agent_and_not_the_people() -> None:
    class Failing(Mark):
        def mark(self, pcm: bytes, kind: FrameKind) -> bytes:
            raise RuntimeError("no mark")

    gate = make(watermarker=Failing())
    voice, relay = Voice(gate), gate.provenance.relay()
    frame = gate.admit(voice.says(), 0.0, relay.seal(OTHER, 0.0, Elsewhere()))
    assert (frame.pcm, frame.kind) == (OTHER, FrameKind.RELAY)
    assert gate.stats.refused == {Refusal.WATERMARK: 1}


def test_it_is_digested_as_what_it_is() -> None:
    digests: list[UtteranceDigest] = []
    gate = make(digests=digests, watermarker=Mark())
    relay, at = gate.provenance.relay(), 0.0

    def pass_on() -> Chunk:
        return relay.seal(OTHER, at, Elsewhere())

    for _ in range(50):
        gate.admit(Draft(), at, pass_on())
    voice = Voice(gate)
    gate.admit(voice.says(at=at), at, pass_on())
    gate.end_utterance()
    gate.admit(Draft(), at, pass_on())
    gate.end_utterance()
    assert [(d.samples, d.made_here, d.relayed, d.watermark) for d in digests] == [
        (50 * 160, False, "c2", "none"),
        (160, True, "c2", "seen"),
        (160, False, "c2", "none"),
    ]
    assert digests[0].sha256 == hashlib.sha256(OTHER * 50).hexdigest()
    for _ in range(RELAY_DIGEST_SECONDS * RATE // 160 + 1):
        gate.admit(Draft(), at, pass_on())
    assert digests[-1].samples == RELAY_DIGEST_SECONDS * RATE
