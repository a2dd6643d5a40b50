"""Twilio's side of a call, as its documentation describes the wire.

It signs the voice webhook, reads the TwiML, opens the media websocket and then, every 20 ms,
sends one ``media`` message and plays 160 bytes of what it was sent. A mark comes back only when
the audio before it was played, or at once on ``clear``.

Source: https://www.twilio.com/docs/voice/media-streams/websocket-messages
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import warnings
from array import array
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

import httpx
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import audioop

FRAME = 160
SILENCE = b"\xff" * FRAME

HELD_TICKS = 2
"""What a receiver holds back before it begins to play, against jitter: 40 ms."""

LATE_SECONDS = 0.01
READS = 5
"""Rounds of the loop in which everything that waits at a socket has been read."""


class Rejected(Exception):
    """The TwiML said ``<Reject>``; ``str`` is the reason."""


@dataclass
class Dialled:
    """What the webhook answered."""

    url: str
    parameters: dict[str, str]
    verbs: list[str]


def new_sid(prefix: str) -> str:
    return prefix + secrets.token_hex(16)


def signed_headers(auth_token: str, url: str, form: Mapping[str, str]) -> dict[str, str]:
    return {"X-Twilio-Signature": RequestValidator(auth_token).compute_signature(url, form)}


def read_twiml(text: str) -> Dialled:
    root = ElementTree.fromstring(text)
    assert root.tag == "Response"
    reject = root.find("Reject")
    if reject is not None:
        raise Rejected(reject.get("reason", ""))
    stream = root.find("Connect/Stream")
    assert stream is not None, text
    parameters = {p.attrib["name"]: p.attrib["value"] for p in stream.findall("Parameter")}
    return Dialled(stream.attrib["url"], parameters, [verb.tag for verb in root])


@dataclass(frozen=True)
class Cut:
    """A ``clear``."""

    at: int
    """Bytes heard when it came."""

    dropped: bytes
    """What was still to be played."""

    def pcm(self) -> array[int]:
        """Samples that were dropped."""
        return array("h", audioop.ulaw2lin(self.dropped, 2))


@dataclass
class TwilioCaller:
    """One call. ``heard`` is what the caller heard: µ-law, real time, silence where none came."""

    websocket: ClientConnection
    call_sid: str
    account_sid: str
    stream_sid: str
    dialled: Dialled
    heard: bytearray = field(default_factory=bytearray)
    marks_returned: list[str] = field(default_factory=list)
    cuts: list[Cut] = field(default_factory=list)
    """What each ``clear`` did."""

    starved: list[int] = field(default_factory=list)
    """Bytes heard when, for 20 ms, nothing was there to play, nothing having been cleared: either
    process was held up for longer than playout holds."""

    media_received: int = 0
    closed_by_server: asyncio.Event = field(default_factory=asyncio.Event)
    close_code: int | None = None
    behind: int = HELD_TICKS
    """Ticks by which playout, once it begins, lags behind what comes; after a ``clear`` no more
    than what every receiver holds."""

    _say: deque[bytes] = field(default_factory=deque)
    _playout: deque[bytes | str] = field(default_factory=deque)
    """What is to be played or returned."""

    _begins: int = 0
    """The tick from which on it is played."""

    _dry: bool = True
    """Whether there was nothing to play at the last tick: then it begins anew."""

    _playing: bool = False
    """Whether anything was played since the last ``clear``."""

    _ticks: int = 0
    _next_tick: float = 0.0
    """Loop time at which the next 20 ms are played."""

    _sequence: int = 1
    _chunk: int = 0
    _timestamp: int = 0

    def say(self, pcm: bytes) -> None:
        """Queue 16-bit PCM at 8 kHz to be spoken from the next tick on."""
        ulaw = audioop.lin2ulaw(pcm, 2)
        for start in range(0, len(ulaw), FRAME):
            self._say.append(ulaw[start : start + FRAME].ljust(FRAME, b"\xff"))

    @property
    def speaking(self) -> bool:
        return bool(self._say)

    @property
    def clears(self) -> int:
        return len(self.cuts)

    @property
    def heard_at_clear(self) -> int:
        """Bytes heard when the last ``clear`` came."""
        return self.cuts[-1].at if self.cuts else 0

    @property
    def dropped_at_clear(self) -> int:
        """Bytes that were still to be played then."""
        return len(self.cuts[-1].dropped) if self.cuts else 0

    @property
    def buffered_ms(self) -> float:
        """What the server sent and was not played yet."""
        return sum(len(item) for item in self._playout if isinstance(item, bytes)) / 8

    def heard_pcm(self) -> bytes:
        return audioop.ulaw2lin(bytes(self.heard), 2)

    async def press(self, digit: str) -> None:
        await self._send(
            {"event": "dtmf", "dtmf": {"track": "inbound_track", "digit": digit}}, numbered=True
        )

    async def hang_up(self) -> None:
        """The caller hangs up: ``stop``, then Twilio closes the websocket."""
        stop = {"accountSid": self.account_sid, "callSid": self.call_sid}
        await self._send({"event": "stop", "stop": stop}, numbered=True)
        await self.websocket.close()

    async def start(self) -> None:
        await self._send({"event": "connected", "protocol": "Call", "version": "1.0.0"})
        start = {
            "accountSid": self.account_sid,
            "streamSid": self.stream_sid,
            "callSid": self.call_sid,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": self.dialled.parameters,
        }
        await self._send({"event": "start", "start": start}, numbered=True)

    async def run(self) -> None:
        """Media both ways in real time until either side closes."""
        receive = asyncio.create_task(self._receive())
        loop = asyncio.get_running_loop()
        due = self._next_tick = loop.time()
        try:
            while not receive.done():
                if loop.time() - due > LATE_SECONDS:
                    for _ in range(READS):  # this process was held up: what came meanwhile is here
                        await asyncio.sleep(0)
                await self._tick(due)
                due += 0.020
                await asyncio.sleep(max(0.0, due - loop.time()))
        except ConnectionClosed:
            pass
        finally:
            receive.cancel()
            await asyncio.gather(receive, return_exceptions=True)
            self.close_code = self.websocket.close_code
            self.closed_by_server.set()

    async def _tick(self, due: float) -> None:
        payload = self._say.popleft() if self._say else SILENCE
        self._chunk += 1
        media = {
            "track": "inbound",
            "chunk": str(self._chunk),
            "timestamp": str(self._timestamp),
            "payload": base64.b64encode(payload).decode(),
        }
        self._timestamp += 20
        await self._send({"event": "media", "media": media}, numbered=True)
        await self._play_until(due)

    async def _play_until(self, now: float) -> None:
        """Everything due by ``now``: playing goes on in real time, however busy this process is."""
        names: list[str] = []
        while self._next_tick <= now:
            self._next_tick += 0.020
            names += self._play()
        for name in names:
            await self._return_mark(name)

    def _play(self) -> list[str]:
        """20 ms; the marks that were reached."""
        names: list[str] = []
        self._ticks += 1
        played = b""
        while self._playout and self._begins <= self._ticks:
            item = self._playout[0]
            need = FRAME - len(played)
            if not need and isinstance(item, bytes):
                break
            self._playout.popleft()
            if isinstance(item, str):
                names.append(item)
                continue
            played += item[:need]
            if len(item) > need:
                self._playout.appendleft(item[need:])
        if not played and self._begins <= self._ticks:
            self._dry = True
        if played:
            self._playing = True
        elif self._playing:
            self.starved.append(len(self.heard))
        self.heard += played.ljust(FRAME, b"\xff")
        return names

    async def _receive(self) -> None:
        async for text in self.websocket:
            message: dict[str, Any] = json.loads(text)
            assert message["streamSid"] == self.stream_sid
            match message["event"]:
                case "media":
                    assert set(message["media"]) == {"payload"}
                    self.media_received += 1
                    self._hold(base64.b64decode(message["media"]["payload"]))
                case "mark":
                    self._hold(message["mark"]["name"])
                case "clear":
                    await self._play_until(asyncio.get_running_loop().time())
                    items = list(self._playout)
                    held = b"".join(item for item in items if isinstance(item, bytes))
                    self.cuts.append(Cut(len(self.heard), held))
                    names = [item for item in items if isinstance(item, str)]
                    self._playout.clear()
                    self._dry, self._playing = True, False
                    self.behind = HELD_TICKS
                    for name in names:
                        await self._return_mark(name)
                case other:
                    raise AssertionError(f"Twilio knows no {other!r}")

    def _hold(self, item: bytes | str) -> None:
        """It is played after what waits; where nothing does, :attr:`behind` ticks from now."""
        if isinstance(item, bytes) and self._dry:
            self._begins, self._dry = self._ticks + self.behind, False
        self._playout.append(item)

    async def _return_mark(self, name: str) -> None:
        self.marks_returned.append(name)
        await self._send({"event": "mark", "mark": {"name": name}}, numbered=True)

    async def _send(self, message: dict[str, Any], *, numbered: bool = False) -> None:
        if numbered:
            message["sequenceNumber"] = str(self._sequence)
            message["streamSid"] = self.stream_sid
            self._sequence += 1
        await self.websocket.send(json.dumps(message))


async def ring(
    base_url: str,
    auth_token: str,
    *,
    caller: str = "+15005550006",
    dialled: str = "+15005550001",
    call_sid: str | None = None,
    account_sid: str | None = None,
    public_url: str | None = None,
) -> tuple[Dialled, str, str]:
    """POST the signed webhook; what it answered, with the call's and the account's SID.

    Raises :class:`Rejected` for ``<Reject>``, ``httpx.HTTPStatusError`` for an HTTP error.
    """
    form = {
        "CallSid": call_sid or new_sid("CA"),
        "AccountSid": account_sid or new_sid("AC"),
        "From": caller,
        "To": dialled,
        "CallStatus": "ringing",
        "Direction": "inbound",
        "ApiVersion": "2010-04-01",
    }
    signed_url = f"{public_url or base_url}/twilio/voice"
    async with httpx.AsyncClient() as client:
        response = await client.post(
            f"{base_url}/twilio/voice",
            data=form,
            headers=signed_headers(auth_token, signed_url, form),
        )
        response.raise_for_status()
        assert response.headers["content-type"].startswith("text/xml")
        return read_twiml(response.text), form["CallSid"], form["AccountSid"]


@asynccontextmanager
async def dial(
    base_url: str, auth_token: str, *, behind_seconds: float = 0.0, **options: Any
) -> AsyncIterator[TwilioCaller]:
    """Call the server at ``base_url``; the caller hangs up, if still there, on leaving.

    ``behind_seconds`` is how far Twilio's playout lags behind what it was sent, until ``clear``;
    less than what a receiver holds counts as that.
    """
    dialled, call_sid, account_sid = await ring(base_url, auth_token, **options)
    async with connect(dialled.url, compression=None) as websocket:
        caller = TwilioCaller(websocket, call_sid, account_sid, new_sid("MZ"), dialled)
        caller.behind = max(HELD_TICKS, round(behind_seconds * 50))
        await caller.start()
        media = asyncio.create_task(caller.run())
        try:
            yield caller
            if not media.done():
                with suppress(ConnectionClosed):
                    await caller.hang_up()
        finally:
            media.cancel()
            await asyncio.gather(media, return_exceptions=True)
