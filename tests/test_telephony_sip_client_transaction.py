"""Client transactions with literal times (RFC 3261 §17.1, RFC 6026 §8.4)."""

from __future__ import annotations

import pytest

from ringtrue.telephony.sip.client_transaction import (
    ClientTransaction,
    InviteClientTransaction,
    NonInviteClientTransaction,
)
from ringtrue.telephony.sip.headers import Headers
from ringtrue.telephony.sip.message import Request, Response, parse_message
from ringtrue.telephony.sip.responses import make_response
from ringtrue.telephony.sip.schedule import Timers
from ringtrue.telephony.sip.transaction import (
    Deliver,
    Output,
    Received,
    State,
    TimedOut,
    Transmit,
    TransportFailed,
    Unreachable,
)
from ringtrue.telephony.sip.uri import parse_uri


def request(method: str) -> Request:
    headers = Headers(
        [
            ("via", "SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKb"),
            ("route", "<sip:p;lr>"),
            ("max-forwards", "70"),
            ("from", "<sip:a@b>;tag=1"),
            ("to", "<sip:c@d>"),
            ("call-id", "i"),
            ("cseq", f"1 {method}"),
        ]
    )
    return Request(method=method, uri=parse_uri("sip:c@d"), headers=headers)


def invite(*, reliable: bool = False) -> InviteClientTransaction:
    return InviteClientTransaction(request("INVITE"), reliable=reliable, timers=Timers())


def options(*, reliable: bool = False) -> NonInviteClientTransaction:
    return NonInviteClientTransaction(request("OPTIONS"), reliable=reliable, timers=Timers())


def answer(transaction: ClientTransaction, status: int) -> Response:
    return make_response(transaction.request, status, to_tag="t")


def sends(transaction: ClientTransaction, until: float) -> tuple[list[float], list[Output]]:
    """Times of retransmissions, and every other output, up to ``until``."""
    times, others = [], []
    while (now := transaction.next_timer()) is not None and now <= until:
        for output in transaction.fire(now):
            if isinstance(output, Transmit):
                times.append(now)
            else:
                others.append(output)
    return times, others


def test_invite_timer_a_doubles_and_timer_b_ends_it() -> None:
    transaction = invite()
    assert transaction.start(0.0) == [Transmit(transaction.request.encode())]
    assert transaction.state is State.CALLING
    times, others = sends(transaction, 100.0)
    assert times == [0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert others == [TimedOut("B")]
    assert transaction.state is State.TERMINATED


def test_invite_over_a_reliable_transport_is_sent_once() -> None:
    transaction = invite(reliable=True)
    transaction.start(0.0)
    assert sends(transaction, 100.0) == ([], [TimedOut("B")])


def test_a_provisional_response_stops_timers_a_and_b() -> None:
    transaction = invite()
    transaction.start(0.0)
    ringing = answer(transaction, 180)
    assert transaction.handle(Received(ringing), 1.0) == [Deliver(ringing)]
    assert transaction.state is State.PROCEEDING
    assert transaction.next_timer() is None
    assert transaction.handle(Received(ringing), 9.0) == [Deliver(ringing)]


@pytest.mark.parametrize("early", [False, True])
def test_2xx_goes_up_until_timer_m(early: bool) -> None:
    transaction = invite()
    transaction.start(0.0)
    if early:
        transaction.handle(Received(answer(transaction, 183)), 0.5)
    ok = answer(transaction, 200)
    assert transaction.handle(Received(ok), 1.0) == [Deliver(ok)]
    assert transaction.state is State.ACCEPTED
    assert transaction.handle(Received(ok), 20.0) == [Deliver(ok)]
    assert transaction.handle(Received(answer(transaction, 486)), 21.0) == []
    assert transaction.next_timer() == 33.0
    assert transaction.fire(33.0) == []
    assert transaction.state is State.TERMINATED
    assert transaction.handle(Received(ok), 34.0) == []


def test_failure_is_acknowledged_each_time_and_delivered_once() -> None:
    transaction = invite()
    transaction.start(0.0)
    busy = answer(transaction, 486)
    ack, up = transaction.handle(Received(busy), 1.0)
    assert up == Deliver(busy)
    assert isinstance(ack, Transmit)
    message = parse_message(ack.data)
    assert isinstance(message, Request)
    assert (message.method, message.cseq, message.to.tag) == ("ACK", 1, "t")
    assert message.headers.get_all("via") == ["SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKb"]
    assert message.headers.get_all("route") == ["<sip:p;lr>"]
    assert transaction.state is State.COMPLETED
    assert transaction.handle(Received(busy), 2.0) == [ack]
    assert transaction.next_timer() == 33.0
    transaction.fire(33.0)
    assert transaction.state is State.TERMINATED


def test_failure_over_a_reliable_transport_ends_at_once() -> None:
    transaction = invite(reliable=True)
    transaction.start(0.0)
    transaction.handle(Received(answer(transaction, 486)), 1.0)
    assert transaction.state is State.TERMINATED


@pytest.mark.parametrize("made", [invite, options])
def test_transport_failure_is_told(made: type[ClientTransaction]) -> None:
    transaction = made()
    transaction.start(0.0)
    assert transaction.handle(TransportFailed(), 0.1) == [Unreachable()]
    assert transaction.state is State.TERMINATED
    assert transaction.next_timer() is None


def test_non_invite_timer_e_stops_doubling_at_t2_and_timer_f_ends_it() -> None:
    transaction = options()
    transaction.start(0.0)
    times, others = sends(transaction, 100.0)
    assert times == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert others == [TimedOut("F")]


def test_non_invite_in_proceeding_repeats_every_t2() -> None:
    transaction = options()
    transaction.start(0.0)
    trying = answer(transaction, 100)
    assert transaction.handle(Received(trying), 0.2) == [Deliver(trying)]
    assert transaction.state is State.PROCEEDING
    times, others = sends(transaction, 100.0)
    assert times == [0.5, 4.5, 8.5, 12.5, 16.5, 20.5, 24.5, 28.5]
    assert others == [TimedOut("F")]


def test_non_invite_absorbs_repeated_answers_until_timer_k() -> None:
    transaction = options()
    transaction.start(0.0)
    ok = answer(transaction, 200)
    assert transaction.handle(Received(ok), 1.0) == [Deliver(ok)]
    assert transaction.handle(Received(ok), 2.0) == []
    assert transaction.next_timer() == 6.0
    transaction.fire(6.0)
    assert transaction.state is State.TERMINATED


def test_a_late_clock_sends_once_not_in_a_burst() -> None:
    transaction = invite()
    transaction.start(0.0)
    assert transaction.fire(10.0) == [Transmit(transaction.request.encode())]
    assert transaction.next_timer() == 11.0
