"""Twilio's REST interface and what it does about a call, on loopback and on the wire as documented.

Each call placed goes as its ``plot`` says: callbacks signed with the account's token, the stream
opened as the TwiML says, a caller on it that speaks and hears in real time.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from fastapi import FastAPI, Request, Response
from starlette.responses import JSONResponse
from websockets.asyncio.client import connect

from peers.http import serving
from peers.twilio_client import TwilioCaller, new_sid, read_twiml, signed_headers

ACCOUNT = "AC" + "0a" * 16
AUTH = "0123456789abcdef0123456789abcdef"


@dataclass
class ApiCall:
    """One call that was ordered."""

    form: dict[str, Any]
    events: list[str]
    sid: str = field(default_factory=lambda: new_sid("CA"))
    status: str = "queued"
    sequence: int = 0
    callbacks: list[int] = field(default_factory=list)
    """Statuses our callbacks were answered with."""

    caller: TwilioCaller | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class TwilioApi:
    """One account."""

    def __init__(self) -> None:
        self.url = ""
        self.calls: list[ApiCall] = []
        self.updates: list[tuple[str, dict[str, str]]] = []
        self.refusals: list[tuple[int, dict[str, Any], dict[str, str]]] = []
        """What the next requests are refused with: status, body, headers."""

        self.requests = 0
        self.unauthorized = 0
        self.plot: Callable[[TwilioApi, ApiCall], Awaitable[None]] = nothing
        self._tasks: set[asyncio.Task[None]] = set()
        self.app = FastAPI()
        base = f"/2010-04-01/Accounts/{ACCOUNT}"
        self.app.add_api_route(f"{base}/Calls.json", self._create, methods=["POST"])
        self.app.add_api_route(f"{base}/Calls/{{sid}}.json", self._update, methods=["POST"])
        self.app.add_api_route(f"{base}/Calls/{{sid}}.json", self._fetch, methods=["GET"])

    async def callback(self, call: ApiCall, status: str, **extra: str) -> int:
        """Tell how it goes, signed; the answer's status."""
        call.status = status
        event = "answered" if status == "in-progress" else status
        if event in ("initiated", "ringing", "answered") and event not in call.events:
            return 0
        form = {
            "CallSid": call.sid,
            "AccountSid": ACCOUNT,
            "From": str(call.form["From"]),
            "To": str(call.form["To"]),
            "CallStatus": status,
            "Direction": "outbound-api",
            "CallbackSource": "call-progress-events",
            "SequenceNumber": str(call.sequence),
        }
        call.sequence += 1
        return await self.post(call, form | extra)

    async def post(self, call: ApiCall, form: dict[str, str], *, auth: str = AUTH) -> int:
        """Any callback."""
        url = str(call.form["StatusCallback"])
        async with httpx.AsyncClient() as client:
            answer = await client.post(url, data=form, headers=signed_headers(auth, url, form))
        call.callbacks.append(answer.status_code)
        return answer.status_code

    @asynccontextmanager
    async def answer(self, call: ApiCall) -> AsyncIterator[TwilioCaller]:
        """The called party answers: Twilio follows the TwiML."""
        await self.callback(call, "in-progress")
        dialled = read_twiml(str(call.form["Twiml"]))
        async with connect(dialled.url) as websocket:
            caller = TwilioCaller(websocket, call.sid, ACCOUNT, new_sid("MZ"), dialled)
            await caller.start()
            call.caller = caller
            media = asyncio.create_task(caller.run())
            try:
                yield caller
            finally:
                media.cancel()
                await asyncio.gather(media, return_exceptions=True)
        await self.callback(call, "completed", CallDuration="1")

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _create(self, request: Request) -> Response:
        refused = self._refused(request)
        if refused is not None:
            return refused
        form = await request.form()
        call = ApiCall({k: str(v) for k, v in form.items()}, [])
        call.events = [str(event) for event in form.getlist("StatusCallbackEvent")]
        self.calls.append(call)
        task = asyncio.create_task(self._play(call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return JSONResponse(_described(call), status_code=201)

    async def _play(self, call: ApiCall) -> None:
        try:
            await self.plot(self, call)
        finally:
            call.ended.set()

    async def _update(self, sid: str, request: Request) -> Response:
        refused = self._refused(request)
        if refused is not None:
            return refused
        form = {k: str(v) for k, v in (await request.form()).items()}
        self.updates.append((sid, form))
        call = next(call for call in self.calls if call.sid == sid)
        wanted = form.get("Status")
        waiting = call.status in ("queued", "initiated", "ringing")
        if wanted == "completed" or (wanted == "canceled" and waiting):
            call.status = "canceled" if waiting else "completed"
            if call.caller is not None:
                await call.caller.hang_up()
        return JSONResponse(_described(call))

    async def _fetch(self, sid: str, request: Request) -> Response:
        refused = self._refused(request)
        if refused is not None:
            return refused
        return JSONResponse(_described(next(call for call in self.calls if call.sid == sid)))

    def _refused(self, request: Request) -> Response | None:
        self.requests += 1
        wanted = "Basic " + base64.b64encode(f"{ACCOUNT}:{AUTH}".encode()).decode()
        if request.headers.get("authorization") != wanted:
            self.unauthorized += 1
            return JSONResponse(
                {"code": 20003, "message": "Authenticate", "status": 401}, status_code=401
            )
        if self.refusals:
            status, body, headers = self.refusals.pop(0)
            return JSONResponse(body, status_code=status, headers=headers)
        return None


def _described(call: ApiCall) -> dict[str, Any]:
    return {
        "sid": call.sid,
        "account_sid": ACCOUNT,
        "status": call.status,
        "to": call.form["To"],
        "from": call.form["From"],
        "answered_by": None,
        "direction": "outbound-api",
    }


async def nothing(api: TwilioApi, call: ApiCall) -> None:
    """Twilio says no more."""


def told(*statuses: str, **last: str) -> Callable[[TwilioApi, ApiCall], Awaitable[None]]:
    """A plot in which callbacks alone say how it goes."""

    async def plot(api: TwilioApi, call: ApiCall) -> None:
        for status in statuses[:-1]:
            await api.callback(call, status)
        await api.callback(call, statuses[-1], **last)

    return plot


@asynccontextmanager
async def twilio_api() -> AsyncIterator[TwilioApi]:
    """The interface, served."""
    api = TwilioApi()
    async with serving(api.app) as api.url:
        try:
            yield api
        finally:
            await api.close()
