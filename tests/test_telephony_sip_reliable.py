"""Reliable provisional responses and UPDATE before the answer (RFC 3262, RFC 3311)."""

from __future__ import annotations

import pytest
from sip_callee import SDP, Callee, Message, called, empty
from sip_link import ANSWER, OFFER, TARGET, B, alone, answer_to, incoming, pair, request

from ringtrue.telephony.sip.events import (
    Answered,
    Cancelled,
    IncomingInvite,
    Progress,
    ReInvite,
    Rejected,
)
from ringtrue.telephony.sip.message import Request, Response


def reliable(rseq: int) -> tuple[str, str]:
    return ("Require: 100rel", f"RSeq: {rseq}")


def test_reliable_responses_are_acknowledged_in_order() -> None:
    """RFC 3262 §4: PRACK once each; one that came too soon or again is not taken."""

    def script(callee: Callee, message: Message) -> None:
        if not isinstance(message, Request):
            return
        if message.method == "INVITE":
            callee.answer(message, 183, *reliable(700), *SDP, body=b"v=0 early")
            callee.answer(message, 183, *reliable(700), *SDP, body=b"v=0 early")
            callee.after(0.1, lambda: callee.answer(message, 180, *reliable(702)))
            callee.after(0.2, lambda: callee.answer(message, 180, *reliable(701)))
            callee.after(1.0, lambda: callee.answer(message, 200))
        else:
            callee.answer(message, 200)

    net, a, callee, call = called(script)
    net.run(10.0)
    pracks = [m for m in callee.got if isinstance(m, Request) and m.method == "PRACK"]
    assert [prack.headers.get("rack") for prack in pracks] == ["700 1 INVITE", "701 1 INVITE"]
    assert [prack.cseq for prack in pracks] == [2, 3]
    assert {str(prack.uri) for prack in pracks} == {f"sip:t1@{B}"}
    assert a.of(Progress) == [
        Progress(call, 183, "Whatever", b"v=0 early"),
        Progress(call, 180, "Whatever"),
    ]
    assert a.of(Answered) == [Answered(call, b"v=0 early")], "what was agreed early stands"
    a.ua.bye(call, net.now)
    net.run(20.0)
    assert callee.last("BYE").cseq == 4, "numbers go on after the PRACKs'"


def test_prack_is_sent_again_until_answered() -> None:
    def script(callee: Callee, message: Message) -> None:
        if isinstance(message, Request) and message.method == "INVITE":
            callee.answer(message, 180, *reliable(1))
        elif isinstance(message, Request) and callee.methods().count("PRACK") == 3:
            callee.answer(message, 200)

    net, a, callee, _call = called(script)
    net.run(20.0)
    assert a.count("PRACK") == 3
    assert len({str(m.via) for m in callee.got if m.cseq_method == "PRACK"}) == 1


@pytest.mark.parametrize(
    ("reliably", "status", "changed"), [(True, 200, True), (False, 491, False)]
)
def test_update_before_the_answer(reliably: bool, status: int, changed: bool) -> None:
    """RFC 3311 §5.2: it may change what was agreed; while our offer is open it must wait."""

    def script(callee: Callee, message: Message) -> None:
        if not isinstance(message, Request):
            return
        if message.method == "INVITE":
            extra = reliable(9) if reliably else ()
            callee.answer(message, 183, *extra, *SDP, body=b"v=0 early")
            callee.after(0.5, lambda: callee.request("UPDATE", message, 1, *SDP, body=b"v=0 other"))
            callee.after(1.0, lambda: callee.answer(message, 200, *SDP, body=b"v=0 early"))
        elif message.method == "PRACK":
            callee.answer(message, 200)

    net, a, callee, call = called(script)
    a.on_event = lambda s, e: s.ua.accept(e.call, ANSWER, net.now) if type(e) is ReInvite else None
    net.run(10.0)
    assert [(r.status, r.body) for r in callee.responses("UPDATE")] == [
        (status, ANSWER if changed else b"")
    ]
    assert [e.offer for e in a.of(ReInvite)] == ([b"v=0 other"] if changed else [])  # type: ignore[attr-defined]
    assert a.of(Answered) == [Answered(call, b"v=0 early", changed)]


def test_a_callee_may_ask_for_reliable_responses_to_itself() -> None:
    """As the callee: 180 comes reliably where the caller requires it, until PRACK."""
    for seed in range(10):
        net, a, b = pair(seed, loss=0.3, jitter=0.1)
        b.on_event = lambda s, e: s.ua.ring(e.call, s.net.now) if type(e) is IncomingInvite else 0
        call = a.ua.invite(TARGET, OFFER, net.now, headers=[("Require", "100rel")])
        net.run(25.0)
        assert a.of(Progress) == [Progress(call, 180, "Ringing")]
        assert a.count("PRACK") >= 1
        assert b.count("200 PRACK") >= 1
        quiet = b.count("180 INVITE")
        net.run(50.0)
        assert b.count("180 INVITE") == quiet, "an acknowledged one is not sent again"
        b.ua.accept(incoming(b), ANSWER, net.now)
        net.run(100.0)
        assert a.of(Answered) == [Answered(call, ANSWER)]
        a.ua.bye(call, net.now)
        net.run(200.0)
        empty(a, b)


def test_a_reliable_response_nobody_acknowledges_ends_the_invite() -> None:
    """RFC 3262 §3: after 64*T1, 5xx."""
    net, a, b = pair()
    b.on_event = lambda s, e: s.ua.ring(e.call, net.now) if type(e) is IncomingInvite else None
    net.tap = lambda station, hop, data: not data.startswith(b"PRACK")
    call = a.ua.invite(TARGET, OFFER, net.now, headers=[("Require", "100rel")])
    net.run(100.0)
    times = [round(at, 2) for at, line in b.lines() if line == "180 INVITE"]
    assert times == [0.01, 0.51, 1.51, 3.51, 7.51, 15.51, 31.51]
    assert a.of(Rejected) == [Rejected(call, 504, "Server Time-out", None)]
    assert len(b.of(Cancelled)) == 1


def test_prack_for_nothing_is_481() -> None:
    net, a, b = pair()
    b.on_event = lambda s, e: s.ua.ring(e.call, net.now) if type(e) is IncomingInvite else None
    a.ua.invite(TARGET, OFFER, net.now)
    net.run(1.0)
    invite = next(m for _, m in a.sent if isinstance(m, Request))
    invite.body = b""
    prack = invite.encode().replace(b"INVITE", b"PRACK").replace(b"branch=", b"branch=z9hG4bKx")
    to = f";tag={incoming(b)}\r\nRAck: 1 1 INVITE\r\n".encode()
    prack = prack.replace(f"To: <{TARGET}>\r\n".encode(), f"To: <{TARGET}>".encode() + to)
    b.ua.receive(prack.replace(b"CSeq: 1", b"CSeq: 2"), a.hop, net.now)
    net.flush()
    assert b.count("481 PRACK") == 1


def test_without_an_offer_nothing_rings_reliably() -> None:
    """RFC 3262 §5: the first reliable response would have to make the offer; the 200 does."""
    net, b, source = alone()
    b.ua.receive(request("INVITE", "Require: 100rel"), source, 0.0)
    net.flush()
    b.ua.ring(incoming(b), 0.0)
    b.ua.accept(incoming(b), OFFER, 0.1)
    net.run(0.2)
    assert [line for _, line in b.lines()] == ["100 INVITE", "200 INVITE"]


def test_a_prack_may_not_bring_an_offer_while_ours_to_answer_is_open() -> None:
    net, b, source = alone()
    sdp = "Content-Type: application/sdp"
    b.ua.receive(request("INVITE", "Require: 100rel", sdp, body="v=0"), source, 0.0)
    net.flush()
    b.ua.ring(incoming(b), 0.0)
    net.flush()
    ringing = next(m for _, m in b.sent if isinstance(m, Response) and m.status == 180)
    rack = f"RAck: {ringing.headers.get('rseq')} 1 INVITE"
    to = f"<{TARGET}>;tag={incoming(b)}"
    for number, (line, body, status) in enumerate(
        [("RAck: 1 1 INVITE", "", 481), ("RAck: x", "", 481), (rack, "v=0", 488), (rack, "", 200)],
        start=2,
    ):
        prack = request("PRACK", line, sdp, to=to, branch=f"p{number}", body=body)
        answer = answer_to(net, b, source, prack.replace(b"CSeq: 1", f"CSeq: {number}".encode()))
        assert answer is not None
        assert answer.status == status
