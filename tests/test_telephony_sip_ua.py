"""The user agent: whole call flows in virtual time, over good and bad networks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sip_link import ANSWER, OFFER, Net, Station

from ringtrue.telephony.sip.core import Policy
from ringtrue.telephony.sip.errors import SipCapacityError, SipParseError, SipStateError
from ringtrue.telephony.sip.events import (
    Answered,
    CancelCause,
    Cancelled,
    Confirmed,
    EndCause,
    Ended,
    Event,
    IncomingInvite,
    Progress,
    ReInvite,
    ReInviteAnswered,
    ReInviteRejected,
    Rejected,
)
from ringtrue.telephony.sip.message import Request, Response, parse_message
from ringtrue.telephony.sip.transport import Hop

A, B = "10.0.0.1", "10.0.0.2"
TARGET = f"sip:bob@{B}"


def answering(station: Station, event: Event) -> None:
    """Answer calls and changes at once."""
    if isinstance(event, IncomingInvite | ReInvite):
        station.ua.accept(event.call, ANSWER, station.net.now)


def pair(
    seed: int = 0, *, loss: float = 0.0, duplicate: float = 0.0, jitter: float = 0.0
) -> tuple[Net, Station, Station]:
    net = Net(seed, loss=loss, duplicate=duplicate, jitter=jitter)
    return net, net.add("a", A, on_event=answering), net.add("b", B, on_event=answering)


def incoming(station: Station) -> str:
    (event,) = station.of(IncomingInvite)
    return event.call


def request(
    method: str, *extra: str, to: str = TARGET, branch: str = "x1", body: str = ""
) -> bytes:
    lines = [
        f"{method} {TARGET} SIP/2.0",
        f"Via: SIP/2.0/UDP {A}:5060;branch=z9hG4bK{branch}",
        "Max-Forwards: 70",
        f"From: <sip:alice@{A}>;tag=f1",
        f"To: <{to}>" if "<" not in to else f"To: {to}",
        "Call-ID: c1",
        f"CSeq: 1 {method}",
        f"Contact: <sip:alice@{A}>",
        *extra,
        f"Content-Length: {len(body)}",
        "",
        body,
    ]
    return "\r\n".join(lines).encode()


def alone(policy: Policy | None = None) -> tuple[Net, Station, Hop]:
    """A station and the hop of a hand-written peer."""
    net = Net()
    return net, net.add("b", B, policy=policy), Hop("udp", A, 5060)


def answer_to(net: Net, station: Station, source: Hop, data: bytes) -> Response | None:
    """The last response to ``data``, if any."""
    before = len(station.sent)
    station.ua.receive(data, source, net.now)
    net.flush()
    sent = [m for _, m in station.sent[before:] if isinstance(m, Response)]
    return sent[-1] if sent else None


def test_call_answered_and_ended_by_the_caller() -> None:
    net, a, b = pair()
    b.on_event = None
    call = a.ua.invite(TARGET, OFFER, net.now)
    net.run(1.0)
    (event,) = b.of(IncomingInvite)
    assert isinstance(event, IncomingInvite)
    assert event.offer == OFFER
    assert str(event.request.uri) == TARGET
    b.ua.ring(event.call, net.now)
    net.run(2.0)
    b.ua.accept(event.call, ANSWER, net.now)
    net.run(3.0)
    a.ua.bye(call, net.now)
    net.run(4.0)
    assert a.of(Progress) == [Progress(call, 180, "Ringing")]
    assert a.of(Answered) == [Answered(call, ANSWER)]
    assert b.of(Confirmed) == [Confirmed(event.call, None)]
    assert b.of(Ended) == [Ended(event.call, EndCause.REMOTE_BYE)]
    assert a.of(Ended) == [Ended(call, EndCause.LOCAL_BYE)]
    assert [line for _, line in a.lines()] == ["INVITE", "ACK", "BYE"]
    assert [line for _, line in b.lines()] == ["100 INVITE", "180 INVITE", "200 INVITE", "200 BYE"]
    net.run(60.0)
    assert set(a.ua.sizes().values()) == set(b.ua.sizes().values()) == {0}
    assert a.ua.next_timer() is None
    assert b.ua.next_timer() is None


def test_the_callee_hangs_up() -> None:
    net, a, b = pair()
    call = a.ua.invite(TARGET, OFFER, net.now)
    net.run(1.0)
    b.ua.bye(incoming(b), net.now)
    net.run(2.0)
    assert a.of(Ended) == [Ended(call, EndCause.REMOTE_BYE)]
    assert b.of(Ended) == [Ended(incoming(b), EndCause.LOCAL_BYE)]


def test_bye_waits_for_the_ack() -> None:
    """RFC 3261 §15: the callee must not send BYE before the ACK came."""
    net, a, b = pair()
    acks = 0

    def lose_first_ack(station: Station, hop: Hop, data: bytes) -> bool:
        nonlocal acks
        if data.startswith(b"ACK"):
            acks += 1
            return acks > 1
        return True

    net.tap = lose_first_ack
    a.ua.invite(TARGET, OFFER, net.now)
    net.run(0.1)
    b.ua.bye(incoming(b), net.now)
    net.run(0.4)
    assert b.count("BYE") == 0
    net.run(2.0)
    assert acks == 2
    assert b.count("BYE") == 1
    assert [e.cause for e in b.of(Ended)] == [EndCause.LOCAL_BYE]


@pytest.mark.parametrize("seed", range(25))
def test_converges_over_a_bad_network(seed: int) -> None:
    """30 % loss, duplicates, reordering: one call, one end, nothing left."""
    net, a, b = pair(seed, loss=0.3, duplicate=0.2, jitter=0.3)
    call = a.ua.invite(TARGET, OFFER, net.now)
    net.run(30.0)
    assert a.of(Answered) == [Answered(call, ANSWER)]
    handle = incoming(b)
    assert len(b.of(Confirmed)) == 1
    a.ua.bye(call, net.now)
    net.run(120.0)
    assert len(a.of(Ended)) == 1
    assert b.of(Ended) == [Ended(handle, EndCause.REMOTE_BYE)]
    assert set(a.ua.sizes().values()) == set(b.ua.sizes().values()) == {0}


@pytest.mark.parametrize("seed", range(25))
def test_cancel_races_leave_no_call_over_a_bad_network(seed: int) -> None:
    """CANCEL while the answer may cross it: whatever wins, both sides end alike."""
    net, a, b = pair(seed, loss=0.25, jitter=0.2)
    b.on_event = None
    call = a.ua.invite(TARGET, OFFER, net.now)
    net.run(3.0 + seed * 0.01)
    a.ua.cancel(call, net.now)
    net.run(net.now + 0.1)
    for event in b.of(IncomingInvite):
        if not b.of(Cancelled):
            b.ua.accept(event.call, ANSWER, net.now)
    net.run(200.0)
    assert a.of(Answered) == []
    assert [type(e) for _, e in a.events if not isinstance(e, Progress)] == [Rejected]
    assert len(b.of(IncomingInvite)) == len(b.of(Cancelled)) + len(b.of(Ended))
    assert set(a.ua.sizes().values()) == set(b.ua.sizes().values()) == {0}


def test_nobody_there_is_408_after_timer_b() -> None:
    net = Net()
    a = net.add("a", A)
    call = a.ua.invite("sip:x@10.9.9.9", OFFER, net.now)
    net.run(100.0)
    assert [at for at, _ in a.lines()] == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert a.events == [(32.0, Rejected(call, 408, "Request Timeout", None))]


def test_unacknowledged_2xx_is_sent_again_then_given_up() -> None:
    """RFC 3261 §13.3.1.4: T1 doubling to T2, for 64*T1, then BYE."""
    net, b, source = alone()
    b.ua.receive(request("INVITE", "Content-Type: application/sdp", body="v=0"), source, 0.0)
    net.flush()
    b.ua.accept(incoming(b), ANSWER, 0.0)
    net.run(100.0)
    times = [at for at, line in b.lines() if line == "200 INVITE"]
    assert times == [0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert [at for at, line in b.lines() if line == "BYE"][0] == 32.0
    assert [e.cause for e in b.of(Ended)] == [EndCause.NO_ACK]
    assert set(b.ua.sizes().values()) == {0}


def test_cancel_before_any_response_waits_for_one() -> None:
    """RFC 3261 §9.1."""
    net, a, b = pair()
    b.on_event = None
    net.tap = lambda station, hop, data: not (station is b and net.now < 1.0)
    call = a.ua.invite(TARGET, OFFER, net.now)
    net.run(0.2)
    a.ua.cancel(call, net.now)
    assert a.count("CANCEL") == 0
    net.run(5.0)
    assert a.count("CANCEL") == 1
    assert a.of(Rejected) == [Rejected(call, 487, "Request Terminated", None)]
    assert b.of(Cancelled) == [Cancelled(incoming(b), CancelCause.CANCEL)]
    assert b.count("200 CANCEL") == 1
    assert b.count("487 INVITE") >= 1


def test_cancel_crossing_the_answer_ends_it() -> None:
    """The 200 was already sent: it is acknowledged and ended, and never announced."""
    net, a, b = pair()
    b.on_event = None
    call = a.ua.invite(TARGET, OFFER, net.now)
    net.run(1.0)
    b.ua.accept(incoming(b), ANSWER, net.now)
    a.ua.cancel(call, net.now)
    net.run(50.0)
    assert a.of(Answered) == []
    assert a.of(Rejected) == [Rejected(call, 487, "Request Terminated", None)]
    assert [line for _, line in a.lines()] == ["INVITE", "CANCEL", "ACK", "BYE"]
    assert b.count("487 INVITE") == 0
    assert b.of(Ended) == [Ended(incoming(b), EndCause.REMOTE_BYE)]


def test_an_unanswered_call_is_cancelled_at_the_ring_limit() -> None:
    net = Net()
    a = net.add("a", A, policy=Policy(ring_limit=30.0))
    b = net.add("b", B)
    call = a.ua.invite(TARGET, OFFER, net.now)
    net.run(40.0)
    assert a.of(Rejected) == [Rejected(call, 408, "Request Timeout", None)]
    assert b.of(Cancelled) == [Cancelled(incoming(b), CancelCause.CANCEL)]


def test_ringing_is_repeated_and_expires() -> None:
    net, b, source = alone(Policy(ring_limit=150.0))
    b.ua.receive(request("INVITE"), source, 0.0)
    net.flush()
    b.ua.ring(incoming(b), 0.0)
    net.run(200.0)
    assert [at for at, line in b.lines() if line == "180 INVITE"] == [0.0, 60.0, 120.0]
    assert b.of(Cancelled) == [Cancelled(incoming(b), CancelCause.EXPIRED)]
    assert [at for at, line in b.lines() if line == "487 INVITE"][0] == 150.0


def test_expires_of_the_invite_is_kept() -> None:
    net, b, source = alone()
    b.ua.receive(request("INVITE", "Expires: 5"), source, 0.0)
    net.run(10.0)
    assert b.of(Cancelled) == [Cancelled(incoming(b), CancelCause.EXPIRED)]


def test_delayed_offer() -> None:
    """INVITE without SDP: the 200 offers, the ACK answers (RFC 3264 §4)."""
    net, b, source = alone()
    b.ua.receive(request("INVITE"), source, 0.0)
    net.flush()
    (event,) = b.of(IncomingInvite)
    assert isinstance(event, IncomingInvite)
    assert event.offer is None
    b.ua.accept(event.call, OFFER, 0.0)
    net.flush()
    again = request("INVITE", to=f"<{TARGET}>;tag={event.call}", branch="x2")
    again = again.replace(b"CSeq: 1", b"CSeq: 2")
    answer = answer_to(net, b, source, again)
    assert answer is not None
    assert answer.status == 491, "an offer of ours is still unanswered"
    ack = request("ACK", to=f"<{TARGET}>;tag={event.call}", branch="x3", body="v=0 answer")
    b.ua.receive(ack, source, 1.0)
    net.flush()
    assert b.of(Confirmed) == [Confirmed(event.call, b"v=0 answer")]


def test_reinvite_both_ways() -> None:
    net, a, b = pair()
    call = a.ua.invite(TARGET, OFFER, net.now)
    net.run(1.0)
    for station, handle in ((a, call), (b, incoming(b))):
        other = b if station is a else a
        station.ua.reinvite(handle, b"v=0 hold", net.now)
        net.run(net.now + 1)
        assert station.of(ReInviteAnswered) == [ReInviteAnswered(handle, ANSWER)]
        assert [e.offer for e in other.of(ReInvite)] == [b"v=0 hold"]
        assert len(other.of(Confirmed)) == (1 if other is a else 2)


def test_reinvite_refused_leaves_the_call() -> None:
    net, a, b = pair()
    call = a.ua.invite(TARGET, OFFER, net.now)
    net.run(1.0)
    b.on_event = lambda s, e: s.ua.reject(e.call, 488, net.now) if type(e) is ReInvite else None
    a.ua.reinvite(call, b"v=0 odd", net.now)
    net.run(2.0)
    assert a.of(ReInviteRejected) == [ReInviteRejected(call, 488, "Not Acceptable Here")]
    assert a.of(Ended) == []
    a.ua.bye(call, net.now)
    net.run(3.0)
    assert len(b.of(Ended)) == 1


def test_glare_both_sides_back_off_and_both_succeed() -> None:
    """RFC 3261 §14.1: 491 each way; the owner of the Call-ID waits longer."""
    net, a, b = pair()
    call = a.ua.invite(TARGET, OFFER, net.now)
    net.run(1.0)
    handle = incoming(b)
    a.ua.reinvite(call, b"v=0 from a", net.now)
    b.ua.reinvite(handle, b"v=0 from b", net.now)
    net.run(1.5)
    assert a.count("491 INVITE") >= 1
    assert b.count("491 INVITE") >= 1
    net.run(10.0)
    assert a.of(ReInviteAnswered) == [ReInviteAnswered(call, ANSWER)]
    assert b.of(ReInviteAnswered) == [ReInviteAnswered(handle, ANSWER)]
    second = [at for at, line in b.lines() if line == "INVITE"][1]
    assert 1.0 <= second <= 3.2
    second = [at for at, line in a.lines() if line == "INVITE"][1 + 1]
    assert 3.1 <= second <= 5.2


def test_second_invite_before_the_first_is_answered_waits() -> None:
    """RFC 3261 §14.2: 500 with Retry-After."""
    net, a, b = pair()
    call = a.ua.invite(TARGET, OFFER, net.now)
    net.run(1.0)
    b.on_event = None
    a.ua.reinvite(call, b"v=0 hold", net.now)
    net.run(2.0)
    last = next(m for _, m in reversed(a.sent) if isinstance(m, Request))
    clash = last.encode().replace(b"branch=z9hG4bK", b"branch=z9hG4bKother")
    clash = clash.replace(f"CSeq: {last.cseq} ".encode(), f"CSeq: {last.cseq + 1} ".encode())
    answer = answer_to(net, b, a.hop, clash)
    assert answer is not None
    assert answer.status == 500
    assert 0 <= int(answer.headers.get("retry-after") or -1) <= 10


def test_old_cseq_in_a_dialog_is_500() -> None:
    net, a, b = pair()
    call = a.ua.invite(TARGET, OFFER, net.now)
    net.run(1.0)
    a.ua.reinvite(call, b"v=0 hold", net.now)
    net.run(2.0)
    last = next(m for _, m in reversed(a.sent) if isinstance(m, Request) and m.method == "INVITE")
    old = (
        last.encode()
        .replace(b"branch=z9hG4bK", b"branch=z9hG4bKold")
        .replace(f"CSeq: {last.cseq} ".encode(), b"CSeq: 1 ")
    )
    answer = answer_to(net, b, a.hop, old)
    assert answer is not None
    assert answer.status == 500


def test_an_extra_fork_is_acknowledged_and_ended() -> None:
    """RFC 3261 §13.2.2.4: two 2xx with different To tags."""
    net = Net()
    a = net.add("a", A)
    call = a.ua.invite(TARGET, OFFER, 0.0)
    net.flush()
    invite = a.sent[0][1]
    source = Hop("udp", B, 5060)

    def fork(tag: str) -> bytes:
        headers = invite.headers.copy()
        headers.set("to", [f"<{TARGET}>;tag={tag}"])
        headers.set("contact", [f"<sip:{tag}@{B}>"])
        return Response(status=200, reason="OK", headers=headers, body=ANSWER).encode()

    for data in (fork("one"), fork("two"), fork("two"), fork("one")):
        a.ua.receive(data, source, 0.1)
        net.flush()
    assert a.of(Answered) == [Answered(call, ANSWER)]
    requests = [m for _, m in a.sent if isinstance(m, Request)][1:]
    assert [(m.method, m.to.tag) for m in requests] == [
        ("ACK", "one"),
        ("ACK", "two"),
        ("BYE", "two"),
        ("ACK", "two"),
        ("ACK", "one"),
    ]
    assert requests[1].encode() == requests[3].encode()
    assert requests[0].encode() == requests[4].encode()


def test_route_set_and_target_are_followed() -> None:
    """Record-Route is kept by the callee in order (RFC 3261 §12.1.1)."""
    net, b, source = alone()
    routes = ("Record-Route: <sip:p2.test;lr>, <sip:10.0.0.9;lr>", "Record-Route: <sip:p1.test;lr>")
    b.ua.receive(request("INVITE", *routes, "Content-Type: application/sdp", body="v"), source, 0.0)
    net.flush()
    handle = incoming(b)
    b.ua.accept(handle, ANSWER, 0.0)
    net.flush()
    answer = b.sent[-1][1]
    assert [str(r) for r in answer.record_route] == [
        "<sip:p2.test;lr>",
        "<sip:10.0.0.9;lr>",
        "<sip:p1.test;lr>",
    ]
    b.ua.receive(request("ACK", to=f"<{TARGET}>;tag={handle}", branch="x3"), source, 0.1)
    b.ua.bye(handle, 0.2)
    (bye,) = [o for o in b.ua.outputs() if o.data.startswith(b"BYE")]
    assert bye.hop == Hop("udp", "p2.test", 5060)
    message = parse_message(bye.data)
    assert message.headers.get_all("route") == [
        "<sip:p2.test;lr>",
        "<sip:10.0.0.9;lr>",
        "<sip:p1.test;lr>",
    ]
    assert str(message.uri) == f"sip:alice@{A}"


@pytest.mark.parametrize(
    ("data", "status", "header", "value"),
    [
        (request("OPTIONS"), 200, "allow", "INVITE, ACK, CANCEL, BYE, OPTIONS"),
        (request("OPTIONS"), 200, "accept", "application/sdp"),
        (request("OPTIONS", to=f"<{TARGET}>;tag=nobody"), 481, "server", "Ringtrue"),
        (request("BYE"), 481, "server", "Ringtrue"),
        (request("BYE", to=f"<{TARGET}>;tag=nobody"), 481, "server", "Ringtrue"),
        (request("CANCEL"), 481, "server", "Ringtrue"),
        (request("REGISTER"), 405, "allow", "INVITE, ACK, CANCEL, BYE, OPTIONS"),
        (request("REFER"), 405, "allow", "INVITE, ACK, CANCEL, BYE, OPTIONS"),
        (request("FANCY"), 501, "allow", "INVITE, ACK, CANCEL, BYE, OPTIONS"),
        (request("INVITE", "Require: 100rel, timer"), 420, "unsupported", "100rel, timer"),
        (
            request("INVITE", "Content-Type: text/plain", body="hi"),
            415,
            "accept",
            "application/sdp",
        ),
        (
            request("INVITE", "Content-Type: application/sdp", "Content-Encoding: gzip", body="x"),
            415,
            "accept-encoding",
            "identity",
        ),
        (request("INVITE", "Accept: text/plain"), 406, "server", "Ringtrue"),
        (request("INVITE", body="hi"), 400, "server", "Ringtrue"),
        (request("INVITE", "Contact: <sip:other@host>"), 400, "server", "Ringtrue"),
        (request("OPTIONS").replace(b"OPTIONS sip:", b"OPTIONS tel:"), 416, "server", "Ringtrue"),
        (request("OPTIONS").replace(b" SIP/2.0\r\nVia", b" SIP/3.0\r\nVia"), 505, "call-id", "c1"),
    ],
)
def test_what_is_refused_or_answered_at_once(
    data: bytes, status: int, header: str, value: str
) -> None:
    net, b, source = alone()
    answer = answer_to(net, b, source, data)
    assert answer is not None
    assert answer.status == status
    assert answer.headers.get(header) == value
    assert answer.to.tag
    assert b.of(IncomingInvite) == []


def test_an_optional_body_is_ignored() -> None:
    net, b, source = alone()
    extra = ("Content-Type: text/plain", "Content-Disposition: info; handling=optional")
    answer_to(net, b, source, request("INVITE", *extra, body="hi"))
    (event,) = b.of(IncomingInvite)
    assert isinstance(event, IncomingInvite)
    assert event.offer is None


def test_a_request_that_comes_twice_by_two_paths_is_482() -> None:
    """RFC 3261 §8.2.2.2."""
    net, b, source = alone()
    answer_to(net, b, source, request("INVITE", branch="p1"))
    answer = answer_to(net, b, source, request("INVITE", branch="p2"))
    assert answer is not None
    assert answer.status == 482
    assert len(b.of(IncomingInvite)) == 1


def test_retransmissions_are_absorbed() -> None:
    net, b, source = alone()
    for _ in range(3):
        answer_to(net, b, source, request("INVITE"))
    assert len(b.of(IncomingInvite)) == 1
    assert b.count("100 INVITE") == 3


def test_responses_go_to_the_source() -> None:
    """RFC 3581: rport and received; without rport the sent-by port (RFC 3261 §18.2.2)."""
    net, b, _ = alone()
    natted = Hop("udp", "203.0.113.7", 40000)
    data = request("OPTIONS")
    b.ua.receive(data.replace(b";branch", b";rport;branch"), natted, 0.0)
    (send,) = b.ua.outputs()
    via = parse_message(send.data).via
    assert send.hop == natted
    assert (via.rport, dict(via.params)["received"]) == ("40000", "203.0.113.7")
    b.ua.receive(data.replace(b"x1", b"x2").replace(b"c1", b"c2"), natted, 0.0)
    (send,) = b.ua.outputs()
    assert send.hop == Hop("udp", "203.0.113.7", 5060)


def test_bye_in_an_early_dialog_ends_the_invite() -> None:
    net, b, source = alone()
    answer_to(net, b, source, request("INVITE"))
    handle = incoming(b)
    bye = request("BYE", to=f"<{TARGET}>;tag={handle}", branch="x2").replace(b"CSeq: 1", b"CSeq: 2")
    answer_to(net, b, source, bye)
    assert [line for _, line in b.lines()][-2:] == ["200 BYE", "487 INVITE"]
    assert b.of(Cancelled) == [Cancelled(handle, CancelCause.CANCEL)]


def test_a_bye_from_a_stranger_does_nothing() -> None:
    """Call-ID and both tags must match."""
    net, a, b = pair()
    a.ua.invite(TARGET, OFFER, net.now)
    net.run(1.0)
    answer = answer_to(
        net, b, a.hop, request("BYE", to=f"<{TARGET}>;tag={incoming(b)}", branch="evil")
    )
    assert answer is not None
    assert answer.status == 481
    assert b.of(Ended) == []


def test_tables_are_bounded() -> None:
    net, b, source = alone(Policy(max_calls=2, max_server_transactions=4))
    statuses = []
    for n in range(6):
        data = request("INVITE", branch=f"n{n}").replace(b"Call-ID: c1", f"Call-ID: c{n}".encode())
        answer = answer_to(net, b, source, data)
        assert answer is not None
        statuses.append((answer.status, answer.headers.get("retry-after")))
    assert statuses == [(100, None)] * 2 + [(503, "5")] * 4
    assert b.ua.sizes() == {"calls": 2, "server": 4, "client": 0, "streams": 0}
    with pytest.raises(SipCapacityError):
        b.ua.invite(f"sip:x@{A}", OFFER, net.now)


def test_actions_out_of_place() -> None:
    net, a, b = pair()
    call = a.ua.invite(TARGET, OFFER, net.now)
    for act in (
        lambda: a.ua.ring(call, 0.0),
        lambda: a.ua.accept(call, ANSWER, 0.0),
        lambda: a.ua.reject(call, 486, 0.0),
        lambda: a.ua.reinvite(call, OFFER, 0.0),
        lambda: b.ua.ring("nobody", 0.0),
    ):
        with pytest.raises(SipStateError):
            act()
    with pytest.raises(ValueError, match="200"):
        a.ua.reject(call, 200, 0.0)
    net.run(1.0)
    with pytest.raises(SipStateError):
        b.ua.accept(incoming(b), ANSWER, 0.0)
    a.ua.bye(call, net.now)
    a.ua.bye(call, net.now)
    net.run(2.0)
    a.ua.bye(call, net.now)
    assert a.count("BYE") == 1


@pytest.mark.parametrize(
    ("target", "headers", "text"),
    [
        ("bob", (), "not a URI"),
        ("tel:+15551234", (), "tel"),
        ("sip:bob@host;transport=sctp", (), "sctp"),
        (TARGET, (("Via", "x"),), "Via"),
        (TARGET, (("X-A", "b\r\nEvil: yes"),), "X-A"),
    ],
)
def test_bad_calls_name_what_is_wrong(
    target: str, headers: tuple[tuple[str, str], ...], text: str
) -> None:
    net = Net()
    a = net.add("a", A)
    with pytest.raises(SipParseError, match=text):
        a.ua.invite(target, OFFER, 0.0, headers=headers)
    assert set(a.ua.sizes().values()) == {0}


def test_rejection_carries_its_reasons() -> None:
    net, a, b = pair()
    b.on_event = lambda s, e: s.ua.reject(e.call, 503, net.now, retry_after=30, warning='f"ull')
    call = a.ua.invite(TARGET, OFFER, net.now)
    net.run(1.0)
    assert a.of(Rejected) == [Rejected(call, 503, "Service Unavailable", 30)]
    final = next(m for _, m in b.sent if isinstance(m, Response) and m.status == 503)
    assert final.headers.get("warning") == '399 ringtrue "f?ull"'
    net.run(60.0)
    assert b.count("503 INVITE") == 1, "the ACK came"
    assert set(b.ua.sizes().values()) == {0}


def test_an_unreachable_hop_fails_the_call_at_once() -> None:
    net = Net()
    a = net.add("a", A)
    call = a.ua.invite(TARGET, OFFER, 0.0)
    a.ua.transport_failed(Hop("udp", B, 5060), 0.1)
    net.flush()
    assert a.of(Rejected) == [Rejected(call, 503, "Service Unavailable", None)]


def test_over_tcp_nothing_is_sent_twice_and_the_stream_is_kept() -> None:
    net, a, b = pair()
    call = a.ua.invite(f"{TARGET};transport=tcp", OFFER, net.now)
    net.run(1.0)
    b.ua.bye(incoming(b), net.now)
    net.run(2.0)
    assert [line for _, line in a.lines()] == ["INVITE", "ACK", "200 BYE"]
    assert a.sent[0][1].via.transport == "TCP"
    assert a.of(Ended) == [Ended(call, EndCause.REMOTE_BYE)]
    assert a.ua.sizes()["client"] <= 1


def test_a_partial_message_on_a_stream_is_closed_in_time() -> None:
    net, b, _ = alone()
    peer = Hop("tcp", A, 40000)
    b.ua.receive(b"INVITE sip:x", peer, 0.0)
    assert b.ua.next_timer() == 32.0
    b.ua.handle_timer(32.0)
    assert [type(o).__name__ for o in b.ua.outputs()] == ["Close"]
    b.ua.disconnected(peer, 32.0)
    assert b.ua.sizes()["streams"] == 0


def test_a_ping_on_a_stream_is_answered() -> None:
    net, b, _ = alone()
    b.ua.receive(b"\r\n\r\n", Hop("tcp", A, 40000), 0.0)
    assert [o.data for o in b.ua.outputs()] == [b"\r\n"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "REGISTER")),
            st.integers(0, 500),
            st.integers(0, 8),
            st.binary(max_size=6),
            st.booleans(),
        ),
        max_size=8,
    )
)
def test_no_input_raises(steps: list[tuple[str, int, int, bytes, bool]]) -> None:
    """Mutated requests, and our own responses thrown back, over both transports."""
    net, b, udp = alone()
    tcp = Hop("tcp", A, 41000)
    b.on_event = answering
    net.parses = False
    b.ua.invite(f"sip:al@{A}", OFFER, 0.0)
    for method, at, cut, put, stream in steps:
        data = request(method, "Content-Type: application/sdp", body="v=0")
        data = data[:at] + put + data[at + cut :]
        b.ua.receive(data, tcp if stream else udp, net.now)
        net.flush()
        b.ua.receive(net.last[:at] + put + net.last[at + cut :], udp, net.now)
        net.flush()
    net.run(400.0)
    for _, event in b.events:
        b.ua.bye(event.call, net.now)
    net.run(600.0)
    assert b.ua.sizes()["calls"] == b.ua.sizes()["client"] == b.ua.sizes()["server"] == 0
