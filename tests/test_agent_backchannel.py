"""A caller who says "mm-hm" over the agent, on a real SIP call: the sentence arrives whole."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from speech import pause, say

from ringtrue.agent.loopback import loopback_server
from ringtrue.config.settings import load_settings
from ringtrue.loadtest.caller import CallResult, VirtualCaller
from ringtrue.loadtest.phone import Phone
from ringtrue.loadtest.prompts import Prompt

RATE = 8000
PIECE = RATE // 10
STEP = RATE // 100
ALIKE = 0.9


def prompt(text: str) -> Prompt:
    pcm = np.concatenate((say(text), pause(0.3))).astype("<i2").tobytes()
    return Prompt(text, text, pcm, RATE)


def heard_by(result: CallResult) -> np.ndarray:
    """What the caller heard, from the first loud sample on."""
    assert result.recording is not None
    pcm = np.frombuffer(result.recording.agent, "<i2").astype(float)
    return pcm[np.flatnonzero(np.abs(pcm) > 500)[0] :]


def found(piece: np.ndarray, audio: np.ndarray, near: int, far: int) -> tuple[float, int]:
    """Where ``piece`` is in ``audio[near:far]``: its likeness there (cosine), and the place."""
    among = audio[max(0, near) : far]
    energies = np.convolve(among**2, np.ones(len(piece)), "valid")
    alike = np.correlate(among, piece, "valid") / np.sqrt(np.maximum(energies, 1) * (piece @ piece))
    best = int(alike.argmax())
    return float(alike[best]), max(0, near) + best


def found_in_two(piece: np.ndarray, audio: np.ndarray, near: int, far: int) -> bool:
    """Whether ``piece`` is in ``audio[near:far]`` as a head and, from there on, a tail."""
    for cut in range(STEP, len(piece), STEP):
        head, place = found(piece[:cut], audio, near, far)
        tail, _ = found(piece[cut:], audio, place, far)
        if min(head, tail) >= ALIKE:
            return True
    return False


def joins(*results: CallResult) -> int:
    """How often the callers' jitter buffers gave or took time within what they heard."""
    return sum(int(r.stats.extra["time_joins"]) for r in results)


@pytest.mark.keeps("the recognizer's forkserver ends with the session")
async def test_a_listeners_mm_hm_costs_the_agent_nothing_but_a_pause() -> None:
    hum = prompt("mhm")

    async def listen(caller: VirtualCaller) -> None:
        await caller.hear_out()
        await caller.hangup()

    async def hum_along(caller: VirtualCaller) -> None:
        await caller.backchannel(hum, 1500)
        await caller.wait_for_agent_to_finish(quiet_ms=1500)
        await caller.hangup()

    async with loopback_server(load_settings(environ={})) as server, Phone() as phone:
        target = f"sip:reception@127.0.0.1:{server.sip_port}"
        silent, humming = await asyncio.gather(
            phone.call(target, listen), phone.call(target, hum_along)
        )
        await server.calls.last_record()
        records = list(server.calls.records)
    assert silent.ok
    assert humming.ok
    (record,) = [r for r in records if r.turn_taking.pauses]
    taking = record.turn_taking
    assert (taking.pauses, taking.resumed) == (1, 1), taking
    assert taking.backchannels + taking.false_interruptions == 1
    assert record.interruptions == 0
    assert not record.refused
    assert len({sum(t.heard_samples for t in r.turns) for r in records}) == 1

    # Every loud tenth of a second of the sentence is there, in its place, before or behind the
    # pause. What the pause divides, or a caller's jitter buffer, is there in two pieces.
    whole, heard = heard_by(silent), heard_by(humming)
    pause_samples = round(taking.paused_ms / 1000 * RATE)
    lags, divided = [], 0
    for at in range(0, len(whole) - PIECE, PIECE):
        piece = whole[at : at + PIECE]
        if np.sqrt((piece**2).mean()) < 300:
            continue
        near, far = at - RATE // 5, at + pause_samples + RATE // 5 + PIECE
        alike, place = found(piece, heard, near, far)
        if alike >= ALIKE:
            lags.append(place - at)
        else:
            assert found_in_two(piece, heard, near, far), f"missing at {at}: {alike:.2f}"
            divided += 1
    assert len(lags) > 25
    assert divided <= 1 + joins(silent, humming)
    behind = [lag for lag in lags if lag > pause_samples / 2]
    assert lags[-len(behind) :] == behind, "all that is late lies behind the pause"
    assert len(lags) - len(behind) > 10
    assert max(behind) == pytest.approx(pause_samples, abs=RATE // 10)
