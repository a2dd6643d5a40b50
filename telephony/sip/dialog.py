"""Dialogs (RFC 3261 §12): who talks to whom, over which route, in what order."""

from __future__ import annotations

from dataclasses import dataclass

from ringtrue.telephony.sip.auth_client import credentials_of
from ringtrue.telephony.sip.errors import SipParseError
from ringtrue.telephony.sip.headers import Headers, NameAddr
from ringtrue.telephony.sip.message import Request, Response
from ringtrue.telephony.sip.transport import Hop, request_hop
from ringtrue.telephony.sip.uri import SipUri, is_secure


def remote_target(message: Request | Response) -> SipUri:
    """The Contact a dialog's requests go to.

    Raises :class:`SipParseError` where there isn't exactly one, or it can't be reached: 400,
    or 416 for a scheme we have no transport for.
    """
    contact = message.contact
    if contact is None:
        raise SipParseError("exactly one Contact is needed")
    uri = contact.uri
    if not isinstance(uri, SipUri):
        raise SipParseError(f"Contact scheme {uri.scheme!r} is not supported", status=416)
    return uri


@dataclass(slots=True, eq=False)
class Dialog:
    """One dialog, from either side."""

    call_id: str
    local: NameAddr
    """Our address with our tag: From of our requests."""

    remote: NameAddr
    """Theirs with their tag: To of our requests."""

    target: SipUri
    """Remote target: Request-URI of our requests."""

    route_set: tuple[NameAddr, ...]
    local_seq: int
    remote_seq: int | None
    flow: Hop
    """Where the dialog's last request or response came from; a stream is used while open."""

    credentials: tuple[tuple[str, str], ...] = ()
    """Of our last INVITE: its ACK repeats them (§22.1)."""

    secure: bool = False
    """It was made by a request to a ``sips`` URI: our Contacts are such (§12.1.1)."""

    @classmethod
    def from_request(cls, request: Request, local_tag: str, flow: Hop) -> Dialog:
        """The UAS's dialog (§12.1.1). Raises :class:`SipParseError` on an unusable Contact."""
        return cls(
            call_id=request.call_id,
            local=request.to.with_tag(local_tag),
            remote=request.from_,
            target=remote_target(request),
            route_set=request.record_route,
            local_seq=0,
            remote_seq=request.cseq,
            flow=flow,
            secure=is_secure(request.uri),
        )

    @classmethod
    def from_response(cls, request: Request, response: Response, flow: Hop) -> Dialog:
        """The UAC's dialog (§12.1.2). Raises :class:`SipParseError` on an unusable Contact."""
        return cls(
            call_id=request.call_id,
            local=request.from_,
            remote=response.to,
            target=remote_target(response),
            route_set=tuple(reversed(response.record_route)),
            local_seq=request.cseq,
            remote_seq=None,
            flow=flow,
            credentials=credentials_of(request),
            secure=is_secure(request.uri),
        )

    def matches(self, request: Request) -> bool:
        """Whether an incoming request belongs here (§12.2.2).

        A missing remote tag matches a peer that never sent one (RFC 2543).
        """
        return (
            request.call_id == self.call_id
            and request.to.tag == self.local.tag
            and request.from_.tag == self.remote.tag
        )

    def request(self, method: str, *, cseq: int | None = None) -> Request:
        """A request inside the dialog, without Via and Contact (§12.2.1.1).

        ``cseq`` is given for ACK, which repeats its INVITE's number; others take the next one.
        """
        if cseq is None:
            self.local_seq += 1
            cseq = self.local_seq
        uri, routes = self.target.bare(), list(self.route_set)
        if routes and isinstance(routes[0].uri, SipUri) and routes[0].uri.param("lr") is None:
            strict = routes.pop(0)
            routes.append(NameAddr(uri))
            uri = strict.uri.bare() if isinstance(strict.uri, SipUri) else uri
        headers = Headers([("route", str(route)) for route in routes])
        headers.add("max-forwards", "70")
        headers.add("from", str(self.local))
        headers.add("to", str(self.remote))
        headers.add("call-id", self.call_id)
        headers.add("cseq", f"{cseq} {method}")
        for name, value in self.credentials if method == "ACK" else ():
            headers.add(name, value)
        return Request(method=method, uri=uri, headers=headers, dialog=self)

    def next_hop(self) -> Hop:
        """Where our requests go: the first route, else the remote target (§8.1.2)."""
        first = self.route_set[0].uri if self.route_set else self.target
        if not isinstance(first, SipUri):
            first = self.target
        return request_hop(first)

    def in_order(self, request: Request) -> bool:
        """Take an incoming request's CSeq; False where it is lower than the last (§12.2.2)."""
        if self.remote_seq is not None and request.cseq < self.remote_seq:
            return False
        self.remote_seq = request.cseq
        return True
