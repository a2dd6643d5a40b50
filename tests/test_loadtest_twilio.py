"""The caller behind Twilio: what Twilio does with the messages of a stream."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import numpy as np
import pytest
from gates import make

from ringtrue.loadtest.calling import CallerOptions
from ringtrue.loadtest.netem import Impairments, Netem
from ringtrue.loadtest.twilio import FramePath, TwilioCallerLeg, TwilioError, TwilioPhone
from ringtrue.streaming.gate import Draft

SID = "MZ0"
LOUD = bytes([0x10]) * 160


def media(payload: bytes) -> dict[str, Any]:
    encoded = base64.b64encode(payload).decode()
    return {"event": "media", "streamSid": SID, "media": {"payload": encoded}}


def mark(name: str) -> dict[str, Any]:
    return {"event": "mark", "streamSid": SID, "mark": {"name": name}}


async def outgoing(leg: TwilioCallerLeg) -> list[dict[str, Any]]:
    found = []
    leg.close()
    while (text := await leg.outgoing()) is not None:
        found.append(json.loads(text))
    return found


async def test_audio_is_played_in_order_with_its_marks() -> None:
    leg = TwilioCallerLeg(SID, CallerOptions())
    for _ in range(3):
        leg.receive(media(LOUD), 1.0)
    leg.receive(mark("a"), 1.0)
    leg.receive(media(LOUD), 1.0)
    leg.receive(mark("b"), 1.0)
    heard = [leg.pull(1.0) for _ in range(6)]
    assert [step.concealed for step in heard] == [False] * 4 + [True] * 2
    assert np.abs(np.frombuffer(heard[0].pcm, "<i2")).min() > 1000
    assert [m["mark"]["name"] for m in await outgoing(leg)] == ["a", "b"]
    assert leg.stats.packets_received == 4


async def test_a_little_is_gathered_before_playing_goes_on() -> None:
    leg = TwilioCallerLeg(SID, CallerOptions())
    leg.receive(media(LOUD), 1.0)
    assert leg.pull(1.0).concealed
    leg.receive(media(LOUD), 1.0)
    assert not leg.pull(1.0).concealed


async def test_clear_drops_what_waits_and_returns_its_marks() -> None:
    leg = TwilioCallerLeg(SID, CallerOptions())
    for _ in range(5):
        leg.receive(media(LOUD), 1.0)
    leg.receive(mark("end"), 1.0)
    leg.pull(1.0)
    leg.receive({"event": "clear", "streamSid": SID}, 1.0)
    assert leg.pull(1.0).concealed
    assert [m["mark"]["name"] for m in await outgoing(leg)] == ["end"]


@pytest.mark.parametrize(
    "message",
    [
        {"event": "media", "streamSid": "other", "media": {"payload": ""}},
        {"event": "media", "streamSid": SID},
        {"event": "media", "streamSid": SID, "media": {"payload": "?"}},
        {"event": "mark", "streamSid": SID, "mark": {}},
        {"event": "stop", "streamSid": SID},
        {},
    ],
)
async def test_what_twilio_would_refuse_is_refused(message: dict[str, Any]) -> None:
    with pytest.raises(TwilioError):
        TwilioCallerLeg(SID, CallerOptions()).receive(message, 1.0)


async def test_frames_go_out_numbered_and_in_step() -> None:
    leg = TwilioCallerLeg(SID, CallerOptions())
    gate = make()
    for frame in [gate.admit(Draft(), 0.02 * number) for number in range(3)]:
        leg.send(frame, 1.0)
    sent = await outgoing(leg)
    assert [m["media"]["chunk"] for m in sent] == ["1", "2", "3"]
    assert [m["media"]["timestamp"] for m in sent] == ["0", "20", "40"]
    assert [m["sequenceNumber"] for m in sent] == ["1", "2", "3"]
    assert all(len(base64.b64decode(m["media"]["payload"])) == 160 for m in sent)


def test_a_path_gives_one_frame_a_tick_once_it_has_come() -> None:
    path = FramePath(Netem(Impairments(delay=0.05), 1))
    came = [path.pass_on(bytes([number]), 0.02 * number) for number in range(8)]
    assert came == [None, None, None, b"\0", b"\1", b"\2", b"\3", b"\4"]
    assert FramePath(None).pass_on(b"x", 0.0) == b"x"


def test_a_phone_needs_the_token() -> None:
    with pytest.raises(ValueError, match="RINGTRUE_TWILIO__AUTH_TOKEN"):
        TwilioPhone("")


async def test_a_target_that_is_not_there_fails_the_call() -> None:
    async def nothing(_: object) -> None:
        await asyncio.sleep(0)

    async with TwilioPhone("token") as phone:
        result = await phone.call("http://127.0.0.1:9", nothing)
    assert not result.ok
    assert "can't be asked" in result.detail
