"""The server: engines, SIP, the web and the calls, started together and drained together."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import structlog

from ringtrue.agent.admission import DoorCollector
from ringtrue.agent.audit.collector import AuditCollector
from ringtrue.agent.audit.opening import audit_config
from ringtrue.agent.background import Background
from ringtrue.agent.calls import RETRY_AFTER_SECONDS, Calls
from ringtrue.agent.cpu import CpuMeter
from ringtrue.agent.dial_plan import DialPlan
from ringtrue.agent.engines import Engines
from ringtrue.agent.garbage import keep_collected, keep_given_back
from ringtrue.agent.gauges import Gauges
from ringtrue.agent.http import build_app
from ringtrue.agent.incidents_api import IncidentDesk
from ringtrue.agent.incidents_api import router as incidents_router
from ringtrue.agent.media import media_options
from ringtrue.agent.metrics import Metrics
from ringtrue.agent.metrics_held import HeldCollector
from ringtrue.agent.metrics_loop import LoopCollector
from ringtrue.agent.metrics_recordings import RecordingsCollector
from ringtrue.agent.metrics_sip import SipCollector
from ringtrue.agent.metrics_voices import LibraryCollector, LikenessCollector
from ringtrue.agent.outbound_api import CallsApi
from ringtrue.agent.outbound_api import router as calls_router
from ringtrue.agent.outbound_lines import Phone
from ringtrue.agent.outbound_setup import dial_ledger, outbound_of
from ringtrue.agent.recording_setup import recordings_of
from ringtrue.agent.records import RecordStore
from ringtrue.agent.referrals import Follower
from ringtrue.agent.sip_setup import signalling_of
from ringtrue.agent.transfer_line import TransferLine, check_transfers
from ringtrue.agent.transfers import Transfers
from ringtrue.agent.twilio_setup import dialler_of
from ringtrue.agent.unacknowledged import Unacknowledged
from ringtrue.agent.voices_api import PROBLEMS, VoicesApi
from ringtrue.agent.voices_desk import enrolment_desk
from ringtrue.agent.watermark_sessions import sessions_of
from ringtrue.agent.web_server import WebServer
from ringtrue.agent.webrtc_api import router as webrtc_tokens_router
from ringtrue.agent.workers.link import SupervisorLink
from ringtrue.config.agent_schema import Agent, AgentError, load_agents
from ringtrue.config.errors import ConfigError
from ringtrue.config.settings import Settings
from ringtrue.streaming.freed import give_back_freed
from ringtrue.streaming.lifetime import Running
from ringtrue.streaming.ports import Call, EndReason
from ringtrue.telephony.rtp.ports import PortPool
from ringtrue.telephony.rtp.session import session_factory
from ringtrue.telephony.sip.endpoint import SipEndpoint
from ringtrue.telephony.sip.errors import SipError
from ringtrue.telephony.sip.handles import ServerInvite
from ringtrue.telephony.sip.media import MediaError, MediaFactory
from ringtrue.telephony.sip.sockets import Sockets, source_address
from ringtrue.telephony.sip.uri import SipUri, parse_uri
from ringtrue.telephony.webrtc.calls import WebRtcCall
from ringtrue.voices.library import VoiceLibrary, utc_now

log = structlog.get_logger(__name__)


YOUNG_OBJECTS: Final = 7000
"""Objects made, less those freed, from which the collector looks for cycles among them."""

SWITCH_SECONDS: Final = 0.0005
"""How long a thread that computes in Python keeps the loop's waiting. With the interpreter's own
5 ms one busy thread makes each tick that much late, and each hop of a turn; with this 1 ms."""


class AgentChoice:
    """Which agent answers."""

    def __init__(self, settings: Settings) -> None:
        """Load the agents.

        Raises :class:`AgentError` for a file that can't be used, :class:`ConfigError` where the
        default or a route names an agent there isn't.
        """
        self.agents = load_agents(settings.agents.dir)
        self._default = settings.agents.default
        self._routes = settings.sip.routes
        for key, name in [("agents.default", self._default)] + [
            (f"sip.routes.{user}", name) for user, name in self._routes.items()
        ]:
            if name not in self.agents:
                choices = ", ".join(sorted(self.agents))
                raise ConfigError(f"{key} is {name!r}; agents: {choices}")

    def named(self, name: str | None) -> Agent:
        """The agent called ``name``, or the default for None and for names there aren't."""
        return self.agents.get(name or "", self.agents[self._default])

    def dialled(self, uri: str) -> Agent:
        """The agent for a dialled SIP URI: by route, by its own name, or the default."""
        try:
            parsed = parse_uri(uri)
        except SipError:
            return self.named(None)
        user = (parsed.user or "") if isinstance(parsed, SipUri) else ""
        return self.named(self._routes.get(user, user))


class Server(Running):
    """Everything that runs in one process."""

    def __init__(
        self,
        settings: Settings,
        link: SupervisorLink | None = None,
        *,
        engines: type[Engines] = Engines,
    ) -> None:
        """Check the agents and SIP's files, build the parts; :meth:`start` binds.

        ``link`` leads to the supervisor that has the addresses, where there is one; ``engines``
        is what a load test puts in their place.
        """
        self.settings = settings
        self._link = link
        self.agents = AgentChoice(settings)
        self._signalling = signalling_of(settings)
        self.metrics = Metrics()
        self.audit = audit_config(settings).log()
        self.engines = engines(settings, tuple(self.agents.agents.values()), self.audit)
        self.recordings = recordings_of(settings, self.agents.agents.values(), self.audit)
        self.calls = Calls(
            settings,
            self.engines,
            metrics=self.metrics,
            records=RecordStore(settings.records.dir, settings.records.keep),
            audit=self.audit,
            recordings=self.recordings,
        )
        self.voices = VoicesApi(
            lambda: self.library,
            enrolment_desk,
            title=settings.server.name,
            recorder=self.audit,
            sessions=sessions_of(settings),
        )
        if link is None:
            self.ledger = dial_ledger(settings)
        else:
            self.ledger = dial_ledger(settings, link.plan.slot, link.plan.count)
        self.outbound = outbound_of(
            settings,
            self.ledger,
            self.calls,
            self._phone,
            self.audit,
            self.metrics,
            twilio=lambda: self.twilio,
            mark=self.mark,
        )
        self.twilio = dialler_of(settings, self.mark)
        check_transfers(settings, self.agents.agents)
        follower = Follower(DialPlan(settings.outbound), self.ledger, lambda: self._sip)
        line = TransferLine(self.outbound, follower)
        self._follower = follower
        self.calls.desk = lambda talk: Transfers(talk, line)
        self.voices.app.state.calls = CallsApi(self.outbound, self.agents.agents)
        self.voices.app.include_router(calls_router, responses=PROBLEMS)
        self.voices.app.include_router(webrtc_tokens_router, responses=PROBLEMS)
        self.voices.app.state.incidents = IncidentDesk(
            lambda: self.voices.library,
            self.audit.directory,
            self.recordings.directory,
            self.audit,
            utc_now,
        )
        self.voices.app.include_router(incidents_router, responses=PROBLEMS)
        self.metrics.registry.register(AuditCollector(self.audit))
        self.metrics.registry.register(RecordingsCollector(self.recordings))
        self.metrics.registry.register(LibraryCollector(lambda: self.library))
        self.metrics.registry.register(LikenessCollector(self.engines.likeness.stats))
        registers = link is None or link.plan.primary
        self.metrics.registry.register(SipCollector(lambda: self._sip, accounts=registers))
        self.metrics.registry.register(HeldCollector(lambda: self._pool, lambda: self._sip))
        self.metrics.watch_clock(self.calls.clock.stats, lambda: len(self.calls.clock))
        self.metrics.registry.register(DoorCollector(self.calls.door, time.monotonic))
        self.metrics.registry.register(LoopCollector(self.calls.loop_watch.meter))
        self.metrics.registry.register(CpuMeter(self.engines, self.calls.clock.stats))
        self.ready = False
        self._media = media_options(settings)
        self._unacknowledged = Unacknowledged(
            settings.server.max_calls, lambda host: self._sip is not None and self._sip.knows(host)
        )
        self._pool: PortPool | None = None
        self._sip: SipEndpoint | None = None
        self._web: WebServer | None = None
        self._background = Background("server.task_failed", self.metrics.task_restarted)

    @property
    def sip_port(self) -> int | None:
        """The bound SIP port; None where SIP is off."""
        return self._sip.port if self._sip is not None else None

    @property
    def mark(self) -> str:
        """What ids end with that requests will name, so that they find this process."""
        return "" if self._link is None else self._link.plan.mark

    @property
    def sip_hosts(self) -> tuple[str, ...]:
        """Servers of our accounts, as far as they are known."""
        held = () if self._sip is None else self._sip.registrations
        return tuple(sorted({host for registration in held for host in registration.hosts}))

    @property
    def http_port(self) -> int | None:
        """The bound HTTP port; None where HTTP is off."""
        return self._web.port if self._web is not None else None

    @property
    def library(self) -> VoiceLibrary | None:
        """The cloned voices; None where there are none, or they can't be had at present."""
        return self.engines.library

    async def start(self) -> None:
        """Load and warm the engines, then bind. Raises OSError where a port is taken."""
        await self.audit.start()
        await self.ledger.load()
        await self.engines.warm()
        self.calls.loop_watch.start()
        gauges = Gauges(self.engines, self.calls.clock.stats, self.calls.graph_wait)
        calls = partial(len, self.calls)
        self._background.keep(lambda: self.calls.door.watch(gauges.read, calls), "admission")
        self._background.keep(lambda: keep_collected(calls), "garbage")
        self._background.keep(keep_given_back, "freed memory")
        if self._link is None or self._link.plan.primary:
            self._background.keep(self.recordings.keep_tidy, "recordings")
        sip, http, signalling = self.settings.sip, self.settings.http, self._signalling
        if signalling is not None:
            self._pool = PortPool(sip.host, sip.rtp_port_min, sip.rtp_port_max)
            link, accounts = self._link, signalling.accounts
            self._sip = SipEndpoint(
                sip.host,
                sip.port,
                on_invite=self._invited,
                udp=sip.udp,
                tcp=sip.tcp,
                advertised_host=sip.advertised_host,
                tls=signalling.tls,
                tls_client=signalling.tls_client,
                auth=signalling.auth,
                takeovers=signalling.takeovers,
                call_rate=signalling.call_rate if link is None else None,
                accounts=accounts if link is None else link.plan.accounts(accounts),
                network=Sockets if link is None else link.relay.network,
            )
            with _naming("SIP", sip.host, sip.port):
                await self._sip.start()
        if http.enabled:
            listens = self._link is None
            self._web = WebServer(build_app(self), http.host, http.port, listens=listens)
            with _naming("HTTP", http.host, http.port):
                await self._web.start()
            if self._link is not None:
                self._web.port = self._link.plan.http_port
                self._link.on_connection = self._web.take
        self.ready = True
        log.info("server.ready", sip=self.sip_port, http=self.http_port)

    async def close(self) -> None:
        """Take no more calls, let those in progress finish, then release everything.

        Health and metrics are served, and new callers told 503, until the last call is over.
        """
        self.ready = False
        async with contextlib.AsyncExitStack() as last_first:
            last_first.push_async_callback(self.audit.close)
            last_first.push_async_callback(self.recordings.close)
            last_first.push_async_callback(self.engines.close)
            last_first.push_async_callback(self._end_tasks)
            if self._web is not None:
                last_first.push_async_callback(self._web.stop)
            # Before the web server, which waits for answers that wait for these.
            last_first.push_async_callback(self.voices.close)
            if self._sip is not None:
                last_first.push_async_callback(self._sip.close)
            if self.twilio is not None:
                last_first.push_async_callback(self.twilio.close)
            last_first.push_async_callback(self._follower.close)
            last_first.push_async_callback(self.outbound.close)
            self.outbound.stop_dialling()
            await self.calls.drain(self.settings.server.drain_seconds)
        log.info("server.stopped")

    def hurry(self) -> None:
        """End the calls that a stopping server waits for, now."""
        self.calls.hurry()

    async def _end_tasks(self) -> None:
        await self._background.close()
        self.calls.loop_watch.stop()

    async def _invited(self, invite: ServerInvite) -> None:
        source = invite.remote[0]
        if self._holds_too_much(source) or self.calls.reserve() is not None:
            await invite.reject(503, retry_after=RETRY_AFTER_SECONDS)
            return
        try:
            await self.calls.door.begin()
            if self._holds_too_much(source):  # by those it asked for at the same time
                raise MediaError("too many calls of this source wait for its ACK", status=503)
            with self._unacknowledged.holding(source):
                call = await invite.answer(self._media_for(source))
        except (MediaError, SipError) as error:
            self.calls.release()
            log.info("call.not_answered", call=invite.id, reason=type(error).__name__)
            if invite.pending:
                await invite.reject(503, retry_after=RETRY_AFTER_SECONDS)
            return
        except BaseException:
            self.calls.release()
            raise
        await self.calls.run(call, self.agents.dialled(invite.request_uri))

    def _holds_too_much(self, source: str) -> bool:
        full = self._unacknowledged.full(source)
        if full:
            self.metrics.call_refused("unacknowledged")
        return full

    def _phone(self) -> Phone | None:
        """What calls are placed with; None where SIP is off."""
        return None if self._sip is None else Phone(self._sip, self._media_for)

    def _media_for(self, remote: str) -> MediaFactory:
        """The media of a call whose signalling goes to or comes from ``remote``."""
        assert self._pool is not None
        return session_factory(
            self._pool,
            codecs=self.settings.sip.codecs,
            advertised_host=self._media_host(remote),
            trusted_hosts=(remote,),
            options=self._media,
        )

    def _media_host(self, remote: str) -> str:
        """The address that descriptions give a caller at ``remote``."""
        sip = self.settings.sip
        if sip.advertised_host is not None:
            return sip.advertised_host
        if not ipaddress.ip_address(sip.host).is_unspecified:
            return sip.host
        return source_address(remote) or "127.0.0.1"

    def run_when_connected(self, call: WebRtcCall, agent: str) -> None:
        """Run a browser's call, for which a place was reserved, once audio can flow."""

        async def work() -> None:
            try:
                connected = await call.connected()
                if connected:
                    await self.calls.door.begin()
            except asyncio.CancelledError:
                self.calls.release()
                await call.hangup(EndReason.SHUTDOWN)
                raise
            if connected:
                await self.calls.run(call, self.agents.named(agent))
            else:
                self.calls.release()

        self._background.spawn(work(), f"call {call.id}")

    async def answer(self, call: Call, agent: str | None) -> None:
        """Run a call that a web transport answered, or end it at once when there is no room."""
        if self.calls.reserve() is not None:
            await call.hangup(EndReason.REJECTED)
            return
        try:
            await self.calls.door.begin()
        except BaseException:
            self.calls.release()
            raise
        await self.calls.run(call, self.agents.named(agent))


@contextlib.contextmanager
def _naming(what: str, host: str, port: int) -> Iterator[None]:
    """Let an OSError say which of our ports could not be had."""
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno, f"{what} can't listen on {host} port {port}: {error.strerror or error}"
        ) from error


def settle_memory() -> None:
    """Exempt what is loaded by now from garbage collection, in a process that only serves, and have
    the loop wait less for threads that compute.

    A full collection visits every object that is left: with the engines' some 150 ms, in which
    no call would get its frames; without them, what calls have made. The young generation is
    looked at less often than by default: calls make few cycles, and make them when they end.
    """
    gc.collect()
    gc.freeze()
    give_back_freed()
    gc.set_threshold(YOUNG_OBJECTS, 10, 10)
    sys.setswitchinterval(SWITCH_SECONDS)


async def serve_until_signalled(
    server: Server, stop: asyncio.Event, *, on_ready: Callable[[], None] | None = None
) -> None:
    """Run ``server`` until ``stop`` is set or SIGTERM or SIGINT comes; a second one hurries it."""

    def signalled() -> None:
        if stop.is_set():
            server.hurry()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled)
    try:
        async with server:
            settle_memory()
            if on_ready is not None:
                on_ready()
            await stop.wait()
            log.info("server.draining", calls=len(server.calls))
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


__all__ = ["AgentChoice", "AgentError", "Server", "serve_until_signalled", "settle_memory"]
