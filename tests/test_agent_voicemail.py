"""A call we placed that a machine answers, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from lines import spoken
from pipecat.frames.frames import (
    Frame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pydantic import ValidationError

from fakes.calls import RATE, Mouth, ScriptedCall, ScriptedEngines
from ringtrue.agent.briefing import briefing_agent, unrecorded
from ringtrue.agent.calls import Calls
from ringtrue.agent.consultation import Consultation
from ringtrue.agent.handing import Desk
from ringtrue.agent.metrics import Metrics
from ringtrue.agent.records import RecordStore
from ringtrue.config.agent_schema import Agent, load_agents
from ringtrue.config.agent_transfers import ACCEPT, TransferTarget
from ringtrue.config.agent_voicemail import VoicemailFile
from ringtrue.config.settings import load_settings
from ringtrue.streaming.gate import FrameKind
from ringtrue.streaming.graph import Services, SharedModels
from ringtrue.streaming.llm.actions import Transfer
from ringtrue.streaming.ports import Direction
from ringtrue.streaming.record import CallRecord, Stage

pytestmark = pytest.mark.virtual_time
MESSAGE_SECONDS = 2.0
DESK = TransferTarget(to="sip:desk@pbx.example.com", title="the desk", how="attended")
GREETING_LEVEL, MESSAGE_LEVEL = 1000, 3000


class Announcer(Mouth):
    """Speaks single texts, too, louder."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        if not isinstance(frame, TTSSpeakFrame):
            await super().process_frame(frame, direction)
            return
        pcm = np.full(int(MESSAGE_SECONDS * RATE), MESSAGE_LEVEL, np.int16).tobytes()
        await self.push_frame(TTSStartedFrame(context_id="m"))
        await self.push_frame(TTSAudioRawFrame(audio=pcm, sample_rate=RATE, num_channels=1))
        await self.push_frame(TTSTextFrame(frame.text, text_type="word"))
        await self.push_frame(TTSStoppedFrame(context_id="m"))


class Engines(ScriptedEngines):
    """With a voice that can announce."""

    def services(self, agent: Agent, *, probe: Callable[[Stage], None], **how: Any) -> Services:
        made = super().services(agent, probe=probe, **how)
        return Services(stt=made.stt, llm=made.llm, tts=Announcer(), before_tts=made.before_tts)


class PlacedCall(ScriptedCall):
    direction = Direction.OUTBOUND


def beep() -> np.ndarray:
    return (5000 * np.sin(2 * np.pi * 1000 / RATE * np.arange(RATE // 2))).astype(np.int16)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(int(seconds * RATE), np.int16)


MACHINE = (silence(0.4), spoken("awb")[: 7 * RATE], silence(0.5), beep(), silence(30))
PERSON = (silence(0.4), spoken("awb")[:RATE], silence(30))


async def answered(
    models: SharedModels,
    far_end: tuple[np.ndarray, ...],
    *,
    seconds: float = 25,
    call: ScriptedCall | None = None,
    desk: Desk | None = None,
    **voicemail: Any,
) -> tuple[CallRecord, ScriptedCall]:
    """Run a call that ``far_end`` answers; it hangs up after ``seconds``."""
    agent = load_agents()["reception"].model_copy(
        update={"voicemail": VoicemailFile.model_validate(voicemail)}
    )
    call = call or PlacedCall()
    call.leg.play(np.concatenate(far_end).tobytes())
    calls = Calls(
        load_settings(environ={}),
        Engines(models, words=60),  # type: ignore[arg-type]
        metrics=Metrics(),
        records=RecordStore(None, 10),
    )
    assert calls.reserve() is None
    running = asyncio.get_running_loop().create_task(calls.run(call, agent, desk=desk))
    try:
        async with asyncio.timeout(seconds):
            await asyncio.shield(running)
    except TimeoutError:
        call.far_end_hangs_up()
    record = await running
    await calls.drain(0)
    return record, call


def heard(call: ScriptedCall, level: int) -> list[int]:
    """Ticks in which speech of ``level`` went out."""
    return [
        tick
        for tick, frame in enumerate(call.leg.sent)
        if frame.kind is FrameKind.SPEECH
        and abs(int(np.median(np.frombuffer(frame.pcm, np.int16))) - level) < level // 3
    ]


async def test_the_message_is_left_after_the_beep(models: SharedModels) -> None:
    record, call = await answered(models, MACHINE, action="leave_message", message="Call us back.")
    assert (record.answered_by, record.message_left) == ("machine", True)
    assert record.answered_by_ms is not None
    assert record.answered_by_ms < 5000
    greeting, message = heard(call, GREETING_LEVEL), heard(call, MESSAGE_LEVEL)
    beep_ends = int((0.4 + 7 + 0.5 + 0.5) * 50)
    assert greeting  # who answers is greeted at once
    assert greeting[0] < 50
    assert greeting[-1] < record.answered_by_ms / 20 + 15
    assert len(message) == MESSAGE_SECONDS * 50
    assert beep_ends < message[0] < beep_ends + 50
    assert record.outcome == "agent_hung_up"


@pytest.mark.parametrize(
    ("far_end", "taken"), [(MACHINE, False), (PERSON, True)], ids=["machine", "person"]
)
async def test_a_caller_is_not_put_through_to_a_machine(
    models: SharedModels, far_end: tuple[np.ndarray, ...], taken: bool
) -> None:
    """Whatever was taken for a yes, it counts once it is known who answered."""
    consultation = Consultation(asks=True)
    policy = briefing_agent(load_agents()["reception"], DESK, "Ms Rivera").voicemail

    async def says_yes() -> bool:
        await asyncio.sleep(1.0)
        consultation.begin(Transfer(ACCEPT))
        return await consultation.accepted(20)

    asked = asyncio.get_running_loop().create_task(says_yes())
    record, call = await answered(
        models, far_end, desk=consultation.desk, seconds=20, **policy.model_dump()
    )
    assert await asked is taken
    assert record.answered_by == ("human" if taken else "machine")
    assert record.outcome == ("caller_hung_up" if taken else "agent_hung_up")
    if not taken:
        assert record.answered_by_ms is not None
        assert heard(call, GREETING_LEVEL)[-1] < record.answered_by_ms / 20 + 15, (
            "it is told no more"
        )


async def test_who_presses_a_key_is_a_person_however_long_they_talk(models: SharedModels) -> None:
    consultation = Consultation(asks=True)
    consultation.begin(Transfer(ACCEPT))
    call = PlacedCall()
    call.leg.play(silence(0.5).tobytes())
    call.leg.press("1")
    asked = asyncio.get_running_loop().create_task(consultation.accepted(20))
    record, _ = await answered(
        models, MACHINE[1:], call=call, desk=consultation.desk, seconds=9, action="hang_up"
    )
    assert await asked
    assert (record.answered_by, record.outcome) == ("unknown", "caller_hung_up")


async def test_once_a_person_took_the_caller_nothing_ends_it(models: SharedModels) -> None:
    """A beep on the line a little later is no machine's."""
    consultation = Consultation(asks=True)
    consultation.begin(Transfer(ACCEPT))
    asked = asyncio.get_running_loop().create_task(consultation.accepted(20))
    sounds = (*PERSON[:2], silence(5), beep(), silence(20))
    record, _ = await answered(models, sounds, desk=consultation.desk, seconds=15, action="hang_up")
    assert await asked
    assert (record.answered_by, record.outcome) == ("human", "caller_hung_up")


def test_a_callers_agent_leaves_no_message_with_a_colleague() -> None:
    agent = load_agents()["reception"]
    leaves = VoicemailFile(action="leave_message", message="Call us back.")
    agent = agent.model_copy(update={"voicemail": leaves})
    assert briefing_agent(agent, DESK, "").voicemail == VoicemailFile(action="hang_up")
    assert unrecorded(agent).voicemail == VoicemailFile(detect=False)
    blind = agent.model_copy(update={"voicemail": VoicemailFile(detect=False)})
    assert briefing_agent(blind, DESK, "").voicemail == VoicemailFile(detect=False)


async def test_without_a_beep_silence_is_enough(models: SharedModels) -> None:
    record, call = await answered(
        models,
        (silence(0.4), spoken("awb")[: 6 * RATE], silence(30)),
        action="leave_message",
        message="Call us back.",
    )
    assert record.message_left
    first = heard(call, MESSAGE_LEVEL)[0] / 50
    assert 9 < first < 11


async def test_a_machine_that_never_ends_gets_it_in_the_end(models: SharedModels) -> None:
    endless = np.concatenate([spoken("awb"), spoken("awb")])[: 40 * RATE]
    record, call = await answered(
        models,
        (silence(0.2), endless),
        action="leave_message",
        message="Call us back.",
        wait_seconds=6,
    )
    assert record.message_left
    assert heard(call, MESSAGE_LEVEL)[0] / 50 < 12


async def test_it_can_be_hung_up_on(models: SharedModels) -> None:
    record, call = await answered(models, MACHINE, action="hang_up")
    assert (record.answered_by, record.outcome) == ("machine", "agent_hung_up")
    assert not record.message_left
    assert len(call.leg.sent) < 6 * 50


async def test_or_be_talked_to(models: SharedModels) -> None:
    record, call = await answered(models, MACHINE, seconds=12)
    assert (record.answered_by, record.outcome) == ("machine", "caller_hung_up")
    assert heard(call, GREETING_LEVEL)


async def test_a_person_hears_no_message(models: SharedModels) -> None:
    record, call = await answered(
        models, PERSON, seconds=15, action="leave_message", message="Call us back."
    )
    assert (record.answered_by, record.message_left) == ("human", False)
    assert not heard(call, MESSAGE_LEVEL)
    assert record.outcome == "caller_hung_up"


async def test_nobody_judges_who_calls_us(models: SharedModels) -> None:
    record, _ = await answered(models, MACHINE, call=ScriptedCall(), seconds=8, action="hang_up")
    assert record.answered_by is None
    assert record.outcome == "caller_hung_up"


async def test_detection_can_be_off(models: SharedModels) -> None:
    record, _ = await answered(models, MACHINE, seconds=8, detect=False)
    assert record.answered_by is None


async def test_a_far_end_gone_while_the_beep_is_awaited_ends_the_call(
    models: SharedModels,
) -> None:
    record, _ = await answered(
        models, MACHINE, seconds=6, action="leave_message", message="Call us back."
    )
    assert (record.outcome, record.message_left) == ("caller_hung_up", False)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"action": "leave_message"}, "message must be given"),
        ({"action": "hang_up", "detect": False}, "needs detect: true"),
        ({"action": "sing"}, "leave_message"),
        ({"wait_seconds": 1}, "greater than or equal to 5"),
        ({"beep": True}, "not permitted"),
    ],
)
def test_what_does_not_fit_is_refused(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        VoicemailFile.model_validate(given)
