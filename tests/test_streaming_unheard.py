"""A far end that plays late: a pause takes back what it has not played, and says it afterwards."""

from __future__ import annotations

import asyncio
import random
from collections import deque

import numpy as np
import pytest
from gates import SPEECH, Leave, Voice, make, refused
from hypothesis import given, settings
from hypothesis import strategies as st
from legs import ScriptedLeg
from test_streaming_hold import Rig, speech

from ringtrue.streaming.drafts import Draft, Piece
from ringtrue.streaming.gate import GatePolicy, Refusal, SealedFrame
from ringtrue.streaming.playout import Playout
from ringtrue.streaming.playout_steps import Cut
from ringtrue.streaming.ports import Confirming
from ringtrue.streaming.recording import StereoChunk, StereoTap
from ringtrue.streaming.unheard import MAX_FRAMES

pytestmark = pytest.mark.virtual_time

RATE = 8000
FRAME = 160
GRAIN = 3 * FRAME
"""How exactly it confirms by itself: as Twilio's marks do."""


class LateLeg(ScriptedLeg):
    """Plays what it is sent ``lag`` frames later, until it is told to drop it."""

    def __init__(self, lag: int) -> None:
        super().__init__(RATE, confirms=True)
        self._queue: deque[tuple[bytes, int]] = deque([(bytes(2 * FRAME), 0)] * lag)
        self._position = 0
        self.audible: list[bytes] = []

    def send(self, frame: SealedFrame, now: float) -> None:
        super().send(frame, now)
        self._queue.append((frame.pcm, len(self.sent) * FRAME))
        pcm, self._position = self._queue.popleft()
        self.audible.append(pcm)
        self.played = max(self.played, self._position // GRAIN * GRAIN)

    def played_by(self, now: float) -> int:
        return self._position

    def clear(self) -> None:
        super().clear()
        self._queue.clear()

    def words(self) -> bytes:
        """What was heard, without the silence of whole frames."""
        return b"".join(pcm for pcm in self.audible if any(pcm))


def late(lag: int) -> tuple[Rig, LateLeg]:
    leg = LateLeg(lag)
    assert isinstance(leg, Confirming)
    return Rig(leg), leg


def marks(rig: Rig, step: int, seconds: float) -> None:
    """A mark each ``step`` samples of what is said."""
    for at in range(step, int(seconds * RATE) + 1, step):
        rig.session.playout.mark(at, at=at)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("lag", [0, 1, 7, 40])
async def test_however_often_it_pauses_every_sample_is_heard_once(lag: int, seed: int) -> None:
    rng = random.Random(seed)
    rig, leg = late(lag)
    words = speech(4.0)
    rig.say(words)
    playout = rig.session.playout
    for _ in range(6):
        rig.tick(rng.randint(1, 40))
        playout.pause(rig.now)
        before = len(leg.audible)
        rig.tick(rng.randint(1, 30))
        if playout.paused:
            assert not any(b"".join(leg.audible[before + 1 :])), "it stopped within a frame"
        playout.resume()
    rig.tick(400)
    assert leg.words()[: len(words)] == words
    assert not any(leg.words()[len(words) :])
    assert rig.session.gate.stats.refused == {}
    assert playout.underruns == 0
    assert playout.pending_seconds == 0


async def test_words_count_as_heard_when_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """Marks of what was taken back wait for their audio again, in their places."""
    rig, leg = late(25)
    rig.say(speech(2.0))
    playout = rig.session.playout
    released: list[tuple[int, int]] = []
    step = Playout.take

    def taken(*args: object) -> object:
        result = step(*args)  # type: ignore[arg-type]
        released.extend((int(mark), leg.played_by(0.0)) for mark in result.heard)  # type: ignore[call-overload]
        result.heard.clear()
        return result

    monkeypatch.setattr(Playout, "take", taken)
    rig.session.playout._queue[-1].finished = False
    marks(rig, 1000, 2.0)
    playout.finish()
    spoken = 0
    for _ in range(3):
        rig.tick(30)
        playout.pause(rig.now)
        rig.tick(20)
        spoken = len(leg.words()) // 2
        assert all(mark <= spoken for mark, _ in released)
        playout.resume()
    rig.tick(200)
    assert [mark for mark, _ in released] == list(range(1000, 16001, 1000))


async def test_an_interruption_after_a_pause_keeps_what_was_played() -> None:
    rig, leg = late(25)
    rig.say(speech(3.0))
    rig.tick(60)
    playout = rig.session.playout
    playout.pause(rig.now)
    rig.tick(10)
    heard = len(leg.words()) // 2
    assert heard == 35 * FRAME, "not the 25 frames that were still to be played"
    cut: Cut[object] = playout.cut(leg.heard_position())
    assert cut.heard_samples == heard
    assert cut.dropped_samples == 3 * RATE - heard


async def test_what_is_not_all_of_one_utterance_is_left_to_sound() -> None:
    rig, leg = late(25)
    rig.say(speech(0.3))
    rig.say(speech(2.0))
    rig.tick(20)
    rig.session.playout.pause(rig.now)
    rig.tick(30)
    assert leg.cleared == 0
    rig.session.playout.resume()
    rig.tick(200)
    assert leg.words()[: 2 * int(2.3 * RATE)] == speech(0.3) + speech(2.0)


async def test_a_far_end_that_never_tells_is_left_alone() -> None:
    rig, leg = late(5)
    leg.played_by = lambda now: None  # type: ignore[method-assign, assignment, return-value]
    rig.say(speech(1.0))
    rig.tick(20)
    rig.session.playout.pause(rig.now)
    rig.tick(20)
    assert leg.cleared == 0
    assert rig.session.playout.rewind(0) != [], "though playout would know"


async def test_the_far_end_holds_more_than_is_remembered() -> None:
    """What is older counts as heard: it is not said again."""
    rig, leg = late(MAX_FRAMES + 50)
    rig.session.gate._policy = GatePolicy()
    rig.say(speech(8.0))
    rig.tick(MAX_FRAMES + 20)
    rig.session.playout.pause(rig.now)
    rig.tick(10)
    rig.session.playout.resume()
    rig.tick(800)
    assert leg.words()[: 2 * 8 * RATE] == speech(8.0)[2 * 20 * FRAME :]


# -- the gate ------------------------------------------------------------------------------------


def pieces(*drafts: Draft) -> list[Piece]:
    return [piece for draft in drafts for piece in draft.pieces]


def test_what_was_dropped_unheard_passes_once_more_and_in_order_only() -> None:
    gate = make()
    voice = Voice(gate)
    one, two, three = voice.says(), voice.says(), voice.says()
    for draft in (one, two, three):
        assert gate.admit(draft, 0.0).pcm == SPEECH
    assert refused(gate, two, 0.1) is Refusal.SEQUENCE
    gate.give_back(pieces(two, three))
    assert refused(gate, three, 0.2) is Refusal.SEQUENCE, "the second comes first"
    for draft in (two, three):
        assert gate.admit(draft, 0.3).pcm == SPEECH
    for draft in (one, two, three):
        assert refused(gate, draft, 0.4) is Refusal.SEQUENCE
    assert gate.admit(voice.says(), 0.5).pcm == SPEECH


def test_part_of_a_chunk_is_given_back_to_the_sample() -> None:
    gate = make()
    ticket, sealer = Voice(gate).ticket, gate.provenance.utterance()
    chunk = sealer.seal(SPEECH * 3, 0.0)

    def part(start: int, stop: int) -> Draft:
        return Draft(ticket, (Piece(chunk, start, stop),))

    gate.admit(part(0, 320), 0.0)
    gate.admit(part(320, 640), 0.0)
    gate.give_back([Piece(chunk, 100, 640)])
    assert refused(gate, part(98, 418), 0.0) is Refusal.SEQUENCE
    assert gate.admit(part(100, 420), 0.0).pcm == (SPEECH * 3)[100:420]
    assert refused(gate, part(400, 720), 0.0) is Refusal.SEQUENCE
    assert gate.admit(part(420, 740), 0.0).pcm == (SPEECH * 3)[420:740]


@pytest.mark.parametrize("ends", ["cut", "withdrawn", "followed"])
def test_leave_to_be_heard_again_ends(ends: str) -> None:
    """With the turn, with the voice's consent, and with what comes behind it."""
    gate, leave = make(), Leave(until=1.0)
    voice = Voice(gate)
    draft, behind = voice.says(licence=leave), voice.says(licence=leave)
    gate.admit(draft, 0.0)
    gate.give_back(pieces(draft))
    if ends == "cut":
        gate.cut()
        voice.ticket = gate.open_utterance()
        assert refused(gate, draft, 0.5) is Refusal.STALE_TURN
    elif ends == "withdrawn":
        assert refused(gate, draft, 2.0) is Refusal.CONSENT
    else:
        assert gate.admit(behind, 0.5).pcm == SPEECH
        assert refused(gate, draft, 0.5) is Refusal.SEQUENCE


def test_what_never_passed_is_not_let_in_by_being_given_back() -> None:
    gate = make()
    voice = Voice(gate)
    gate.admit(voice.says(), 0.0)
    later = voice.says()
    gate.give_back(pieces(later))
    assert refused(gate, later, 0.0) is Refusal.STALE_TURN
    other = Voice(make(call_id="c2")).says()
    gate.give_back(pieces(other))
    assert refused(gate, other, 0.0) is Refusal.SESSION


# -- the recording -------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 4000))
def test_the_recording_has_nothing_of_what_was_dropped(samples: int) -> None:
    chunks: list[StereoChunk] = []
    tap = StereoTap(RATE, chunks.append)
    for number in range(1, 41):
        tap.heard(bytes(2 * FRAME), ())
        tap.sent(np.full(FRAME, number, "<i2").tobytes(), number * 0.02)
    tap.unheard(samples)
    tap.close()
    agent = np.frombuffer(b"".join(chunk.agent for chunk in chunks), "<i2")
    assert len(agent) == 40 * FRAME
    kept = len(agent) - samples
    assert np.all(agent[:kept] > 0)
    assert not np.any(agent[kept:])


async def test_a_recording_of_a_paused_call_is_what_was_heard() -> None:
    rig, leg = late(25)
    chunks: list[StereoChunk] = []
    rig.session._tap = StereoTap(RATE, chunks.append)
    words = speech(2.0)
    rig.say(words)
    rig.tick(60)
    rig.session.playout.pause(rig.now)
    rig.tick(30)
    rig.session.playout.resume()
    rig.tick(100)
    rig.session._tap.close()
    agent = b"".join(chunk.agent for chunk in chunks)
    frames = (agent[at : at + 2 * FRAME] for at in range(0, len(agent), 2 * FRAME))
    assert b"".join(frame for frame in frames if any(frame))[: len(words)] == words
    await asyncio.sleep(0)
