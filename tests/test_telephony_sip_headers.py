"""Header values an endpoint must understand."""

from __future__ import annotations

import pytest

from ringtrue.telephony.sip.errors import SipParseError
from ringtrue.telephony.sip.headers import (
    Headers,
    parse_call_id,
    parse_cseq,
    parse_name_addr,
    parse_number,
    parse_params,
    parse_via,
    recover_via,
    split_list,
)


def test_container_expands_compact_forms_and_ignores_case() -> None:
    headers = Headers([("I", "x"), ("Via", "one"), ("v", "two"), ("X-Own", "")])
    assert headers.get("CALL-ID") == "x"
    assert headers.get_all("via") == ["one", "two"]
    assert "x-own" in headers
    assert "y-own" not in headers
    headers.set("via", ["three"])
    headers.prepend("Max-Forwards", "70")
    assert list(headers) == [
        ("max-forwards", "70"),
        ("call-id", "x"),
        ("via", "three"),
        ("x-own", ""),
    ]
    copy = headers.copy()
    copy.add("a", "b")
    assert headers.get("accept-contact") is None


def test_lists_split_outside_quotes_and_brackets() -> None:
    assert split_list('"a,\\"b" <sip:x,y@h>, <sip:z>;p="1,2" , c') == [
        '"a,\\"b" <sip:x,y@h>',
        '<sip:z>;p="1,2"',
        "c",
    ]
    for broken in ("", "a,", ",a", "a,,b", 'a "b', "<sip:x"):
        with pytest.raises(SipParseError):
            split_list(broken)


@pytest.mark.parametrize(
    ("text", "display", "uri", "tag"),
    [
        ("sip:a@b;tag=1", "", "sip:a@b", "1"),
        ("<sip:a@b;lr>;tag=1", "", "sip:a@b;lr", "1"),
        ("Al B<sip:a@b>", "Al B", "sip:a@b", None),
        ('"A \\"<B>\\"" <sip:a@b> ; tag = x', '"A \\"<B>\\""', "sip:a@b", "x"),
        ("<tel:+1>;tag", "", "tel:+1", None),
    ],
)
def test_name_addr(text: str, display: str, uri: str, tag: str | None) -> None:
    address = parse_name_addr(text)
    assert (address.display, str(address.uri), address.tag) == (display, uri, tag)
    again = parse_name_addr(str(address.with_tag("new")))
    assert (again.uri, again.tag) == (address.uri, "new")


@pytest.mark.parametrize(
    "text",
    [
        '"open <sip:a@b>',
        '"x" sip:a@b',
        "Bell, A <sip:a@b>",
        "< sip:a@b >",
        "<sip:a@b",
        "sip:a@b?X=y",
        "sip:a@b,sip:c@d",
        "<sip:a@b>;;",
        "<sip:a@b> x",
        "<sip:a@b>;tag=",
    ],
)
def test_bad_name_addr(text: str) -> None:
    with pytest.raises(SipParseError):
        parse_name_addr(text)


def test_via() -> None:
    via = parse_via(" SIP / 2.0 /  udp  [2001:db8::1] : 5070 ;branch=z9;received=[::2] ;rport")
    assert (via.transport, via.host, via.port) == ("UDP", "2001:db8::1", 5070)
    assert (via.branch, via.rport) == ("z9", "")
    assert str(via) == "SIP/2.0/UDP [2001:db8::1]:5070;branch=z9;received=[::2];rport"
    for broken in ("", "SIP/2.0/UDP", "SIP/2.0/UDP h;;", "SIP/2.0/UDP h:x", "HTTP/1.1 h", "x"):
        with pytest.raises(SipParseError):
            parse_via(broken)
    recovered = recover_via("SIP/2.0/UDP h:99;;,")
    assert recovered is not None
    assert str(recovered) == "SIP/2.0/UDP h:99"
    assert recover_via("nonsense") is None


def test_via_marks_the_source() -> None:
    """RFC 3261 §18.2.1 and RFC 3581 §4; a received that came along is not believed."""
    plain = parse_via("SIP/2.0/UDP 10.0.0.1;branch=b")
    assert plain.seen_from("10.0.0.1", 5060) is plain
    assert str(plain.seen_from("10.0.0.2", 9)).endswith(";branch=b;received=10.0.0.2")
    asked = parse_via("SIP/2.0/UDP 10.0.0.1;rport;branch=b;received=1.2.3.4")
    assert str(asked.seen_from("10.0.0.1", 9)).endswith(";branch=b;received=10.0.0.1;rport=9")


def test_numbers_and_names() -> None:
    assert parse_cseq("0009  INVITE") == (9, "INVITE")
    assert parse_cseq("2147483647 A") == (2147483647, "A")
    assert parse_call_id("a%b@c") == "a%b@c"
    assert parse_number("Max-Forwards", "0068", 255) == 68
    assert parse_params(' ; a ; b = "x;y" ') == (("a", None), ("b", '"x;y"'))
    for broken in ("2147483648 A", "9" * 30 + " A", "-1 A", "1", "A 1", "\u0661 A"):
        with pytest.raises(SipParseError):
            parse_cseq(broken)
    for broken in ("a b", "a@b@c", "é"):
        with pytest.raises(SipParseError):
            parse_call_id(broken)
    for broken in ("256", "-1", "", "1x", "\u0661"):
        with pytest.raises(SipParseError, match="Max-Forwards"):
            parse_number("Max-Forwards", broken, 255)
