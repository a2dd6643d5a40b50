"""A callee in the virtual network that answers as a test's script says, byte by byte."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sip_link import OFFER, TARGET, A, B, Net, Station

from ringtrue.telephony.sip.message import Request, Response, parse_message
from ringtrue.telephony.sip.transport import Hop, Send

SDP = ("Content-Type: application/sdp",)

Message = Request | Response
Script = Callable[["Callee", Message], None]


@dataclass
class Callee:
    """Stands in the place of a user agent; ``script`` is given each message it gets."""

    net: Net
    hop: Hop
    script: Script
    peer: Hop | None = None
    got: list[Request | Response] = field(default_factory=list)
    timers: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    _sends: list[Send] = field(default_factory=list)

    # -- what the network asks of a user agent ------------------------------------------------

    def receive(self, data: bytes, source: Hop, now: float) -> None:
        self.peer = source
        message = parse_message(data)
        self.got.append(message)
        self.script(self, message)

    def outputs(self) -> list[Send]:
        taken, self._sends = self._sends, []
        return taken

    def events(self) -> list[object]:
        return []

    def next_timer(self) -> float | None:
        return min((when for when, _ in self.timers), default=None)

    def handle_timer(self, now: float) -> None:
        due = [timer for timer in self.timers if timer[0] <= now]
        self.timers = [timer for timer in self.timers if timer[0] > now]
        for _, act in due:
            act()

    # -- what scripts do ----------------------------------------------------------------------

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        self.timers.append((self.net.now + seconds, act))

    def answer(
        self, request: Request, status: int, *lines: str, tag: str = "t1", body: bytes = b""
    ) -> None:
        """Respond to ``request``; ``lines`` are whole header lines."""
        head = [f"SIP/2.0 {status} Whatever"]
        head += [f"Via: {via}" for via in request.headers.get_all("via")]
        to = request.headers.get("to") or ""
        if status > 100 and tag and "tag=" not in to:
            to += f";tag={tag}"
        head += [f"From: {request.headers.get('from')}", f"To: {to}"]
        head += [f"Call-ID: {request.call_id}", f"CSeq: {request.headers.get('cseq')}"]
        if status > 100:
            head.append(f"Contact: <sip:{tag or 'x'}@{self.hop.host}>")
        self._put([*head, *lines], body)

    def request(
        self,
        method: str,
        invite: Request,
        cseq: int,
        *lines: str,
        tag: str = "t1",
        body: bytes = b"",
    ) -> None:
        """Send a request inside the dialog that ``invite`` made with ``tag``."""
        assert invite.contact is not None
        head = [
            f"{method} {invite.contact.uri} SIP/2.0",
            f"Via: SIP/2.0/UDP {self.hop.host}:5060;branch=z9hG4bK{method}{tag}{cseq}",
            "Max-Forwards: 70",
            f"From: {invite.headers.get('to')};tag={tag}",
            f"To: {invite.headers.get('from')}",
            f"Call-ID: {invite.call_id}",
            f"CSeq: {cseq} {method}",
            f"Contact: <sip:{tag}@{self.hop.host}>",
        ]
        self._put([*head, *lines], body)

    def methods(self) -> list[str]:
        """Methods of the requests it got, in order."""
        return [message.method for message in self.got if isinstance(message, Request)]

    def last(self, method: str) -> Request:
        """The last request of a method that it got."""
        return next(m for m in reversed(self.got) if isinstance(m, Request) and m.method == method)

    def responses(self, method: str) -> list[Response]:
        """Responses it got to its requests of a method."""
        return [m for m in self.got if isinstance(m, Response) and m.cseq_method == method]

    def _put(self, lines: list[str], body: bytes) -> None:
        assert self.peer is not None
        text = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""])
        self._sends.append(Send(text.encode() + body, self.peer))


def add_callee(net: Net, host: str, script: Script) -> Callee:
    """Put a scripted callee at port 5060 of ``host``."""
    callee = Callee(net, Hop("udp", host, 5060), script)
    station = net.add(f"callee-{host}", host)
    station.ua = callee  # type: ignore[assignment]
    return callee


def called(script: Script, *, ring_limit: float | None = None) -> tuple[Net, Station, Callee, str]:
    """A call from A to a scripted callee."""
    net = Net()
    a = net.add("a", A)
    callee = add_callee(net, B, script)
    call = a.ua.invite(TARGET, OFFER, net.now, ring_limit=ring_limit)
    return net, a, callee, call


def lines(station: Station) -> list[str]:
    """What it sent, in order."""
    return [line for _, line in station.lines()]


def empty(*stations: Station) -> None:
    """No table of any of them holds anything."""
    for station in stations:
        assert set(station.ua.sizes().values()) == {0}, station.ua.sizes()
