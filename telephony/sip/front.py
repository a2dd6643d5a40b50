"""The listening end of several user agents: owns the sockets, passes messages on, ends calls.

Each user agent (a worker's) runs on a :class:`~ringtrue.telephony.sip.relay.Relay` instead of
sockets. Streams are cut into messages here, so that one connection may carry the calls of all of
them. Where a worker is gone, its calls' far ends get BYE, callers it had not answered yet go to
another worker, and calls it was placing are cancelled.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from ringtrue.telephony.sip.auth_server import AuthPolicy, AuthServer
from ringtrue.telephony.sip.call import Call
from ringtrue.telephony.sip.call_rate import CallRate
from ringtrue.telephony.sip.core import OVERLOAD_RETRY, Policy
from ringtrue.telephony.sip.dispatch import NOBODY, Dispatcher, Share
from ringtrue.telephony.sip.driver import Driver, TlsListener
from ringtrue.telephony.sip.errors import SipError, SipParseError
from ringtrue.telephony.sip.following import Followed
from ringtrue.telephony.sip.headers import Headers
from ringtrue.telephony.sip.message import Request, parse_message
from ringtrue.telephony.sip.network import Network
from ringtrue.telephony.sip.outgoing import OutgoingCall
from ringtrue.telephony.sip.peek import Peek, peek
from ringtrue.telephony.sip.responses import mark_source
from ringtrue.telephony.sip.sockets import Sockets
from ringtrue.telephony.sip.stream import PING, PONG
from ringtrue.telephony.sip.transport import Close, Hop, Send, TransportOutput, response_hop

log = structlog.get_logger(__name__)

_LOOK_AGAIN: Final = 0.02
RETRY: Final = (("retry-after", str(OVERLOAD_RETRY)),)


@dataclass(frozen=True, slots=True)
class Heard:
    """For a worker: a datagram, or one whole message of the stream from ``hop``."""

    data: bytes
    hop: Hop


@dataclass(frozen=True, slots=True)
class Closed:
    """For a worker: the stream to ``hop`` is closed."""

    hop: Hop


@dataclass(frozen=True, slots=True)
class Failed:
    """For a worker: something for ``hop`` could not be sent."""

    hop: Hop


Relayed = Heard | Closed | Failed


class Front:
    """The sockets, and who gets what comes in by them. Serves one event loop."""

    def __init__(
        self,
        deliver: Callable[[int, Relayed], bool],
        *,
        advertised_host: str | None = None,
        product: str = "Ringtrue",
        auth: AuthPolicy | None = None,
        call_rate: tuple[float, int] | None = None,
        tls_client: ssl.SSLContext | None = None,
    ) -> None:
        """``deliver`` hands something to a worker, or says False; it never blocks, never raises.

        ``auth`` says who need not prove who they are; the workers ask the others. ``call_rate``
        is one source's, as :class:`~ringtrue.telephony.sip.endpoint.SipEndpoint` takes it: it is
        counted here, once for all workers.
        """
        self._deliver = deliver
        # The driver's own user agent has no room for a call: what nobody takes gets its 503.
        policy = Policy(max_calls=0, product=product)
        self._driver = Driver(policy, advertised_host, lambda event: None, network=self._network)
        self._ua = self._driver.ua
        self._ua.relay = self._relay
        self._auth = None if auth is None else AuthServer(auth, is_own=self._is_own)
        if call_rate is not None:
            self._ua.call_rate = CallRate(*call_rate, is_exempt=self._known)
        if tls_client is not None:
            self._driver.sockets.use_tls(tls_client)
        self.dispatcher = Dispatcher(pinned=self._has_to_prove)
        self.own_hosts: frozenset[str] = frozenset()
        """Servers of our accounts, as the worker that is registered with them says."""

        self.ended_for_the_dead = 0
        """Calls that were ended because their worker was gone."""

    @property
    def port(self) -> int:
        """Of UDP and TCP."""
        return self._driver.port

    @property
    def tls_port(self) -> int:
        """Of TLS; 0 where it isn't listened for."""
        return self._driver.tls_port

    @property
    def dropped(self) -> int:
        """New calls not looked at, because their source began too many."""
        rate = self._ua.call_rate
        return 0 if rate is None else rate.refused

    async def idle(self, within: float) -> bool:
        """Wait until every far end confirmed the end of its call; False where one doesn't."""
        for _ in range(round(within / _LOOK_AGAIN)):
            if not self._ua.sizes()["calls"]:
                return True
            await asyncio.sleep(_LOOK_AGAIN)
        return False

    async def open(
        self, host: str, port: int, *, udp: bool, tcp: bool, tls: TlsListener | None
    ) -> None:
        """Bind. Raises OSError where a port is taken."""
        await self._driver.open(host, port, udp=udp, tcp=tcp, tls=tls)

    async def close(self) -> None:
        """Release the sockets at once."""
        await self._driver.close()

    # -- workers -----------------------------------------------------------------------------

    def worker_up(self, owner: int) -> None:
        """``owner`` takes calls from now on."""
        self.dispatcher.shares[owner] = Share()

    def worker_down(self, owner: int) -> None:
        """``owner`` is gone: see to the calls it had."""
        self.dispatcher.shares.pop(owner, None)
        for call in self.dispatcher.table.owned(owner):
            call.owner = NOBODY
            self._end(call)
        self._driver.pump()

    def said(self, owner: int, output: TransportOutput) -> None:
        """A worker sends or closes something."""
        if isinstance(output, Close):
            self._driver.sockets.close_stream(output.hop)
            return
        if output.data == PING and output.hop.reliable:
            self._expect_pong(owner, output.hop)
        else:
            seen = peek(output.data)
            if seen is not None and not self._follow_out(owner, seen, output):
                return
        self._driver.sockets.send(output.data, output.hop)

    # -- what comes in -----------------------------------------------------------------------

    def _network(
        self,
        on_data: Callable[[bytes, Hop], None],
        on_closed: Callable[[Hop], None],
        on_failed: Callable[[Hop], None],
        *,
        max_streams: int,
    ) -> Network:
        def closed(hop: Hop) -> None:
            on_closed(hop)
            self._tell_all(Closed(hop))

        def failed(hop: Hop) -> None:
            on_failed(hop)
            self._tell_all(Failed(hop))

        return Sockets(on_data, closed, failed, max_streams=max_streams)

    def _tell_all(self, news: Relayed) -> None:
        for owner in tuple(self.dispatcher.shares):
            self._deliver(owner, news)

    def _relay(self, data: bytes, source: Hop, now: float) -> bool:
        """Pass a message on; False where the front answers it itself."""
        seen = peek(data)
        if seen is None:
            return False
        table = self.dispatcher.table
        call = table.get(seen.call_id)
        if call is None:
            if source.reliable and seen.begins_call and not self._in_time(source, now):
                return False
            owner = self.dispatcher.owner_of(seen, source.host)
            if owner == NOBODY:
                return False
            call = table.open(seen.call_id, owner, now)
        elif call.owner == NOBODY:
            return False
        first = call.asked is None and not call.dialogs
        call.received(seen, data, source)
        table.touched(call, now)
        self._pass(call.owner, data, source, begins_call=first and seen.begins_call)
        return True

    def _pass(self, owner: int, data: bytes, hop: Hop, *, begins_call: bool = False) -> None:
        share = self.dispatcher.shares.get(owner)
        if self._deliver(owner, Heard(data, hop)) and share is not None:
            share.give(begins_call=begins_call)

    def _in_time(self, source: Hop, now: float) -> bool:
        rate = self._ua.call_rate
        return rate is None or rate.admit(source.host, now)

    def _expect_pong(self, owner: int, hop: Hop) -> None:
        def heard(pong: bool) -> None:
            if pong:
                self._pass(owner, PONG, hop)

        self._ua.expect_pong(hop, heard)

    def _is_own(self, host: str) -> bool:
        return host in self.own_hosts

    def _known(self, host: str) -> bool:
        return self._is_own(host) if self._auth is None else self._auth.trusts(host)

    def _has_to_prove(self, host: str) -> bool:
        return self._auth is not None and not self._auth.trusts(host)

    # -- what goes out -----------------------------------------------------------------------

    def _follow_out(self, owner: int, seen: Peek, output: Send) -> bool:
        """Note what a worker sends; False where it is not to be sent."""
        table, now = self.dispatcher.table, self._driver.now()
        call = table.get(seen.call_id)
        if call is None:
            if seen.status is not None:
                return True  # an answer to what was not worth remembering
            call = table.open(seen.call_id, owner, now)
        elif call.owner != owner:
            return False  # the call was given to another
        elif seen.status == 503 and seen.method == "INVITE":
            other = self.dispatcher.second(call, seen)
            if other != NOBODY and self._move(call, other, output):
                return False
        call.sent(seen, output.data, output.hop)
        table.touched(call, now)
        return True

    def _move(self, call: Followed, other: int, refusal: Send) -> bool:
        """A worker was full: acknowledge that in the caller's place and ask ``other``."""
        asked = call.asked
        assert asked is not None
        try:
            response = parse_message(refusal.data)
        except SipParseError:
            return False
        headers = Headers([("via", response.headers.get("via") or ""), ("max-forwards", "70")])
        for name in ("from", "to", "call-id"):
            headers.add(name, response.headers.get(name) or "")
        headers.add("cseq", f"{asked.request.cseq} ACK")
        ack = Request(method="ACK", uri=asked.request.uri, headers=headers)
        self._pass(call.owner, ack.encode(), asked.source)
        self._give(call, other)
        return True

    def _give(self, call: Followed, other: int) -> None:
        assert call.asked is not None
        call.moved, call.owner = True, other
        self._pass(other, call.asked.data, call.asked.source, begins_call=True)

    # -- calls whose worker is gone ----------------------------------------------------------

    def _end(self, call: Followed) -> None:
        now = self._driver.now()
        for dialog in call.ending():
            handle = dialog.local.tag or ""
            ended = Call(self._ua, handle, dialog, None, caller=False)
            self._ua.adopt(handle, ended)
            ended.bye(now)
            self.ended_for_the_dead += 1
        call.dialogs.clear()
        placed, call.placed = call.placed, None
        if placed is not None:
            self._cancel(placed.request, placed.hop, now)
        if call.asked is not None:
            self._ask_another(call)

    def _cancel(self, invite: Request, hop: Hop, now: float) -> None:
        """Take up an INVITE where its worker left it, by sending it once more, and give it up."""
        handle = invite.from_.tag or ""
        outgoing = OutgoingCall(self._ua, handle, invite, hop, None)
        self._ua.adopt(handle, outgoing)
        try:
            outgoing.start(now)
        except SipError as error:
            self._ua.release(handle)
            log.warning("sip.call_not_cancelled", error=type(error).__name__)
            return
        outgoing.cancel(now)
        self.ended_for_the_dead += 1

    def _ask_another(self, call: Followed) -> None:
        asked = call.asked
        assert asked is not None
        seen = peek(asked.data)
        other = NOBODY
        if seen is not None and not self.dispatcher.draining:
            other = self.dispatcher.choose(seen, asked.source.host)
        if other != NOBODY:
            self._give(call, other)
            return
        call.asked = None
        mark_source(asked.request, asked.source)
        response = self._ua.response(asked.request, 503, to_tag=self._ua.core.token(), extra=RETRY)
        hop = response_hop(asked.request.via, asked.source)
        self._driver.sockets.send(response.encode(), hop)
