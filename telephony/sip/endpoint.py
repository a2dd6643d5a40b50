"""The asyncio endpoint: SIP over UDP, TCP and TLS, calls in and out, accounts registered."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Self

import structlog

from ringtrue.streaming.lifetime import Closing
from ringtrue.streaming.ports import EndReason
from ringtrue.telephony.sip.account import Account
from ringtrue.telephony.sip.auth_server import AuthPolicy, AuthServer
from ringtrue.telephony.sip.call_rate import CallRate
from ringtrue.telephony.sip.core import Policy
from ringtrue.telephony.sip.driver import Driver, TlsListener
from ringtrue.telephony.sip.errors import SipError
from ringtrue.telephony.sip.events import IncomingInvite
from ringtrue.telephony.sip.handles import ServerInvite, SipCall
from ringtrue.telephony.sip.locate import Locator
from ringtrue.telephony.sip.media import MediaFactory
from ringtrue.telephony.sip.message import parse_target
from ringtrue.telephony.sip.moved import Following, let_take_over
from ringtrue.telephony.sip.moving import Referral
from ringtrue.telephony.sip.network import MakeNetwork
from ringtrue.telephony.sip.placing import OnProgress, OutgoingCall
from ringtrue.telephony.sip.registration import Registration
from ringtrue.telephony.sip.sockets import Sockets
from ringtrue.telephony.sip.transport import Hop
from ringtrue.telephony.sip.uri import SipUri

log = structlog.get_logger(__name__)

GOODBYE: Final = 2.0
"""Seconds :meth:`SipEndpoint.close` gives far ends to answer BYE, and handlers to finish."""

OnInvite = Callable[[ServerInvite], Awaitable[None]]


class SipEndpoint(Closing):
    """A SIP user agent on the network.

    ``on_invite`` runs as a task per call. It answers or rejects; where it returns without
    either the caller gets 480, where it raises 500.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        on_invite: OnInvite,
        udp: bool = True,
        tcp: bool = True,
        advertised_host: str | None = None,
        policy: Policy | None = None,
        tls: TlsListener | None = None,
        tls_client: ssl.SSLContext | None = None,
        auth: AuthPolicy | None = None,
        call_rate: tuple[float, int] | None = None,
        takeovers: bool = True,
        accounts: Iterable[Account] = (),
        locator: Locator | None = None,
        network: MakeNetwork = Sockets,
    ) -> None:
        """Nothing is bound until :meth:`start`. Port 0 takes a free one, the same for both.

        ``tls`` is what TLS is listened for with, ``tls_client`` what connects to TLS servers;
        ``auth`` says who may call (None: everybody), ``call_rate`` how many new calls a second
        one source may begin, and how many at once (None: any), ``takeovers`` whether others may
        take calls over (RFC 3891), ``accounts`` where we register.
        ``locator`` finds servers; the default asks the system's DNS. ``network`` makes what
        carries the messages; the default binds sockets of its own.

        ``advertised_host`` is what far ends are told (behind NAT, or bound to 0.0.0.0 with
        several addresses); by default it is our address on the way to each of them.
        """
        if not udp and not tcp and tls is None:
            raise ValueError("an endpoint needs UDP, TCP or TLS")
        self._host, self._wanted = host, port
        self._udp, self._tcp = udp, tcp
        self._on_invite = on_invite
        self._tls = tls
        self._accounts = tuple(accounts)
        self._driver = Driver(policy or Policy(), advertised_host, self._invited, network=network)
        if locator is not None:
            self._driver.locator = locator
        if tls_client is not None:
            self._driver.sockets.use_tls(tls_client)
        ua = self._driver.ua
        ua.takeovers.allowed = takeovers
        if auth is not None:
            ua.auth = AuthServer(auth, is_own=ua.accounts.serves)
        if call_rate is not None:
            ua.call_rate = CallRate(*call_rate, is_exempt=self._known)
        self._closing = False

    async def start(self) -> None:
        """Bind, then register. Raises OSError where a port is taken."""
        driver = self._driver
        await driver.open(self._host, self._wanted, udp=self._udp, tcp=self._tcp, tls=self._tls)
        for account in self._accounts:
            driver.ua.accounts.add(account, driver.now())
        driver.pump()

    @property
    def port(self) -> int:
        """The bound port of UDP and TCP."""
        return self._driver.port

    @property
    def tls_port(self) -> int:
        """The bound port of TLS; 0 where it isn't listened for."""
        return self._driver.tls_port

    @property
    def registrations(self) -> list[Registration]:
        """Where the accounts stand, in the order they were given."""
        return list(self._driver.ua.accounts)

    @property
    def auth(self) -> AuthServer | None:
        """Who judges new calls, and how often it said what; None where everybody may call."""
        return self._driver.ua.auth

    def sizes(self) -> dict[str, int]:
        """Entries in the tables: ``calls``, ``client``, ``server``, ``streams``."""
        return self._driver.ua.sizes()

    @property
    def dropped(self) -> int:
        """New calls not looked at, because their source began too many."""
        rate = self._driver.ua.call_rate
        return 0 if rate is None else rate.refused

    def knows(self, host: str) -> bool:
        """Whether ``host`` is trusted, or a server of ours: its calls are not limited."""
        return self._known(host)

    def _known(self, host: str) -> bool:
        ua = self._driver.ua
        return ua.accounts.serves(host) if ua.auth is None else ua.auth.trusts(host)

    async def idle(self) -> None:
        """Wait until nothing is being looked up or answered."""
        await self._driver.idle()

    async def close(self) -> None:
        """Refuse new calls, end the ones there are, release the sockets. Idempotent."""
        self._closing = True
        parties = list(self._driver.parties.values())
        goodbyes = []
        for party in parties:
            if isinstance(party, SipCall):
                goodbyes.append(party.hangup(EndReason.SHUTDOWN))
            elif isinstance(party, ServerInvite):
                goodbyes.append(party.reject(503))
            elif isinstance(party, OutgoingCall):
                goodbyes.append(party.cancel())
        goodbyes.append(self._unregister())
        try:
            async with asyncio.timeout(GOODBYE):
                await asyncio.gather(*goodbyes, return_exceptions=True)
                await self._driver.idle()
        except TimeoutError:
            log.warning("sip.goodbyes_unanswered", calls=len(self._driver.parties))
        await self._driver.close()
        for party in list(self._driver.parties.values()):
            if isinstance(party, SipCall | OutgoingCall):
                party.abandon()

    async def _unregister(self) -> None:
        """Take the bindings back; returns once the registrars have answered."""
        driver = self._driver
        driver.ua.accounts.end(driver.now())
        driver.pump()
        await driver.accounts_ended()

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def locate(
        self, target_uri: str, *, via: Hop | SipUri | None = None, account: str | None = None
    ) -> Hop:
        """Where :meth:`call` would send a call, with its address; arguments and errors alike."""
        return (await self.ways(target_uri, via=via, account=account))[0]

    async def ways(
        self, target_uri: str, *, via: Hop | SipUri | None = None, account: str | None = None
    ) -> list[Hop]:
        """All servers :meth:`call` may send a call to, in the order to try them (RFC 3263)."""
        target = parse_target(target_uri)
        if account is not None:
            hops = self._driver.ua.accounts.ways(account, self._driver.now())
        else:
            hops = await self._driver.ways(via or target)
        if not hops:
            where = via.host if via is not None else target.host
            raise SipError(f"no address for host {where[:80]!r}")
        return hops

    async def call(
        self,
        target_uri: str,
        media_factory: MediaFactory,
        *,
        from_uri: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        via: Hop | SipUri | None = None,
        account: str | None = None,
        ring_limit: float | None = None,
        on_progress: OnProgress | None = None,
        others: Iterable[Hop] = (),
    ) -> OutgoingCall:
        """Place a call to ``sip:user@host[:port][;transport=tcp]``, or ``sips:``.

        ``via`` sends it to another server than the target names. ``account`` is the name of one
        of ours: the call goes to its server, from its address where ``from_uri`` is None.
        ``ring_limit`` is how many seconds it may stay unanswered; ``on_progress`` hears of
        provisional responses. Where a server is out of service the next one is tried; ``others``
        are those after ``via``, where that is a hop. Raises :class:`SipParseError` on a bad URI or
        header, :class:`SipCapacityError`, :class:`SipError` on a name without address and an
        account that there isn't or that has no server now, and whatever ``media_factory`` raises.
        """
        hop, *rest = await self.ways(target_uri, via=via, account=account)
        driver = self._driver
        routes: tuple[str, ...] = ()
        if account is not None:
            held = driver.ua.accounts.ready(account)
            from_uri, routes = from_uri or str(held.account.aor), held.routes
        media = media_factory()
        try:
            offer = await media.offer()
            if self._closing:
                raise SipError("the endpoint is closing")
            handle = driver.ua.invite(
                target_uri,
                offer,
                driver.now(),
                from_uri=from_uri,
                headers=headers,
                via=hop,
                routes=routes,
                ring_limit=ring_limit,
                others=[way for way in dict.fromkeys((*rest, *others)) if way != hop],
            )
        except BaseException:
            media.close()
            raise
        outgoing = OutgoingCall(
            driver,
            handle,
            media,
            target=target_uri,
            sender=from_uri or "sip:ringtrue",
            on_progress=on_progress,
        )
        driver.pump()
        return outgoing

    def _invited(self, event: IncomingInvite) -> None:
        invite = ServerInvite(self._driver, event)
        if event.replaces is None:
            work = self._serve(invite)
        else:
            work = let_take_over(self._driver, invite, event)
        self._driver.spawn(work, f"sip-invite-{event.call}")

    async def follow(
        self,
        call: SipCall,
        referral: Referral,
        target_uri: str,
        *,
        from_uri: str | None = None,
        via: Hop | SipUri | None = None,
        account: str | None = None,
        ring_limit: float | None = None,
    ) -> int:
        """Call ``target_uri`` because the far end of ``call`` referred us there.

        Who answers has the call from then on. Returns the final status, which the far end was
        told. Arguments and errors as in :meth:`call`.
        """
        hop = await self.locate(target_uri, via=via, account=account)
        routes: tuple[str, ...] = ()
        if account is not None:
            held = self._driver.ua.accounts.ready(account)
            from_uri, routes = from_uri or str(held.account.aor), held.routes
        following = Following(self._driver, call, referral, target_uri)
        return await following.dial(hop, from_uri=from_uri, routes=routes, ring_limit=ring_limit)

    async def _serve(self, invite: ServerInvite) -> None:
        if self._closing:
            await invite.reject(503)
            return
        try:
            await self._on_invite(invite)
        except Exception as error:
            if invite.pending:
                await invite.reject(500)
            log.error("sip.invite_failed", call=invite.id, error=repr(error), exc_info=error)
            return
        if invite.pending:
            await invite.reject(480)
