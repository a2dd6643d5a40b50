"""A caller behind Twilio: the webhook, the media stream, and what Twilio does with its messages.

Twilio plays what it was sent in order and in real time, returns a mark once the audio before it
was played, and drops all of it on ``clear``. The network between Twilio and the caller is the
caller's (:class:`FramePath`); the websocket loses nothing.

Source: https://www.twilio.com/docs/voice/media-streams/websocket-messages
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from collections import deque
from typing import Any, Final
from urllib.parse import quote
from xml.etree import ElementTree

import httpx
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from ringtrue.loadtest.caller import RefusedError
from ringtrue.loadtest.calling import CallerOptions, Calling
from ringtrue.loadtest.impaired import emulators
from ringtrue.loadtest.netem import Netem
from ringtrue.loadtest.placed import PlacedCall, PlacedLeg
from ringtrue.streaming.errors import GateError, RingtrueError
from ringtrue.streaming.gate import SealedFrame, SealGuard
from ringtrue.streaming.ports import Call, EndReason, Inbound, LegStats, frame_bytes
from ringtrue.telephony.codecs.g711 import UlawCodec

RATE: Final = 8000
STOCK: Final = 2
"""Frames gathered before playing goes on after it ran dry: Twilio's own buffer."""

MAX_PLAYOUT: Final = 60 * RATE
"""Bytes of µ-law that Twilio holds; what comes beyond is dropped and counted."""

MAX_OUTBOX: Final = 100
"""Messages that may wait for the websocket; beyond, the oldest is dropped and counted."""

SILENCE: Final = b"\xff" * 160
HTTP_SECONDS: Final = 10.0
CLOSE_SECONDS: Final = 3.0


class TwilioError(RingtrueError):
    """The target doesn't answer as Twilio's documentation wants it to."""


class FramePath:
    """20 ms frames over an emulated path to a buffer that gives out one a tick."""

    MAX: Final = 15
    """Frames waiting at the far end; beyond, the oldest is dropped."""

    def __init__(self, netem: Netem[Any] | None) -> None:
        """None: what goes in comes out at once."""
        self._netem = netem
        self._arrived: deque[bytes] = deque()

    def pass_on(self, frame: bytes | None, now: float) -> bytes | None:
        """Put in this tick's frame, if there is one; get what is there to be played."""
        if self._netem is None:
            return frame
        if frame is not None:
            self._netem.send(frame, now)
        self._arrived.extend(item for _, item in self._netem.deliver(now))
        while len(self._arrived) > self.MAX:
            self._arrived.popleft()
        return self._arrived.popleft() if self._arrived else None


class TwilioCallerLeg(PlacedLeg):
    """The caller's audio; implements :class:`~ringtrue.streaming.ports.MediaLeg`."""

    def __init__(self, stream_sid: str, options: CallerOptions) -> None:
        """For a stream that begins now."""
        super().__init__()
        up, down = emulators(options.network, options.seed)
        self._up, self._down = FramePath(up), FramePath(down)
        self._sid = stream_sid
        self._guard = SealGuard()
        self._codec = UlawCodec()
        self._playout: deque[bytes | str] = deque()
        self._waiting = 0
        self._flowing = False
        self._outbox: deque[str] = deque()
        self._wake = asyncio.Event()
        self._sequence = 1
        self._chunk = 0
        self._closed = False

    @property
    def rate(self) -> int:
        """8000 Hz."""
        return RATE

    @property
    def stats(self) -> LegStats:
        """Live counters; packets are ``media`` messages."""
        self._stats.jitter_buffer_ms = self._waiting * 1000 / RATE
        return self._stats

    # What the websocket calls.

    def receive(self, message: dict[str, Any], now: float) -> None:
        """Take one message of the target. Raises :class:`TwilioError` for one Twilio refuses."""
        self._last_heard = now
        if message.get("streamSid") != self._sid:
            raise TwilioError("a message names another stream")
        match message.get("event"):
            case "media":
                self._media(_text(message, "media", "payload"))
            case "mark":
                name = _text(message, "mark", "name")
                self._playout.append(name)
                self._marks()
            case "clear":
                names = [item for item in self._playout if isinstance(item, str)]
                self._playout.clear()
                self._waiting = 0
                for name in names:
                    self._mark(name)
            case other:
                raise TwilioError(f"Twilio knows no event {str(other)[:40]!r}")

    def _media(self, payload: str) -> None:
        try:
            audio = base64.b64decode(payload, validate=True)
        except ValueError:
            raise TwilioError("media.payload is not base64") from None
        self._stats.packets_received += 1
        if self._waiting + len(audio) > MAX_PLAYOUT:
            self._stats.packets_refused += 1
            return
        self._playout.append(audio)
        self._waiting += len(audio)

    async def outgoing(self) -> str | None:
        """The next message to send; None once closed."""
        while not self._outbox:
            if self._closed:
                return None
            self._wake.clear()
            await self._wake.wait()
        return self._outbox.popleft()

    def tell(self, event: str, **body: Any) -> None:
        """Queue a message of the stream."""
        message = {"event": event, **body, "sequenceNumber": str(self._sequence)}
        self._sequence += 1
        self._put(json.dumps(message | {"streamSid": self._sid}, separators=(",", ":")))

    def greet(self, message: dict[str, Any]) -> None:
        """Queue ``connected``, which belongs to no stream yet."""
        self._put(json.dumps(message))

    # What the line calls.

    def pull(self, now: float) -> Inbound:
        """The next 20 ms that the caller hears."""
        played = self._play()
        heard = self._down.pass_on(played, now)
        if heard is None:
            self._stats.frames_concealed += 1
            return Inbound(bytes(frame_bytes(RATE)), concealed=True)
        return Inbound(self._codec.decode(heard))

    def send(self, frame: SealedFrame, now: float) -> None:
        """Send 20 ms, or the key that it tells of."""
        try:
            frame = self._guard.check(frame)
        except GateError:
            self._stats.packets_refused += 1
            return
        digit = frame.digit
        if digit is not None and digit.first:
            self.tell("dtmf", dtmf={"track": "inbound_track", "digit": digit.digit})
        encoded = SILENCE if digit is not None else self._codec.encode(frame.pcm)
        payload = self._up.pass_on(encoded, now) or SILENCE
        self._chunk += 1
        self._stats.packets_sent += 1
        self.tell(
            "media",
            media={
                "track": "inbound",
                "chunk": str(self._chunk),
                "timestamp": str(20 * (self._chunk - 1)),
                "payload": base64.b64encode(payload).decode("ascii"),
            },
        )

    def close(self) -> None:
        """End :meth:`outgoing`. Idempotent."""
        self._closed = True
        self._wake.set()

    def _play(self) -> bytes | None:
        """20 ms of what was sent, with the marks behind it; None where it ran dry."""
        size = len(SILENCE)
        if not self._flowing and self._waiting < STOCK * size:
            self._marks()
            return None
        self._flowing = True
        played = b""
        while self._playout and len(played) < size:
            item = self._playout.popleft()
            if isinstance(item, str):
                self._mark(item)
                continue
            need = size - len(played)
            played += item[:need]
            if len(item) > need:
                self._playout.appendleft(item[need:])
        self._waiting -= len(played)
        self._marks()
        if len(played) < size:
            self._flowing = False
        return played.ljust(size, b"\xff") if played else None

    def _marks(self) -> None:
        while self._playout and isinstance(name := self._playout[0], str):
            self._playout.popleft()
            self._mark(name)

    def _mark(self, name: str) -> None:
        self.tell("mark", mark={"name": name})

    def _put(self, message: str) -> None:
        if len(self._outbox) >= MAX_OUTBOX:
            self._outbox.popleft()
            self._stats.extra["outbox_dropped"] = self._stats.extra.get("outbox_dropped", 0) + 1
        self._outbox.append(message)
        self._wake.set()


class TwilioCallerCall(PlacedCall):
    """One call as its caller has it; implements :class:`~ringtrue.streaming.ports.Call`."""

    def __init__(self, socket: ClientConnection, sids: dict[str, str], leg: TwilioCallerLeg):
        """A stream whose ``start`` is queued; carried from now on."""
        super().__init__()
        self._socket = socket
        self._sids = sids
        self._leg = leg
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._receive(), name=f"{self.id} receive"),
            loop.create_task(self._send(), name=f"{self.id} send"),
        ]

    @property
    def id(self) -> str:
        """The call's SID."""
        return self._sids["callSid"]

    @property
    def transport(self) -> str:
        """``twilio``."""
        return "twilio"

    @property
    def remote(self) -> str:
        """The target's stream."""
        return self._sids["streamSid"]

    @property
    def leg(self) -> TwilioCallerLeg:
        """The audio."""
        return self._leg

    async def hangup(self, reason: EndReason = EndReason.AGENT_HUNG_UP) -> None:
        """Say ``stop`` and close; returns once closed. Idempotent."""
        if not self._over.done():
            self._finish(reason)
            sids = {key: self._sids[key] for key in ("accountSid", "callSid")}
            self._leg.tell("stop", stop=sids)
        self._leg.close()
        await asyncio.wait(self._tasks[1:], timeout=CLOSE_SECONDS)
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._socket.close()
        except TimeoutError:
            self._socket.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _receive(self) -> None:
        loop = asyncio.get_running_loop()
        reason = EndReason.CALLER_HUNG_UP
        try:
            async for text in self._socket:
                message = json.loads(text)
                if not isinstance(message, dict):
                    raise TwilioError("a message is no JSON object")
                self._leg.receive(message, loop.time())
        except ConnectionClosed as error:
            if error.rcvd is None:
                reason = EndReason.FAR_END_LOST
        except (ValueError, TwilioError):
            reason = EndReason.ERROR
        self._leg.close()
        self._finish(reason)

    async def _send(self) -> None:
        try:
            while (message := await self._leg.outgoing()) is not None:
                await self._socket.send(message)
        except ConnectionClosed:
            return


class TwilioPhone(Calling):
    """Calls the number whose webhook is at a target's base URL. Use ``async with``."""

    def __init__(
        self, auth_token: str, *, agent: str | None = None, drift_ppm: float = 0.0
    ) -> None:
        """``auth_token`` signs the webhook. Raises ``ValueError`` without one."""
        if not auth_token:
            raise ValueError(
                "a Twilio target needs the auth token that it checks webhooks with: "
                "RINGTRUE_TWILIO__AUTH_TOKEN"
            )
        self._validator = RequestValidator(auth_token)
        self._agent = agent
        self._http = httpx.AsyncClient(timeout=HTTP_SECONDS)
        super().__init__(drift_ppm, self._http)

    async def _dial(self, target: str, options: CallerOptions) -> Call:
        sids = {"accountSid": _sid("AC"), "callSid": _sid("CA"), "streamSid": _sid("MZ")}
        url, parameters = await self._ring(target, sids)
        try:
            socket = await connect(url, compression=None, max_size=1 << 20, open_timeout=None)
        except (WebSocketException, OSError) as error:
            raise TwilioError(f"no media stream: {type(error).__name__}") from None
        leg = TwilioCallerLeg(sids["streamSid"], options)
        leg.greet({"event": "connected", "protocol": "Call", "version": "1.0.0"})
        form = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}
        start = {"tracks": ["inbound"], "mediaFormat": form, "customParameters": parameters}
        leg.tell("start", start=sids | start)
        return TwilioCallerCall(socket, sids, leg)

    async def _ring(self, base: str, sids: dict[str, str]) -> tuple[str, dict[str, str]]:
        """POST the signed webhook; the stream's address and parameters."""
        url = f"{base}/twilio/voice" + (f"?agent={quote(self._agent)}" if self._agent else "")
        form = {
            "CallSid": sids["callSid"],
            "AccountSid": sids["accountSid"],
            "From": "+15005550006",
            "To": "+15005550001",
            "CallStatus": "ringing",
            "Direction": "inbound",
            "ApiVersion": "2010-04-01",
        }
        signature = self._validator.compute_signature(url, form)
        headers = {"X-Twilio-Signature": signature}
        try:
            answer = await self._http.post(url, data=form, headers=headers)
        except httpx.HTTPError as error:
            raise TwilioError(f"the webhook can't be asked: {type(error).__name__}") from None
        if answer.status_code >= 300:
            raise refused(answer)
        return _read_twiml(answer.text)


def refused(answer: httpx.Response) -> RefusedError:
    """An HTTP answer that isn't success, as a refusal."""
    after = answer.headers.get("retry-after", "")
    seconds = float(after) if after.isdecimal() else None
    return RefusedError(answer.status_code, answer.reason_phrase, seconds)


def _read_twiml(text: str) -> tuple[str, dict[str, str]]:
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        raise TwilioError("the webhook's answer is not XML") from None
    reject = root.find("Reject")
    if reject is not None:
        raise RefusedError(486, f"Reject {reject.get('reason', '')}".strip())
    stream = root.find("Connect/Stream")
    if root.tag != "Response" or stream is None or "url" not in stream.attrib:
        raise TwilioError("the webhook's answer connects no stream")
    parameters = {p.get("name", ""): p.get("value", "") for p in stream.findall("Parameter")}
    return stream.attrib["url"], parameters


def _text(message: dict[str, Any], part: str, key: str) -> str:
    body = message.get(part)
    value = body.get(key) if isinstance(body, dict) else None
    if not isinstance(value, str):
        raise TwilioError(f"{part}.{key} is no text")
    return value


def _sid(prefix: str) -> str:
    return prefix + secrets.token_hex(16)
