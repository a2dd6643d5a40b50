"""Server transactions with literal times (RFC 3261 §17.2, RFC 6026 §8.7)."""

from __future__ import annotations

import pytest

from ringtrue.telephony.sip.headers import Headers
from ringtrue.telephony.sip.message import Request
from ringtrue.telephony.sip.responses import make_response
from ringtrue.telephony.sip.schedule import Timers
from ringtrue.telephony.sip.server_transaction import (
    InviteServerTransaction,
    NonInviteServerTransaction,
    ServerTransaction,
)
from ringtrue.telephony.sip.transaction import (
    Deliver,
    Output,
    Received,
    Respond,
    State,
    TimedOut,
    Transmit,
    TransportFailed,
    Unreachable,
    server_key,
)
from ringtrue.telephony.sip.uri import parse_uri


def request(method: str, via: str = "SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKb") -> Request:
    headers = Headers(
        [
            ("via", via),
            ("from", "<sip:a@b>;tag=1"),
            ("to", "<sip:c@d>"),
            ("call-id", "i"),
            ("cseq", f"1 {method}"),
        ]
    )
    return Request(method=method, uri=parse_uri("sip:c@d"), headers=headers)


def invite(*, reliable: bool = False) -> InviteServerTransaction:
    return InviteServerTransaction(request("INVITE"), reliable=reliable, timers=Timers())


def options(*, reliable: bool = False) -> NonInviteServerTransaction:
    return NonInviteServerTransaction(request("OPTIONS"), reliable=reliable, timers=Timers())


def respond(transaction: ServerTransaction, status: int, now: float) -> list[Output]:
    response = make_response(transaction.request, status, to_tag="t")
    return transaction.handle(Respond(response), now)


def wire(transaction: ServerTransaction, status: int) -> list[Transmit]:
    return [Transmit(make_response(transaction.request, status, to_tag="t").encode())]


def test_invite_repeats_its_last_provisional_response() -> None:
    transaction = invite()
    again = Received(transaction.request)
    assert transaction.handle(again, 0.0) == []
    assert respond(transaction, 100, 0.0) == wire(transaction, 100)
    assert respond(transaction, 180, 1.0) == wire(transaction, 180)
    assert transaction.handle(again, 1.5) == wire(transaction, 180)
    assert transaction.next_timer() is None


def test_failure_is_sent_by_timer_g_until_the_ack() -> None:
    transaction = invite()
    assert respond(transaction, 486, 0.0) == wire(transaction, 486)
    times = []
    while (now := transaction.next_timer()) is not None and now < 9.0:
        assert transaction.fire(now) == wire(transaction, 486)
        times.append(now)
    assert times == [0.5, 1.5, 3.5, 7.5]
    assert transaction.handle(Received(request("ACK")), 9.0) == []
    assert transaction.state is State.CONFIRMED
    assert transaction.handle(Received(transaction.request), 9.5) == []
    assert transaction.next_timer() == 14.0
    transaction.fire(14.0)
    assert transaction.state is State.TERMINATED


def test_timer_g_stops_doubling_at_t2_and_timer_h_gives_up() -> None:
    transaction = invite()
    respond(transaction, 486, 0.0)
    times, others = [], []
    while (now := transaction.next_timer()) is not None:
        for output in transaction.fire(now):
            if isinstance(output, Transmit):
                times.append(now)
            else:
                others.append(output)
    assert times == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert others == [TimedOut("H")]


def test_failure_over_a_reliable_transport_waits_for_the_ack_alone() -> None:
    transaction = invite(reliable=True)
    respond(transaction, 486, 0.0)
    assert transaction.next_timer() == 32.0
    transaction.handle(Received(request("ACK")), 1.0)
    assert transaction.state is State.TERMINATED


def test_accepted_absorbs_the_invite_and_passes_acks_until_timer_l() -> None:
    """RFC 6026 §7.1: the 2xx is repeated by the user, never by the transaction."""
    transaction = invite()
    assert respond(transaction, 200, 0.0) == wire(transaction, 200)
    assert transaction.state is State.ACCEPTED
    assert transaction.handle(Received(transaction.request), 1.0) == []
    assert respond(transaction, 200, 2.0) == wire(transaction, 200)
    assert respond(transaction, 486, 2.0) == []
    ack = request("ACK")
    assert transaction.handle(Received(ack), 3.0) == [Deliver(ack)]
    assert transaction.next_timer() == 32.0
    transaction.fire(32.0)
    assert transaction.state is State.TERMINATED


def test_non_invite_repeats_its_answer_until_timer_j() -> None:
    transaction = options()
    again = Received(transaction.request)
    assert transaction.handle(again, 0.0) == []
    assert respond(transaction, 100, 0.5) == wire(transaction, 100)
    assert transaction.handle(again, 0.6) == wire(transaction, 100)
    assert respond(transaction, 200, 1.0) == wire(transaction, 200)
    assert transaction.handle(again, 2.0) == wire(transaction, 200)
    assert respond(transaction, 500, 3.0) == []
    assert transaction.next_timer() == 33.0
    transaction.fire(33.0)
    assert transaction.state is State.TERMINATED


def test_non_invite_over_a_reliable_transport_ends_with_its_answer() -> None:
    transaction = options(reliable=True)
    respond(transaction, 200, 0.0)
    assert transaction.state is State.TERMINATED


@pytest.mark.parametrize("made", [invite, options])
def test_transport_failure_ends_it(made: type[ServerTransaction]) -> None:
    transaction = made()
    assert transaction.handle(TransportFailed(), 0.0) == [Unreachable()]
    assert transaction.state is State.TERMINATED


def test_matching() -> None:
    """RFC 3261 §17.2.3: branch, sent-by and method; RFC 2543's rules without the cookie."""
    key = server_key(request("INVITE"))
    assert server_key(request("ACK")) == key
    assert server_key(request("CANCEL")) != key
    assert server_key(request("INVITE", "SIP/2.0/UDP 10.0.0.1:5061;branch=z9hG4bKb")) != key
    assert server_key(request("INVITE", "SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bKb")) == key
    for old in ("SIP/2.0/UDP h;branch=1", "SIP/2.0/UDP h;branch=z9hG4bK", "SIP/2.0/UDP h"):
        first, ack = request("INVITE", old), request("ACK", old)
        ack.headers.set("to", ["<sip:c@d>;tag=added"])
        assert server_key(first) == server_key(ack)
        other = request("INVITE", old)
        other.headers.set("cseq", ["2 INVITE"])
        assert server_key(other) != server_key(first)
