"""The transaction layer: strays, limits, transports."""

from __future__ import annotations

import pytest

from ringtrue.telephony.sip.core import Core, Policy
from ringtrue.telephony.sip.errors import SipCapacityError
from ringtrue.telephony.sip.headers import Headers
from ringtrue.telephony.sip.message import Request, Response
from ringtrue.telephony.sip.responses import make_response
from ringtrue.telephony.sip.transport import Hop, Send
from ringtrue.telephony.sip.uri import parse_uri

HOP = Hop("udp", "10.0.0.2", 5060)


class Log:
    """A client user that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[int] = []

    def on_response(self, request: Request, response: Response, now: float) -> None:
        self.told.append(response.status)

    def on_failure(self, request: Request, status: int, now: float) -> None:
        self.told.append(-status)


def core(policy: Policy | None = None) -> Core:
    return Core(policy or Policy(), lambda hop: ("10.0.0.1", 5060))


def request(method: str = "OPTIONS", via: str | None = None) -> Request:
    headers = Headers(
        [
            ("from", "<sip:a@b>;tag=1"),
            ("to", "<sip:c@d>"),
            ("call-id", "i"),
            ("cseq", f"1 {method}"),
        ]
    )
    if via is not None:
        headers.prepend("via", via)
    return Request(method=method, uri=parse_uri("sip:c@d"), headers=headers)


def test_a_request_gets_a_via_with_a_fresh_branch() -> None:
    layer, branches = core(), set()
    for _ in range(50):
        sent = request()
        layer.request(sent, HOP, Log(), 0.0)
        assert str(sent.via).startswith("SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK")
        assert sent.via.rport == ""
        branches.add(sent.via.branch)
    assert len(branches) == 50
    assert all(isinstance(output, Send) and output.hop == HOP for output in layer.outputs)


def test_stray_responses_are_dropped() -> None:
    """Another branch, method, Call-ID, CSeq, or more than our own Via."""
    layer, log = core(), Log()
    sent = request()
    layer.request(sent, HOP, log, 0.0)
    for name, value in (
        ("via", "SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKother"),
        ("cseq", "1 INVITE"),
        ("cseq", "2 OPTIONS"),
        ("call-id", "other"),
    ):
        stray = make_response(sent, 200)
        stray.headers.set(name, [value])
        layer.receive_response(stray, 1.0)
    stray = make_response(sent, 200)
    stray.headers.add("via", "SIP/2.0/UDP 255.255.255.255;branch=x")
    layer.receive_response(stray, 1.0)
    assert log.told == []
    layer.receive_response(make_response(sent, 200), 1.0)
    assert log.told == [200]


def test_the_client_table_is_bounded() -> None:
    layer = core(Policy(max_client_transactions=3))
    for _ in range(3):
        layer.request(request(), HOP, Log(), 0.0)
    with pytest.raises(SipCapacityError, match="3 client transactions"):
        layer.request(request(), HOP, Log(), 0.0)
    layer.handle_timer(32.0)
    layer.request(request(), HOP, Log(), 33.0)


def test_a_failed_transport_ends_what_uses_it_alone() -> None:
    layer, here, there = core(), Log(), Log()
    layer.request(request(), HOP, here, 0.0)
    layer.request(request(), Hop("udp", "10.0.0.3", 5060), there, 0.0)
    layer.transport_failed(HOP, 1.0)
    assert (here.told, there.told) == ([-503], [])
    assert layer.sizes() == {"client": 1, "server": 0}


def test_timeouts_are_told_as_408() -> None:
    layer, log = core(), Log()
    layer.request(request("INVITE"), HOP, log, 0.0)
    while (now := layer.next_timer()) is not None:
        layer.handle_timer(now)
    assert log.told == [-408]
    assert len(layer.outputs) == 7


def test_merged_requests_are_known_while_the_first_lives() -> None:
    layer = core()
    first = request("OPTIONS", "SIP/2.0/UDP h;branch=z9hG4bK1")
    other_path = request("OPTIONS", "SIP/2.0/UDP h;branch=z9hG4bK2")
    transaction = layer.open_server(first, HOP)
    assert transaction is not None
    assert layer.absorb(first, HOP, 0.0)
    assert not layer.absorb(other_path, HOP, 0.0)
    assert layer.merged(other_path)
    layer.respond(transaction, make_response(first, 200), 1.0)
    layer.handle_timer(33.0)
    assert not layer.merged(other_path)
    assert layer.sizes() == {"client": 0, "server": 0}
    layer.respond(transaction, make_response(first, 500), 34.0)
    assert len(layer.outputs) == 1
