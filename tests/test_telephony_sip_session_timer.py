"""Session timers, from both sides and in both roles (RFC 4028)."""

from __future__ import annotations

import pytest
from sip_callee import SDP, Callee, Message, called, empty
from sip_link import ANSWER, OFFER, TARGET, A, B, Net, Station, pair

from ringtrue.telephony.sip.core import Policy
from ringtrue.telephony.sip.events import Answered, EndCause, Ended, IncomingInvite, RefreshDue
from ringtrue.telephony.sip.message import Request, Response
from ringtrue.telephony.sip.session_timer import (
    Interval,
    answered,
    interval_of,
    least_of,
    too_short,
)
from ringtrue.telephony.sip.uri import parse_uri


def refreshed(net: Net, until: float, *stations: Station) -> list[float]:
    net.run(until)
    return [at for s in stations for at, line in s.lines() if line == "UPDATE"]


def test_the_caller_keeps_the_session_alive() -> None:
    """RFC 4028: half of 1800 s, by UPDATE, for as long as the call lasts."""
    net, a, b = pair()
    call = a.ua.invite(TARGET, OFFER, net.now)
    net.run(1.0)
    accepted = next(m for _, m in b.sent if isinstance(m, Response) and m.success)
    assert accepted.headers.get("session-expires") == "1800;refresher=uac"
    assert accepted.headers.get("require") == "timer"
    times = refreshed(net, 4000.0, a)
    assert [round(at) for at in times] == [900, 1800, 2700, 3600]
    assert refreshed(net, 4000.0, b) == []
    assert a.of(Ended) == b.of(Ended) == []
    a.ua.bye(call, net.now)
    net.run(4100.0)
    empty(a, b)


@pytest.mark.parametrize("who", ["caller", "callee"])
def test_a_far_end_that_is_gone_ends_the_call(who: str) -> None:
    """The side that refreshes learns it from the silence, the other from the missing refresh."""
    net, a, b = pair()
    call = a.ua.invite(TARGET, OFFER, net.now)
    net.run(1.0)
    gone, left = (b, a) if who == "caller" else (a, b)
    net.tap = lambda station, hop, data: station is not gone
    net.run(3000.0)
    assert [e.cause for e in left.of(Ended)] == [EndCause.LOST]  # type: ignore[attr-defined]
    (at,) = [at for at, event in left.events if isinstance(event, Ended)]
    assert 900 < at <= 1000 if who == "caller" else 1760 < at < 1810
    assert call


def test_a_session_that_the_callee_does_not_refresh_ends() -> None:
    def script(callee: Callee, message: Message) -> None:
        if isinstance(message, Request) and message.method == "INVITE":
            callee.answer(message, 200, "Session-Expires: 200;refresher=uas", *SDP, body=ANSWER)
        elif isinstance(message, Request) and message.method == "BYE":
            callee.answer(message, 200)

    net, a, callee, call = called(script)
    net.run(165.0)
    assert a.of(Ended) == []
    net.run(170.0)
    assert a.of(Ended) == [Ended(call, EndCause.LOST)], "32 s before the session's end"
    assert callee.methods()[-1] == "BYE"


def test_an_interval_that_is_too_small_is_asked_for_again() -> None:
    """RFC 4028 §7.3: 422, then the same call with a longer one."""

    def script(callee: Callee, message: Message) -> None:
        if not isinstance(message, Request) or message.method != "INVITE":
            return
        if message.headers.get("session-expires") == "1800":
            callee.answer(message, 422, "Min-SE: 3600")
        else:
            callee.answer(message, 200, "Session-Expires: 3600;refresher=uac", *SDP, body=ANSWER)

    net, a, callee, call = called(script)
    net.run(10.0)
    first, second = (m for m in callee.got if isinstance(m, Request) and m.method == "INVITE")
    assert second.headers.get("session-expires") == "3600"
    assert second.headers.get("min-se") == "3600"
    assert (second.cseq, second.call_id, str(second.from_)) == (2, first.call_id, str(first.from_))
    assert second.via.branch != first.via.branch
    assert a.of(Answered) == [Answered(call, ANSWER)]
    assert callee.last("ACK").cseq == 2


def test_we_refuse_an_interval_that_is_too_small() -> None:
    net = Net()
    a = net.add("a", A, policy=Policy(session_seconds=90))
    b = net.add("b", B, policy=Policy(session_least=120))
    b.on_event = lambda s, e: (
        s.ua.accept(e.call, ANSWER, net.now) if type(e) is IncomingInvite else 0
    )
    call = a.ua.invite(TARGET, OFFER, net.now)
    net.run(1.0)
    refused = next(m for _, m in b.sent if isinstance(m, Response) and m.status == 422)
    assert refused.headers.get("min-se") == "120"
    assert a.of(Answered) == [Answered(call, ANSWER)]
    times = refreshed(net, 300.0, a)
    assert [round(at) for at in times] == [60, 120, 180, 240]


def test_the_callee_refreshes_where_it_is_asked_to() -> None:
    """We answer with the refresher that the caller chose, and then refresh ourselves."""
    net, a, b = pair()
    net.tap = None
    call = a.ua.invite(TARGET, OFFER, net.now)
    invite = next(m for _, m in a.sent if isinstance(m, Request)) if a.sent else None
    assert invite is None, "nothing is sent before the network runs"
    swap = (b"Session-Expires: 1800\r\n", b"Session-Expires: 200;refresher=uas\r\n")

    def rewrite(station: Station, hop: object, data: bytes) -> bool:
        if station is a and data.startswith(b"INVITE") and swap[0] in data:
            net.inject(data.replace(*swap), a.hop, b.hop)
            return False
        return True

    net.tap = rewrite
    times = refreshed(net, 450.0, b)
    assert [round(at) for at in times] == [100, 200, 300, 400]
    assert refreshed(net, 450.0, a) == []
    assert a.of(Ended) == b.of(Ended) == []
    assert call


def test_a_far_end_without_update_is_refreshed_by_invite() -> None:
    """The owner is asked for the session's description, which goes out in a re-INVITE."""

    def script(callee: Callee, message: Message) -> None:
        if isinstance(message, Request) and message.method == "INVITE":
            lines = ("Session-Expires: 200;refresher=uac", "Allow: INVITE, ACK, BYE", *SDP)
            callee.answer(message, 200, *lines, body=ANSWER)

    net, a, callee, call = called(script)
    a.on_event = lambda s, e: s.ua.reinvite(call, OFFER, net.now) if type(e) is RefreshDue else None
    net.run(350.0)
    assert callee.methods() == ["INVITE", "ACK"] * 4
    again = callee.last("INVITE")
    assert again.body == OFFER
    assert again.headers.get("session-expires") == "200;refresher=uac"
    assert a.of(Ended) == []


@pytest.mark.parametrize(
    "value", ["", "x", "90x", "-1", "99999999999", ";refresher=uac", "\u0661\u0662"]
)
def test_an_unreadable_interval_is_none(value: str) -> None:
    message = Request(method="INVITE", uri=parse_uri("sip:a@b"))
    message.headers.add("session-expires", value)
    message.headers.add("min-se", value)
    assert interval_of(message) is None
    assert least_of(message) == 90
    assert too_short(message, 120) is None


def test_only_a_caller_that_can_change_it_is_told_that_it_is_too_short() -> None:
    message = Request(method="INVITE", uri=parse_uri("sip:a@b"))
    message.headers.add("x", "60 ; Refresher = UAS")
    assert interval_of(message) == Interval(60, "uas")
    assert too_short(message, 90) is None
    message.headers.add("supported", "path, Timer")
    assert too_short(message, 90) == (("min-se", "90"),)
    assert answered(message, 1800, 0.0) is not None
