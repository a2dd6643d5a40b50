"""RFC 3665's flows, one test each, over a network that loses, doubles and reorders datagrams.

Alice (10.0.0.1) and Bob (10.0.0.2) are our user agents, so each flow shows both of our roles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from sip_callee import Callee, Message, add_callee
from sip_link import ANSWER, OFFER, A, B, Net, Station
from sip_proxy import Proxy, add_proxy

from ringtrue.telephony.sip.account import Account
from ringtrue.telephony.sip.auth_client import Credential
from ringtrue.telephony.sip.auth_server import AuthPolicy, AuthServer, Verdict
from ringtrue.telephony.sip.events import (
    Answered,
    Cancelled,
    Confirmed,
    EndCause,
    Ended,
    Event,
    IncomingInvite,
    Progress,
    ReInvite,
    ReInviteAnswered,
    Rejected,
)
from ringtrue.telephony.sip.message import Request, Response
from ringtrue.telephony.sip.registration import (
    LookUp,
    Registration,
    RegistrationState,
)
from ringtrue.telephony.sip.responses import make_response
from ringtrue.telephony.sip.transport import Hop, Send

P1, P2, P3 = "10.0.0.7", "10.0.0.8", "10.0.0.9"
BOB = "sip:bob@biloxi.example.com"
SEEDS = pytest.mark.parametrize("seed", range(6))
Answer = Callable[[Station, Event], None]


def network(seed: int) -> Net:
    """A sixth of all datagrams lost, a tenth twice, overtaking each other by up to 0.3 s."""
    return Net(seed, loss=0.16, duplicate=0.1, jitter=0.3)


def rings_and_answers(station: Station, event: Event) -> None:
    if isinstance(event, IncomingInvite):
        station.ua.ring(event.call, station.net.now)
    if isinstance(event, IncomingInvite | ReInvite):
        station.ua.accept(event.call, ANSWER, station.net.now)


def finds_bob(host: str) -> Callable[[Request], str | None]:
    """A location service that knows where Bob is."""
    return lambda request: host if request.uri.host == "biloxi.example.com" else None


@dataclass
class Call:
    """A call of Alice's to Bob over two proxies, unless told otherwise."""

    seed: int
    bob_does: Answer = rings_and_answers
    passwords: tuple[str | None, str | None] = (None, None)
    direct: bool = False
    ring_limit: float = 60.0
    proxies: list[Proxy] = field(default_factory=list)

    def __post_init__(self) -> None:
        net = self.net = network(self.seed)
        self.alice = net.add("a", A, on_event=rings_and_answers)
        self.bob = net.add("b", B, on_event=self.bob_does)
        if not self.direct:
            self.proxies = [
                add_proxy(net, P1, finds_bob(P2), password=self.passwords[0]),
                add_proxy(net, P2, finds_bob(B), password=self.passwords[1]),
            ]
        realms = frozenset((P1, P2))
        self.alice.ua.core.auth.grant("x", Credential("alice", "secret", realms), [P1, P2])

    def place(self) -> str:
        """Her call's handle."""
        way = {} if self.direct else {"via": Hop("udp", P1, 5060), "routes": (f"<sip:{P1};lr>",)}
        target = f"sip:bob@{B}" if self.direct else BOB
        self.handle = self.alice.ua.invite(
            target, OFFER, self.net.now, ring_limit=self.ring_limit, **way
        )
        return self.handle

    def run(self, seconds: float) -> None:
        self.net.run(self.net.now + seconds)

    @property
    def incoming(self) -> str:
        """Bob's handle of it."""
        (event,) = self.bob.of(IncomingInvite)
        return event.call

    def established(self) -> None:
        """Both ends agree that there is one call, and about its description."""
        assert self.alice.of(Answered) == [Answered(self.handle, ANSWER)]
        assert self.bob.of(Confirmed)[:1] == [Confirmed(self.incoming, None)]
        assert self.alice.of(Ended) == self.bob.of(Ended) == []

    def ended(self, by: Station) -> None:
        """``by`` says BYE; both know, and nothing is kept."""
        handle = self.handle if by is self.alice else self.incoming
        by.ua.bye(handle, self.net.now)
        self.run(150.0)
        for station in (self.alice, self.bob):
            (event,) = station.of(Ended)
            assert isinstance(event, Ended)
            cause = EndCause.LOCAL_BYE if station is by else EndCause.REMOTE_BYE
            assert event.cause is cause
        self.at_rest()

    def failed(self, status: int) -> None:
        """Alice is told so once, and nothing is kept."""
        (event,) = self.alice.of(Rejected)
        assert (event.call, event.status) == (self.handle, status)
        assert self.alice.of(Answered) == self.alice.of(Ended) == []
        self.at_rest()

    def at_rest(self) -> None:
        for station in (self.alice, self.bob):
            assert set(station.ua.sizes().values()) == {0}, station.ua.sizes()


# -- §2: registrations ---------------------------------------------------------------------------


@dataclass
class Registrar:
    """A registrar behind the bad network: it judges digests and keeps the bindings."""

    net: Net
    password: str = "secret"
    bindings: dict[str, int] = field(default_factory=dict)
    answered: dict[str, bytes] = field(default_factory=dict)
    statuses: list[int] = field(default_factory=list)
    _sends: list[Send] = field(default_factory=list)

    def __post_init__(self) -> None:
        users = {"bob": self.password}
        self.auth = AuthServer(AuthPolicy(realm="biloxi", users=users, nonce_lifetime=600))

    def script(self, callee: Callee, message: Message) -> None:
        assert isinstance(message, Request)
        assert callee.peer is not None
        branch = message.via.branch or ""
        if branch not in self.answered:  # else it is a retransmission
            response = self._answer(message)
            self.statuses.append(response.status)
            self.answered[branch] = response.encode()
        callee._sends.append(Send(self.answered[branch], callee.peer))

    def _answer(self, request: Request) -> Response:
        verdict = self.auth.judge(request, A, self.net.now)
        if verdict is not Verdict.AUTHENTICATED:
            extra = self.auth.challenges(A, self.net.now, stale=False)
            return make_response(request, 401, to_tag="r", extra=extra)
        assert request.contact is not None
        seconds = int(request.headers.get("expires") or 0)
        self.bindings[str(request.contact.uri)] = seconds
        if not seconds:
            del self.bindings[str(request.contact.uri)]
        lines = [("contact", f"<{uri}>;expires={left}") for uri, left in self.bindings.items()]
        return make_response(request, 200, to_tag="r", extra=lines)


def registered(seed: int, password: str = "secret") -> tuple[Net, Station, Registrar, Registration]:
    """An account of ours, once the registrar has said what it thinks of it."""
    net = network(seed)
    net.tap = lambda station, hop, data: data[:1].isalpha()  # keepalives lead nowhere
    registrar = Registrar(net, password)
    add_callee(net, B, registrar.script)

    def found(station: Station, event: Event) -> None:
        if isinstance(event, LookUp):
            station.ua.accounts.resolved(event.call, [Hop("udp", B, 5060)], net.now)

    bob = net.add("a", A, on_event=found)
    account = Account(name="x", domain="biloxi", user="bob", password="secret", expires=300)
    registration = bob.ua.accounts.add(account, net.now)
    net.run(40.0)
    return net, bob, registrar, registration


@SEEDS
def test_2_1_successful_new_registration(seed: int) -> None:
    _, bob, registrar, registration = registered(seed)
    assert registration.state is RegistrationState.REGISTERED
    assert registrar.statuses == [401, 200]
    assert registrar.bindings == {f"sip:bob@{A}:5060": 300}
    assert bob.count("REGISTER") >= 2


@SEEDS
def test_2_2_update_of_contact_list(seed: int) -> None:
    """The list has another device's address as well; ours is renewed, that one stays."""
    net, _, registrar, registration = registered(seed)
    registrar.bindings["sip:bob@other.example"] = 3600
    net.run(1800.0)
    assert registrar.statuses.count(200) >= 6
    assert registrar.statuses.count(401) < registrar.statuses.count(200), "nonces are used again"
    assert registration.state is RegistrationState.REGISTERED
    assert set(registrar.bindings) == {f"sip:bob@{A}:5060", "sip:bob@other.example"}


@SEEDS
def test_2_3_the_current_contact_list_is_asked_of_a_registrar_only(seed: int) -> None:
    """We never ask for it and are no registrar: whoever asks us is told so (§21.4.6)."""
    net = network(seed)
    bob = net.add("b", B)
    lines = ["REGISTER sip:10.0.0.2 SIP/2.0", f"Via: SIP/2.0/UDP {A}:5060;branch=z9hG4bKq"]
    lines += ["Max-Forwards: 70", "From: <sip:bob@biloxi>;tag=1", "To: <sip:bob@biloxi>"]
    lines += ["Call-ID: q", "CSeq: 1 REGISTER", "Content-Length: 0", "", ""]
    for _ in range(3):
        net.inject("\r\n".join(lines).encode(), Hop("udp", A, 5060), bob.hop)
        net.run(net.now + 1.0)
    assert {line for _, line in bob.lines()} == {"405 REGISTER"}
    net.run(100.0)
    assert set(bob.ua.sizes().values()) == {0}


@SEEDS
def test_2_4_cancellation_of_a_registration(seed: int) -> None:
    net, bob, registrar, registration = registered(seed)
    bob.ua.accounts.end(net.now)
    net.run(net.now + 40.0)
    assert registration.state is RegistrationState.ENDED
    assert registrar.bindings == {}


@SEEDS
def test_2_5_unsuccessful_registration(seed: int) -> None:
    net, _, registrar, registration = registered(seed, password="another")
    assert registration.state is RegistrationState.REJECTED
    assert registrar.statuses == [401, 401]
    net.run(3000.0)
    assert registrar.statuses == [401, 401], "a wrong password is not tried again at once"
    assert registrar.bindings == {}


# -- §3: sessions --------------------------------------------------------------------------------


@SEEDS
@pytest.mark.parametrize("who", ["caller", "callee"])
def test_3_1_successful_session_establishment(seed: int, who: str) -> None:
    call = Call(seed, direct=True)
    call.place()
    call.run(40.0)
    call.established()
    assert all(event.status == 180 for event in call.alice.of(Progress))
    call.ended(call.alice if who == "caller" else call.bob)


@SEEDS
@pytest.mark.parametrize("who", ["caller", "callee"])
def test_3_2_through_two_proxies(seed: int, who: str) -> None:
    """Both stay in the way of the dialog: ACK and BYE pass them too."""
    call = Call(seed)
    call.place()
    call.run(40.0)
    call.established()
    call.ended(call.alice if who == "caller" else call.bob)
    for proxy in call.proxies:
        assert {"INVITE", "ACK", "BYE"} <= set(proxy.seen)


@SEEDS
def test_3_3_with_multiple_proxy_authentication(seed: int) -> None:
    call = Call(seed, passwords=("secret", "secret"))
    call.place()
    call.run(60.0)
    call.established()
    (event,) = call.bob.of(IncomingInvite)
    assert isinstance(event, IncomingInvite)
    assert len(event.request.headers.get_all("proxy-authorization")) == 2
    assert event.request.cseq == 3, "a challenge of each proxy was answered by a new INVITE"
    call.ended(call.alice)


@SEEDS
@pytest.mark.parametrize("fails", ["503", "silence"])
def test_3_4_successful_session_with_proxy_failure(seed: int, fails: str) -> None:
    call = Call(seed, ring_limit=100.0)

    def out_of_service(callee: Callee, message: Message) -> None:
        if fails == "503" and isinstance(message, Request) and message.method == "INVITE":
            callee.answer(message, 503)

    add_callee(call.net, P3, out_of_service)
    call.handle = call.alice.ua.invite(
        BOB, OFFER, 0.0, via=Hop("udp", P3, 5060), others=[Hop("udp", P2, 5060)], ring_limit=100.0
    )
    call.run(80.0)
    call.established()
    call.ended(call.bob)


@SEEDS
def test_3_5_through_an_application_level_gateway(seed: int) -> None:
    """It rewrites the descriptions on their way, and both ends take what arrives."""
    call = Call(seed)
    call.proxies[0].rewrites = lambda body: body.replace(b"o=", b"o=alg-")
    call.place()
    call.run(40.0)
    assert call.alice.of(Answered) == [Answered(call.handle, ANSWER.replace(b"o=", b"o=alg-"))]
    (event,) = call.bob.of(IncomingInvite)
    assert isinstance(event, IncomingInvite)
    assert event.offer == OFFER.replace(b"o=", b"o=alg-")
    call.ended(call.alice)


@SEEDS
def test_3_6_via_redirect_as_the_caller(seed: int) -> None:
    """302 is the outcome; whoever placed the call may place it to the new address, by proxy."""
    call = Call(seed)

    def redirect(callee: Callee, message: Message) -> None:
        if isinstance(message, Request) and message.method == "INVITE":
            callee.answer(message, 302, tag="redirect")

    server = add_callee(call.net, P3, redirect)
    moved = call.alice.ua.invite(BOB, OFFER, 0.0, via=Hop("udp", P3, 5060))
    call.run(40.0)
    assert [(e.call, e.status) for e in call.alice.of(Rejected)] == [(moved, 302)]
    assert "ACK" in server.methods()
    call.place()
    call.run(40.0)
    call.established()
    call.ended(call.alice)


@SEEDS
def test_3_6_with_sdp_in_the_ack_as_the_callee(seed: int) -> None:
    """Our 200 offers, the caller's ACK answers, however often either is lost."""
    net = network(seed)
    bob = net.add("b", B)

    def offers(station: Station, event: Event) -> None:
        if isinstance(event, IncomingInvite):
            assert event.offer is None
            station.ua.accept(event.call, OFFER, net.now)

    bob.on_event = offers
    proxy = add_proxy(net, P2, finds_bob(B))
    alice = DelayedOffer(net)
    alice.start()
    net.run(40.0)
    (event,) = bob.of(IncomingInvite)
    assert bob.of(Confirmed) == [Confirmed(event.call, ANSWER)]
    bob.ua.bye(event.call, net.now)
    net.run(100.0)
    assert bob.of(Ended) == [Ended(event.call, EndCause.LOCAL_BYE)]
    assert set(bob.ua.sizes().values()) == {0}
    assert {"INVITE", "ACK", "BYE"} <= set(proxy.seen)


@SEEDS
@pytest.mark.parametrize("who", ["caller", "callee"])
def test_3_7_session_with_reinvite(seed: int, who: str) -> None:
    """One end's address has changed: what it offers now stands, and the call goes on."""
    call = Call(seed)
    call.place()
    call.run(40.0)
    call.established()
    mover, other = (call.alice, call.bob) if who == "caller" else (call.bob, call.alice)
    handle = call.handle if who == "caller" else call.incoming
    mover.ua.reinvite(handle, b"v=0 moved", call.net.now)
    call.run(40.0)
    assert mover.of(ReInviteAnswered) == [ReInviteAnswered(handle, ANSWER)]
    assert [event.offer for event in other.of(ReInvite)] == [b"v=0 moved"]
    call.ended(other)


@SEEDS
def test_3_8_unsuccessful_no_answer(seed: int) -> None:
    """It rings and rings; the caller gives up (CANCEL, 487)."""

    def rings(station: Station, event: Event) -> None:
        if isinstance(event, IncomingInvite):
            station.ua.ring(event.call, station.net.now)

    call = Call(seed, rings)
    call.place()
    call.run(20.0)
    assert len(call.alice.of(Progress)) >= 1
    call.alice.ua.cancel(call.handle, call.net.now)
    call.run(150.0)
    assert len(call.bob.of(Cancelled)) == 1
    call.failed(487)


@SEEDS
@pytest.mark.parametrize(("section", "status"), [("3.9 busy", 486), ("3.11 unavailable", 480)])
def test_3_9_and_3_11_the_callee_refuses(seed: int, section: str, status: int) -> None:
    def refuses(station: Station, event: Event) -> None:
        if isinstance(event, IncomingInvite):
            station.ua.reject(event.call, status, station.net.now)

    call = Call(seed, refuses)
    call.place()
    call.run(200.0)
    assert len(call.bob.of(IncomingInvite)) == 1
    call.failed(status)


@SEEDS
def test_3_10_unsuccessful_no_response(seed: int) -> None:
    """Nothing comes back from the user agent, nor from a proxy for it: 408 after Timer B."""
    call = Call(seed)
    del call.net.stations[B, 5060]
    call.place()
    call.run(31.9)
    assert call.alice.of(Rejected) == []
    call.run(100.0)
    call.failed(408)
    assert call.alice.count("INVITE") == 7


@dataclass
class DelayedOffer:
    """A caller that offers nothing, answers in its ACK, and repeats what isn't answered."""

    net: Net

    def start(self) -> None:
        self.callee = add_callee(self.net, A, self._hear)
        self.callee.peer = Hop("udp", P2, 5060)
        self.rings = True
        self._invite()

    def _invite(self) -> None:
        head = [f"INVITE {BOB} SIP/2.0", f"Via: SIP/2.0/UDP {A}:5060;branch=z9hG4bKd1"]
        head += ["Max-Forwards: 70", f"From: <sip:alice@{A}>;tag=f", f"To: <{BOB}>"]
        head += ["Call-ID: delayed", "CSeq: 1 INVITE", f"Contact: <sip:alice@{A}>"]
        self.callee._put(head, b"")
        if self.rings:
            self.callee.after(0.5, lambda: self._invite() if self.rings else None)

    def _hear(self, callee: Callee, message: Message) -> None:
        callee.peer = Hop("udp", P2, 5060)
        if isinstance(message, Request):
            callee.answer(message, 200)
            return
        self.rings = False
        if message.status == 200:
            assert message.contact is not None
            route = [f"Route: {value}" for value in message.record_route]
            head = [f"ACK {message.contact.uri} SIP/2.0"]
            head += [f"Via: SIP/2.0/UDP {A}:5060;branch=z9hG4bKd2", "Max-Forwards: 70", *route]
            head += [f"From: <sip:alice@{A}>;tag=f", f"To: {message.headers.get('to')}"]
            head += ["Call-ID: delayed", "CSeq: 1 ACK", "Content-Type: application/sdp"]
            callee._put(head, ANSWER)
