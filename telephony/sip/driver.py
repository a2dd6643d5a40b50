"""Joins the user agent to sockets, one timer, and the handles the agent holds."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, Protocol

import structlog

from ringtrue.telephony.sip.core import Policy
from ringtrue.telephony.sip.events import Event, IncomingInvite
from ringtrue.telephony.sip.locate import Locator
from ringtrue.telephony.sip.network import MakeNetwork
from ringtrue.telephony.sip.registration import (
    LookUp,
    RegistrationChanged,
    RegistrationState,
)
from ringtrue.telephony.sip.sockets import Sockets, is_address, resolve, source_address
from ringtrue.telephony.sip.transport import Hop, Send
from ringtrue.telephony.sip.ua import UserAgent
from ringtrue.telephony.sip.uri import SipUri

log = structlog.get_logger(__name__)

MAX_SOURCES = 1024
"""Remembered ways to far ends; forgotten all at once when full."""


class Party(Protocol):
    """A handle that hears its call's events."""

    def hear(self, event: Event) -> None:
        """Take one event; never blocks, never raises."""
        ...


@dataclass(frozen=True, slots=True)
class TlsListener:
    """Where and with what TLS is listened for."""

    context: ssl.SSLContext
    port: int


class Driver:
    """Runs one :class:`UserAgent` on the event loop."""

    def __init__(
        self,
        policy: Policy,
        advertised_host: str | None,
        on_invite: Callable[[IncomingInvite], None],
        *,
        network: MakeNetwork = Sockets,
    ) -> None:
        """``advertised_host`` goes into Contact and Via; None derives it from each way out.

        ``network`` makes what carries the messages.
        """
        self.ua = UserAgent(self._local, policy)
        self.sockets = network(
            self._received, self._closed, self._failed, max_streams=policy.max_streams
        )
        self.parties: dict[str, Party] = {}
        self.locator = Locator()
        self._advertised = advertised_host
        self._on_invite = on_invite
        self._host = ""
        self._port = 0
        self._tls_port = 0
        self._sources: dict[str, str] = {}
        self._timer: asyncio.Handle | None = None
        self._due = 0.0  # uvloop's handle of a timer already due doesn't know when it was
        self._tasks: set[asyncio.Task[None]] = set()
        self._registrations_changed = asyncio.Event()
        self._pumping = False
        self._stopped = False

    @property
    def port(self) -> int:
        """The bound port of UDP and TCP; 0 before :meth:`open`, and where neither is used."""
        return self._port

    @property
    def tls_port(self) -> int:
        """The bound port of TLS; 0 where it isn't listened for."""
        return self._tls_port

    def now(self) -> float:
        """The loop's monotonic clock."""
        return asyncio.get_running_loop().time()

    async def open(
        self, host: str, port: int, *, udp: bool, tcp: bool, tls: TlsListener | None = None
    ) -> None:
        """Bind. Raises OSError."""
        self._host = host
        self._port = await self.sockets.open(host, port, udp=udp, tcp=tcp)
        if tls is not None:
            self._tls_port = await self.sockets.open_tls(host, tls.port, tls.context)
        usable = (("udp", udp), ("tcp", True), ("tls", self.sockets.secure))
        self.locator.transports = tuple(name for name, on in usable if on)
        if is_address(host):
            self.locator.family = socket.AF_INET6 if ":" in host else socket.AF_INET

    async def close(self) -> None:
        """Stop at once: timer, tasks, sockets."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        current = asyncio.current_task()
        tasks = [task for task in self._tasks if task is not current]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.sockets.close()

    async def idle(self) -> None:
        """Wait until no task runs but the current one."""
        while tasks := self._tasks - {asyncio.current_task()}:
            await asyncio.wait(tasks)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run ``work`` until it ends or the driver closes; its failure is logged."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("sip.task_failed", task=task.get_name(), exc_info=task.exception())

    # -- what the sockets say ----------------------------------------------------------------

    def _received(self, data: bytes, source: Hop) -> None:
        self.ua.receive(data, source, self.now())
        self.pump()

    def _closed(self, hop: Hop) -> None:
        self.ua.disconnected(hop, self.now())
        self.pump()

    def _failed(self, hop: Hop) -> None:
        self.ua.transport_failed(hop, self.now())
        self.pump()

    def _fire(self) -> None:
        self._timer = None
        self.ua.handle_timer(self.now())
        self.pump()

    def pump(self) -> None:
        """Carry out what the user agent wants; call after every use of it."""
        if self._pumping or self._stopped:
            return
        self._pumping = True
        try:
            while True:
                outputs, events = self.ua.outputs(), self.ua.events()
                if not outputs and not events:
                    break
                for output in outputs:
                    if isinstance(output, Send):
                        self.sockets.send(output.data, output.hop)
                    else:
                        self.sockets.close_stream(output.hop)
                for event in events:
                    self._dispatch(event)
        finally:
            self._pumping = False
        self._rearm()

    def _dispatch(self, event: Event) -> None:
        if isinstance(event, IncomingInvite):
            self._on_invite(event)
            return
        if isinstance(event, LookUp):
            self.spawn(self._look_up(event), f"sip-lookup-{event.call}")
            return
        if isinstance(event, RegistrationChanged):
            self._registration(event)
            return
        party = self.parties.get(event.call)
        if party is not None:
            party.hear(event)

    async def accounts_ended(self) -> None:
        """Wait until no account is registered any more."""
        while not self.ua.accounts.ended:
            self._registrations_changed.clear()
            await self._registrations_changed.wait()

    def _registration(self, event: RegistrationChanged) -> None:
        """Tell of what an operator should know; the rest only for those who look closely."""
        tell = {
            RegistrationState.REGISTERED: log.info,
            RegistrationState.REJECTED: log.error,
            RegistrationState.WAITING: log.warning,
        }.get(event.state, log.debug)
        tell("sip.registration", account=event.account, state=event.state, detail=event.detail)
        self._registrations_changed.set()

    async def ways(self, target: SipUri | Hop) -> list[Hop]:
        """The hops that ``target`` means, in the order to try them; none without address.

        Those that were out of service of late come last.
        """
        if isinstance(target, SipUri):
            hops = await self.locator.locate(target)
            return self.ua.core.resting.ordered(hops, self.now())
        host = await resolve(target.host, target.port, self.locator.family)
        return [] if host is None else [replace(target, host=host)]

    async def _look_up(self, event: LookUp) -> None:
        hops: list[Hop] = []
        for target in event.targets:
            hops += await self.locator.locate(target)
        self.ua.accounts.resolved(event.call, hops, self.now())
        self.pump()

    def _rearm(self) -> None:
        due = self.ua.next_timer()
        if self._timer is not None:
            if due is not None and self._due <= due:
                return  # it fires early, finds nothing due and arms again
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer = asyncio.get_running_loop().call_at(due, self._fire)
            self._due = due

    # -- who we are --------------------------------------------------------------------------

    def _local(self, hop: Hop) -> tuple[str, int]:
        port = (self._tls_port or self._port) if hop.transport == "tls" else self._port
        return (self._advertised or self._source(hop.host), port or self._tls_port)

    def _source(self, host: str) -> str:
        if is_address(self._host) and not ipaddress.ip_address(self._host).is_unspecified:
            return self._host
        known = self._sources.get(host)
        if known is None:
            address = source_address(host) if is_address(host) else None
            known = address or self._host or "127.0.0.1"
            if len(self._sources) >= MAX_SOURCES:
                self._sources.clear()
            self._sources[host] = known
        return known
