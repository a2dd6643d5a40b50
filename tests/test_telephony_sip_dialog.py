"""Dialogs: routes, targets, sequence numbers (RFC 3261 §12)."""

from __future__ import annotations

import pytest

from ringtrue.telephony.sip.dialog import Dialog
from ringtrue.telephony.sip.errors import SipParseError
from ringtrue.telephony.sip.headers import Headers
from ringtrue.telephony.sip.message import Request, Response
from ringtrue.telephony.sip.transport import Hop
from ringtrue.telephony.sip.uri import parse_uri

FLOW = Hop("udp", "10.0.0.1", 5060)


def invite(*extra: tuple[str, str], contact: str = "<sip:al@10.0.0.1:5070>") -> Request:
    headers = Headers(
        [
            ("via", "SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKb"),
            ("from", '"Al" <sip:al@x>;tag=f'),
            ("to", "<sip:bob@y>"),
            ("call-id", "i"),
            ("cseq", "41 INVITE"),
            ("contact", contact),
            *extra,
        ]
    )
    return Request(method="INVITE", uri=parse_uri("sip:bob@y"), headers=headers)


def test_of_the_callee() -> None:
    dialog = Dialog.from_request(invite(("record-route", "<sip:p1;lr>,<sip:p2;lr>")), "t", FLOW)
    bye = dialog.request("BYE")
    assert bye.start_line() == "BYE sip:al@10.0.0.1:5070 SIP/2.0"
    assert list(bye.headers) == [
        ("route", "<sip:p1;lr>"),
        ("route", "<sip:p2;lr>"),
        ("max-forwards", "70"),
        ("from", "<sip:bob@y>;tag=t"),
        ("to", '"Al" <sip:al@x>;tag=f'),
        ("call-id", "i"),
        ("cseq", "1 BYE"),
    ]
    assert dialog.next_hop() == Hop("udp", "p1", 5060)


def test_of_the_caller() -> None:
    request = invite()
    headers = request.headers.copy()
    headers.set("to", ["<sip:bob@y>;tag=t"])
    headers.set("contact", ["<sip:bob@10.0.0.2;transport=tcp>"])
    headers.add("record-route", "<sip:p1;lr>, <sip:p2;lr>")
    dialog = Dialog.from_response(request, Response(status=200, headers=headers), FLOW)
    bye = dialog.request("BYE")
    assert bye.headers.get_all("route") == ["<sip:p2;lr>", "<sip:p1;lr>"]
    assert (bye.cseq, bye.from_.tag, bye.to.tag) == (42, "f", "t")
    assert dialog.request("ACK", cseq=41).cseq == 41
    assert dialog.request("INFO").cseq == 43


def test_a_strict_router_gets_its_own_request_uri() -> None:
    """RFC 3261 §12.2.1.1: no lr on the first route."""
    dialog = Dialog.from_request(
        invite(("record-route", "<sip:p1;method=X>,<sip:p2;lr>")), "t", FLOW
    )
    bye = dialog.request("BYE")
    assert str(bye.uri) == "sip:p1"
    assert bye.headers.get_all("route") == ["<sip:p2;lr>", "<sip:al@10.0.0.1:5070>"]
    assert dialog.next_hop() == Hop("udp", "p1", 5060)


def test_next_hop_without_routes_is_the_target() -> None:
    dialog = Dialog.from_request(
        invite(contact="<sip:al@[2001:db8::1]:99;transport=TCP>"), "t", FLOW
    )
    assert dialog.next_hop() == Hop("tcp", "2001:db8::1", 99)
    dialog = Dialog.from_request(invite(contact="<sips:al@b.example>"), "t", FLOW)
    assert dialog.next_hop() == Hop("tls", "b.example", 5061, "b.example")


@pytest.mark.parametrize(
    ("contact", "status"),
    [
        ("*", 400),
        ("<sip:a@b>, <sip:c@d>", 400),
        ("<tel:+1>", 416),
        ("<sips:a@b>, <sips:a@c>", 400),
    ],
)
def test_a_contact_that_is_no_target(contact: str, status: int) -> None:
    with pytest.raises(SipParseError) as error:
        Dialog.from_request(invite(contact=contact), "t", FLOW)
    assert error.value.status == status


def test_matching_and_order() -> None:
    dialog = Dialog.from_request(invite(), "t", FLOW)
    request = invite()
    request.headers.set("to", ["<sip:whatever@z>;tag=t"])
    assert dialog.matches(request)
    for name, value in (
        ("to", "<sip:bob@y>;tag=other"),
        ("from", "<sip:al@x>;tag=other"),
        ("call-id", "other"),
    ):
        changed = request.headers.copy()
        changed.set(name, [value])
        assert not dialog.matches(Request(method="INVITE", uri=request.uri, headers=changed))
    for cseq, fine in ((41, True), (40, False), (50, True), (49, False)):
        request.headers.set("cseq", [f"{cseq} INVITE"])
        assert dialog.in_order(request) is fine
