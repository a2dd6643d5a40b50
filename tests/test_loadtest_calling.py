"""What a caller's line is like, the street behind it; and what a phone holds while it is open."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
from scripted_agent import ScriptedAgent, voice

from ringtrue.loadtest.caller import VirtualCaller
from ringtrue.loadtest.calling import Background, CallerOptions, Calling
from ringtrue.loadtest.phone import Phone
from ringtrue.streaming.gate import FrameKind
from ringtrue.streaming.ports import Call


def level(pcm: bytes) -> float:
    samples = np.frombuffer(pcm, "<i2").astype(float)
    return float(20 * np.log10(np.sqrt(np.mean(samples**2)) / 32768))


def test_the_noise_is_as_loud_as_it_should_be_and_the_same_again() -> None:
    first, again, other = Background(-45, 1), Background(-45, 1), Background(-45, 2)
    pcm = first.mark(bytes(16000), FrameKind.SILENCE)
    assert level(pcm) == pytest.approx(-45, abs=0.3)
    assert again.mark(bytes(16000), FrameKind.SILENCE) == pcm
    assert other.mark(bytes(16000), FrameKind.SILENCE) != pcm


def test_what_would_be_too_loud_is_limited() -> None:
    loud = np.full(800, 32767, "<i2").tobytes()
    marked = np.frombuffer(Background(-20, 1).mark(loud, FrameKind.SPEECH), "<i2")
    assert marked.max() == 32767
    assert marked.min() > 0


@pytest.mark.virtual_time
async def test_it_is_under_everything_a_caller_sends() -> None:
    async def quiet(caller: VirtualCaller) -> None:
        await caller.pause(1)

    async with ScriptedAgent(greeting=voice(0.5)) as agent, Phone() as phone:
        options = CallerOptions(seed=3, background_dbfs=-40)
        result = await phone.call(agent.target, quiet, options=options)
    assert result.recording is not None
    assert level(result.recording.caller) == pytest.approx(-40, abs=0.5)


class Silent(Calling):
    async def _dial(self, target: str, options: CallerOptions) -> Call:
        raise AssertionError(f"nobody calls {target}")


@asynccontextmanager
async def part(name: str, seen: list[str]) -> AsyncIterator[None]:
    if name == "taken":
        raise OSError("address in use")
    seen.append(f"+{name}")
    try:
        yield
    finally:
        seen.append(f"-{name}")


async def test_what_a_phone_needs_is_closed_in_reverse() -> None:
    seen: list[str] = []
    async with Silent(0.0, part("a", seen), part("b", seen)):
        assert seen == ["+a", "+b"]
    assert seen == ["+a", "+b", "-b", "-a"]


async def test_a_phone_that_does_not_open_leaves_nothing_open() -> None:
    seen: list[str] = []
    phone = Silent(0.0, part("a", seen), part("taken", seen))
    with pytest.raises(OSError, match="in use"):
        await phone.__aenter__()
    assert seen == ["+a", "-a"]
