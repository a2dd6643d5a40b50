"""A call from a browser: its offer answered, its connection watched to the end.

A browser that is no longer heard is waited for. It comes back over the same path, or with another
offer (:meth:`WebRtcCall.resume`); the agent's words wait meanwhile. After ``reconnect_seconds``
the call ends with ``far_end_lost``.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Final

import structlog
from aiortc import RTCDataChannel

from ringtrue.config.webrtc_settings import IceServer
from ringtrue.streaming.gate import SealGuard
from ringtrue.streaming.ports import EndReason
from ringtrue.telephony.calls import CallHandle
from ringtrue.telephony.webrtc import events
from ringtrue.telephony.webrtc.candidates import Fragment
from ringtrue.telephony.webrtc.connection import Connection
from ringtrue.telephony.webrtc.errors import CandidateError, OfferError
from ringtrue.telephony.webrtc.leg import WebRtcLeg
from ringtrue.telephony.webrtc.outbox import Outbox

log = structlog.get_logger(__name__)

CONNECT_TIMEOUT: Final = 15.0
RECONNECT_SECONDS: Final = 10.0
"""How long a caller is waited for that isn't heard; a browser sends audio, RTCP and consent checks
all the time."""

MAX_RESUMES: Final = 20
"""New connections that one call may ask for."""

WATCH_INTERVAL: Final = 0.5
CLOSE_TIMEOUT: Final = 3.0
GOODBYE: Final = 0.1
"""Seconds the last event has to reach the page before the connection closes."""


class WebRtcCall(CallHandle):
    """One call; implements :class:`~ringtrue.streaming.ports.Call`.

    Its id is ``webrtc-``, 16 random hexadecimal digits, and the mark of its process, if any. It is
    inbound: browsers call, they aren't called. ``remote`` is the page's address as HTTP saw it,
    ``local`` the agent that was called.
    """

    def __init__(
        self,
        *,
        ice_servers: Sequence[IceServer] = (),
        remote: str = "browser",
        local: str = "",
        connect_timeout: float = CONNECT_TIMEOUT,
        reconnect_seconds: float = RECONNECT_SECONDS,
        mark: str = "",
    ) -> None:
        """A call to be; :meth:`answer` makes it one. Its id ends with ``mark``.

        Raises :class:`~.errors.UnsupportedAiortcError` if the installed aiortc can't be guarded.
        """
        call_id = f"webrtc-{secrets.token_hex(8)}{mark}"
        super().__init__(call_id, transport="webrtc", remote=remote, local=local)
        self._connect_timeout = connect_timeout
        self._reconnect_seconds = reconnect_seconds
        self._ice_servers = tuple(ice_servers)
        self._seals = SealGuard()
        loop = asyncio.get_running_loop()
        self._clock = loop.time
        self._connection = self._connect()
        self._coming: Connection | None = None
        """Negotiated to reconnect, and not connected yet."""

        self._resumes = 0
        self._leg = WebRtcLeg(self._connection)
        self._outbox = Outbox()
        self._channels: dict[Connection, RTCDataChannel] = {}
        self._up: asyncio.Future[bool] = loop.create_future()
        self._closed = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self.refused_messages = 0
        """Messages from the page that meant nothing."""

    @property
    def leg(self) -> WebRtcLeg:
        """The audio."""
        return self._leg

    async def answer(self, offer: str) -> str:
        """Answer the browser's SDP offer with ours, candidates included; starts the call.

        Raises :class:`OfferError` saying what is wrong with the offer; the call is then over.
        """
        try:
            answer = await self._connection.answer(offer)
        except BaseException:
            self._finish(EndReason.ERROR)
            await self._close()
            raise
        self._keeper = asyncio.create_task(self._keep(), name=f"{self._id} keeper")
        return answer

    async def add_candidates(self, fragment: Fragment) -> None:
        """Add candidates to the connection that was offered last (trickle ICE, RFC 8838).

        Raises :class:`CandidateError` where they can't be added, or the call is over.
        """
        if self._over.done():
            raise CandidateError("the call is over")
        await (self._coming or self._connection).add(fragment)

    async def resume(self, offer: str) -> str:
        """Answer an offer that replaces the connection; the call goes on once it is connected.

        The one before it is closed then; until then it is used if it comes back. Raises
        :class:`OfferError` where the offer can't be answered, the call is over or never was
        connected, or it was resumed :data:`MAX_RESUMES` times; the call is as before.
        """
        if self._over.done() or not self._up.done():
            raise OfferError("the call is over" if self._over.done() else "the call is not up yet")
        if self._resumes >= MAX_RESUMES:
            raise OfferError(f"the call was resumed {MAX_RESUMES} times; allowed: no more")
        self._resumes += 1
        coming, before = self._connect(), self._coming
        self._coming = coming
        if before is not None:
            self._leave(before)
        try:
            answer = await coming.answer(offer)
        except BaseException:
            if self._coming is coming:
                self._coming = None
            self._leave(coming)
            raise
        if self._over.done():
            raise OfferError("the call is over")
        log.info("webrtc_resuming", call=self._id, attempt=self._resumes)
        return answer

    async def connected(self) -> bool:
        """Wait until audio can flow: True; False if the call ended before."""
        return await asyncio.shield(self._up)

    def notify(self, event: events.PageEvent) -> None:
        """Show the page an event (see :mod:`.events`). Never blocks; bounded, oldest dropped."""
        if not self._over.done():
            self._route()
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

    def _connect(self) -> Connection:
        return Connection(
            self._ice_servers,
            self._seals,
            on_state=self._state_changed,
            on_channel=self._channel_opened,
        )

    def _state_changed(self, connection: Connection, state: str) -> None:
        if connection is self._coming:
            if state == "connected":
                self._take_over(connection)
            elif state in ("failed", "closed"):
                self._coming = None
                self._leave(connection)
        elif connection is self._connection:
            self._path_changed(state)

    def _path_changed(self, state: str) -> None:
        if state == "connected" and not self._up.done():
            self._connection.track.discard()
            self._up.set_result(True)
            log.info("webrtc_connected", call=self._id)
        elif state == "failed" and not self._up.done():
            self._finish(EndReason.FAR_END_LOST)
        elif state == "closed":
            # DTLS close_notify: the page hung up, was left, or was reloaded
            self._finish(EndReason.CALLER_HUNG_UP)

    def _take_over(self, connection: Connection) -> None:
        """The connection that replaces the other is up."""
        before, self._connection, self._coming = self._connection, connection, None
        self._leg.attach(connection)
        self._outbox.attach(self._channels.get(connection))
        self._leave(before)
        log.info("webrtc_resumed", call=self._id)

    def _channel_opened(self, connection: Connection, channel: RTCDataChannel) -> None:
        if channel.label != events.CHANNEL:
            channel.close()
            return
        channel.on("message", self._message)
        channel.on("bufferedamountlow", self._outbox.flush)
        self._channels[connection] = channel
        if connection is self._connection:
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
        self._outbox.attach(self._channels.get(self._connection))
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
        self._route()
        heard = self._leg.last_heard()
        if heard is not None and now - heard > self._reconnect_seconds:
            log.warning("webrtc_far_end_lost", call=self._id)
            self._finish(EndReason.FAR_END_LOST)
        self._leg.round_trip(await self._connection.round_trip())

    def _route(self) -> None:
        """Have events go where the page is; what happens while it is away is told afterwards."""
        away = self._leg.held and not self._over.done()
        self._outbox.attach(None if away else self._channels.get(self._connection))

    def _leave(self, connection: Connection) -> None:
        """Close a connection that is not the call's any more."""
        self._channels.pop(connection, None)
        task = asyncio.create_task(self._shut(connection), name=f"{self._id} leave")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _shut(self, connection: Connection) -> None:
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await connection.close()
        except TimeoutError:
            log.warning("webrtc_close_slow", call=self._id)
        except Exception as error:  # whatever aiortc makes of it, the call is over or goes on
            log.warning("webrtc_close_failed", call=self._id, error=type(error).__name__)

    async def _close(self) -> None:
        try:
            coming, self._coming = self._coming, None
            left = [self._connection] if coming is None else [self._connection, coming]
            await asyncio.gather(*(self._shut(connection) for connection in left))
            if self._closing:
                await asyncio.wait(self._closing)
        finally:
            self._closed.set()
