"""Calls in virtual time: CANCEL, 2xx and ACK, re-INVITE, glare, forks, BYE."""

from __future__ import annotations

import pytest
from sip_link import (
    ANSWER,
    OFFER,
    TARGET,
    A,
    B,
    Net,
    Station,
    alone,
    answer_to,
    incoming,
    pair,
    request,
)

from ringtrue.telephony.sip.core import Policy
from ringtrue.telephony.sip.events import (
    Answered,
    CancelCause,
    Cancelled,
    Confirmed,
    EndCause,
    Ended,
    IncomingInvite,
    Progress,
    ReInvite,
    ReInviteAnswered,
    ReInviteRejected,
    Rejected,
)
from ringtrue.telephony.sip.message import Request, Response, parse_message
from ringtrue.telephony.sip.transport import Hop


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


@pytest.mark.parametrize(
    ("status", "reason"), [(488, "Not Acceptable Here"), (503, "Service Unavailable")]
)
def test_reinvite_refused_leaves_the_call(status: int, reason: str) -> None:
    """RFC 3261 §14.1: whatever the refusal, but that the far end has no such call."""
    net, a, b = pair()
    call = a.ua.invite(TARGET, OFFER, net.now)
    net.run(1.0)
    b.on_event = lambda s, e: s.ua.reject(e.call, status, net.now) if type(e) is ReInvite else None
    a.ua.reinvite(call, b"v=0 odd", net.now)
    net.run(2.0)
    assert a.of(ReInviteRejected) == [ReInviteRejected(call, status, reason)]
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


def test_bye_in_an_early_dialog_ends_the_invite() -> None:
    net, b, source = alone()
    answer_to(net, b, source, request("INVITE"))
    handle = incoming(b)
    bye = request("BYE", to=f"<{TARGET}>;tag={handle}", branch="x2").replace(b"CSeq: 1", b"CSeq: 2")
    answer_to(net, b, source, bye)
    assert [line for _, line in b.lines()][-2:] == ["200 BYE", "487 INVITE"]
    assert b.of(Cancelled) == [Cancelled(handle, CancelCause.CANCEL)]
