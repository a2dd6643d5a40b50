"""One source may begin so many calls: counted before parsing, forgotten in time."""

from __future__ import annotations

import pytest
from sip_link import TARGET, A, B, alone, answering, pair, request

from ringtrue.telephony.sip.call_rate import CallRate, makes_call
from ringtrue.telephony.sip.events import IncomingInvite, ReInviteAnswered
from ringtrue.telephony.sip.transport import Hop


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (request("INVITE"), True),
        (request("INVITE", to=f"<{TARGET}>;tag=x"), False),
        (request("INVITE").replace(b"\r\nTo:", b"\r\nt :"), True),
        (request("INVITE", to=f"<{TARGET}> ; TAG = x").replace(b"\r\nTo:", b"\r\nT:"), False),
        (request("OPTIONS"), False),
        (request("BYE", to=f"<{TARGET}>;tag=x"), False),
        (b"INVITE nonsense", True),
        (b"", False),
    ],
)
def test_what_looks_like_a_new_call(data: bytes, expected: bool) -> None:
    assert makes_call(data) is expected


def test_a_burst_and_then_a_rate() -> None:
    rate = CallRate(2.0, 5)
    assert [rate.admit(A, 0.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert rate.admit(B, 0.0)
    assert [rate.admit(A, 1.0) for _ in range(3)] == [True, True, False]
    assert [rate.admit(A, 1000.0) for _ in range(6)] == [True] * 5 + [False]
    assert rate.refused == 4


def test_an_ipv6_network_is_one_source() -> None:
    rate = CallRate(1.0, 1)
    assert rate.admit("2001:db8::1", 0.0)
    assert not rate.admit("2001:db8::ffff:2", 0.0)
    assert rate.admit("2001:db8:0:1::1", 0.0)


def test_the_table_is_bounded_and_some_are_exempt() -> None:
    rate = CallRate(1.0, 1, is_exempt=lambda host: host == A, max_sources=10)
    for number in range(100):
        rate.admit(f"10.1.1.{number}", 0.0)
        assert rate.admit(A, 0.0)
    assert len(rate) == 10
    for wrong in ((0.0, 1), (1.0, 0)):
        with pytest.raises(ValueError, match="let no call in"):
            CallRate(*wrong)


def test_a_scanner_is_not_even_parsed_and_others_are_heard() -> None:
    net, station, scanner = alone()
    station.ua.call_rate = CallRate(10.0, 5)
    net.tap = lambda *_: False
    net.parses = False
    for number in range(500):
        data = request("INVITE", branch=f"f{number}").replace(b"c1", f"c{number}".encode())
        station.ua.receive(data, scanner, 0.0)
        net.flush()
    assert len(station.of(IncomingInvite)) == 5
    assert station.ua.call_rate.refused == 495
    other = request("INVITE", branch="o").replace(b"c1", b"another")
    station.ua.receive(other, Hop("udp", "10.0.0.9", 5060), 0.0)
    net.flush()
    assert len(station.of(IncomingInvite)) == 6


def test_on_a_stream_it_is_told_so() -> None:
    net, station, _ = alone()
    station.ua.call_rate = CallRate(1.0, 1)
    for number in range(2):
        data = request("INVITE", branch=f"s{number}").replace(b"c1", f"c{number}".encode())
        station.ua.receive(data, Hop("tcp", A, 40000), 0.0)
        net.flush()
    assert station.count("503 INVITE") == 1
    assert len(station.of(IncomingInvite)) == 1


def test_what_goes_on_inside_a_call_is_not_counted() -> None:
    net, caller, desk = pair()
    desk.ua.call_rate = CallRate(0.001, 1)
    desk.on_event = answering
    call = caller.ua.invite(TARGET, b"v=0\r\n", net.now)
    net.run(1.0)
    for _ in range(3):
        caller.ua.reinvite(call, b"v=0\r\n", net.now)
        net.run(net.now + 1)
    assert len(caller.of(ReInviteAnswered)) == 3
    assert desk.ua.call_rate.refused == 0
