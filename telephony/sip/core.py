"""The transaction layer: matching, timers, sending, and the bounds on all of it.

Users (calls, the user agent) start client transactions and answer server transactions here;
they never see retransmissions.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from ringtrue.telephony.sip.auth_client import Attempts, AuthClient, credentials_of
from ringtrue.telephony.sip.client_transaction import (
    ClientTransaction,
    InviteClientTransaction,
    NonInviteClientTransaction,
)
from ringtrue.telephony.sip.errors import SipCapacityError
from ringtrue.telephony.sip.headers import Via
from ringtrue.telephony.sip.message import Request, Response
from ringtrue.telephony.sip.resting import Resting
from ringtrue.telephony.sip.schedule import Schedule, Timers
from ringtrue.telephony.sip.server_transaction import (
    InviteServerTransaction,
    NonInviteServerTransaction,
    ServerTransaction,
)
from ringtrue.telephony.sip.transaction import (
    MAGIC_COOKIE,
    Deliver,
    Output,
    Received,
    Respond,
    State,
    TimedOut,
    Transmit,
    TransportFailed,
    Unreachable,
    client_key,
    server_key,
)
from ringtrue.telephony.sip.transport import Close, Hop, Send, TransportOutput, response_hop

OVERLOAD_RETRY: Final = 5
"""Retry-After in seconds where a table is full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Limits and names; every table is bounded, and a full one answers 503."""

    timers: Timers = field(default_factory=Timers)
    product: str = "Ringtrue"
    """What User-Agent and Server say."""

    max_calls: int = 512
    max_server_transactions: int = 8192
    max_client_transactions: int = 2048
    max_streams: int = 256
    ring_limit: float = 180.0
    """Seconds an INVITE may stay without a final answer, in either direction."""

    session_seconds: int = 1800
    """Session interval we ask for and the longest we agree to (RFC 4028)."""

    session_least: int = 90
    """Shortest session interval we agree to; 90 s or more."""

    partial_limit: float = 32.0
    """Seconds a stream may take to complete a message it has begun."""


class ClientUser(Protocol):
    """Who started a client transaction."""

    def on_response(self, request: Request, response: Response, now: float) -> None:
        """A response came; never a retransmission of a non-2xx."""
        ...

    def on_failure(self, request: Request, status: int, now: float) -> None:
        """No response will come: 408 after a timeout, 503 after a transport failure (§8.1.3.1)."""
        ...


@dataclass(slots=True, eq=False)
class _Client:
    core: Core
    transaction: ClientTransaction
    hop: Hop
    user: ClientUser
    attempts: Attempts
    cancelled: bool = False

    def next_timer(self) -> float | None:
        return self.transaction.next_timer()

    def handle_timer(self, now: float) -> None:
        self.core.apply_client(self, self.transaction.fire(now), now)


@dataclass(slots=True, eq=False)
class _Server:
    core: Core
    transaction: ServerTransaction
    hop: Hop
    merge_key: tuple[str, ...] | None

    def next_timer(self) -> float | None:
        return self.transaction.next_timer()

    def handle_timer(self, now: float) -> None:
        self.core.apply_server(self, self.transaction.fire(now))


class Core:
    """Transactions of one user agent."""

    def __init__(
        self,
        policy: Policy,
        local: Callable[[Hop], tuple[str, int]],
        token: Callable[[], str] | None = None,
    ) -> None:
        """``local`` names the host and port we are reached at from a hop.

        ``token`` makes tags, branches and Call-IDs; the default is 64 random bits in hex.
        """
        self.policy = policy
        self.local = local
        self.token = token or (lambda: secrets.token_hex(8))
        self.auth = AuthClient()
        self.schedule = Schedule()
        self.resting = Resting()
        """Servers to be tried after others."""

        self.outputs: list[TransportOutput] = []
        self._clients: dict[tuple[str, str], _Client] = {}
        self._servers: dict[tuple[str, ...], _Server] = {}
        self._merges: dict[tuple[str, ...], _Server] = {}

    def sizes(self) -> dict[str, int]:
        """How many transactions are alive."""
        return {"client": len(self._clients), "server": len(self._servers)}

    def send(self, data: bytes, hop: Hop) -> None:
        """Put bytes on the wire, outside any transaction."""
        self.outputs.append(Send(data, hop))

    def close_stream(self, hop: Hop) -> None:
        """Close a stream after what was sent on it."""
        self.outputs.append(Close(hop))

    # -- client side -------------------------------------------------------------------------

    def via(self, hop: Hop, branch: str | None = None) -> str:
        """A Via of ours toward ``hop`` with a fresh branch, asking for ``rport``."""
        host, port = self.local(hop)
        params = (("branch", branch or MAGIC_COOKIE + self.token()), ("rport", None))
        return str(Via(hop.transport.upper(), host, port, params))

    def request(self, request: Request, hop: Hop, user: ClientUser, now: float) -> None:
        """Start a client transaction. Gives the request its Via unless it has one (CANCEL).

        A challenge we have credentials for is answered here: ``request`` then takes the new
        number and branch, and the user hears of the answer to that. Raises
        :class:`SipCapacityError` where the table is full.
        """
        if request.method == "CANCEL":
            invite = self._clients.get((request.via.branch or "", "INVITE"))
            if invite is not None:
                invite.cancelled = True
        self.auth.prepare(request, hop)
        self._start(request, hop, user, Attempts(), now)

    def _start(
        self, request: Request, hop: Hop, user: ClientUser, attempts: Attempts, now: float
    ) -> None:
        if len(self._clients) >= self.policy.max_client_transactions:
            raise SipCapacityError(f"{len(self._clients)} client transactions are open")
        if "via" not in request.headers:
            request.headers.prepend("via", self.via(hop))
        if request.method == "INVITE" and request.dialog is not None:
            request.dialog.credentials = credentials_of(request)
        machine = (
            InviteClientTransaction if request.method == "INVITE" else NonInviteClientTransaction
        )
        transaction = machine(request, reliable=hop.reliable, timers=self.policy.timers)
        entry = _Client(self, transaction, hop, user, attempts)
        self._clients[transaction.key] = entry
        self.apply_client(entry, transaction.start(now), now)

    def receive_response(self, response: Response, now: float) -> None:
        """Match a response; strays are dropped (§18.1.2)."""
        if len(response.headers.get_all("via")) != 1:
            return
        entry = self._clients.get((response.via.branch or "", response.cseq_method))
        if entry is None:
            return
        request = entry.transaction.request
        if response.call_id != request.call_id or response.cseq != request.cseq:
            return
        self.apply_client(entry, entry.transaction.handle(Received(response), now), now)

    def abandon(self, request: Request, now: float) -> None:
        """Destroy the client transaction of ``request``; nothing more comes of it (§9.1)."""
        entry = self._clients.pop(client_key(request), None)
        if entry is not None:
            entry.transaction.handle(TransportFailed(), now)
            self.schedule.track(entry)

    def apply_client(self, entry: _Client, outputs: list[Output], now: float) -> None:
        """Carry out what a client transaction asked for."""
        transaction = entry.transaction
        self.schedule.track(entry)
        if transaction.state is State.TERMINATED:
            self._clients.pop(transaction.key, None)
        for output in outputs:
            match output:
                case Transmit(data):
                    self.send(data, entry.hop)
                case Deliver(Response() as response):
                    if not self._authenticated(entry, response, now):
                        entry.user.on_response(transaction.request, response, now)
                case TimedOut():
                    entry.user.on_failure(transaction.request, 408, now)
                case Unreachable():
                    entry.user.on_failure(transaction.request, 503, now)

    def _authenticated(self, entry: _Client, response: Response, now: float) -> bool:
        """Send a challenged request again with credentials (RFC 3261 §8.1.3.5, §22.2).

        The user's own request object is renewed, so that a CANCEL or a dialog made from it is
        the new one's; the old transaction keeps a copy for its ACK.
        """
        if response.status not in (401, 407) or entry.cancelled:
            return False
        transaction = entry.transaction
        request = transaction.request
        sent = replace(request, headers=request.headers.copy())
        if not self.auth.answer(request, response, entry.hop, entry.attempts):
            return False
        number = request.cseq + 1
        if request.dialog is not None:
            number = max(number, request.dialog.local_seq + 1)
            request.dialog.local_seq = number
        request.headers.set("cseq", [f"{number} {request.method}"])
        request.headers.set("via", [self.via(entry.hop)])
        transaction.request = sent
        try:
            self._start(request, entry.hop, entry.user, entry.attempts, now)
        except SipCapacityError:
            return False
        return True

    # -- server side -------------------------------------------------------------------------

    def absorb(self, request: Request, source: Hop, now: float) -> bool:
        """Give a request to the transaction it belongs to; False where there is none.

        An ACK to a 2xx is not absorbed: it belongs to the call.
        """
        entry = self._servers.get(server_key(request))
        if entry is None:
            return False
        outputs = entry.transaction.handle(Received(request), now)
        self.apply_server(entry, outputs)
        return not any(isinstance(output, Deliver) for output in outputs)

    def find_invite(self, cancel: Request) -> ServerTransaction | None:
        """The INVITE transaction a CANCEL is for (§9.2)."""
        *rest, _ = server_key(cancel)
        entry = self._servers.get((*rest, "INVITE"))
        return entry.transaction if entry else None

    def merged(self, request: Request) -> bool:
        """Whether this request already came by another path (§8.2.2.2)."""
        return self._merge_key(request) in self._merges

    def open_server(self, request: Request, source: Hop) -> ServerTransaction | None:
        """Start a server transaction; None where the table is full."""
        if len(self._servers) >= self.policy.max_server_transactions:
            return None
        machine = (
            InviteServerTransaction if request.method == "INVITE" else NonInviteServerTransaction
        )
        transaction = machine(request, reliable=source.reliable, timers=self.policy.timers)
        key = self._merge_key(request) if request.to.tag is None else None
        entry = _Server(self, transaction, response_hop(request.via, source), key)
        self._servers[transaction.key] = entry
        if key is not None:
            self._merges.setdefault(key, entry)
        return transaction

    def respond(self, transaction: ServerTransaction, response: Response, now: float) -> None:
        """Answer a server transaction; nothing happens if it is over."""
        entry = self._servers.get(transaction.key)
        if entry is not None and entry.transaction is transaction:
            self.apply_server(entry, transaction.handle(Respond(response), now))

    def apply_server(self, entry: _Server, outputs: list[Output]) -> None:
        """Carry out what a server transaction asked for.

        Timer H and transport failures need no telling: the call they belong to is over, or
        has its own timer for the missing ACK.
        """
        transaction = entry.transaction
        for output in outputs:
            if isinstance(output, Transmit):
                self.send(output.data, entry.hop)
        self.schedule.track(entry)
        if transaction.state is not State.TERMINATED:
            return
        self._servers.pop(transaction.key, None)
        if entry.merge_key is not None and self._merges.get(entry.merge_key) is entry:
            del self._merges[entry.merge_key]

    @staticmethod
    def _merge_key(request: Request) -> tuple[str, ...]:
        return (request.from_.tag or "", request.call_id, str(request.cseq), request.method)

    # -- time and transport ------------------------------------------------------------------

    def next_timer(self) -> float | None:
        """When :meth:`handle_timer` is due, or None."""
        return self.schedule.next()

    def handle_timer(self, now: float) -> None:
        """Fire every timer due at ``now``."""
        for item in self.schedule.due(now):
            item.handle_timer(now)

    def transport_failed(self, hop: Hop, now: float) -> None:
        """What was sent to ``hop`` can't be delivered: end the transactions that use it."""
        for client in [c for c in self._clients.values() if c.hop == hop]:
            self.apply_client(client, client.transaction.handle(TransportFailed(), now), now)
        for server in [s for s in self._servers.values() if s.hop == hop]:
            self.apply_server(server, server.transaction.handle(TransportFailed(), now))
