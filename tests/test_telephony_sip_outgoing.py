"""Calls we place: RFC 3665 §3's flows, forks, early dialogs and what fails, in virtual time."""

from __future__ import annotations

import pytest
from sip_callee import SDP, Callee, Message, add_callee, called, empty, lines
from sip_link import ANSWER, OFFER, TARGET, A, B, Net, Station, pair

from ringtrue.telephony.sip.auth_client import Credential
from ringtrue.telephony.sip.events import (
    Answered,
    Cancelled,
    EndCause,
    Ended,
    Event,
    IncomingInvite,
    Progress,
    ReInvite,
    Rejected,
)
from ringtrue.telephony.sip.message import Request, Response

# -- RFC 3665 §3, as the caller ----------------------------------------------------------------


def test_3_1_success() -> None:
    def script(callee: Callee, message: Message) -> None:
        if isinstance(message, Request) and message.method == "INVITE":
            callee.answer(message, 180)
            callee.after(2.0, lambda: callee.answer(message, 200, *SDP, body=ANSWER))
            callee.after(5.0, lambda: callee.request("BYE", message, 1))

    net, a, callee, call = called(script)
    net.run(60.0)
    assert lines(a) == ["INVITE", "ACK", "200 BYE"]
    assert [event for _, event in a.events] == [
        Progress(call, 180, "Whatever"),
        Answered(call, ANSWER),
        Ended(call, EndCause.REMOTE_BYE),
    ]
    ack = callee.last("ACK")
    assert str(ack.uri) == f"sip:t1@{B}", "the ACK goes to the Contact"
    empty(a)


def test_3_2_through_two_proxies_the_route_is_kept() -> None:
    routes = (f"Record-Route: <sip:{B};lr>", "Record-Route: <sip:10.0.0.9;lr>")

    def script(callee: Callee, message: Message) -> None:
        if isinstance(message, Request) and message.method == "INVITE":
            callee.answer(message, 200, *routes, *SDP, body=ANSWER)
        elif isinstance(message, Request) and message.method == "BYE":
            callee.answer(message, 200)

    net, a, callee, call = called(script)
    net.run(1.0)
    a.ua.bye(call, net.now)
    # The 200's first Record-Route is the hop farthest from us: we go there last.
    sent: list[Message] = []
    net.tap = lambda station, hop, data: station is not a or hop.host == "10.0.0.9"
    net.run(1.1)
    sent = [message for _, message in a.sent]
    bye = sent[-1]
    assert isinstance(bye, Request)
    assert bye.method == "BYE"
    assert bye.headers.get_all("route") == ["<sip:10.0.0.9;lr>", f"<sip:{B};lr>"]
    assert callee.methods() == ["INVITE"], "ACK and BYE go to the nearest proxy"


def test_3_3_two_proxies_ask_for_credentials_and_the_call_is_cancelled_by_its_last_invite() -> None:
    """RFC 3665 §3.3: each 407 is answered; ACK, CANCEL and the numbers follow the last INVITE."""

    def script(callee: Callee, message: Message) -> None:
        if not isinstance(message, Request):
            return
        given = message.headers.get_all("proxy-authorization")
        if message.method == "INVITE" and len(given) < 2:
            realm = ("one.example", "two.example")[len(given)]
            callee.answer(
                message, 407, f'Proxy-Authenticate: Digest realm="{realm}", nonce="n", qop="auth"'
            )
        elif message.method == "INVITE":
            callee.answer(message, 180)
        elif message.method == "CANCEL":
            callee.answer(message, 200)
            callee.answer(callee.last("INVITE"), 487)

    net = Net()
    a = net.add("a", A)
    callee = add_callee(net, B, script)
    realms = frozenset(("one.example", "two.example"))
    a.ua.core.auth.grant("trunk", Credential("alice", "secret", realms), [B])
    call = a.ua.invite(TARGET, OFFER, net.now)
    net.run(2.0)
    a.ua.cancel(call, net.now)
    net.run(60.0)
    assert [line for line in lines(a) if line != "ACK"] == ["INVITE"] * 3 + ["CANCEL"]
    invites = [m for m in callee.got if isinstance(m, Request) and m.method == "INVITE"]
    assert [invite.cseq for invite in invites] == [1, 2, 3]
    cancel = callee.last("CANCEL")
    assert (cancel.cseq, cancel.via.branch) == (3, invites[-1].via.branch)
    assert a.of(Rejected) == [Rejected(call, 487, "Whatever", None)]
    empty(a)


def test_3_6_a_redirection_is_an_outcome() -> None:
    """Nobody may send our calls to where their tenant may not call."""

    def script(callee: Callee, message: Message) -> None:
        if isinstance(message, Request) and message.method == "INVITE":
            callee.answer(message, 302)

    net, a, callee, call = called(script)
    net.run(60.0)
    assert lines(a) == ["INVITE", "ACK"]
    assert a.of(Rejected) == [Rejected(call, 302, "Whatever", None)]
    empty(a)


def test_3_7_reinvite_from_the_callee() -> None:
    def script(callee: Callee, message: Message) -> None:
        if isinstance(message, Request) and message.method == "INVITE":
            callee.answer(message, 200, *SDP, body=ANSWER)
            moved = (f"Contact: <sip:moved@{B}>", *SDP)
            callee.after(
                1.0, lambda: callee.request("INVITE", message, 7, *moved[1:], body=b"v=0 moved")
            )
        elif isinstance(message, Response) and message.cseq_method == "INVITE" and message.success:
            callee.request("ACK", callee.last("INVITE"), 7)

    net, a, callee, call = called(script)
    a.on_event = lambda s, e: s.ua.accept(e.call, ANSWER, net.now) if type(e) is ReInvite else None
    net.run(30.0)
    assert [e.offer for e in a.of(ReInvite)] == [b"v=0 moved"]  # type: ignore[attr-defined]
    assert [r.status for r in callee.responses("INVITE")] == [100, 200]
    assert a.of(Ended) == []


def test_3_8_no_answer() -> None:
    net, a, b = pair()
    b.on_event = lambda s, e: s.ua.ring(e.call, net.now) if type(e) is IncomingInvite else None
    call = a.ua.invite(TARGET, OFFER, net.now, ring_limit=20.0)
    net.run(100.0)
    assert lines(a) == ["INVITE", "CANCEL", "ACK"]
    assert [at for at, line in a.lines() if line == "CANCEL"] == [20.0]
    assert a.of(Rejected) == [Rejected(call, 408, "Request Timeout", None)]
    assert len(b.of(Cancelled)) == 1
    empty(a, b)


@pytest.mark.parametrize("status", [404, 480, 486, 503, 600, 603])
def test_3_9_busy_and_3_11_unavailable_and_the_like(status: int) -> None:
    def script(callee: Callee, message: Message) -> None:
        if isinstance(message, Request) and message.method == "INVITE":
            callee.answer(message, 180)
            callee.answer(message, status, "Retry-After: 30")

    net, a, _callee, call = called(script)
    net.run(60.0)
    assert lines(a) == ["INVITE", "ACK"]
    assert a.of(Rejected) == [Rejected(call, status, "Whatever", 30)]
    empty(a)


def test_3_10_no_response() -> None:
    net, a, _callee, call = called(lambda callee, message: None)
    net.run(100.0)
    times = [at for at, line in a.lines() if line == "INVITE"]
    assert times == [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert a.of(Rejected) == [Rejected(call, 408, "Request Timeout", None, heard=False)]
    empty(a)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("flow", ["answered", "busy", "no answer", "reinvite"])
def test_flows_over_a_bad_network(flow: str, seed: int) -> None:
    """Loss, duplicates and reordering: the same outcome, once, and nothing left behind."""
    net, a, b = pair(seed, loss=0.2, duplicate=0.1, jitter=0.3)

    def callee(station: Station, event: Event) -> None:
        if isinstance(event, IncomingInvite):
            if flow == "busy":
                station.ua.reject(event.call, 486, net.now)
                return
            station.ua.ring(event.call, net.now)
            if flow != "no answer":
                station.ua.accept(event.call, ANSWER, net.now)
        elif isinstance(event, ReInvite):
            station.ua.accept(event.call, ANSWER, net.now)

    b.on_event = callee
    call = a.ua.invite(TARGET, OFFER, net.now, ring_limit=30.0)
    net.run(40.0)
    if flow in ("answered", "reinvite"):
        assert a.of(Answered) == [Answered(call, ANSWER)]
        if flow == "reinvite":
            a.ua.reinvite(call, b"v=0 more", net.now)
            net.run(80.0)
            assert len(b.of(ReInvite)) == 1
        a.ua.bye(call, net.now)
        net.run(200.0)
        assert len(a.of(Ended)) == len(b.of(Ended)) == 1
    else:
        net.run(200.0)
        (rejected,) = a.of(Rejected)
        assert isinstance(rejected, Rejected)
        assert rejected.status == (486 if flow == "busy" else 408)
    empty(a, b)


# -- forks and races ---------------------------------------------------------------------------


def test_of_several_answers_one_is_kept() -> None:
    """Each 2xx is acknowledged, the later ones ended with BYE, retransmissions too."""

    def script(callee: Callee, message: Message) -> None:
        if not isinstance(message, Request):
            return
        if message.method == "INVITE":
            for number, tag in enumerate(("one", "two", "three")):
                callee.answer(message, 180, tag=tag)
                answer = (message, 200, *SDP)
                for again in (0.0, 0.5):
                    callee.after(
                        1.0 + number / 10 + again,
                        lambda a=answer, t=tag: callee.answer(*a, tag=t, body=t.encode()),
                    )
        elif message.method == "BYE":
            callee.answer(message, 200)

    net, a, callee, call = called(script)
    net.run(60.0)
    assert a.of(Answered) == [Answered(call, b"one")]
    ended = [str(m.uri) for m in callee.got if isinstance(m, Request) and m.method == "BYE"]
    assert sorted(ended) == [f"sip:three@{B}", f"sip:two@{B}"]
    acked = [str(m.uri) for m in callee.got if isinstance(m, Request) and m.method == "ACK"]
    assert sorted(acked) == sorted([f"sip:{tag}@{B}" for tag in ("one", "two", "three")] * 2)
    assert a.of(Ended) == []
    a.ua.bye(call, net.now)
    net.run(120.0)
    empty(a)


def test_an_answer_that_crosses_the_cancel_is_ended() -> None:
    def script(callee: Callee, message: Message) -> None:
        if not isinstance(message, Request):
            return
        if message.method == "INVITE":
            callee.answer(message, 180)
        elif message.method == "CANCEL":
            callee.answer(callee.last("INVITE"), 200, *SDP, body=ANSWER)
            callee.answer(message, 481)
        elif message.method == "BYE":
            callee.answer(message, 200)

    net, a, callee, call = called(script)
    net.run(1.0)
    a.ua.cancel(call, net.now)
    net.run(60.0)
    assert callee.methods() == ["INVITE", "CANCEL", "ACK", "BYE"]
    assert a.of(Answered) == []
    assert a.of(Rejected) == [Rejected(call, 487, "Request Terminated", None)]
    empty(a)


def test_early_media_is_told_of() -> None:
    def script(callee: Callee, message: Message) -> None:
        if isinstance(message, Request) and message.method == "INVITE":
            callee.answer(message, 183, *SDP, body=b"v=0 music")
            callee.after(1.0, lambda: callee.answer(message, 200, *SDP, body=ANSWER))

    net, a, _callee, call = called(script)
    net.run(5.0)
    assert a.of(Progress) == [Progress(call, 183, "Whatever", b"v=0 music")]
    assert a.of(Answered) == [Answered(call, ANSWER)]


def test_a_far_end_that_floods_is_heard_within_bounds() -> None:
    """Forks, reliable responses, answers and intervals without end cost a bounded number."""

    def script(callee: Callee, message: Message) -> None:
        if not isinstance(message, Request):
            return
        if message.method != "INVITE":
            callee.answer(message, 200)
        elif message.cseq < 50:
            callee.answer(message, 422, f"Min-SE: {1800 + message.cseq}")

    net, a, callee, call = called(script)
    net.run(10.0)
    assert a.count("INVITE") == 3
    (rejected,) = a.of(Rejected)
    assert isinstance(rejected, Rejected)
    assert rejected.status == 422

    def flood(callee: Callee, message: Message) -> None:
        if not isinstance(message, Request) or message.method != "INVITE":
            if isinstance(message, Request) and message.method != "ACK":
                callee.answer(message, 200)
            return
        for number in range(1, 100):
            callee.answer(message, 180, "Require: 100rel", f"RSeq: {number}", tag="one")
            callee.answer(message, 180, tag=f"fork{number}")
        for number in range(100):
            callee.answer(message, 200, *SDP, tag=f"late{number}", body=ANSWER)

    net, a, callee, call = called(flood)
    net.run(200.0)
    assert callee.methods().count("PRACK") == 32
    assert callee.methods().count("BYE") == 64
    assert len(a.of(Answered)) == 1
    a.ua.bye(call, net.now)
    net.run(300.0)
    empty(a)
