"""The user agent: bytes and time in; bytes, events and the next timer out (RFC 3261 §8, §12).

Feed it with :meth:`UserAgent.receive` and :meth:`UserAgent.handle_timer`; after each call drain
:meth:`UserAgent.outputs` and :meth:`UserAgent.events` and look at
:meth:`UserAgent.next_timer`. Both queues only hold what the last input caused, so they are as
bounded as the input and the tables. ``now`` is monotonic seconds.
"""

from __future__ import annotations

import hashlib
import hmac
import random
import secrets
from collections.abc import Callable, Iterable
from typing import Final

from ringtrue.telephony.sip.accounts import Accounts
from ringtrue.telephony.sip.auth_server import AuthServer
from ringtrue.telephony.sip.call import Call
from ringtrue.telephony.sip.call_rate import CallRate, makes_call
from ringtrue.telephony.sip.context import ALLOW, EXTENSIONS, SDP, Usage
from ringtrue.telephony.sip.core import OVERLOAD_RETRY, Core, Policy
from ringtrue.telephony.sip.dialog import Dialog
from ringtrue.telephony.sip.errors import (
    SipCapacityError,
    SipError,
    SipParseError,
    SipStateError,
)
from ringtrue.telephony.sip.events import Event
from ringtrue.telephony.sip.headers import Headers, NameAddr, parse_name_addr
from ringtrue.telephony.sip.incoming import IncomingCall
from ringtrue.telephony.sip.message import Request, Response, parse_message, parse_target
from ringtrue.telephony.sip.outgoing import OutgoingCall
from ringtrue.telephony.sip.responses import (
    make_fragment_response,
    make_response,
    mark_source,
    printable,
)
from ringtrue.telephony.sip.server_transaction import ServerTransaction
from ringtrue.telephony.sip.streams import Streams
from ringtrue.telephony.sip.stun import Bindings
from ringtrue.telephony.sip.takeover import Takeovers
from ringtrue.telephony.sip.transport import Hop, TransportOutput, request_hop, response_hop
from ringtrue.telephony.sip.uas import Refusal, examine
from ringtrue.telephony.sip.uri import SipUri, is_secure

_OVERLOADED: Final = (("retry-after", str(OVERLOAD_RETRY)),)
_RESERVED: Final = frozenset(
    ("via", "from", "to", "call-id", "cseq", "contact", "max-forwards", "route", "content-length")
)


class UserAgent:
    """UAS and UAC for INVITE, ACK, CANCEL, BYE, PRACK, UPDATE, INFO, OPTIONS, REFER and NOTIFY."""

    def __init__(
        self,
        local: Callable[[Hop], tuple[str, int]],
        policy: Policy | None = None,
        *,
        token: Callable[[], str] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """``local`` names the (host, port) we are reached at from a hop.

        ``token`` (tags, branches, Call-IDs) and ``rng`` (retry delays) are for tests; the
        defaults can't be guessed.
        """
        self.policy = policy or Policy()
        self.core = Core(self.policy, local, token)
        self.random = rng or random.SystemRandom()
        self.auth: AuthServer | None = None
        """Who may call; None lets everybody."""

        self.call_rate: CallRate | None = None
        """How fast; None sets no limit."""

        self.relay: Callable[[bytes, Hop, float], bool] | None = None
        """Given each whole message first; True: it is somebody else's to answer."""

        self._local = local
        self._calls: dict[str, Usage] = {}
        self.takeovers = Takeovers(self._calls)
        """Which calls others may take over."""

        self._streams = Streams(self.core, self._message, self._refuse)
        self.bindings = Bindings()
        self.accounts = Accounts(self)
        """Where we are registered."""

        self._events: list[Event] = []
        self._secret = secrets.token_bytes(16)

    # -- in and out --------------------------------------------------------------------------

    def receive(self, data: bytes, source: Hop, now: float) -> None:
        """Take a datagram, or the next bytes of the stream from ``source``. Never raises."""
        if source.reliable:
            self._streams.receive(data, source, now)
        elif not self.bindings.receive(data, source):
            self._message(data, source, now)

    def disconnected(self, hop: Hop, now: float) -> None:
        """The stream to ``hop`` is closed; what waits on it fails."""
        self._streams.forget(hop)
        self.core.transport_failed(hop, now)
        self.accounts.flow_failed(hop, now)

    def transport_failed(self, hop: Hop, now: float) -> None:
        """Something for ``hop`` could not be sent (refused, unresolvable, no route)."""
        self.core.transport_failed(hop, now)
        self.accounts.flow_failed(hop, now)

    def outputs(self) -> list[TransportOutput]:
        """Take what is to be sent, in order."""
        taken, self.core.outputs = self.core.outputs, []
        return taken

    def events(self) -> list[Event]:
        """Take what happened, in order."""
        taken, self._events = self._events, []
        return taken

    def next_timer(self) -> float | None:
        """When :meth:`handle_timer` is due, or None."""
        return self.core.next_timer()

    def handle_timer(self, now: float) -> None:
        """Fire every timer due at ``now``."""
        self.core.handle_timer(now)

    def sizes(self) -> dict[str, int]:
        """Entries in each table: ``calls``, ``client``, ``server``, ``streams``."""
        return {"calls": len(self._calls), "streams": len(self._streams), **self.core.sizes()}

    # -- what the owner does -----------------------------------------------------------------

    def invite(
        self,
        target: str,
        offer: bytes,
        now: float,
        *,
        from_uri: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        via: Hop | None = None,
        routes: Iterable[str] = (),
        ring_limit: float | None = None,
        others: Iterable[Hop] = (),
    ) -> str:
        """Place a call; returns its handle. Outcome: ``Answered`` or ``Rejected``.

        ``from_uri`` is a URI or name-addr (default: the Contact); ``via`` sends it to another
        hop than ``target`` names, ``routes`` are the Route values for the way; ``ring_limit`` is
        how many seconds it may stay unanswered (default: the policy's), ``others`` are the hops to
        try where one is out of service. Raises :class:`SipParseError` on a bad ``target``,
        ``from_uri`` or header and :class:`SipCapacityError` where a table is full.
        """
        uri = parse_target(target)
        hop = via or request_hop(uri)
        handle = self.core.token()
        if len(self._calls) >= self.policy.max_calls:
            raise SipCapacityError(f"{len(self._calls)} calls are open")
        sender = parse_name_addr(from_uri or self.contact(hop, "ringtrue"))
        user = sender.uri.user if isinstance(sender.uri, SipUri) else None
        lines = Headers([("max-forwards", "70"), ("from", str(sender.with_tag(handle)))])
        for route in routes:
            lines.add("route", route)
        lines.add("to", str(NameAddr(uri.bare())))
        lines.add("call-id", self.core.token() + self.core.token())
        lines.add("cseq", "1 INVITE")
        lines.add("contact", self.contact(hop, user, secure=is_secure(uri)))
        lines.add("allow", ALLOW)
        lines.add("supported", EXTENSIONS)
        lines.add("accept", SDP)
        lines.add("user-agent", self.policy.product)
        lines.add("content-type", SDP)
        for name, value in headers:
            if name.lower() in _RESERVED or any(c in name + value for c in "\r\n\0"):
                raise SipParseError(f"header {name[:40]!r} can't be set on a call")
            lines.add(name, value)
        request = Request(method="INVITE", uri=uri.bare(), headers=lines, body=offer)
        call = OutgoingCall(self, handle, request, hop, user, ring_limit=ring_limit, others=others)
        self._calls[handle] = call
        try:
            call.start(now)
        except SipError:
            self.release(handle)
            raise
        return handle

    def ring(self, call: str, now: float) -> None:
        """Send 180 Ringing. Raises :class:`SipStateError` unless the call is unanswered."""
        usage = self._calls.get(call)
        if not isinstance(usage, IncomingCall):
            raise SipStateError(f"call {call} is not waiting for an answer")
        usage.ring(now)

    def accept(self, call: str, body: bytes, now: float) -> None:
        """Answer an INVITE, re-INVITE or UPDATE with 200 and SDP ``body``.

        Raises :class:`SipStateError` where neither waits.
        """
        self._answerable(call).accept(body, now)

    def reject(
        self,
        call: str,
        status: int,
        now: float,
        *,
        reason: str | None = None,
        retry_after: int | None = None,
        warning: str | None = None,
    ) -> None:
        """Refuse an INVITE, re-INVITE or UPDATE with a final ``status`` from 300 to 699.

        ``retry_after`` is in seconds; ``warning`` is printable text for a 399 Warning. Raises
        :class:`SipStateError` where neither waits, ValueError on another status.
        """
        if not 300 <= status <= 699:
            raise ValueError(f"can't reject with {status}; it must be 300 to 699")
        extra: list[tuple[str, str]] = []
        if retry_after is not None:
            extra.append(("retry-after", str(max(0, int(retry_after)))))
        if warning is not None:
            extra.append(("warning", f'399 ringtrue "{printable(warning)}"'))
        self._answerable(call).reject(status, reason, tuple(extra), now)

    def reinvite(self, call: str, offer: bytes, now: float, *, after_glare: bool = False) -> None:
        """Offer a change of an established call, again where ``after_glare``.

        Raises :class:`SipStateError` where it can't change now.
        """
        self.established(call).reinvite(offer, now, after_glare=after_glare)

    def refer(self, call: str, to: str | NameAddr, now: float, *, limit: float) -> None:
        """Ask the far end of an established call to call ``to``; ``ReferEnded`` follows.

        ``limit`` in seconds. Raises as :meth:`~ringtrue.telephony.sip.call.Call.refer` does.
        """
        self.established(call).refer(to, limit, now)

    def established(self, call: str) -> Call:
        """The established call ``call``. Raises :class:`SipStateError` where it is none."""
        usage = self._calls.get(call)
        if not isinstance(usage, Call):
            raise SipStateError(f"call {call} is not established")
        return usage

    def bye(self, call: str, now: float, *, reason: str | None = None) -> None:
        """End an established call; ``Ended`` follows. Nothing happens on one that is over.

        ``reason`` is the value of the Reason header (RFC 3326).
        """
        usage = self._calls.get(call)
        if isinstance(usage, Call):
            usage.bye(now, reason)

    def cancel(self, call: str, now: float) -> None:
        """Give up a call we placed; ``Rejected`` follows, even where its 2xx crosses this."""
        usage = self._calls.get(call)
        if isinstance(usage, OutgoingCall):
            usage.cancel(now)

    def _answerable(self, call: str) -> IncomingCall | OutgoingCall | Call:
        usage = self._calls.get(call)
        if not isinstance(usage, IncomingCall | OutgoingCall | Call):
            raise SipStateError(f"call {call} is not waiting for an answer")
        return usage

    # -- messages ----------------------------------------------------------------------------

    def _message(self, data: bytes, source: Hop, now: float) -> None:
        if not source.reliable and makes_call(data) and not self._in_time(source, now):
            return  # who means it sends it again
        if self.relay is not None and self.relay(data, source, now):
            return
        try:
            message = parse_message(data, stream=source.reliable)
        except SipParseError as error:
            self._refuse(error, source)
            return
        if isinstance(message, Response):
            self.core.receive_response(message, now)
            return
        mark_source(message, source)
        if not self.core.absorb(message, source, now):
            self._request(message, source, now)

    def _refuse(self, error: SipParseError, source: Hop) -> None:
        """Answer what can't be parsed, as far as it can be answered (§8.2.7, stateless)."""
        if error.fragment is None or not error.fragment.vias:
            return
        seed = "\0".join((*error.fragment.vias, error.fragment.headers.get("call-id", "")))
        response = make_fragment_response(
            error.fragment, error.status, source, to_tag=self._tag(seed), detail=error.reason
        )
        if response is not None:
            self.core.send(response.encode(), response_hop(response.via, source))

    def _request(self, request: Request, source: Hop, now: float) -> None:
        usage = self._find(request)
        if request.method == "ACK":
            if usage is not None:
                usage.receive_ack(request, now)
            return
        early = self._unheard(request, usage, source, now)
        if early is not None:
            self._stateless(request, source, early.status, early.extra)
            return
        invite = self.core.find_invite(request) if request.method == "CANCEL" else None
        transaction = self.core.open_server(request, source)
        if transaction is None:
            self._stateless(request, source, 503, _OVERLOADED)
            return
        refusal = None if request.method == "CANCEL" else self._examine(request)
        if refusal is not None:
            self._final(transaction, request, refusal.status, now, refusal.extra)
        elif request.method == "CANCEL":
            self._cancel(transaction, request, invite, now)
        elif request.method == "OPTIONS":
            extra = (("allow", ALLOW), ("accept", SDP), ("supported", EXTENSIONS))
            self._final(transaction, request, 200, now, extra)
        elif usage is not None and (request.method != "NOTIFY" or isinstance(usage, Call)):
            usage.receive(transaction, request, now)
        elif request.method == "INVITE":
            self._invite(transaction, request, source, now)
        else:
            status = 403 if request.method == "REFER" and request.to.tag is None else 481
            self._final(transaction, request, status, now)

    def _examine(self, request: Request) -> Refusal | None:
        if request.method != "INVITE" and "replaces" in request.headers:
            return Refusal(400)  # RFC 3891 §3
        return examine(request, least=self.policy.session_least)

    def _find(self, request: Request) -> Usage | None:
        """The call a request with a To tag belongs to; the tag is our handle."""
        usage = self._calls.get(request.to.tag or "")
        return usage if usage is not None and usage.matches(request) else None

    def _unheard(
        self, request: Request, usage: Usage | None, source: Hop, now: float
    ) -> Refusal | None:
        """481 for a dialog we don't have, 482 for what came twice, 401 for who is not known.

        Nothing is kept of any of them (§8.2.7): a flood of them costs no memory.
        """
        if request.method == "CANCEL":
            return None
        if request.to.tag is not None:
            return Refusal(481) if usage is None else None
        if self.core.merged(request):
            return Refusal(482)
        if request.method != "INVITE":
            return None
        if source.reliable and not self._in_time(source, now):
            return Refusal(503, _OVERLOADED)
        return None if self.auth is None else self.auth.refusal(request, source.host, now)

    def _in_time(self, source: Hop, now: float) -> bool:
        return self.call_rate is None or self.call_rate.admit(source.host, now)

    def _invite(
        self, transaction: ServerTransaction, request: Request, source: Hop, now: float
    ) -> None:
        if len(self._calls) >= self.policy.max_calls:
            self._final(transaction, request, 503, now, _OVERLOADED)
            return
        replaced = self.takeovers.look(request, source, known=self.auth is not None)
        if isinstance(replaced, Refusal):
            self._final(transaction, request, replaced.status, now)
            return
        handle = self.core.token()
        try:
            call = IncomingCall(self, handle, transaction, request, source, now, replaces=replaced)
        except SipParseError as error:
            self._final(transaction, request, error.status, now)
            return
        self._calls[handle] = call
        call.start(now)

    def _cancel(
        self,
        transaction: ServerTransaction,
        request: Request,
        invite: ServerTransaction | None,
        now: float,
    ) -> None:
        """200 to the CANCEL, 487 to an INVITE not yet answered, 481 where there is none (§9.2)."""
        if invite is None:
            self._final(transaction, request, 481, now)
            return
        for handle, usage in list(self._calls.items()):
            if isinstance(usage, IncomingCall) and usage.transaction is invite:
                response = self.response(request, 200, to_tag=handle)
                self.core.respond(transaction, response, now)
                usage.cancel(now)
                return
        self._final(transaction, request, 200, now)
        for usage in list(self._calls.values()):
            if isinstance(usage, Call):
                usage.cancel_incoming(invite, now)

    def _final(
        self,
        transaction: ServerTransaction,
        request: Request,
        status: int,
        now: float,
        extra: tuple[tuple[str, str], ...] = (),
    ) -> None:
        response = self.response(request, status, to_tag=self._request_tag(request), extra=extra)
        self.core.respond(transaction, response, now)

    def _stateless(
        self,
        request: Request,
        source: Hop,
        status: int,
        extra: tuple[tuple[str, str], ...] = (),
    ) -> None:
        tag = self._request_tag(request)
        response = self.response(request, status, to_tag=tag, extra=extra)
        self.core.send(response.encode(), response_hop(request.via, source))

    def _request_tag(self, request: Request) -> str:
        return self._tag("\0".join((str(request.via), request.call_id, request.from_.tag or "")))

    def _tag(self, seed: str) -> str:
        """The same tag for the same request, so that retransmissions agree (§8.2.7)."""
        data = seed.encode("utf-8", "surrogateescape")
        return hmac.new(self._secret, data, hashlib.sha256).hexdigest()[:16]

    def expect_pong(self, hop: Hop, heard: Callable[[bool], None]) -> None:
        """Call ``heard`` when anything comes from ``hop``, with whether it is the pong."""
        self._streams.expect_pong(hop, heard)

    # -- what calls ask of us ----------------------------------------------------------------

    def emit(self, event: Event) -> None:
        """Queue an event for the owner."""
        self._events.append(event)

    def adopt(self, handle: str, usage: Usage) -> None:
        """Put ``usage`` in the table under ``handle``."""
        self._calls[handle] = usage

    def release(self, handle: str) -> None:
        """Take the call out of the table."""
        usage = self._calls.pop(handle, None)
        if usage is not None:
            self.takeovers.ended(usage)

    def contact(self, hop: Hop, user: str | None, *, secure: bool = False) -> str:
        """Our Contact toward ``hop``, a ``sips`` one where ``secure`` (§8.1.1.8)."""
        host, port = self._local(hop)
        if secure:
            return str(NameAddr(SipUri(host, port, user or None, scheme="sips")))
        params = (("transport", hop.transport),) if hop.reliable else ()
        return str(NameAddr(SipUri(host, port, user or None, params=params)))

    def contact_in(self, dialog: Dialog, user: str | None, hop: Hop | None = None) -> str:
        """Our Contact in a dialog, toward ``hop`` or else where the dialog's requests come from."""
        return self.contact(hop or dialog.flow, user, secure=dialog.secure)

    def hop_for(self, dialog: Dialog) -> Hop:
        """Where a dialog's request goes: its stream while that is open, else its next hop."""
        if dialog.flow.reliable and dialog.flow in self._streams:
            return dialog.flow
        return dialog.next_hop()

    def response(
        self,
        request: Request,
        status: int,
        reason: str | None = None,
        *,
        to_tag: str | None = None,
        extra: tuple[tuple[str, str], ...] = (),
        body: bytes = b"",
    ) -> Response:
        """A response with our Server header, and Content-Type where it has a body."""
        lines = [*extra, ("server", self.policy.product)]
        if body:
            lines.append(("content-type", SDP))
        return make_response(request, status, reason, to_tag=to_tag, extra=lines, body=body)
