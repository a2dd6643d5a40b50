"""A stateless proxy in the virtual network: routes, records its route, may ask who calls."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from sip_link import Net

from ringtrue.telephony.sip.digest import digest_response, parse_credentials
from ringtrue.telephony.sip.errors import SipParseError
from ringtrue.telephony.sip.headers import parse_via
from ringtrue.telephony.sip.message import Request, Response, parse_message
from ringtrue.telephony.sip.responses import make_response
from ringtrue.telephony.sip.transport import Hop, Send


@dataclass
class Proxy:
    """Stands in the place of a user agent (RFC 3261 §16.11: it keeps no transaction)."""

    net: Net
    host: str
    finds: Callable[[Request], str | None]
    """The host a request goes to once no Route says where; None: what its URI names."""

    password: str | None = None
    """Asked of INVITEs (407, realm is the host); None: nobody is asked."""

    seen: list[str] = field(default_factory=list)
    """Methods it passed on, repetitions too."""

    rewrites: Callable[[bytes], bytes] | None = None
    """What an ALG does to the descriptions that pass it."""

    _sends: list[Send] = field(default_factory=list)
    _challenged: set[str] = field(default_factory=set)

    def receive(self, data: bytes, source: Hop, now: float) -> None:
        message = parse_message(data)
        if self.rewrites is not None and message.body:
            message.body = self.rewrites(message.body)
            message.headers.set("content-length", [str(len(message.body))])
        if isinstance(message, Response):
            self._back(message)
        elif self._known(message, source):
            self._on(message)

    def outputs(self) -> list[Send]:
        taken, self._sends = self._sends, []
        return taken

    def events(self) -> list[object]:
        return []

    def next_timer(self) -> float | None:
        return None

    def handle_timer(self, now: float) -> None:
        """There is none."""

    def _back(self, response: Response) -> None:
        vias = response.headers.get_all("via")[1:]
        response.headers.set("via", vias)
        to = parse_via(vias[0])
        self._send(response.encode(), to.host)

    def _on(self, request: Request) -> None:
        self.seen.append(request.method)
        routes = request.headers.get_all("route")
        if routes and f"sip:{self.host}" in routes[0]:
            routes = routes[1:]
            request.headers.set("route", routes)
        found = self.finds(request) if not routes else routes[0].split(":")[1].split(";")[0]
        host = found or request.uri.host
        if request.method == "INVITE":
            request.headers.prepend("record-route", f"<sip:{self.host};lr>")
        seed = f"{request.via.branch}{self.host}"
        branch = f"z9hG4bK{hashlib.sha256(seed.encode()).hexdigest()[:12]}"
        request.headers.prepend("via", f"SIP/2.0/UDP {self.host}:5060;branch={branch}")
        self._send(request.encode(), host.strip("<>"))

    def _known(self, request: Request, source: Hop) -> bool:
        """Whether it may pass; where not, it was answered, or was the ACK of such an answer."""
        branch = request.via.branch or ""
        if request.method == "ACK" and branch in self._challenged:
            return False
        if self.password is None or request.method != "INVITE" or request.to.tag is not None:
            return True
        if any(self._right(value) for value in request.headers.get_all("proxy-authorization")):
            return True
        self._challenged.add(branch)
        ask = f'Digest realm="{self.host}", nonce="n", qop="auth", algorithm=MD5'
        extra = [("proxy-authenticate", ask)]
        answer = make_response(request, 407, to_tag=branch, extra=extra)
        self._send(answer.encode(), source.host)
        return False

    def _right(self, value: str) -> bool:
        try:
            got = parse_credentials(value)
        except SipParseError:
            return False
        return got.realm == self.host and got.response == digest_response(
            algorithm=got.algorithm,
            user=got.user,
            realm=got.realm,
            password=self.password or "",
            method="INVITE",
            uri=got.uri,
            nonce="n",
            cnonce=got.cnonce,
            count=got.count,
        )

    def _send(self, data: bytes, host: str) -> None:
        self._sends.append(Send(data, Hop("udp", host, 5060)))


def add_proxy(
    net: Net,
    host: str,
    finds: Callable[[Request], str | None] = lambda request: None,
    *,
    password: str | None = None,
    rewrites: Callable[[bytes], bytes] | None = None,
) -> Proxy:
    """Put a proxy at port 5060 of ``host``."""
    proxy = Proxy(net, host, finds, password, rewrites=rewrites)
    net.add(f"proxy-{host}", host).ua = proxy  # type: ignore[assignment]
    return proxy
