"""A worker's link to its supervisor: SIP both ways, its state, accepted web connections."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

import structlog

from ringtrue.agent.workers.channel import Channel
from ringtrue.agent.workers.plan import WorkerPlan
from ringtrue.agent.workers.wire import Kind, Message, Status, of_output, relayed
from ringtrue.telephony.sip.relay import Relay
from ringtrue.telephony.sip.transport import TransportOutput

log = structlog.get_logger(__name__)

REPORT_SECONDS: Final = 0.25
"""How often a worker says how it is; its supervisor takes long silence for a hang."""


class SupervisorLink:
    """Made by the worker's process before its server."""

    def __init__(self, plan: WorkerPlan, channel: socket.socket, door: socket.socket) -> None:
        """``channel`` carries messages, ``door`` the descriptors of accepted connections."""
        self.plan = plan
        self.relay = Relay(self._say, port=plan.sip_port, tls_port=plan.tls_port)
        self.on_connection: Callable[[socket.socket], None] | None = None
        """Takes an accepted connection; those that come before there is one are closed."""

        self.draining = asyncio.Event()
        """Set when no more calls are to be taken."""

        self.ending = asyncio.Event()
        """Set when those in progress are to end now, and where the supervisor is gone."""

        self.lost = False
        self._end, self._door = channel, door
        self._channel = Channel(self._heard, self._gone)
        self._status: Callable[[], Status] | None = None
        self._metrics: Callable[[], bytes] | None = None
        self._reporting: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Take over the sockets."""
        await self._channel.open(self._end)
        self._door.setblocking(False)
        asyncio.get_running_loop().add_reader(self._door, self._knocked)

    def report(self, status: Callable[[], Status], metrics: Callable[[], bytes]) -> None:
        """Say that calls are taken, and from now on how it is."""
        self._status, self._metrics = status, metrics
        self._channel.send(Message(Kind.READY))
        loop = asyncio.get_running_loop()
        self._reporting = loop.create_task(self._report(), name="worker-report")

    async def close(self) -> None:
        """Release the sockets; what was sent is written first."""
        if self._reporting is not None:
            self._reporting.cancel()
            await asyncio.gather(self._reporting, return_exceptions=True)
        asyncio.get_running_loop().remove_reader(self._door)
        self._door.close()
        self._channel.close()

    def _say(self, output: TransportOutput) -> None:
        self._channel.send(of_output(output))

    async def _report(self) -> None:
        assert self._status is not None
        while True:
            self._channel.send(self._status().message())
            await asyncio.sleep(REPORT_SECONDS)

    def _heard(self, message: Message) -> None:
        news = relayed(message)
        if news is not None:
            self.relay.hear(news)
        elif message.kind is Kind.SCRAPE and self._metrics is not None:
            self._channel.send(Message(Kind.METRICS, self._metrics()))
        elif message.kind is Kind.DRAIN:
            self.draining.set()
        elif message.kind is Kind.END:
            self.draining.set()
            self.ending.set()

    def _gone(self) -> None:
        """Without its supervisor a worker can neither answer nor end a call by SIP."""
        self.lost = True
        self.draining.set()
        self.ending.set()

    def _knocked(self) -> None:
        try:
            _, descriptors, _, _ = socket.recv_fds(self._door, 1, 1)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            log.error("workers.door_broken", error=error.strerror)
            asyncio.get_running_loop().remove_reader(self._door)
            return
        if not descriptors:  # the supervisor's end is closed
            asyncio.get_running_loop().remove_reader(self._door)
        for descriptor in descriptors:
            connection = socket.socket(fileno=descriptor)
            if self.on_connection is None:
                connection.close()
            else:
                self.on_connection(connection)
