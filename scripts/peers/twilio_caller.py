"""A caller over Twilio Media Streams, with Twilio's pace and its playout."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import time
import warnings
from collections import deque
from typing import Any, Final
from xml.etree import ElementTree

import httpx
import numpy as np
from callers import FRAME, Caller, Spec
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import audioop

SILENCE: Final = b"\xff" * FRAME
ACCOUNT: Final = "AC" + "0" * 32
PATHS: Final = {"pipecat": "/ws", "fastrtc": "/telephone/handler"}


class _Clock:
    """One 20 ms beat for every caller of the process."""

    def __init__(self) -> None:
        self._callers: set[TwilioCaller] = set()
        self._task: asyncio.Task[None] | None = None

    def add(self, caller: TwilioCaller) -> None:
        self._callers.add(caller)
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    def remove(self, caller: TwilioCaller) -> None:
        self._callers.discard(caller)

    async def _run(self) -> None:
        due = time.monotonic()
        while True:
            due += 0.02
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if (late := int((time.monotonic() - due) / 0.02)) > 0:
                due += 0.02 * late
                for caller in self._callers:
                    caller.report.skipped_ticks += late
            for caller in tuple(self._callers):
                await caller.tick(due)


_clocks: list[_Clock] = []


def prepare() -> None:
    """Make the beat, once the loop runs."""
    _clocks[:] = [_Clock()]


class TwilioCaller(Caller):
    """One call."""

    _socket: ClientConnection

    async def run(self) -> None:
        """Ring, stream, hang up."""
        url, parameters, call = await _ring(self.spec)
        self._playout: deque[bytes | str] = deque()
        self._sid = "MZ" + secrets.token_hex(16)
        self._sequence = 0
        self._sent = 0
        async with connect(url, max_size=None, compression=None) as self._socket:
            await self._send({"event": "connected", "protocol": "Call", "version": "1.0.0"})
            start = {
                "accountSid": ACCOUNT,
                "streamSid": self._sid,
                "callSid": call,
                "tracks": ["inbound"],
                "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
                "customParameters": parameters,
            }
            await self._numbered({"event": "start", "start": start})
            receiving = asyncio.create_task(self._receive())
            _clocks[0].add(self)
            try:
                await self.converse()
            finally:
                _clocks[0].remove(self)
                receiving.cancel()
                await asyncio.gather(receiving, return_exceptions=True)
            stop = {"accountSid": start["accountSid"], "callSid": call}
            await self._numbered({"event": "stop", "stop": stop})

    async def tick(self, now: float) -> None:
        """Play and send 20 ms."""
        played = b""
        while self._playout and len(played) < FRAME:
            item = self._playout.popleft()
            if isinstance(item, str):
                await self._mark(item)
                continue
            need = FRAME - len(played)
            played += item[:need]
            if len(item) > need:
                self._playout.appendleft(item[need:])
        heard = audioop.ulaw2lin(played.ljust(FRAME, b"\xff"), 2)
        self.hear(np.frombuffer(heard, np.int16), now)
        payload = base64.b64encode(audioop.lin2ulaw(self.speak(now), 2)).decode()
        self._sent += 1
        media = {
            "track": "inbound",
            "chunk": str(self._sent),
            "timestamp": str(20 * self._sent),
            "payload": payload,
        }
        await self._numbered({"event": "media", "media": media})

    async def _receive(self) -> None:
        async for text in self._socket:
            message: dict[str, Any] = json.loads(text)
            event = message.get("event")  # FastRTC sends notes of its own; Twilio passes them over
            if event == "media":
                self._playout.append(base64.b64decode(message["media"]["payload"]))
            elif event == "mark":
                self._playout.append(message["mark"]["name"])
            elif event == "clear":
                names = [item for item in self._playout if isinstance(item, str)]
                self._playout.clear()
                for name in names:
                    await self._mark(name)

    async def _mark(self, name: str) -> None:
        await self._numbered({"event": "mark", "mark": {"name": name}})

    async def _numbered(self, message: dict[str, Any]) -> None:
        self._sequence += 1
        message |= {"sequenceNumber": str(self._sequence), "streamSid": self._sid}
        await self._send(message)

    async def _send(self, message: dict[str, Any]) -> None:
        try:
            await self._socket.send(json.dumps(message))
        except ConnectionClosed:
            self.report.failure = self.report.failure or "the server closed the stream"


async def _ring(spec: Spec) -> tuple[str, dict[str, str], str]:
    """Where to stream to: URL, parameters, the call's SID."""
    call = "CA" + secrets.token_hex(16)
    if spec.server in PATHS:
        return f"ws://127.0.0.1:{spec.port}{PATHS[spec.server]}", {}, call
    url = f"http://127.0.0.1:{spec.port}/twilio/voice"
    form = {
        "CallSid": call,
        "AccountSid": ACCOUNT,
        "From": "+15005550006",
        "To": "+15005550001",
        "CallStatus": "ringing",
        "Direction": "inbound",
        "ApiVersion": "2010-04-01",
    }
    signature = RequestValidator(spec.auth_token).compute_signature(url, form)
    async with httpx.AsyncClient() as client:
        answer = await client.post(url, data=form, headers={"X-Twilio-Signature": signature})
    answer.raise_for_status()
    stream = ElementTree.fromstring(answer.text).find("Connect/Stream")
    if stream is None:
        raise RuntimeError(f"not connected: {answer.text[:150]}")
    parameters = {each.attrib["name"]: each.attrib["value"] for each in stream.findall("Parameter")}
    return stream.attrib["url"], parameters, call
