"""Calls placed over Twilio's REST interface, their callbacks and their streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from fakes.twilio_api import ACCOUNT, AUTH, ApiCall, TwilioApi, nothing, told, twilio_api
from peers.agents import EchoAgent
from peers.http import serving
from peers.twilio_client import TwilioCaller, new_sid, read_twiml
from ringtrue.streaming.ports import Direction, EndReason
from ringtrue.telephony.media_streams.calls import StreamCall
from ringtrue.telephony.twilio import placing
from ringtrue.telephony.twilio.placing import TwilioCallFailedError, TwilioDialler
from ringtrue.telephony.twilio.rest import NewCall, TwilioRest, TwilioRestError
from ringtrue.telephony.twilio.router import twilio_router
from ringtrue.telephony.twilio.status import CallbackError, CallStatus, read_update

TO, FROM = "+12015550123", "+12015550100"


class Line:
    """A dialler behind a served router, and Twilio's side."""

    def __init__(self, api: TwilioApi, dialler: TwilioDialler, url: str) -> None:
        self.api, self.dialler, self.url = api, dialler, url
        self.verdicts: list[str] = []
        self.rings = 0

    def _rings(self) -> None:
        self.rings += 1

    async def call(self, ring_seconds: float = 30) -> placing.OutgoingTwilioCall:
        return await self.dialler.call(
            TO,
            FROM,
            ring_seconds=ring_seconds,
            on_progress=self._rings,
            on_answered_by=self.verdicts.append,
        )

    @property
    def ordered(self) -> ApiCall:
        (call,) = self.api.calls
        return call


async def nobody(call: StreamCall) -> None:
    raise AssertionError("no call came in")


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    app = FastAPI()
    async with twilio_api() as api, serving(app) as url:
        rest = TwilioRest(ACCOUNT, AUTH, base_url=api.url)
        dialler = TwilioDialler(rest, public_url=url, mark="~w1", detect_machines=True)
        app.include_router(
            twilio_router(
                nobody, auth_token=AUTH, public_url=url, account_sid=ACCOUNT, dialler=dialler
            )
        )
        yield Line(api, dialler, url)
        await dialler.close()


async def until(condition: Callable[[], Any], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def test_an_answered_call_carries_audio_both_ways(line: Line) -> None:
    hang_up = asyncio.Event()

    async def plot(api: TwilioApi, call: ApiCall) -> None:
        await api.callback(call, "ringing")
        async with api.answer(call) as caller:
            verdict = {"CallSid": call.sid, "AccountSid": ACCOUNT, "AnsweredBy": "machine_start"}
            await api.post(call, verdict)
            await caller.press("7")
            await hang_up.wait()
            await caller.hang_up()

    line.api.plot = plot
    outgoing = await line.call()
    call = await outgoing.answered()
    assert (call.direction, call.remote, call.local) == (Direction.OUTBOUND, TO, FROM)
    assert call.transport == "twilio"
    agent = EchoAgent(call)
    running = asyncio.create_task(agent.run())
    await until(lambda: agent.digits == ["7"] and line.verdicts == ["machine_start"])
    await until(lambda: (call.leg.heard_position() or 0) > 1600)
    hang_up.set()
    assert await call.ended() is EndReason.CALLER_HUNG_UP
    await running
    assert not agent.errors
    assert line.rings == 1
    form = line.ordered.form
    assert (form["To"], form["From"], form["Timeout"]) == (TO, FROM, "30")
    assert line.ordered.events == ["initiated", "ringing", "answered", "completed"]
    assert form["AsyncAmd"] == "true"
    assert form["StatusCallback"] == f"{line.url}/twilio/calls/{outgoing.id}"
    dialled = read_twiml(form["Twiml"])
    assert dialled.verbs == ["Connect", "Hangup"]
    assert dialled.url == line.url.replace("http", "ws") + "/twilio/media/~w1"
    assert outgoing.id.endswith("~w1")
    await line.ordered.ended.wait()
    assert set(line.ordered.callbacks) == {204}


@pytest.mark.parametrize(
    ("statuses", "last", "status", "sip", "rang"),
    [
        (["ringing", "busy"], {}, CallStatus.BUSY, None, True),
        (["ringing", "no-answer"], {}, CallStatus.NO_ANSWER, None, True),
        (["failed"], {"SipResponseCode": "404"}, CallStatus.FAILED, 404, False),
        (["ringing", "busy"], {"SipResponseCode": "603"}, CallStatus.BUSY, 603, True),
        (["in-progress", "completed"], {}, CallStatus.COMPLETED, None, True),
    ],
)
async def test_what_is_not_answered_says_why(
    line: Line,
    statuses: list[str],
    last: dict[str, str],
    status: CallStatus,
    sip: int | None,
    rang: bool,
) -> None:
    line.api.plot = told(*statuses, **last)
    with pytest.raises(TwilioCallFailedError) as failed:
        await (await line.call()).answered()
    assert (failed.value.status, failed.value.sip_status) == (status, sip)
    assert failed.value.rang is rang
    assert TO not in str(failed.value)


async def test_a_call_given_up_is_cancelled_and_its_stream_refused(line: Line) -> None:
    line.api.plot = told("ringing")
    outgoing = await line.call()
    await until(lambda: line.rings)
    await outgoing.cancel()
    with pytest.raises(TwilioCallFailedError, match="canceled"):
        await outgoing.answered()
    assert line.api.updates == [(line.ordered.sid, {"Status": "canceled"})]
    await stranger(line, line.ordered.sid)


async def test_a_call_answered_while_it_is_given_up_is_ended(line: Line) -> None:
    line.api.plot = told("ringing", "in-progress")
    outgoing = await line.call()
    await until(lambda: line.ordered.ended.is_set())
    await outgoing.cancel()
    assert [form["Status"] for _, form in line.api.updates] == ["canceled", "completed"]
    with pytest.raises(TwilioCallFailedError, match="canceled"):
        await outgoing.answered()


async def stranger(line: Line, call_sid: str, token: str | None = None) -> None:
    """Nobody gets in with the token, as ``call_sid``."""
    dialled = read_twiml(line.ordered.form["Twiml"])
    if token is not None:
        dialled.parameters["token"] = token
    async with connect(dialled.url) as websocket:
        caller = TwilioCaller(websocket, call_sid, ACCOUNT, new_sid("MZ"), dialled)
        await caller.start()
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(websocket.recv(), 5)
        assert websocket.close_code == 1008


async def test_the_token_lets_its_own_call_in_and_once(line: Line) -> None:
    line.api.plot = nothing
    outgoing = await line.call()
    await stranger(line, new_sid("CA"))
    await stranger(line, line.ordered.sid)  # it was used
    await stranger(line, line.ordered.sid, "x" * 43)
    assert not outgoing.over


async def test_without_callbacks_twilio_is_asked(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placing, "GRACE", 0.1)

    async def silent(api: TwilioApi, call: ApiCall) -> None:
        call.status = "busy"

    line.api.plot = silent
    with pytest.raises(TwilioCallFailedError, match="busy"):
        await (await line.call(ring_seconds=0.1)).answered()
    line.api.plot = nothing
    with pytest.raises(TwilioCallFailedError, match="no-answer"):
        await (await line.call(ring_seconds=0.1)).answered()
    assert line.api.updates[-1][1] == {"Status": "canceled"}


async def test_callbacks_are_believed_signed_alone_and_in_order(line: Line) -> None:
    line.api.plot = nothing
    outgoing = await line.call()
    call = line.ordered
    busy = {"CallSid": call.sid, "AccountSid": ACCOUNT, "CallStatus": "busy"}
    assert await line.api.post(call, busy, auth="f" * 32) == 403
    assert await line.api.post(call, busy | {"AccountSid": "AC" + "1" * 32}) == 403
    assert await line.api.post(call, busy | {"CallStatus": "lost"}) == 400
    assert await line.api.post(call, busy | {"CallSid": new_sid("CA")}) == 204
    assert not outgoing.over
    await line.api.post(call, busy | {"CallStatus": "ringing", "SequenceNumber": "5"})
    assert await line.api.post(call, busy | {"SequenceNumber": "4"}) == 204  # an old one
    assert not outgoing.over
    await line.api.post(call, busy | {"SequenceNumber": "6"})
    assert outgoing.over
    line.dialler.forget(outgoing)
    assert await line.api.post(call, busy) == 204  # late, and nobody's
    async with httpx.AsyncClient() as client:
        assert (await client.post(call.form["StatusCallback"], data=busy)).status_code == 403


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ({}, "CallSid"),
        ({"CallSid": "CA1"}, "CallSid"),
        ({"CallSid": "CA" + "0" * 32}, "neither"),
        ({"CallSid": "CA" + "0" * 32, "CallStatus": "lost"}, "allowed: queued"),
        ({"CallSid": "CA" + "0" * 32, "AnsweredBy": "Me!"}, "no word"),
    ],
)
def test_a_callback_that_twilio_does_not_define(form: dict[str, str], says: str) -> None:
    with pytest.raises(CallbackError, match=says):
        read_update(form)


async def test_the_client_says_what_twilio_says_but_no_numbers() -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    new = NewCall(TO, FROM, "<Response/>", "http://test", 30)
    async with twilio_api() as api:
        async with TwilioRest(ACCOUNT, AUTH, base_url=api.url, sleep=sleep) as rest:
            invalid = {
                "code": 21211,
                "message": f"The 'To' number {TO} is not valid",
                "status": 400,
            }
            api.refusals = [(400, invalid, {})]
            with pytest.raises(TwilioRestError) as refused:
                await rest.create(new)
            assert (refused.value.status, refused.value.code) == (400, 21211)
            assert TO not in str(refused.value)
            busy = {"code": 20429, "message": "Too Many Requests", "status": 429}
            api.refusals = [(429, busy, {"Retry-After": "2"}), (429, busy, {})]
            assert (await rest.create(new)).status is CallStatus.QUEUED
            assert pauses == [2.0, 1.0]
            api.refusals = [(429, busy, {"Retry-After": "60"})]
            with pytest.raises(TwilioRestError) as refused:
                await rest.create(new)
            assert refused.value.retry_after == 60
            api.refusals, before = [(500, {}, {})], api.requests
            with pytest.raises(TwilioRestError):  # it may have placed the call
                await rest.create(new)
            assert api.requests == before + 1
            with pytest.raises(TwilioRestError, match="SID"):
                await rest.fetch("../Accounts")
        async with TwilioRest(ACCOUNT, "wrong", base_url=api.url) as stranger_:
            with pytest.raises(TwilioRestError) as refused:
                await stranger_.create(new)
            assert (refused.value.status, api.unauthorized) == (401, 1)
        gone = api.url
    async with TwilioRest(ACCOUNT, AUTH, base_url=gone) as rest:
        with pytest.raises(TwilioRestError, match="no answer") as refused:
            await rest.create(new)
        assert refused.value.status is None
    with pytest.raises(ValueError, match="AC and 32"):
        TwilioRest("AC1", AUTH)
