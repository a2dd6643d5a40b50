"""A call carried by a media stream: its websocket, driven to its end.

The websocket is anything with the methods of :class:`StreamSocket`; Starlette's and the
``websockets`` library's fit with a few lines.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import structlog

from ringtrue.streaming.ports import Direction, EndReason
from ringtrue.telephony.calls import CallHandle
from ringtrue.telephony.media_streams.leg import StreamLeg
from ringtrue.telephony.media_streams.wire import (
    Digit,
    Heard,
    Ignored,
    Message,
    Played,
    Reply,
    Stopped,
    StreamError,
    StreamWire,
)

log = structlog.get_logger(__name__)

SEND_TIMEOUT: Final = 5.0
"""Seconds one message may wait in the kernel before the far end counts as lost."""

SILENCE_TIMEOUT: Final = 10.0
"""Seconds without any message: carriers send audio all the time, so the far end is gone."""

WATCH_INTERVAL: Final = 1.0
AGENT_TIMEOUT: Final = 5.0
CLOSE_TIMEOUT: Final = 5.0
LAST_WORDS_TIMEOUT: Final = 1.0
GOODBYE_TIMEOUT: Final = 3.5
"""Seconds that the last messages may take, once the call is over."""


NORMAL: Final = 1000
GOING_AWAY: Final = 1001
NO_STATUS: Final = 1005
ABNORMAL: Final = 1006
POLICY_VIOLATION: Final = 1008
"""RFC 6455 §7.4.1."""


_ORDERLY: Final = frozenset({NORMAL, GOING_AWAY, NO_STATUS})
_THEIRS: Final = frozenset({EndReason.CALLER_HUNG_UP, EndReason.FAR_END_LOST})
"""Nobody is left to be told."""


class SocketClosedError(Exception):
    """The websocket is gone."""

    def __init__(self, code: int = ABNORMAL) -> None:
        """``code`` is what it was closed with (RFC 6455 §7.4)."""
        super().__init__(f"closed with {code}")
        self.code = code


class StreamSocket(Protocol):
    """The websocket as this module needs it."""

    async def receive(self) -> Message:
        """The next message. Raises :class:`SocketClosedError` once it is closed."""
        ...

    async def send(self, message: Message) -> None:
        """Send a message. Raises :class:`SocketClosedError` once it is closed."""
        ...

    async def close(self, code: int) -> None:
        """Close with ``code``; never raises, also when it is closed already."""
        ...


class StreamCall(CallHandle):
    """One call; implements :class:`~ringtrue.streaming.ports.Call`.

    Its transport is the carrier's name, its parties are the numbers that the carrier gave.
    """

    def __init__(
        self,
        socket: StreamSocket,
        wire: StreamWire,
        *,
        call_id: str,
        transport: str,
        remote: str,
        local: str,
        direction: Direction = Direction.INBOUND,
        agent: str | None = None,
        leg: StreamLeg | None = None,
    ) -> None:
        """A stream that has begun and shown who it is; :meth:`run` drives it."""
        super().__init__(
            call_id, transport=transport, remote=remote, local=local, direction=direction
        )
        self._socket = socket
        self._wire = wire
        self._agent = agent
        self._leg = StreamLeg(wire) if leg is None else leg
        self._leg.alive(asyncio.get_running_loop().time())
        self._closed = asyncio.Event()
        self._close_code = NORMAL
        self._said_goodbye = False
        self._sending_since: float | None = None
        self.ignored = 0
        """Messages of kinds this version does not know."""

    @property
    def agent(self) -> str | None:
        """The agent that the carrier's request named, if it did."""
        return self._agent

    @property
    def leg(self) -> StreamLeg:
        """The audio."""
        return self._leg

    async def hangup(self, reason: EndReason = EndReason.AGENT_HUNG_UP) -> None:
        """End the call the carrier's way. Returns once closed, within 5 s. Idempotent."""
        self._finish(reason)
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._closed.wait()
        except TimeoutError:
            log.warning("stream_close_slow", call=self._id)

    async def run(self) -> EndReason:
        """Carry messages both ways until the call is over, then close the websocket."""
        tasks = [
            asyncio.create_task(self._send(), name=f"{self._id} send"),
            asyncio.create_task(self._receive(), name=f"{self._id} receive"),
            asyncio.create_task(self._watch(), name=f"{self._id} watch"),
        ]
        try:
            futures: list[asyncio.Future[Any]] = [*tasks, self._over]
            await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
            self._finish(EndReason.ERROR)
            within = GOODBYE_TIMEOUT if self._said_goodbye else LAST_WORDS_TIMEOUT
            await asyncio.wait(tasks[:1], timeout=within)
            if self._said_goodbye and self._wire.lingers:
                await self._linger(tasks[1])
            for task in tasks:
                if task.done() and not task.cancelled() and task.exception() is not None:
                    log.error("stream_call_fault", call=self._id, error=repr(task.exception()))
        finally:
            self._finish(EndReason.SHUTDOWN)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await self._socket.close(self._close_code)
            except TimeoutError:
                log.warning("stream_close_slow", call=self._id)
            self._closed.set()
        return self._over.result()

    def _finish(self, reason: EndReason, code: int = NORMAL) -> None:
        if not self._over.done():
            self._over.set_result(reason)
            self._close_code = code
            self._said_goodbye = reason not in _THEIRS and code == NORMAL
            self._leg.close(goodbye=self._said_goodbye)

    async def _linger(self, receiving: asyncio.Task[None]) -> None:
        """Let the carrier end the session it was asked to end, for a while."""
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
        with contextlib.suppress(SocketClosedError, StreamError, TimeoutError):
            async with asyncio.timeout(GOODBYE_TIMEOUT):
                while True:
                    for event in await self._wire.receive(await self._socket.receive()):
                        if isinstance(event, Reply):
                            await self._socket.send(event.message)
                        elif isinstance(event, Stopped):
                            return

    async def _receive(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._over.done():
            try:
                await self._take(await self._socket.receive(), loop.time())
            except SocketClosedError as closed:
                orderly = self._wire.closing_ends and closed.code in _ORDERLY
                self._finish(EndReason.CALLER_HUNG_UP if orderly else EndReason.FAR_END_LOST)
            except StreamError as error:
                log.warning("stream_message_refused", call=self._id, error=str(error))
                self._finish(EndReason.ERROR, POLICY_VIOLATION)

    async def _take(self, message: Message, now: float) -> None:
        events = await self._wire.receive(message)
        self._leg.alive(now)
        for event in events:
            match event:
                case Heard():
                    self._leg.hear(event, now)
                case Played(name):
                    self._leg.played(name)
                case Digit(digit):
                    self._leg.press(digit)
                case Reply(text):
                    self._leg.reply(text)
                case Stopped():
                    self._finish(EndReason.CALLER_HUNG_UP)
                case Ignored():
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
                log.warning("stream_far_end_lost", call=self._id, silent=silent)
                self._finish(EndReason.FAR_END_LOST)


Answer = Callable[[StreamCall], Awaitable[None]]
"""What takes an answered call and returns when it has no more use for it."""


async def carry(call: StreamCall, answer: Answer) -> None:
    """Run the call and the agent beside it; whichever fails, both end.

    The agent is cancelled if it outlives the call by :data:`AGENT_TIMEOUT`.
    """
    agent = asyncio.create_task(_answered(call, answer), name=f"{call.id} agent")
    try:
        await call.run()
        _, late = await asyncio.wait({agent}, timeout=AGENT_TIMEOUT)
        if late:
            log.warning("stream_agent_late", call=call.id)
    finally:
        agent.cancel()
        await asyncio.gather(agent, return_exceptions=True)


async def _answered(call: StreamCall, answer: Answer) -> None:
    try:
        await answer(call)
    except Exception as error:  # an agent that fails must not leave the caller on a dead line
        log.error("stream_agent_fault", call=call.id, error=repr(error))
    await call.hangup()
