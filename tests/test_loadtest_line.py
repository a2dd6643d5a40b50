"""The caller's end of the line: one time line, and faults of its own told apart."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from legs import ScriptedLeg
from scripted_agent import voice

from ringtrue.loadtest.ear import Span
from ringtrue.loadtest.line import MAX_PENDING, CallerLine, caller_clock
from ringtrue.loadtest.prompts import Prompt
from ringtrue.streaming.gate import FrameKind
from ringtrue.streaming.ports import Inbound

PROMPT = Prompt("p", "a prompt", bytes(2 * 100) + voice(0.1) + bytes(2 * 60), 8000)


def tick(line: CallerLine, now: float) -> None:
    line.tick_in(now)
    line.tick_out(now)


async def test_positions_are_moments_at_mouth_and_ear() -> None:
    leg = ScriptedLeg()
    line = CallerLine(leg, "call", 5.0)
    done = line.say(PROMPT)
    leg.play(voice(0.2))
    for step in range(20):
        tick(line, 5.0 + 0.02 * step)
    assert line.origin == pytest.approx(4.98)
    # The first frame heard is played from the first tick on, 20 ms into the recording.
    assert line.detector.last_speech == 160 + 1600
    assert line.seconds(160) == pytest.approx(5.0)
    assert done.result()
    assert [said.speech for said in line.said] == [Span(100, 900)]
    sent = np.frombuffer(leg.audio, "<i2")
    assert np.flatnonzero(sent)[[0, -1]].tolist() == [100, 899]
    assert line.recording.caller == leg.audio


async def test_ticks_that_were_skipped_are_silence_in_both_channels() -> None:
    leg = ScriptedLeg()
    line = CallerLine(leg, "call", 5.0)
    line.say(PROMPT)
    for step in (0, 1, 2, 6, 7, 8, 9, 10):
        tick(line, 5.0 + 0.02 * step)
    assert line.faults.skipped == [Span(n * 160, (n + 1) * 160) for n in (4, 5, 6)]
    assert line.recording.caller_position == 11 * 160
    assert line.recording.agent_position == 12 * 160
    caller = np.frombuffer(line.recording.caller, "<i2")
    assert not caller[3 * 160 : 6 * 160].any()
    # What was being said lasted so much longer.
    assert line.said[0].speech == Span(100, 900 + 480)
    assert np.flatnonzero(caller)[-1] == 900 + 480 - 1


async def test_concealed_frames_are_noted_where_they_were_heard() -> None:
    leg = ScriptedLeg()
    leg.inbound.extend([Inbound(bytes(320)), Inbound(bytes(320), concealed=True)])
    line = CallerLine(leg, "call", 5.0)
    for step in range(3):
        tick(line, 5.0 + 0.02 * step)
    assert line.faults.concealed == [Span(320, 480)]


async def test_an_interruption_is_what_begins_while_the_agent_speaks() -> None:
    leg = ScriptedLeg()
    line = CallerLine(leg, "call", 5.0)
    leg.play(voice(0.5))
    now = 5.0
    for step in range(100):
        if step in (10, 80):
            line.say(PROMPT)
        tick(line, now := now + 0.02)
    assert [said.interrupts for said in line.said] == [True, False]


async def test_waiting_ends_with_the_line() -> None:
    line = CallerLine(ScriptedLeg(), "call", 5.0)
    waits = [line.until(lambda: False), line.say(PROMPT), line.press("12")]
    met = line.until(lambda: line.position >= 320)
    tick(line, 5.0)
    assert met.done()
    assert met.result()
    line.close()
    assert [wait.result() for wait in waits] == [False, False, False]
    assert not line.until(lambda: True).result()
    before = line.position
    tick(line, 5.02)
    assert line.position == before
    with pytest.raises(ValueError, match="closed"):
        line.say(PROMPT)


async def test_what_may_wait_is_bounded() -> None:
    line = CallerLine(ScriptedLeg(), "call", 5.0)
    for _ in range(MAX_PENDING):
        line.press("1")
    with pytest.raises(ValueError, match="too much"):
        line.press("1")
    with pytest.raises(ValueError, match="allowed: 0-9"):
        CallerLine(ScriptedLeg(), "call", 5.0).press("x")
    line.close()


async def test_digits_go_out_as_digits() -> None:
    leg = ScriptedLeg()
    line = CallerLine(leg, "call", 5.0)
    done = line.press("1#")
    for step in range(30):
        tick(line, 5.0 + 0.02 * step)
    assert done.result()
    digits = [frame.digit for frame in leg.sent if frame.kind is FrameKind.DIGIT]
    assert "".join(event.digit for event in digits if event is not None and event.last) == "1#"


@pytest.mark.virtual_time
async def test_a_line_whose_tick_fails_is_closed_and_says_why() -> None:
    class BadLeg(ScriptedLeg):
        def pull(self, now: float) -> Inbound:
            raise RuntimeError("no such thing")

    clock = caller_clock()
    line = CallerLine(BadLeg(), "call", 5.0)
    wait = line.until(lambda: False)
    clock.add(line)
    assert not await asyncio.wait_for(wait, 1)
    assert line.faults.error == "RuntimeError: no such thing"
    clock.stop()
