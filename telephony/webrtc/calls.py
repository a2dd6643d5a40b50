"""A call from a browser: its offer answered, its connection watched to the end."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Sequence
from typing import Any, Final

import structlog
from aiortc import (
    RTCBundlePolicy,
    RTCConfiguration,
    RTCDataChannel,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)

from ringtrue.config.settings import IceServer
from ringtrue.streaming.ports import Direction, EndReason
from ringtrue.telephony.webrtc import events
from ringtrue.telephony.webrtc.errors import OfferError, UnsupportedAiortcError, WebRtcError
from ringtrue.telephony.webrtc.guard import DatagramGuard
from ringtrue.telephony.webrtc.inbound import AiortcPacket, OpusInbound, PacketTap
from ringtrue.telephony.webrtc.leg import WebRtcLeg
from ringtrue.telephony.webrtc.outbox import Outbox
from ringtrue.telephony.webrtc.track import SealedTrack

log = structlog.get_logger(__name__)

MAX_SDP: Final = 64 * 1024
MAX_CANDIDATES: Final = 64
"""Each is sent checks, so an offer must not make us knock at more doors than a browser has."""

ANSWER_TIMEOUT: Final = 10.0
CONNECT_TIMEOUT: Final = 15.0
FAR_END_TIMEOUT: Final = 6.0
"""Seconds without a datagram: a browser sends audio, RTCP and consent checks all the time."""

WATCH_INTERVAL: Final = 0.5
CLOSE_TIMEOUT: Final = 3.0
GOODBYE: Final = 0.1
"""Seconds the last event has to reach the page before the connection closes."""

_JITTER_BUFFER: Final = "_RTCRtpReceiver__jitter_buffer"


class WebRtcCall:
    """One call; implements :class:`~ringtrue.streaming.ports.Call`."""

    def __init__(
        self,
        *,
        ice_servers: Sequence[IceServer] = (),
        remote: str = "browser",
        local: str = "",
        connect_timeout: float = CONNECT_TIMEOUT,
        far_end_timeout: float = FAR_END_TIMEOUT,
    ) -> None:
        """A connection to be; :meth:`answer` makes it one.

        Raises :class:`UnsupportedAiortcError` if the installed aiortc can't be guarded.
        """
        self._id = f"webrtc-{secrets.token_hex(8)}"
        self._remote, self._local = remote, local
        self._connect_timeout = connect_timeout
        self._far_end_timeout = far_end_timeout
        self._pc = RTCPeerConnection(
            RTCConfiguration(
                iceServers=[_ice_server(server) for server in ice_servers],
                bundlePolicy=RTCBundlePolicy.MAX_BUNDLE,
            )
        )
        track = SealedTrack()
        transceiver = self._pc.addTransceiver(track, direction="sendrecv")
        transceiver.setCodecPreferences(_opus())
        self._sender, receiver = transceiver.sender, transceiver.receiver
        self._guard = DatagramGuard(receiver.transport.transport._connection)
        self._inbound = OpusInbound()
        if not hasattr(receiver, _JITTER_BUFFER):
            raise UnsupportedAiortcError("RTCRtpReceiver has no jitter buffer; supported: 1.16")
        setattr(receiver, _JITTER_BUFFER, PacketTap(self._packet))
        self._leg = WebRtcLeg(track, self._inbound, self._guard)
        self._outbox = Outbox()
        self._discard = track.discard
        loop = asyncio.get_running_loop()
        self._clock = loop.time
        self._up: asyncio.Future[bool] = loop.create_future()
        self._over: asyncio.Future[EndReason] = loop.create_future()
        self._closed = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self.refused_messages = 0
        """Messages from the page that meant nothing."""

        self._pc.on("connectionstatechange", self._state_changed)
        self._pc.on("datachannel", self._channel_opened)

    @property
    def id(self) -> str:
        """``webrtc-`` and 16 random hexadecimal digits."""
        return self._id

    @property
    def transport(self) -> str:
        """``webrtc``."""
        return "webrtc"

    @property
    def direction(self) -> Direction:
        """Always inbound: browsers call, they aren't called."""
        return Direction.INBOUND

    @property
    def remote(self) -> str:
        """The page's address as HTTP saw it. Never log it whole."""
        return self._remote

    @property
    def local(self) -> str:
        """The agent that was called."""
        return self._local

    @property
    def leg(self) -> WebRtcLeg:
        """The audio."""
        return self._leg

    async def answer(self, offer: str) -> str:
        """Answer the browser's SDP offer with ours, candidates included; starts the call.

        Raises :class:`OfferError` saying what is wrong with the offer; the call is then over.
        """
        try:
            _check(offer)
            async with asyncio.timeout(ANSWER_TIMEOUT):
                return await self._negotiate(offer)
        except BaseException as error:
            self._finish(EndReason.ERROR)
            await self._close()
            if isinstance(error, WebRtcError) or not isinstance(error, Exception):
                raise
            raise OfferError(f"can't be answered: {type(error).__name__}") from error

    async def connected(self) -> bool:
        """Wait until audio can flow: True; False if the call ended before."""
        return await asyncio.shield(self._up)

    def notify(self, event: events.PageEvent) -> None:
        """Show the page an event (see :mod:`.events`). Never blocks; bounded, oldest dropped."""
        if not self._over.done():
            self._outbox.put(event)

    async def hangup(self, reason: EndReason = EndReason.AGENT_HUNG_UP) -> None:
        """End it, the page told why; returns once closed, within 3 s. Idempotent."""
        self._finish(reason)
        if self._keeper is None:
            await self._close()
            return
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._closed.wait()
        except TimeoutError:
            log.warning("webrtc_close_slow", call=self._id)

    async def ended(self) -> EndReason:
        """Wait until the call is over; safe to await many times."""
        return await asyncio.shield(self._over)

    async def _negotiate(self, offer: str) -> str:
        await self._pc.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        await self._pc.setLocalDescription(await self._pc.createAnswer())
        self._guard.arm()
        self._keeper = asyncio.create_task(self._keep(), name=f"{self._id} keeper")
        description: RTCSessionDescription = self._pc.localDescription
        return str(description.sdp)

    def _packet(self, packet: AiortcPacket) -> None:
        self._inbound.packet(packet, self._clock())

    def _state_changed(self) -> None:
        state = self._pc.connectionState
        if state == "connected" and not self._up.done():
            self._discard()
            self._up.set_result(True)
            log.info("webrtc_connected", call=self._id)
        elif state == "failed":
            self._finish(EndReason.FAR_END_LOST)
        elif state == "closed":
            # DTLS close_notify: the page hung up, was left, or was reloaded
            self._finish(EndReason.CALLER_HUNG_UP)

    def _channel_opened(self, channel: RTCDataChannel) -> None:
        if channel.label != events.CHANNEL:
            channel.close()
            return
        channel.on("message", self._message)
        channel.on("bufferedamountlow", self._outbox.flush)
        self._outbox.attach(channel)

    def _message(self, message: str | bytes) -> None:
        try:
            event = events.parse(message)
        except events.PageMessageError:
            self.refused_messages += 1
            return
        if isinstance(event, events.HungUp):
            self._finish(EndReason.CALLER_HUNG_UP)
        else:
            self._leg.press(event.digit)

    def _finish(self, reason: EndReason) -> None:
        if self._over.done():
            return
        self._outbox.put(events.state("ended", reason=reason))
        self._over.set_result(reason)
        if not self._up.done():
            self._up.set_result(False)
        self._leg.close()

    async def _keep(self) -> None:
        """Watch the far end until the call is over, then close the connection."""
        try:
            began = self._clock()
            while not self._over.done():
                await asyncio.wait([self._over], timeout=WATCH_INTERVAL)
                await self._look(self._clock(), began)
            await asyncio.sleep(GOODBYE)
        finally:
            self._finish(EndReason.SHUTDOWN)
            await self._close()

    async def _look(self, now: float, began: float) -> None:
        if not self._up.done():
            if now - began > self._connect_timeout:
                log.warning("webrtc_connect_timeout", call=self._id)
                self._finish(EndReason.FAR_END_LOST)
            return
        heard = self._guard.last_heard
        if heard is not None and now - heard > self._far_end_timeout:
            log.warning("webrtc_far_end_lost", call=self._id)
            self._finish(EndReason.FAR_END_LOST)
        for report in (await self._sender.getStats()).values():
            if report.type == "remote-inbound-rtp":
                self._leg.round_trip(report.roundTripTime)

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._pc.close()
        except TimeoutError:
            log.warning("webrtc_close_slow", call=self._id)
        finally:
            self._closed.set()


def _check(offer: str) -> None:
    """Refuse what a page of ours never offers, before aiortc makes anything of it."""
    if len(offer) > MAX_SDP:
        raise OfferError(f"offer has {len(offer)} characters; allowed: {MAX_SDP}")
    kinds = re.findall(r"^m=(\S+)", offer, re.MULTILINE)
    if kinds.count("audio") != 1 or kinds.count("application") > 1 or len(kinds) > 2:
        raise OfferError(
            f"offer has media {', '.join(kinds[:5])[:80] or 'none'}; "
            "allowed: one audio, at most one application"
        )
    if set(kinds) - {"audio", "application"}:
        raise OfferError("offer has media other than audio and application")
    candidates = len(re.findall(r"^a=candidate:", offer, re.MULTILINE))
    if candidates > MAX_CANDIDATES:
        raise OfferError(f"offer has {candidates} candidates; allowed: {MAX_CANDIDATES}")
    if not re.search(r"^a=fingerprint:sha-(256|384|512) ", offer, re.MULTILINE | re.IGNORECASE):
        raise OfferError("offer has no fingerprint; allowed: sha-256, sha-384, sha-512")


def _opus() -> list[Any]:
    capabilities = RTCRtpSender.getCapabilities("audio").codecs
    return [codec for codec in capabilities if codec.mimeType.lower() == "audio/opus"]


def _ice_server(server: IceServer) -> RTCIceServer:
    credential = server.credential
    return RTCIceServer(
        urls=list(server.urls),
        username=server.username,
        credential=None if credential is None else credential.get_secret_value(),
    )
