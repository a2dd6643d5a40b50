"""SIP URIs: what is read, what is written, what is refused."""

from __future__ import annotations

import pytest

from ringtrue.telephony.sip.errors import SipParseError
from ringtrue.telephony.sip.uri import OtherUri, SipUri, host_port, parse_host_port, parse_uri


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("sip:host", SipUri("host")),
        ("sips:al@host:5061", SipUri("host", 5061, "al", scheme="sips")),
        ("sip:al:secret@host", SipUri("host", user="al", password="secret")),
        (
            "sip:al@host;lr;transport=tcp",
            SipUri("host", user="al", params=(("lr", None), ("transport", "tcp"))),
        ),
        ("sip:al@[2001:db8::1]:5070", SipUri("2001:db8::1", 5070, "al")),
        ("sip:[2001:db8::10:5070]", SipUri("2001:db8::10:5070")),
        ("sip:user;par=u%40x@host", SipUri("host", user="user;par=u%40x")),
        ("sip:h?Subject=x", SipUri("h", headers="Subject=x")),
        ("tel:+1-555", OtherUri("tel", "+1-555")),
    ],
)
def test_read_and_written(text: str, uri: SipUri | OtherUri) -> None:
    assert parse_uri(text) == uri
    assert str(uri) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        "sip:",
        "sip:al@",
        "sip: host",
        "sip:ho st",
        "sip:2001:db8::10",
        "sip:[2001:db8::10",
        "sip:[2001:db8:::192.0.2.1]",
        "sip:[::1]x",
        "sip:host:",
        "sip:host:0",
        "sip:host:65536",
        "sip:host:5060;",
        "sip:300.1.1.1",
        "sip:a..b",
        "sip:a%4@host",
        "sip:a@b@host",
        "sip:host;=x",
        "sip:host;a=",
        "<sip:host>",
        "sip:höst",
        "9ip:host",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(SipParseError):
        parse_uri(text)


def test_parameters_and_text() -> None:
    uri = parse_uri("sip:I%20am%00@host;Transport=TCP;lr;method=BYE?X=y")
    assert isinstance(uri, SipUri)
    assert (uri.transport, uri.param("lr"), uri.param("none")) == ("tcp", "", None)
    assert uri.user_text == "I am\0"
    assert str(uri.bare()) == "sip:I%20am%00@host;Transport=TCP;lr"


def test_host_and_port() -> None:
    assert parse_host_port("[::1]") == ("::1", None)
    assert parse_host_port("h:1") == ("h", 1)
    assert host_port("::1", 5060) == "[::1]:5060"
    assert host_port("h", None) == "h"
