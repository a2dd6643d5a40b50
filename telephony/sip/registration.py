"""One account's registration: REGISTER, refresh, failover, back-off (RFC 3261 §10, RFC 5626).

Sans-IO: it says which servers to look up by :class:`LookUp` and is given their addresses; what
it sends and hears goes through the transaction layer, which also answers challenges.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from ringtrue.telephony.sip.account import Account
from ringtrue.telephony.sip.core import Core
from ringtrue.telephony.sip.errors import SipCapacityError, SipParseError
from ringtrue.telephony.sip.events import Event
from ringtrue.telephony.sip.headers import Headers, NameAddr, param, parse_name_addr, split_list
from ringtrue.telephony.sip.keepalive import Keepalive
from ringtrue.telephony.sip.message import Request, Response
from ringtrue.telephony.sip.responses import printable
from ringtrue.telephony.sip.stun import BindingKeepalive, Bindings
from ringtrue.telephony.sip.transport import Hop
from ringtrue.telephony.sip.uri import SipUri

BASE_WAIT: Final = 30.0
MAX_WAIT: Final = 600.0
"""Back-off after a round in which no server took us: 30 s doubled by each such round in a row,
at most this, and of that a random half to whole (RFC 5626 §4.5; its own limit is 1800 s)."""

REJECTED_WAIT: Final = 3600.0
"""After a refusal of who we are, one attempt an hour: providers lock out who tries more."""

FLOW_WAIT: Final = 2.0
"""Longest wait before a lost flow is set up again, spread at random over a server's clients."""

MAX_EXPIRES: Final = 86_400
LEAST_REFRESH: Final = 5.0
FAILBACK: Final = 600.0
"""A server that is not the first choice is kept at least this long."""

LOOKUP_SECONDS: Final = 300.0
"""How often a static account's addresses are looked up again."""

OUTBOUND: Final = "outbound"
"""The option tag of RFC 5626."""

_REFUSED: Final = frozenset((401, 403, 404, 407))


class RegistrationState(StrEnum):
    """Where an account stands."""

    IDLE = "idle"
    RESOLVING = "resolving"
    REGISTERING = "registering"
    REGISTERED = "registered"
    WAITING = "waiting"
    """No server took us; another round follows."""

    REJECTED = "rejected"
    """The provider refuses our name or password; tried again once an hour."""

    STATIC = "static"
    """Not to be registered: its password only answers challenges to our calls."""

    UNREGISTERING = "unregistering"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class LookUp(Event):
    """Look these up, in this order, and call ``resolved`` with the addresses."""

    targets: tuple[SipUri, ...]


@dataclass(frozen=True, slots=True)
class RegistrationChanged(Event):
    """The account's state changed."""

    state: RegistrationState
    account: str
    """Its name in the settings."""

    detail: str
    """Status and reason phrase, or what else happened; holds no secrets."""


class RegistrationContext(Protocol):
    """The user agent, as registrations see it."""

    core: Core
    random: random.Random
    bindings: Bindings

    def emit(self, event: Event) -> None:
        """Queue an event for the owner."""
        ...

    def contact(self, hop: Hop, user: str | None, *, secure: bool = False) -> str:
        """Our Contact toward ``hop``, a ``sips`` one where ``secure``."""
        ...

    def expect_pong(self, hop: Hop, heard: Callable[[bool], None]) -> None:
        """Call ``heard`` when anything comes from ``hop``, with whether it is the pong."""
        ...


class Registration:
    """The account's binding at one server at a time."""

    def __init__(self, context: RegistrationContext, account: Account) -> None:
        """Nothing happens until :meth:`start`."""
        self._context = context
        self.account = account
        self.handle = f"account-{account.name}"
        self.state = RegistrationState.IDLE
        self.detail = ""
        self.hop: Hop | None = None
        """Where we are registered, or last were."""

        self.hosts: frozenset[str] = frozenset()
        """The account's own servers: the names of its settings, the addresses found for them."""

        self.service_route: tuple[str, ...] = ()
        """Route values the registrar asks for on our calls (RFC 3608)."""

        self.local_seq = 0
        self.credentials: tuple[tuple[str, str], ...] = ()
        self._call_id = context.core.token() + context.core.token()
        self._tag = context.core.token()
        self._expires = account.expires
        self._order: tuple[Hop, ...] = ()
        self._left: list[Hop] = []
        self._pending: Request | None = None
        self._bound = False
        self._since = 0.0
        self._failures = 0
        self._retry_after = 0.0
        self._due: float | None = None
        self._keepalive: Keepalive | BindingKeepalive | None = None
        self._outbound = bool(account.instance)
        """Flows are registered as such; no more once a first hop can't (439)."""

    @property
    def routes(self) -> tuple[str, ...]:
        """Route values of calls on this account."""
        proxy = () if self.account.route is None else (self.account.route,)
        return proxy + self.service_route

    @property
    def ways(self) -> list[Hop]:
        """Where calls go: where it is registered, then its other servers.

        Not to those where a route of the registrar's (RFC 3608), or the flow that was registered,
        leads through the first.
        """
        if self.hop is None:
            return []
        bound = bool(self.service_route or self.account.instance)
        return [self.hop, *(other for other in self._order if other != self.hop and not bound)]

    # -- what the owner does -----------------------------------------------------------------

    def start(self, now: float) -> None:
        """Register, and stay registered."""
        if self.state is RegistrationState.IDLE:
            self._resolve(now)

    def resolved(self, hops: Sequence[Hop], now: float) -> None:
        """The addresses of what :class:`LookUp` named, in order; none where nothing was found."""
        if self.state is not RegistrationState.RESOLVING:
            return
        self._order = tuple(dict.fromkeys(hops))
        self._left = list(self._order)
        self._allow()
        if not self._order:
            self.detail = "no address"
        if not self.account.register:
            self.hop = self._order[0] if self._order else None
            self._due = now + LOOKUP_SECONDS
            self._enter(RegistrationState.STATIC, "" if self._order else self.detail)
            return
        self._next_server(now)

    def end(self, now: float) -> None:
        """Take the binding back and stop; ``RegistrationChanged`` with ENDED follows."""
        if self.state in (RegistrationState.UNREGISTERING, RegistrationState.ENDED):
            return
        self._quiet()
        if not self._bound or self.hop is None:
            self._enter(RegistrationState.ENDED, "ended")
            return
        self._bound = False
        self._enter(RegistrationState.UNREGISTERING, "")
        if not self._send(self.hop, 0, now):
            self._enter(RegistrationState.ENDED, "ended")

    def flow_failed(self, hop: Hop, now: float) -> None:
        """The stream to ``hop`` is gone, or datagrams to it can't be sent."""
        if self.state is RegistrationState.REGISTERED and hop == self.hop:
            self._quiet()
            self._left = list(self._order)
            self._due = now + FLOW_WAIT * self._context.random.uniform(0.5, 1.0)
            self._enter(RegistrationState.WAITING, "connection lost")

    # -- answers -----------------------------------------------------------------------------

    def on_response(self, request: Request, response: Response, now: float) -> None:
        """An answer to our REGISTER; challenges we could answer never come here."""
        if response.provisional or request is not self._pending:
            return
        self._pending = None
        said = printable(f"{response.status} {response.reason}".strip())
        if self.state is RegistrationState.UNREGISTERING:
            self._enter(RegistrationState.ENDED, said)
        elif response.success:
            self._accepted(request, response, now)
        elif response.status == 423 and self._lengthen(response):
            self._try(now)
        elif response.status == 439 and self._outbound:
            self._outbound = False
            self._try(now)
        elif response.status in _REFUSED:
            self._reject(said, now)
        else:
            self._retry_after = max(self._retry_after, float(response.retry_after or 0))
            self._failed(said, now)

    def on_failure(self, request: Request, status: int, now: float) -> None:
        """No answer to our REGISTER."""
        if request is not self._pending:
            return
        self._pending = None
        said = "no answer" if status == 408 else "unreachable"
        if self.state is RegistrationState.UNREGISTERING:
            self._enter(RegistrationState.ENDED, said)
        else:
            self._failed(said, now)

    def _accepted(self, request: Request, response: Response, now: float) -> None:
        granted = granted_expires(request, response, self._expires)
        if granted <= 0:
            self._failed("registered for no time at all", now)
            return
        fresh = self.state is RegistrationState.REGISTERING and not self._bound
        self._failures, self._retry_after = 0, 0.0
        if fresh:
            self._since = now
        self._bound = True
        self.service_route = _service_route(response)
        wait = max(LEAST_REFRESH, granted - 40.0, granted / 2)
        self._due = now + max(LEAST_REFRESH, wait * self._context.random.uniform(0.9, 1.0))
        self._keep_alive(response, now)
        self._enter(RegistrationState.REGISTERED, f"for {granted} s")

    def _keep_alive(self, response: Response, now: float) -> None:
        assert self.hop is not None
        if self._keepalive is not None and self._keepalive.hop == self.hop:
            return
        seconds = _seconds(response.headers.get("flow-timer"))
        # Whoever agrees to keep flows also answers STUN on them (RFC 5626 §5.4).
        stun = not self.hop.reliable and OUTBOUND in response.tokens("require")
        made = BindingKeepalive if stun else Keepalive
        self._keepalive = made(self._context, self.hop, self._lost, flow_timer=seconds)
        self._keepalive.start(now)

    def _lost(self, now: float) -> None:
        """No pong came, or no answer: close a stream, so that all on it learn of it too."""
        assert self._keepalive is not None
        hop = self._keepalive.hop
        self.flow_failed(hop, now)
        if hop.reliable:
            self._context.core.close_stream(hop)

    def _lengthen(self, response: Response) -> bool:
        """Take Min-Expires (§10.2.8); False where it is unreadable, absurd or no longer."""
        least = _seconds(response.headers.get("min-expires")) or 0
        if not self._expires < least <= MAX_EXPIRES:
            return False
        self._expires = least
        return True

    def _reject(self, said: str, now: float) -> None:
        self._quiet()
        self._bound = False
        self._due = now + REJECTED_WAIT * self._context.random.uniform(1.0, 1.2)
        self._enter(RegistrationState.REJECTED, said)

    def _failed(self, said: str, now: float) -> None:
        """This server won't do: the next one, or a pause."""
        self.detail = said
        self._quiet()
        self._bound = False
        self._next_server(now)

    # -- states ------------------------------------------------------------------------------

    def _resolve(self, now: float) -> None:
        self._due = None
        self._enter(RegistrationState.RESOLVING, self.detail)
        self._context.emit(LookUp(self.handle, self.account.targets))

    def _next_server(self, now: float) -> None:
        if self._left:
            self.hop = self._left.pop(0)
            self._try(now)
            return
        self._failures += 1
        longest = min(MAX_WAIT, BASE_WAIT * 2.0 ** min(self._failures, 16))
        wait = longest * self._context.random.uniform(0.5, 1.0)
        self._due = now + max(wait, min(self._retry_after, REJECTED_WAIT))
        self._retry_after = 0.0
        self._enter(RegistrationState.WAITING, self.detail)

    def _try(self, now: float) -> None:
        assert self.hop is not None
        self._due = None
        self._enter(RegistrationState.REGISTERING, self.detail)
        if not self._send(self.hop, self._expires, now):
            self._failed("too many requests are open", now)

    def _refresh(self, now: float) -> None:
        """Register again where we are; now and then see whether a better server is back."""
        assert self.hop is not None
        if self._order and self.hop != self._order[0] and now - self._since >= FAILBACK:
            self._bound = False
            self._resolve(now)
            return
        self._left = [hop for hop in self._order if hop != self.hop]
        self._due = None
        if not self._send(self.hop, self._expires, now):
            self._failed("too many requests are open", now)

    def _quiet(self) -> None:
        self._due = None
        if self._keepalive is not None:
            self._keepalive.stop()
            self._keepalive = None

    def _enter(self, state: RegistrationState, detail: str) -> None:
        changed = state is not self.state
        self.state, self.detail = state, detail
        self._context.core.schedule.track(self)
        if changed:
            self._context.emit(RegistrationChanged(self.handle, state, self.account.name, detail))

    # -- requests ----------------------------------------------------------------------------

    def _send(self, hop: Hop, expires: int, now: float) -> bool:
        """REGISTER (§10.2) at ``hop``; False where the table of transactions is full."""
        account, core = self.account, self._context.core
        self.local_seq += 1
        aor = NameAddr(account.aor)
        headers = Headers([("max-forwards", "70")])
        if account.route is not None:
            headers.add("route", account.route)
        headers.add("from", str(aor.with_tag(self._tag)))
        headers.add("to", str(aor))
        headers.add("call-id", self._call_id)
        headers.add("cseq", f"{self.local_seq} REGISTER")
        contact = self._context.contact(hop, account.user, secure=account.secure)
        if self._outbound:
            contact += f';reg-id=1;+sip.instance="<{account.instance}>"'
        headers.add("contact", contact)
        headers.add("expires", str(expires))
        headers.add("supported", f"path, {OUTBOUND}" if self._outbound else "path")
        headers.add("user-agent", core.policy.product)
        uri = SipUri(account.domain, scheme=account.scheme)
        request = Request(method="REGISTER", uri=uri, headers=headers, dialog=self)
        self._pending = request
        try:
            core.request(request, hop, self, now)
        except SipCapacityError:
            self._pending = None
            return False
        return True

    def _allow(self) -> None:
        """Let the account's password answer its servers' challenges, and nobody else's."""
        account = self.account
        named = (account.domain, *(uri.host for uri in account.targets))
        self.hosts = frozenset((*named, *(hop.host for hop in self._order)))
        if account.password:
            self._context.core.auth.grant(account.name, account.credential(), self.hosts)

    # -- time --------------------------------------------------------------------------------

    def next_timer(self) -> float | None:
        """The refresh, or the next attempt."""
        return self._due

    def handle_timer(self, now: float) -> None:
        """Refresh, or begin another round."""
        if self._due is None or self._due > now:
            return
        self._due = None
        if self.state is RegistrationState.REGISTERED:
            self._refresh(now)
        else:
            self._resolve(now)


def granted_expires(request: Request, response: Response, asked: int) -> int:
    """For how long the registrar holds our Contact (§10.2.4), in seconds.

    Where it lists ours under another address (what it saw of us through a NAT), the shortest
    time of a binding with our user part counts.
    """
    contact = request.contact
    ours = contact.uri if contact is not None else None
    alike: list[int] = []
    for value in _values(response, "contact"):
        try:
            bound = parse_name_addr(value)
        except SipParseError:
            continue
        seconds = _seconds(param(bound.params, "expires"))
        if seconds is None or not isinstance(bound.uri, SipUri) or not isinstance(ours, SipUri):
            continue
        if _same(bound.uri, ours):
            return seconds
        if bound.uri.user == ours.user and seconds > 0:
            alike.append(seconds)
    stated = _seconds(response.headers.get("expires"))
    return min([*alike, asked if stated is None else stated])


def _seconds(text: str | None) -> int | None:
    """A number of seconds; None where it is absent or unreadable."""
    if text is None or not (text.isascii() and text.isdigit() and len(text) < 10):
        return None
    return int(text)


def _service_route(response: Response) -> tuple[str, ...]:
    """Service-Route values (RFC 3608); none where they can't be read."""
    try:
        return tuple(str(parse_name_addr(value)) for value in _values(response, "service-route"))
    except SipParseError:
        return ()


def _values(response: Response, name: str) -> list[str]:
    return [part for value in response.headers.get_all(name) if value for part in split_list(value)]


def _same(one: SipUri, other: SipUri) -> bool:
    """Whether two Contacts are the same binding of ours; parameters are the registrar's."""
    return (one.user, one.host.lower(), one.port or 5060) == (
        other.user,
        other.host.lower(),
        other.port or 5060,
    )
