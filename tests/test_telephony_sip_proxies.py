"""Calls we place by way of proxies: RFC 3665 §3.4, §3.5 and RFC 3263 §4.3, in virtual time."""

from __future__ import annotations

import pytest
from sip_callee import SDP, Callee, Message, add_callee, empty, lines
from sip_link import ANSWER, OFFER, A, B, Net, Station, answering

from ringtrue.telephony.sip.events import Answered, EndCause, Ended, IncomingInvite, Rejected
from ringtrue.telephony.sip.message import Request
from ringtrue.telephony.sip.transport import Hop
from ringtrue.telephony.sip.uri import parse_uri

FIRST, SECOND = "10.0.0.8", "10.0.0.9"
TARGET = "sip:bob@biloxi.example"


def by(host: str) -> Hop:
    return Hop("udp", host, 5060)


def taking(callee: Callee, message: Message) -> None:
    if isinstance(message, Request) and message.method == "INVITE":
        callee.answer(message, 180)
        callee.after(0.5, lambda: callee.answer(message, 200, *SDP, body=ANSWER))
    elif isinstance(message, Request) and message.method == "BYE":
        callee.answer(message, 200)


def out_of_service(callee: Callee, message: Message) -> None:
    if isinstance(message, Request) and message.method == "INVITE":
        callee.answer(message, 503, "Retry-After: 60")


def silent(callee: Callee, message: Message) -> None:
    """Its machine is up, its software isn't."""


def call(net: Net, a: Station, *others: str, **options: float) -> str:
    hops = [by(host) for host in (FIRST, *others)]
    return a.ua.invite(TARGET, OFFER, net.now, via=hops[0], others=hops[1:], **options)


@pytest.mark.parametrize(("first", "tried"), [(out_of_service, 1), (silent, 7)])
def test_3_4_a_proxy_fails_and_the_next_one_takes_the_call(first: object, tried: int) -> None:
    """RFC 3665 §3.4: it answers 503, or not at all; the same call goes by the second."""
    net = Net()
    a = net.add("a", A)
    one = add_callee(net, FIRST, first)  # type: ignore[arg-type]
    two = add_callee(net, SECOND, taking)
    handle = call(net, a, SECOND, ring_limit=60.0)
    net.run(50.0)
    assert a.of(Answered) == [Answered(handle, ANSWER)]
    assert one.methods().count("INVITE") == tried
    before, after = one.last("INVITE"), two.last("INVITE")
    assert before.call_id == after.call_id
    assert before.from_.tag == after.from_.tag
    assert before.via.branch != after.via.branch
    assert (before.cseq, after.cseq) == (1, 2)
    assert after.body == OFFER
    a.ua.bye(handle, net.now)
    net.run(150.0)
    assert two.methods() == ["INVITE", "ACK", "BYE"]
    assert a.of(Ended) == [Ended(handle, EndCause.LOCAL_BYE)]
    empty(a)


def test_one_that_cannot_be_reached_gives_way_at_once() -> None:
    net = Net()
    a = net.add("a", A)
    two = add_callee(net, SECOND, taking)
    handle = call(net, a, SECOND)
    a.ua.transport_failed(by(FIRST), net.now)
    net.run(2.0)
    assert two.methods()[:1] == ["INVITE"]
    assert a.of(Answered) == [Answered(handle, ANSWER)]


def test_where_all_fail_the_last_ones_answer_is_the_outcome() -> None:
    net = Net()
    a = net.add("a", A)
    add_callee(net, FIRST, silent)
    add_callee(net, SECOND, out_of_service)
    handle = call(net, a, SECOND, ring_limit=100.0)
    net.run(150.0)
    assert a.of(Rejected) == [Rejected(handle, 503, "Whatever", 60)]
    empty(a)


@pytest.mark.parametrize("status", [486, 404, 603, 500])
def test_a_no_is_a_no(status: int) -> None:
    def refusing(callee: Callee, message: Message) -> None:
        if isinstance(message, Request) and message.method == "INVITE":
            callee.answer(message, status)

    net = Net()
    a = net.add("a", A)
    add_callee(net, FIRST, refusing)
    two = add_callee(net, SECOND, taking)
    call(net, a, SECOND)
    net.run(60.0)
    assert two.got == []
    (rejected,) = a.of(Rejected)
    assert isinstance(rejected, Rejected)
    assert rejected.status == status
    empty(a)


def test_one_that_rang_is_not_left_for_another() -> None:
    def ringing(callee: Callee, message: Message) -> None:
        if isinstance(message, Request) and message.method == "INVITE":
            callee.answer(message, 180)
            callee.after(3.0, lambda: callee.answer(message, 503))

    net = Net()
    a = net.add("a", A)
    add_callee(net, FIRST, ringing)
    two = add_callee(net, SECOND, taking)
    call(net, a, SECOND)
    net.run(60.0)
    assert two.got == []
    assert len(a.of(Rejected)) == 1


def test_a_call_that_was_given_up_is_not_tried_elsewhere() -> None:
    net = Net()
    a = net.add("a", A)
    add_callee(net, FIRST, silent)
    two = add_callee(net, SECOND, taking)
    handle = call(net, a, SECOND)
    net.run(5.0)
    a.ua.cancel(handle, net.now)
    net.run(120.0)
    assert two.got == []
    (rejected,) = a.of(Rejected)
    assert isinstance(rejected, Rejected)
    assert rejected.status == 408
    empty(a)


# -- RFC 3665 §3.5 -------------------------------------------------------------------------------


class Gateway:
    """A SIP ALG between us and a far end: it stays in the way of all requests, and gives each side
    its own address for the other's media."""

    def __init__(self, net: Net, inside: str, outside: str) -> None:
        self.net, self.inside, self.outside = net, inside, outside
        self.seen: list[str] = []

    def pass_on(self, callee: Callee, message: Message) -> None:
        source = callee.peer
        assert source is not None
        to_far = source.host == self.inside
        if isinstance(message, Request):
            self.seen.append(message.method)
            routes = [str(r) for r in message.headers.get_all("route")]
            message.headers.set("route", routes[1:])
            message.headers.prepend("record-route", f"<sip:{callee.hop.host};lr>")
            branch = f"z9hG4bKalg{message.via.branch}"
            message.headers.prepend("via", f"SIP/2.0/UDP {callee.hop.host}:5060;branch={branch}")
        else:
            vias = message.headers.get_all("via")
            message.headers.set("via", vias[1:])
        if message.body:
            message.body = message.body.replace(b"o=", b"o=alg-")
        there = by(self.outside if to_far else self.inside)
        self.net.inject(message.encode(), callee.hop, there)


def test_3_5_a_call_through_an_application_level_gateway() -> None:
    """RFC 3665 §3.5: the way out is configured, the way of the dialog is what it recorded."""
    net = Net()
    a, b = net.add("a", A), net.add("b", B, on_event=answering)
    gateway = Gateway(net, A, B)
    alg = add_callee(net, FIRST, gateway.pass_on)
    handle = a.ua.invite(
        f"sip:bob@{B}", OFFER, net.now, via=by(FIRST), routes=(f"<sip:{FIRST};lr>",)
    )
    net.run(2.0)
    assert a.of(Answered) == [Answered(handle, ANSWER.replace(b"o=", b"o=alg-"))]
    (event,) = b.of(IncomingInvite)
    assert isinstance(event, IncomingInvite)
    assert event.offer == OFFER.replace(b"o=", b"o=alg-")
    assert event.request.headers.get_all("route") == []
    b.ua.bye(event.call, net.now)
    net.run(4.0)
    assert gateway.seen == ["INVITE", "ACK", "BYE"]
    assert a.of(Ended) == [Ended(handle, EndCause.REMOTE_BYE)]
    ack = next(m for m in alg.got if isinstance(m, Request) and m.method == "ACK")
    assert ack.uri == parse_uri(f"sip:bob@{B}:5060")
    assert lines(a) == ["INVITE", "ACK", "200 BYE"]
    net.run(100.0)
    empty(a, b)
