"""Responses and where they go."""

from __future__ import annotations

from ringtrue.telephony.sip.errors import Fragment
from ringtrue.telephony.sip.headers import Headers, parse_via
from ringtrue.telephony.sip.message import Request, parse_message
from ringtrue.telephony.sip.responses import make_fragment_response, make_response, mark_source
from ringtrue.telephony.sip.transport import Hop, request_hop, response_hop
from ringtrue.telephony.sip.uri import SipUri, parse_uri

SOURCE = Hop("udp", "203.0.113.1", 40000)


def request() -> Request:
    headers = Headers(
        [
            ("via", "SIP/2.0/UDP a:99;branch=1;rport, SIP/2.0/UDP b;branch=2"),
            ("via", "SIP/2.0/TCP c;branch=3"),
            ("record-route", "<sip:p;lr>"),
            ("from", "<sip:a@b>;tag=f"),
            ("to", "sip:c@d"),
            ("call-id", "i"),
            ("cseq", "1 INVITE"),
            ("timestamp", "54"),
        ]
    )
    return Request(method="INVITE", uri=parse_uri("sip:c@d"), headers=headers)


def test_what_is_copied() -> None:
    """RFC 3261 §8.2.6.2 and §12.1.1."""
    trying = make_response(request(), 100, to_tag="t")
    assert (trying.headers.get("to"), trying.headers.get("timestamp")) == ("sip:c@d", "54")
    assert "record-route" not in trying.headers
    ok = make_response(request(), 200, to_tag="t", extra=(("allow", "X"),), body=b"b")
    assert ok.headers.get("to") == "sip:c@d;tag=t"
    assert ok.headers.get("record-route") == "<sip:p;lr>"
    assert "timestamp" not in ok.headers
    assert ok.headers.get_all("via") == request().headers.get_all("via")
    again = parse_message(ok.encode())
    assert (again.to.tag, again.body, again.headers.get("allow")) == ("t", b"b", "X")
    busy = make_response(request(), 486, to_tag="t")
    assert "record-route" not in busy.headers
    assert make_response(request(), 699).start_line() == "SIP/2.0 699 Unknown"
    tagged = request()
    tagged.headers.set("to", ["<sip:c@d>;tag=mine"])
    assert make_response(tagged, 200, to_tag="t").to.tag == "mine"


def test_the_source_is_marked_in_the_top_via_alone() -> None:
    marked = request()
    mark_source(marked, SOURCE)
    assert marked.headers.get_all("via") == [
        "SIP/2.0/UDP a:99;branch=1;received=203.0.113.1;rport=40000",
        "SIP/2.0/UDP b;branch=2",
        "SIP/2.0/TCP c;branch=3",
    ]


def test_where_responses_go() -> None:
    """The source address always; the port by rport, else sent-by; maddr never."""
    cases = {
        "SIP/2.0/UDP a:99;rport": 40000,
        "SIP/2.0/UDP a:99": 99,
        "SIP/2.0/UDP a": 5060,
        "SIP/2.0/UDP a:7;maddr=255.255.255.255": 7,
    }
    for via, port in cases.items():
        assert response_hop(parse_via(via), SOURCE) == Hop("udp", "203.0.113.1", port)
    stream = Hop("tcp", "203.0.113.1", 40000)
    assert response_hop(parse_via("SIP/2.0/TCP a:99"), stream) == stream


def test_where_requests_go() -> None:
    assert request_hop(SipUri("h")) == Hop("udp", "h", 5060)
    assert request_hop(SipUri("h", 99), "tcp") == Hop("tcp", "h", 99)
    uri = parse_uri("sip:a@h;transport=tcp")
    assert isinstance(uri, SipUri)
    assert request_hop(uri) == Hop("tcp", "h", 5060)


def test_the_answer_to_a_fragment() -> None:
    fragment = Fragment(
        "INVITE",
        ("SIP/2.0/UDP a:99;branch=1", "SIP/2.0/UDP b"),
        {"from": "<sip:a@b>;tag=f", "to": '"x', "cseq": "x y"},
    )
    response = make_fragment_response(fragment, 400, SOURCE, to_tag="t", detail='a "b"\r\nc')
    assert response is not None
    assert response.encode() == (
        b"SIP/2.0 400 Bad Request\r\n"
        b"Via: SIP/2.0/UDP a:99;branch=1;received=203.0.113.1\r\n"
        b"Via: SIP/2.0/UDP b\r\n"
        b"From: <sip:a@b>;tag=f\r\n"
        b'To: "x;tag=t\r\n'
        b"CSeq: x y\r\n"
        b'Warning: 399 ringtrue "a ?b???c"\r\n'
        b"Content-Length: 0\r\n\r\n"
    )
    nothing = Fragment("INVITE", (), {})
    assert make_fragment_response(nothing, 400, SOURCE, to_tag="t", detail="") is None
