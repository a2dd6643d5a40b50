"""Looking at messages without reading them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sip_texts import request, response

from ringtrue.telephony.sip.errors import SipParseError
from ringtrue.telephony.sip.message import parse_message
from ringtrue.telephony.sip.peek import MAX_CALL_ID, Peek, peek


def test_requests_and_responses() -> None:
    assert peek(request()) == Peek("c1", "INVITE")
    assert peek(request("BYE", to_tag="ours")) == Peek("c1", "BYE", None, "ours")
    assert peek(response(200)) == Peek("c1", "INVITE", 200, "ours")
    assert peek(b"\r\n\r\n" + request("OPTIONS")) == Peek("c1", "OPTIONS")


def test_what_begins_a_call() -> None:
    seen = [peek(request()), peek(request(to_tag="ours")), peek(request("OPTIONS"))]
    assert [each is not None and each.begins_call for each in seen] == [True, False, False]


def test_the_call_that_is_to_be_replaced() -> None:
    seen = peek(request(lines=("Replaces: old@x;to-tag=a;from-tag=b",)))
    assert seen is not None
    assert seen.replaces == "old@x"


def test_compact_and_folded_names() -> None:
    data = request().replace(b"Call-ID: c1", b"i  :\r\n  c9").replace(b"To:", b"t:")
    assert peek(data) == Peek("c9", "INVITE")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n\r\n",
        b"\0" * 2000,
        b"INVITE sip:a@b SIP/2.0\r\n",
        b"SIP/2.0 2x0 OK\r\nCall-ID: a\r\n\r\n",
        request().replace(b"Call-ID: c1", b"Call-ID:"),
        request(call_id="c" * (MAX_CALL_ID + 1)),
        request().replace(b"CSeq", b"C Seq"),
        request(lines=("X: y",) * 300),
    ],
)
def test_what_can_not_be_passed_on(data: bytes) -> None:
    assert peek(data) is None


@given(st.binary(max_size=400), st.integers(0, 300), st.integers(0, 300))
def test_hostile_bytes(noise: bytes, start: int, end: int) -> None:
    for whole in (request(to_tag="t", lines=("Replaces: a",)), response(180)):
        peek(whole[:start] + noise + whole[end:])
    peek(noise)


@given(st.text(max_size=40), st.text(max_size=40))
def test_whoever_parses_the_message_finds_the_same_call(call_id: str, tag: str) -> None:
    data = request(call_id="\0", to_tag=tag).replace(b"\0", call_id.encode("utf-8", "replace"))
    try:
        parsed = parse_message(data)
    except SipParseError:
        return
    seen = peek(data)
    if seen is None:
        return
    assert seen.call_id == parsed.call_id
