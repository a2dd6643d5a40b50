"""A call on hold, from either side: speech rests and goes on at its very next sample."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from legs import ScriptedLeg

from ringtrue.streaming.clock import TICK
from ringtrue.streaming.gate import FrameKind, GatePolicy, Unmarked, UtteranceDigest
from ringtrue.streaming.hold import HoldMusic, melody
from ringtrue.streaming.ports import Holdable, frame_bytes
from ringtrue.streaming.record import CallRecord
from ringtrue.streaming.session import BLOCK_FRAMES, CallSession

pytestmark = pytest.mark.virtual_time

RATE = 8000
MAX_AGE = 5.0


class HeldLeg(ScriptedLeg):
    """A leg whose far end can put us on hold; what it gets then is not sent."""

    held = False


class Rig:
    """A session without a graph, ticked by hand."""

    def __init__(self, leg: ScriptedLeg) -> None:
        self.leg = leg
        self.heard: list[bytes] = []
        self.digits: list[str] = []
        self.digests: list[UtteranceDigest] = []
        self.now = asyncio.get_running_loop().time()
        record = CallRecord("call-1", "sip", "outbound", "test", RATE, self.now)
        self.session = CallSession(
            leg,
            record,
            hear=self._hear,
            on_digit=self._digit,
            on_digest=self.digests.append,
            policy=GatePolicy(max_age=MAX_AGE),
            watermarker=Unmarked(),
        )

    async def _hear(self, pcm: bytes) -> None:
        self.heard.append(pcm)

    async def _digit(self, digit: str) -> None:
        self.digits.append(digit)

    def say(self, pcm: bytes) -> None:
        sealer = self.session.gate.provenance.utterance()
        self.session.playout.begin("words")
        for at in range(0, len(pcm), 1111 * 2):  # chunks that are no whole frames
            self.session.playout.write(sealer.seal(pcm[at : at + 1111 * 2], self.now))
        self.session.playout.finish()

    def tick(self, count: int) -> bytes:
        """Run ``count`` ticks; returns what went to the leg."""
        before = len(self.leg.sent)
        for _ in range(count):
            self.now += TICK
            self.session.tick_in(self.now)
            self.session.tick_out(self.now)
        return b"".join(frame.pcm for frame in self.leg.sent[before:])

    def kinds(self, count: int) -> set[FrameKind]:
        return {frame.kind for frame in self.leg.sent[-count:]}

    async def listened(self) -> None:
        """Let the graph take what was heard."""
        feeding = asyncio.create_task(self.session.feed())
        await asyncio.sleep(0.01)
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)


def speech(seconds: float) -> bytes:
    rng = np.random.default_rng(3)
    return rng.integers(-9000, 9000, int(seconds * RATE)).astype("<i2").tobytes()


def rms(pcm: bytes) -> float:
    return float(np.sqrt(np.mean(np.frombuffer(pcm, np.int16).astype(float) ** 2)))


@pytest.mark.parametrize("seconds", [0.5, 3 * MAX_AGE])
async def test_held_by_the_far_end_speech_goes_on_at_its_next_sample(seconds: float) -> None:
    """However long the hold was: the time on hold makes nothing too old."""
    leg = HeldLeg(RATE)
    assert isinstance(leg, Holdable)
    rig = Rig(leg)
    words = speech(2.0)
    rig.say(words)
    first = rig.tick(37)
    leg.held = True
    ticks = round(seconds / TICK)
    assert rig.tick(ticks) == bytes(ticks * frame_bytes(RATE))
    assert rig.kinds(ticks) == {FrameKind.SILENCE}
    leg.held = False
    rest = rig.tick(70)
    assert (first + rest)[: len(words)] == words
    assert rig.session.gate.stats.refused == {}
    assert rig.session.playout.underruns == 0
    assert [digest.samples for digest in rig.digests] == [37 * 160, 2 * RATE - 37 * 160]


async def test_we_hold_with_music_and_go_on() -> None:
    rig = Rig(HeldLeg(RATE))
    words = speech(1.0)
    rig.say(words)
    first = rig.tick(20)
    rig.session.hold(True)
    music = rig.tick(200)
    assert rig.kinds(200) == {FrameKind.TONE}
    assert music == melody(RATE)[: len(music)]
    assert 100 < rms(music) < 3000
    rig.session.hold(False)
    assert (first + rig.tick(40))[: len(words)] == words
    assert rig.session.gate.stats.refused == {}


async def test_we_hold_in_silence() -> None:
    rig = Rig(HeldLeg(RATE))
    rig.say(speech(1.0))
    rig.tick(10)
    rig.session.hold(True, music=False)
    assert not any(rig.tick(50))
    assert rig.session.held
    rig.session.hold(False)
    assert any(rig.tick(5))


async def test_holds_from_both_sides_overlap() -> None:
    leg = HeldLeg(RATE)
    rig = Rig(leg)
    words = speech(1.0)
    rig.say(words)
    first = rig.tick(10)
    leg.held = True
    rig.tick(10)
    rig.session.hold(True)
    rig.tick(10)
    assert rig.kinds(10) == {FrameKind.TONE}
    rig.session.hold(False)
    rig.tick(10)
    assert rig.kinds(10) == {FrameKind.SILENCE}
    rig.session.hold(True)
    leg.held = False
    rig.tick(10)
    assert rig.kinds(10) == {FrameKind.TONE}
    rig.session.hold(False)
    assert (first + rig.tick(50))[: len(words)] == words
    assert rig.session.gate.stats.refused == {}


async def test_a_cut_on_hold_leaves_the_music() -> None:
    rig = Rig(HeldLeg(RATE))
    rig.say(speech(1.0))
    rig.tick(10)
    rig.session.hold(True)
    rig.tick(10)
    cut = rig.session.playout.cut()
    rig.session._cut(cut)
    rig.tick(10)
    assert rig.kinds(10) == {FrameKind.TONE}
    rig.session.hold(False)
    assert not any(rig.tick(60)), "what was cut stays unsaid"
    assert rig.session.gate.stats.refused == {}


async def test_what_is_played_to_us_on_hold_is_not_heard_but_digits_are() -> None:
    leg = HeldLeg(RATE)
    rig = Rig(leg)
    leg.held = True
    rig.tick(1)
    leg.play(speech(1.0))
    leg.press("5")
    rig.tick(BLOCK_FRAMES * 17)
    await rig.listened()
    assert rig.heard
    assert not any(any(block) for block in rig.heard)
    assert rig.digits == ["5"]
    leg.held = False
    leg.play(speech(0.5))
    rig.tick(BLOCK_FRAMES * 4)
    await rig.listened()
    assert any(any(block) for block in rig.heard)


@pytest.mark.parametrize("rate", [8000, 16000])
async def test_the_music_loops_without_a_seam(rate: int) -> None:
    music = HoldMusic(rate)
    size = frame_bytes(rate)
    piece = melody(rate)
    assert len(piece) % size == 0
    twice = b"".join(music.next() for _ in range(2 * len(piece) // size))
    assert twice == piece * 2
    samples = np.frombuffer(twice, np.int16).astype(float)
    seam = len(piece) // 2
    steps = np.abs(np.diff(samples))
    assert steps[seam - 2 : seam + 2].max() <= steps.max()
    assert np.abs(samples).max() < 0.1 * 32768
    spectrum = np.abs(np.fft.rfft(samples))
    loud = np.fft.rfftfreq(len(samples), 1 / rate)[spectrum > spectrum.max() / 100]
    assert 150 < loud.min() < loud.max() < 1500, "inside the telephone band"
