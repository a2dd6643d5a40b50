"""Both sides of a call in one recording: aligned to the sample, masked where they must be."""

from __future__ import annotations

import numpy as np
import pytest
from legs import ScriptedLeg

from ringtrue.streaming.clock import TICK
from ringtrue.streaming.ports import FRAMES_PER_SECOND, Inbound, frame_bytes
from ringtrue.streaming.record import CallRecord
from ringtrue.streaming.recording import (
    CHUNK_FRAMES,
    KEY_TAIL_FRAMES,
    LOOK_BACK_FRAMES,
    MAX_GAP_FRAMES,
    SENSITIVE_TAIL_FRAMES,
    StereoChunk,
    StereoTap,
)
from ringtrue.streaming.session import CallSession

RATE = 8000
SIZE = frame_bytes(RATE)


class Reel:
    """A tap, and what came of it."""

    def __init__(self, **options: object) -> None:
        self.chunks: list[StereoChunk] = []
        self.tap = StereoTap(RATE, self.chunks.append, **options)  # type: ignore[arg-type]
        self.now = 100.0

    def tick(self, frames: int = 1, *, digits: str = "", level: int = 1) -> None:
        for _ in range(frames):
            self.now += TICK
            self.tap.heard(np.full(SIZE // 2, level, "<i2").tobytes(), tuple(digits))
            self.tap.sent(np.full(SIZE // 2, -level, "<i2").tobytes(), self.now)

    def done(self) -> tuple[np.ndarray, np.ndarray]:
        """Both sides, one value a frame."""
        self.tap.close()
        sides = [b"".join(getattr(c, side) for c in self.chunks) for side in ("caller", "agent")]
        caller, agent = (np.frombuffer(side, "<i2")[:: SIZE // 2] for side in sides)
        return caller, agent


def test_both_sides_of_a_tick_stand_at_the_same_place() -> None:
    reel = Reel()
    for level in range(1, 501):
        reel.tick(level=level)
    caller, agent = reel.done()
    assert caller.tolist() == list(range(1, 501))
    assert agent.tolist() == [-level for level in range(1, 501)]
    assert {chunk.samples for chunk in reel.chunks} == {CHUNK_FRAMES * SIZE // 2}
    assert reel.tap.frames == 500
    assert reel.tap.masked == 0


def test_a_key_silences_the_caller_before_and_after_it() -> None:
    reel = Reel()
    reel.tick(200)
    reel.tick(1, digits="4")
    reel.tick(200)
    caller, agent = reel.done()
    silent = np.flatnonzero(caller == 0)
    assert silent[0] == 200 - LOOK_BACK_FRAMES
    assert silent[-1] == 200 + KEY_TAIL_FRAMES - 1
    assert len(silent) == reel.tap.masked == LOOK_BACK_FRAMES + KEY_TAIL_FRAMES
    assert (agent == -1).all()


def test_keys_are_kept_where_the_agent_says_so() -> None:
    reel = Reel(mask_keys=False)
    reel.tick(100, digits="4")
    caller, _ = reel.done()
    assert (caller == 1).all()


def test_the_caller_is_silenced_while_something_sensitive_is_asked() -> None:
    asked = False
    reel = Reel(sensitive=lambda: asked)
    reel.tick(100)
    asked = True
    reel.tick(300)
    asked = False
    reel.tick(200)
    caller, agent = reel.done()
    silent = np.flatnonzero(caller == 0)
    assert silent.tolist() == list(range(100, 400 + SENSITIVE_TAIL_FRAMES - 1))
    assert reel.tap.masked == len(silent)
    assert (agent == -1).all()


def test_the_caller_is_silenced_until_the_notice_was_heard() -> None:
    told = False
    reel = Reel(told=lambda: told)
    reel.tick(150)
    told = True
    reel.tick(50)
    caller, agent = reel.done()
    assert caller.tolist() == [0] * 150 + [1] * 50
    assert (agent == -1).all()


@pytest.mark.parametrize(("missed", "filled"), [(1, 1), (40, 40), (10**6, MAX_GAP_FRAMES)])
def test_ticks_that_the_clock_left_out_are_silence(missed: int, filled: int) -> None:
    reel = Reel()
    reel.tick(10)
    reel.now += missed * TICK
    reel.tick(10)
    caller, agent = reel.done()
    assert caller.tolist() == [1] * 10 + [0] * filled + [1] * 10
    assert agent.tolist() == [-1] * 10 + [0] * filled + [-1] * 10


@pytest.mark.virtual_time
async def test_a_session_records_what_was_pulled_and_what_was_sent() -> None:
    noise = np.random.default_rng(3).integers(-9000, 9000, 200 * SIZE // 2).astype("<i2")
    leg = ScriptedLeg(RATE)
    leg.play(noise.tobytes())
    reel = Reel()

    async def nothing(_: object) -> None:
        return

    record = CallRecord("c", "scripted", "inbound", "demo", RATE, answered_at=100.0)
    session = CallSession(leg, record, hear=nothing, on_digit=nothing, tap=reel.tap)
    for tick in range(200):
        session.hold(100 <= tick < 150, music=True)
        session.tick_in(100.0 + tick * TICK)
        session.tick_out(100.0 + tick * TICK)
    session.close(104.0, "caller_hung_up")
    reel.tap.close()
    caller = b"".join(chunk.caller for chunk in reel.chunks)
    agent = b"".join(chunk.agent for chunk in reel.chunks)
    expected = noise.tobytes()
    assert agent == leg.audio
    assert any(agent[100 * SIZE : 150 * SIZE]), "music on hold"
    # On hold what the far end plays is not meant for us, nor kept.
    held = slice(100 * SIZE, 150 * SIZE)
    assert caller[: held.start] == expected[: held.start]
    assert caller[held] == bytes(50 * SIZE)
    assert caller[held.stop :] == expected[held.stop :]


@pytest.mark.virtual_time
async def test_a_key_pressed_in_a_session_leaves_no_tone() -> None:
    leg = ScriptedLeg(RATE)
    loud = np.full(SIZE // 2, 5000, "<i2").tobytes()
    leg.inbound.extend(Inbound(loud) for _ in range(100))
    leg.inbound.append(Inbound(loud, digits=("5",)))
    leg.inbound.extend(Inbound(loud) for _ in range(100))
    reel = Reel()

    async def nothing(_: object) -> None:
        return

    record = CallRecord("c", "scripted", "inbound", "demo", RATE, answered_at=100.0)
    session = CallSession(leg, record, hear=nothing, on_digit=nothing, tap=reel.tap)
    for tick in range(200):
        session.tick_in(100.0 + tick * TICK)
        session.tick_out(100.0 + tick * TICK)
    caller, _ = reel.done()
    assert not caller[100 - FRAMES_PER_SECOND // 2 : 110].any()
    assert caller[:40].all()
    assert caller[150:].all()
