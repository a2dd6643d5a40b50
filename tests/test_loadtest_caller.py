"""Callers over real SIP and RTP on loopback, in virtual time, against an agent of known timing."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from scripted_agent import ScriptedAgent, voice

from ringtrue.loadtest.caller import Failure, VirtualCaller
from ringtrue.loadtest.phone import Phone
from ringtrue.loadtest.prompts import Prompt, load_prompts
from ringtrue.loadtest.report import report_call
from ringtrue.streaming.ports import EndReason

pytestmark = pytest.mark.virtual_time

HANG = 200.0
"""Silence, in ms, after which the scripted agent takes a stretch of speech for over."""

QUESTION = Prompt("question", "a question", voice(1.0), 8000)
WAIT = Prompt("wait", "an interruption", voice(0.8), 8000)


async def ask(caller: VirtualCaller) -> None:
    await caller.hear_out()
    await caller.say(QUESTION)
    await caller.hear_out()


@pytest.mark.parametrize("codec", ["PCMU", "PCMA", "G722"])
async def test_a_conversation_is_measured_at_the_callers_ear(codec: str) -> None:
    rate = 16000 if codec == "G722" else 8000
    async with (
        ScriptedAgent(voice(1.5, rate), greeting=voice(1.0, rate), delay=0.3) as agent,
        Phone(codecs=[codec]) as phone,
    ):
        result = await phone.call(agent.target, ask)
    assert result.ok, result.detail
    assert result.ended is None
    report = report_call(result)
    (turn,) = report.turns
    assert turn.answer is not None
    assert result.recording is not None
    assert result.recording.rate == rate
    # The agent's clock and the caller's are one loop's: when it sent is known exactly.
    assert result.answered_at is not None
    sent_ms = [(at - result.answered_at) * 1000 for at in agent.calls[0].began]
    greeting, answer = report.agent
    for sent, heard in zip(sent_ms, (greeting, answer), strict=True):
        assert 0 <= heard.start_ms - sent <= 120
    assert turn.latency_ms is not None
    assert turn.latency_ms == pytest.approx(answer.start_ms - turn.said.end_ms, abs=0.2)
    assert 300 + HANG <= turn.latency_ms <= 300 + HANG + 260
    assert turn.said.end_ms - turn.said.start_ms == pytest.approx(1000, abs=6)
    assert greeting.end_ms - greeting.start_ms == pytest.approx(1000, abs=12)
    assert answer.end_ms - answer.start_ms == pytest.approx(1500, abs=12)
    assert report.dropouts == ()
    assert report.concealed_frames == report.skipped_frames == report.packets_lost == 0
    assert result.faults.refused == 0


async def test_what_was_said_lies_in_the_recording_where_the_result_says() -> None:
    async with ScriptedAgent(voice(0.5)) as agent, Phone() as phone:

        async def script(caller: VirtualCaller) -> None:
            await caller.pause(0.33)
            await caller.say(QUESTION)
            await caller.hear_out()

        result = await phone.call(agent.target, script)
    assert result.recording is not None
    (said,) = result.said
    caller = np.frombuffer(result.recording.caller, "<i2")
    loud = np.flatnonzero(caller)
    assert (loud[0], loud[-1] + 1) == (said.speech.start, said.speech.end)
    expected = np.frombuffer(QUESTION.pcm, "<i2")
    assert (caller[said.speech.start : said.speech.end] == expected).all()


async def test_an_interruption_stops_the_agent() -> None:
    async def script(caller: VirtualCaller) -> None:
        await caller.say(QUESTION)
        await caller.interrupt(WAIT, after_ms=700)
        await caller.hear_out()

    async with ScriptedAgent(voice(6), voice(1)) as agent, Phone() as phone:
        result = await phone.call(agent.target, script)
    assert result.ok, result.detail
    first, second = report_call(result).turns
    assert first.answer is not None
    assert second.interrupts
    assert second.stop_ms is not None
    # One cut, 20 ms of speech after it began; the rest is packets and jitter buffers.
    assert len(agent.calls[0].cut) == 1
    assert 20 <= second.stop_ms <= 280
    assert first.answer.end_ms == pytest.approx(second.said.start_ms + second.stop_ms, abs=0.2)
    assert second.latency_ms is not None
    assert second.latency_ms > 500


async def test_digits_reach_the_agent() -> None:
    async def script(caller: VirtualCaller) -> None:
        await caller.pause(0.1)
        await caller.press("47#1")
        await caller.pause(0.5)
        await caller.hangup()

    async with ScriptedAgent() as agent, Phone() as phone:
        result = await phone.call(agent.target, script)
    assert result.ok
    assert result.ended is None
    assert agent.calls[0].digits == "47#1"


async def test_the_agent_hangs_up() -> None:
    async def script(caller: VirtualCaller) -> None:
        await caller.say(QUESTION)
        await caller.wait_for_agent_to_start()
        assert await caller.expect_hangup(5) is EndReason.CALLER_HUNG_UP

    async with ScriptedAgent(voice(0.5), hang_up=True) as agent, Phone() as phone:
        result = await phone.call(agent.target, script)
    assert result.ok, result.detail
    assert result.ended is EndReason.CALLER_HUNG_UP
    assert report_call(result).ended == "caller_hung_up"


@pytest.mark.parametrize(
    ("agent", "failure"),
    [
        (ScriptedAgent(answer_status=503), Failure.NOT_ANSWERED),
        (ScriptedAgent(answer_status=0), Failure.NOT_ANSWERED),
        (ScriptedAgent(), Failure.AGENT_SILENT),
        (ScriptedAgent(greeting=voice(50)), Failure.AGENT_ENDLESS),
        (ScriptedAgent(greeting=voice(1), hang_up=True), Failure.CALL_ENDED),
        (ScriptedAgent(codecs=("PCMA",)), Failure.NOT_ANSWERED),
    ],
    ids=["refused", "unanswered", "silent", "endless", "ended", "codec"],
)
async def test_what_goes_wrong_is_named(agent: ScriptedAgent, failure: Failure) -> None:
    async with agent, Phone() as phone:
        result = await phone.call(agent.target, ask)
    assert result.failure is failure
    assert result.detail
    assert not report_call(result).ok


async def test_an_agent_that_does_not_hang_up_is_hung_up_on() -> None:
    async def script(caller: VirtualCaller) -> None:
        await caller.expect_hangup(3)

    async with ScriptedAgent() as agent, Phone() as phone:
        result = await phone.call(agent.target, script)
        assert result.failure is Failure.NOT_HUNG_UP
        await asyncio.wait_for(agent.calls[0].call.ended(), 5)


async def test_a_script_is_bounded() -> None:
    async def script(caller: VirtualCaller) -> None:
        while True:
            await caller.pause(0.5)

    async with ScriptedAgent() as agent, Phone() as phone:
        result = await phone.call(agent.target, script, max_seconds=4)
    assert result.failure is Failure.TOO_LONG


async def test_a_cancelled_caller_leaves_no_call() -> None:
    async with ScriptedAgent() as agent, Phone() as phone:
        task = asyncio.create_task(phone.call(agent.target, ask))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(agent.calls[0].call.ended(), 5)


async def test_callers_are_independent() -> None:
    async with ScriptedAgent(voice(1), greeting=voice(0.5)) as agent, Phone() as phone:
        results = await asyncio.gather(*(phone.call(agent.target, ask) for _ in range(4)))
    assert all(result.ok for result in results)
    assert len(agent.calls) == 4
    for result in results:
        (turn,) = report_call(result).turns
        assert turn.latency_ms is not None
        assert turn.latency_ms < 300 + HANG + 260


def test_shipped_prompts_are_speech_at_telephone_level() -> None:
    total = 0
    for voice_name in ("rms", "awb"):
        for prompt in load_prompts(voice_name).values():
            total += len(prompt.pcm)
            assert prompt.text
            assert prompt.rate == 8000
            samples = np.frombuffer(prompt.pcm, "<i2").astype(float)
            spoken = samples[prompt.speech.start : prompt.speech.end]
            level = 10 * np.log10(np.mean(spoken**2)) - 20 * np.log10(32768)
            assert -24 < level < -18
            assert prompt.speech.start < 400
            assert len(samples) - prompt.speech.end < 400
            assert len(prompt.at(16000).pcm) == pytest.approx(2 * len(prompt.pcm), abs=8)
    assert total < 1_500_000
    with pytest.raises(ValueError, match="rms, awb"):
        load_prompts("nobody")
