"""A caller in a browser, without the browser: WebRTC by aiortc, signalled over HTTP.

The audio takes the same way as on the server: Opus packets go to our adaptive jitter buffer (see
:mod:`ringtrue.telephony.webrtc.inbound`), so that what is measured is when speech could be heard
and not when aiortc's own buffer gives it out.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, Final

import httpx
from aiortc import (
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)

from ringtrue.loadtest.calling import CallerOptions, Calling
from ringtrue.loadtest.impaired import Deferred, emulators
from ringtrue.loadtest.placed import PlacedCall, PlacedLeg
from ringtrue.loadtest.twilio import refused
from ringtrue.streaming.errors import GateError, RingtrueError
from ringtrue.streaming.gate import SealedFrame
from ringtrue.streaming.ports import Call, EndReason, Inbound, LegStats
from ringtrue.telephony.codecs.opus import RATE
from ringtrue.telephony.webrtc.events import CHANNEL
from ringtrue.telephony.webrtc.inbound import AiortcPacket, OpusInbound, PacketTap
from ringtrue.telephony.webrtc.track import SealedTrack

HTTP_SECONDS: Final = 15.0
CLOSE_SECONDS: Final = 3.0
GOODBYE_SECONDS: Final = 0.1
"""How long the last message has to leave before the connection closes."""

RTCP_TYPES: Final = range(192, 224)
"""Second bytes of RTCP on a multiplexed port (RFC 5761 §4): these pass unharmed."""

_JITTER_BUFFER: Final = "_RTCRtpReceiver__jitter_buffer"
_SEND: Final = "_send_rtp"


class BrowserError(RingtrueError):
    """The target can't be called as a browser does."""


class BrowserLeg(PlacedLeg):
    """The caller's audio; implements :class:`~ringtrue.streaming.ports.MediaLeg`."""

    def __init__(self, track: SealedTrack, inbound: OpusInbound) -> None:
        """What is sent, and what comes."""
        super().__init__()
        self._track = track
        self._inbound = inbound
        self.on_digit: Callable[[str], None] = _ignore
        """Told of each key, once."""

    @property
    def rate(self) -> int:
        """16000 Hz."""
        return RATE

    @property
    def stats(self) -> LegStats:
        """Live counters."""
        stats, receiver = self._stats, self._inbound.receiver
        stats.packets_received = receiver.received
        stats.packets_sent = self._track.sent
        stats.packets_lost = receiver.lost
        stats.packets_late = receiver.buffer.late
        stats.packets_duplicate = receiver.buffer.duplicates
        stats.packets_refused = receiver.refused
        stats.frames_concealed = receiver.frames_concealed
        if receiver.reception is not None:
            stats.jitter_ms = receiver.reception.jitter * 1000
        stats.jitter_buffer_ms = receiver.buffer.target * 1000
        return stats

    def pull(self, now: float) -> Inbound:
        """The next 20 ms that the caller hears."""
        return self._inbound.pull(now)

    def send(self, frame: SealedFrame, now: float) -> None:
        """Send 20 ms; a key goes by the data channel, once, and as a tone."""
        try:
            self._track.put(frame)
        except GateError:
            self._stats.packets_refused += 1
            return
        if frame.digit is not None and frame.digit.first:
            self.on_digit(frame.digit.digit)

    def packet(self, packet: AiortcPacket, now: float) -> None:
        """Take one that came."""
        self._last_heard = now
        self._inbound.packet(packet, now)

    def close(self) -> None:
        """End the track. Idempotent."""
        self._track.stop()


def _ignore(_: str) -> None:
    return None


class BrowserCall(PlacedCall):
    """One call; implements :class:`~ringtrue.streaming.ports.Call`."""

    def __init__(self, options: CallerOptions, agent: str) -> None:
        """A connection to be; :meth:`offer` and :meth:`accept` make it one.

        Raises :class:`BrowserError` if the installed aiortc is built otherwise than is known.
        """
        super().__init__()
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._agent = agent
        self._pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._channel = self._pc.createDataChannel(CHANNEL)
        self._track = SealedTrack()
        transceiver = self._pc.addTransceiver(self._track, direction="sendrecv")
        codecs = RTCRtpSender.getCapabilities("audio").codecs
        transceiver.setCodecPreferences([c for c in codecs if c.mimeType == "audio/opus"])
        receiver, self._sender = transceiver.receiver, transceiver.sender
        if not (hasattr(receiver, _JITTER_BUFFER) and hasattr(self._sender.transport, _SEND)):
            raise BrowserError("aiortc is not of version 1.16, which callers are made for")
        setattr(receiver, _JITTER_BUFFER, PacketTap(self._came))
        self._leg = BrowserLeg(self._track, OpusInbound())
        self._leg.on_digit = self._press
        up, down = emulators(options.network, options.seed)
        self._down = None if down is None else Deferred(down, self._hear)
        self._up = None if up is None else Deferred(up, self._put)
        self._send = self._sender.transport._send_rtp
        if self._up is not None:
            setattr(self._sender.transport, _SEND, self._impaired)
        self._sending: set[asyncio.Task[None]] = set()
        self._connected: asyncio.Future[bool] = loop.create_future()
        self._closed = False
        self.call_id = f"browser-{id(self):x}"
        self._pc.on("connectionstatechange", self._changed)
        self._channel.on("message", self._told)

    @property
    def id(self) -> str:
        """As the target calls it."""
        return self.call_id

    @property
    def transport(self) -> str:
        """``webrtc``."""
        return "webrtc"

    @property
    def remote(self) -> str:
        """The agent called."""
        return self._agent

    @property
    def leg(self) -> BrowserLeg:
        """The audio."""
        return self._leg

    async def offer(self) -> str:
        """Our description, candidates included."""
        await self._pc.setLocalDescription(await self._pc.createOffer())
        description: RTCSessionDescription = self._pc.localDescription
        return str(description.sdp)

    async def accept(self, answer: str) -> None:
        """Take the target's answer; returns once audio can flow. Raises :class:`BrowserError`."""
        try:
            await self._pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        except ValueError as error:
            raise BrowserError(f"the answer can't be used: {type(error).__name__}") from None
        if not await asyncio.shield(self._connected):
            raise BrowserError("no connection came about")
        self._track.discard()

    async def hangup(self, reason: EndReason = EndReason.AGENT_HUNG_UP) -> None:
        """Tell the target and close. Idempotent."""
        if not self._over.done():
            self._tell({"type": "hangup"})
            self._finish(reason)
            await asyncio.sleep(GOODBYE_SECONDS)
        await self.close()

    async def close(self) -> None:
        """Close the connection. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._finish(EndReason.ERROR)
        self._leg.close()
        for path in (self._up, self._down):
            if path is not None:
                path.close()
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        await asyncio.wait([self._loop.create_task(self._pc.close())], timeout=CLOSE_SECONDS)

    def _finish(self, reason: EndReason) -> None:
        super()._finish(reason)
        if not self._connected.done():
            self._connected.set_result(False)

    def _changed(self) -> None:
        state = self._pc.connectionState
        if state == "connected" and not self._connected.done():
            self._connected.set_result(True)
        elif state == "failed":
            self._finish(EndReason.FAR_END_LOST)
        elif state == "closed":
            self._finish(EndReason.CALLER_HUNG_UP)

    def _told(self, message: str | bytes) -> None:
        try:
            event = json.loads(message)
        except ValueError:
            return
        told = (event.get("type"), event.get("state")) if isinstance(event, dict) else None
        if told == ("state", "ended"):
            self._finish(EndReason.CALLER_HUNG_UP)

    def _press(self, digit: str) -> None:
        self._tell({"type": "dtmf", "digit": digit})

    def _tell(self, message: dict[str, Any]) -> None:
        if self._channel.readyState == "open":
            self._channel.send(json.dumps(message))

    def _came(self, packet: AiortcPacket) -> None:
        if self._down is not None:
            self._down.put(packet)
        else:
            self._hear(packet)

    def _hear(self, packet: AiortcPacket) -> None:
        self._leg.packet(packet, self._loop.time())

    async def _impaired(self, data: bytes) -> None:
        if len(data) > 1 and data[1] in RTCP_TYPES or self._up is None:
            await self._send(data)
        else:
            self._up.put(data)

    def _put(self, data: bytes) -> None:
        task = self._loop.create_task(self._sent(data), name="impaired packet")
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _sent(self, data: bytes) -> None:
        try:
            await self._send(data)
        except ConnectionError:
            return  # it came too late


class BrowserPhone(Calling):
    """Calls an agent at a target's base URL as its page does. Use ``async with``."""

    def __init__(self, *, agent: str, drift_ppm: float = 0.0) -> None:
        """``agent`` is who is called."""
        self._agent = agent
        self._http = httpx.AsyncClient(timeout=HTTP_SECONDS)
        super().__init__(drift_ppm, self._http)

    async def _dial(self, target: str, options: CallerOptions) -> Call:
        call = BrowserCall(options, self._agent)
        try:
            session = await self._post(f"{target}/webrtc/session", {"agent": self._agent})
            offer = {"sdp": await call.offer(), "token": session.get("token"), "agent": self._agent}
            answer = await self._post(f"{target}/webrtc/offer", offer)
            if isinstance(answer.get("call_id"), str):
                call.call_id = answer["call_id"]
            await call.accept(str(answer.get("sdp")))
        except BaseException:
            await call.close()
            raise
        return call

    async def _post(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = await self._http.post(url, json=body)
        except httpx.HTTPError as error:
            raise BrowserError(f"the target can't be asked: {type(error).__name__}") from None
        if answer.status_code >= 300:
            raise refused(answer)
        try:
            value = answer.json()
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise BrowserError("the target's answer is no JSON object")
        return value
