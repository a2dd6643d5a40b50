"""What is refused before its meaning is looked at, in the order of RFC 3261 §8.2."""

from __future__ import annotations

import pytest

from ringtrue.telephony.sip.headers import Headers
from ringtrue.telephony.sip.message import Request
from ringtrue.telephony.sip.uas import examine
from ringtrue.telephony.sip.uri import parse_uri


def request(
    method: str, *headers: tuple[str, str], uri: str = "sip:a@b", body: bytes = b""
) -> Request:
    return Request(method=method, uri=parse_uri(uri), headers=Headers(headers), body=body)


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (request("PUBLISH", ("require", "x"), uri="tel:1"), 405),
        (request("invite"), 501),
        (request("OPTIONS", ("require", "x"), ("via", "SIP/2.0/TCP a"), uri="sips:a@b"), 416),
        (request("BYE", ("require", "outbound")), 420),
        (request("INVITE", ("require", "x"), ("content-type", "a/b"), body=b"x"), 420),
        (request("INVITE", ("accept", "")), 406),
        (request("INVITE", ("accept", "text/plain;q=1, image/*")), 406),
        (request("INVITE", ("content-type", "multipart/mixed;boundary=x"), body=b"x"), 415),
        (
            request(
                "INVITE",
                ("content-type", "application/sdp"),
                ("content-disposition", "render"),
                body=b"x",
            ),
            415,
        ),
    ],
)
def test_refused(given: Request, status: int) -> None:
    refusal = examine(given)
    assert refusal is not None
    assert refusal.status == status


@pytest.mark.parametrize(
    "given",
    [
        request("OPTIONS", ("content-type", "text/plain"), body=b"x"),
        request("OPTIONS", ("via", "SIP/2.0/TLS a"), uri="sips:a@b"),
        request("BYE", ("content-type", "text/plain"), body=b"x"),
        request("INVITE", ("proxy-require", "x"), ("supported", "100rel")),
        request("INVITE", ("accept", "text/plain, Application / SDP;q=0.5")),
        request("INVITE", ("accept", "*/*"), ("content-type", "application/sdp"), body=b"x"),
        request(
            "INVITE",
            ("content-type", "APPLICATION/SDP; charset=utf-8"),
            ("content-disposition", "session; handling=required"),
            ("content-encoding", "identity"),
            body=b"x",
        ),
    ],
)
def test_served(given: Request) -> None:
    body = given.body
    assert examine(given) is None
    assert given.body == body
