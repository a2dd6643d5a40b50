"""The user agent: calls over good and bad networks, refusals, limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sip_link import (
    ANSWER,
    OFFER,
    TARGET,
    A,
    B,
    Net,
    alone,
    answer_to,
    answering,
    incoming,
    pair,
    request,
)

from ringtrue.telephony.sip.context import ALLOW
from ringtrue.telephony.sip.core import Policy
from ringtrue.telephony.sip.errors import SipCapacityError, SipParseError, SipStateError
from ringtrue.telephony.sip.events import (
    Answered,
    Confirmed,
    EndCause,
    Ended,
    IncomingInvite,
    Progress,
    Rejected,
)
from ringtrue.telephony.sip.message import Response, parse_message
from ringtrue.telephony.sip.transport import Hop


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


def test_nobody_there_is_408_after_timer_b() -> None:
    net = Net()
    a = net.add("a", A)
    call = a.ua.invite("sip:x@10.9.9.9", OFFER, net.now)
    net.run(100.0)
    assert [at for at, _ in a.lines()] == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert a.events == [(32.0, Rejected(call, 408, "Request Timeout", None, heard=False))]


@pytest.mark.parametrize(
    ("data", "status", "header", "value"),
    [
        (request("OPTIONS"), 200, "allow", ALLOW),
        (request("OPTIONS"), 200, "accept", "application/sdp"),
        (request("OPTIONS", to=f"<{TARGET}>;tag=nobody"), 481, "server", "Ringtrue"),
        (request("BYE"), 481, "server", "Ringtrue"),
        (request("BYE", to=f"<{TARGET}>;tag=nobody"), 481, "server", "Ringtrue"),
        (request("CANCEL"), 481, "server", "Ringtrue"),
        (request("REGISTER"), 405, "allow", ALLOW),
        (request("REFER"), 403, "server", "Ringtrue"),
        (request("FANCY"), 501, "allow", ALLOW),
        (request("INVITE", "Require: 100rel, outbound, x"), 420, "unsupported", "outbound, x"),
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
    assert a.of(Rejected) == [Rejected(call, 503, "Service Unavailable", None, heard=False)]


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
