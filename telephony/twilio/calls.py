"""A call carried by Media Streams: its websocket, driven to its end.

The websocket is anything with the four methods of :class:`TextSocket`; Starlette's and the
``websockets`` library's fit with a few lines. Closing it ends the stream, and Twilio goes on with
the TwiML after ``<Connect>``, which hangs up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import structlog

from ringtrue.streaming.ports import Direction, EndReason
from ringtrue.telephony.twilio.leg import TwilioLeg
from ringtrue.telephony.twilio.protocol import (
    Audio,
    Connected,
    Digit,
    Ignored,
    MediaStreamProtocol,
    Played,
    Started,
    Stopped,
    TwilioProtocolError,
)

log = structlog.get_logger(__name__)

START_TIMEOUT: Final = 5.0
"""Seconds a websocket may take to say ``start`` before it is closed."""

SEND_TIMEOUT: Final = 5.0
"""Seconds one message may wait in the kernel before the far end counts as lost."""

SILENCE_TIMEOUT: Final = 10.0
"""Seconds without any message: Twilio sends one every 20 ms, so the far end is gone."""

WATCH_INTERVAL: Final = 1.0
CLOSE_TIMEOUT: Final = 2.0

NORMAL: Final = 1000
POLICY_VIOLATION: Final = 1008
"""RFC 6455 §7.4.1."""


class SocketClosedError(Exception):
    """The websocket is gone."""


class TextSocket(Protocol):
    """The websocket as this module needs it."""

    async def receive(self) -> str | bytes:
        """The next message. Raises :class:`SocketClosedError` once it is closed."""
        ...

    async def send(self, text: str) -> None:
        """Send a text message. Raises :class:`SocketClosedError` once it is closed."""
        ...

    async def close(self, code: int) -> None:
        """Close with ``code``; never raises, also when it is closed already."""
        ...


class TwilioCall:
    """One call; implements :class:`~ringtrue.streaming.ports.Call`."""

    def __init__(
        self,
        socket: TextSocket,
        protocol: MediaStreamProtocol,
        started: Started,
        *,
        remote: str,
        local: str,
        direction: Direction = Direction.INBOUND,
        agent: str | None = None,
    ) -> None:
        """A stream that has sent ``start`` and shown its token; :meth:`run` drives it."""
        self._socket = socket
        self._protocol = protocol
        self._id = f"twilio-{started.call_sid}-{started.stream_sid[-8:]}"
        self._remote, self._local = remote, local
        self._direction = direction
        self._agent = agent
        self._leg = TwilioLeg(protocol)
        self._leg.alive(asyncio.get_running_loop().time())
        self._over: asyncio.Future[EndReason] = asyncio.get_running_loop().create_future()
        self._closed = asyncio.Event()
        self._close_code = NORMAL
        self._sending_since: float | None = None
        self.ignored = 0
        """Messages of kinds this version does not know."""

    @property
    def id(self) -> str:
        """``twilio-`` and the call's SID, with the end of the stream's."""
        return self._id

    @property
    def transport(self) -> str:
        """``twilio``."""
        return "twilio"

    @property
    def direction(self) -> Direction:
        """Who placed it."""
        return self._direction

    @property
    def remote(self) -> str:
        """The caller's number as the signed webhook gave it. Never log it whole."""
        return self._remote

    @property
    def local(self) -> str:
        """The number that was dialled."""
        return self._local

    @property
    def agent(self) -> str | None:
        """The agent the webhook's URL named, if it did."""
        return self._agent

    @property
    def leg(self) -> TwilioLeg:
        """The audio."""
        return self._leg

    async def hangup(self, reason: EndReason = EndReason.AGENT_HUNG_UP) -> None:
        """Close the stream; Twilio then hangs up. Returns once closed, within 2 s. Idempotent."""
        self._finish(reason)
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._closed.wait()
        except TimeoutError:
            log.warning("twilio_close_slow", call=self._id)

    async def ended(self) -> EndReason:
        """Wait until the call is over; safe to await many times."""
        return await asyncio.shield(self._over)

    async def run(self) -> EndReason:
        """Carry messages both ways until the call is over, then close the websocket."""
        tasks = [
            asyncio.create_task(self._receive(), name=f"{self._id} receive"),
            asyncio.create_task(self._send(), name=f"{self._id} send"),
            asyncio.create_task(self._watch(), name=f"{self._id} watch"),
        ]
        try:
            futures: list[asyncio.Future[Any]] = [*tasks, self._over]
            await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done() and not task.cancelled() and task.exception() is not None:
                    log.error("twilio_call_fault", call=self._id, error=repr(task.exception()))
            self._finish(EndReason.ERROR)
        finally:
            self._finish(EndReason.SHUTDOWN)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await self._socket.close(self._close_code)
            except TimeoutError:
                log.warning("twilio_close_slow", call=self._id)
            self._closed.set()
        return self._over.result()

    def _finish(self, reason: EndReason, code: int = NORMAL) -> None:
        if not self._over.done():
            self._over.set_result(reason)
            self._close_code = code
            self._leg.close()

    async def _receive(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._over.done():
            try:
                self._take(await self._socket.receive(), loop.time())
            except SocketClosedError:
                self._finish(EndReason.FAR_END_LOST)
            except TwilioProtocolError as error:
                log.warning("twilio_message_refused", call=self._id, error=str(error))
                self._finish(EndReason.ERROR, POLICY_VIOLATION)

    def _take(self, message: str | bytes, now: float) -> None:
        if isinstance(message, bytes):
            raise TwilioProtocolError("binary message; allowed: text")
        event = self._protocol.receive(message)
        self._leg.alive(now)
        match event:
            case Audio():
                self._leg.receive(event, now)
            case Played(name):
                self._leg.played(name)
            case Digit(digit):
                self._leg.press(digit)
            case Stopped():
                self._finish(EndReason.CALLER_HUNG_UP)
            case Ignored() | Connected() | Started():
                self.ignored += 1

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        while (message := await self._leg.outgoing()) is not None:
            self._sending_since = loop.time()
            try:
                await self._socket.send(message)
            except SocketClosedError:
                self._finish(EndReason.FAR_END_LOST)
            self._sending_since = None

    async def _watch(self) -> None:
        """End the call when nothing comes any more, or nothing goes out."""
        loop = asyncio.get_running_loop()
        while not self._over.done():
            await asyncio.sleep(WATCH_INTERVAL)
            now = loop.time()
            heard = self._leg.last_heard()
            silent = heard is not None and now - heard > SILENCE_TIMEOUT
            since = self._sending_since
            if silent or (since is not None and now - since > SEND_TIMEOUT):
                log.warning("twilio_far_end_lost", call=self._id, silent=silent)
                self._finish(EndReason.FAR_END_LOST)


async def handshake(socket: TextSocket) -> tuple[MediaStreamProtocol, Started]:
    """Read ``connected`` and ``start`` from a new websocket.

    Raises :class:`TwilioProtocolError` if it says anything else first or takes longer than
    5 s, :class:`SocketClosedError` if it goes away.
    """
    protocol = MediaStreamProtocol()
    try:
        async with asyncio.timeout(START_TIMEOUT):
            while True:
                message = await socket.receive()
                if isinstance(message, bytes):
                    raise TwilioProtocolError("binary message; allowed: text")
                event = protocol.receive(message)
                if isinstance(event, Started):
                    return protocol, event
    except TimeoutError as error:
        raise TwilioProtocolError(f"no start within {START_TIMEOUT} s") from error


Answer = Callable[[TwilioCall], Awaitable[None]]
"""What takes an answered call and returns when it has no more use for it."""
