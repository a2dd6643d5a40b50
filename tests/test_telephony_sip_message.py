"""Messages: round trips, truncation, mutation; nothing but SipParseError ever comes out."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ringtrue.telephony.sip.errors import SipParseError
from ringtrue.telephony.sip.message import (
    MAX_BODY_BYTES,
    MAX_HEADER_BYTES,
    Message,
    Request,
    Response,
    parse_message,
    parse_target,
)

INVITE = (
    b"INVITE sip:bob@example.com SIP/2.0\r\n"
    b"v: SIP/2.0/UDP p.example.com:5070;branch=z9hG4bK2;rport,"
    b" SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1\r\n"
    b"Max-Forwards: 69\r\n"
    b'f: "Al \xc3\xa9 \\" x" <sip:al@example.com>\r\n ;tag=a1\r\n'
    b"t: sip:bob@example.com\r\n"
    b"i: 38@10.0.0.1\r\n"
    b"CSeq: 7 INVITE\r\n"
    b"Record-Route: <sip:p.example.com;lr>\r\n"
    b"m: <sip:al@10.0.0.1:5061>\r\n"
    b"Supported: timer, 100rel\r\n"
    b"c: application/SDP;charset=utf-8\r\n"
    b"l: 3\r\n"
    b"\r\n"
    b"v=0"
)
OK = INVITE.replace(b"INVITE sip:bob@example.com SIP/2.0", b"SIP/2.0 200 All right")
VALID = (INVITE, OK)


def touch(message: Message) -> None:
    """Use every typed property: none may raise after parsing."""
    _ = (message.via, message.from_, message.to, message.call_id, message.cseq)
    _ = (message.cseq_method, message.contact, message.record_route, message.content_type)
    _ = (message.retry_after, message.tokens("require"), message.tokens("accept"))
    if isinstance(message, Request):
        _ = message.max_forwards


def attempt(data: bytes, *, stream: bool = False) -> Message | None:
    """Parse; what is accepted is also used, and what is refused gets a known status."""
    try:
        message = parse_message(data, stream=stream)
    except SipParseError as error:
        if error.status not in (400, 413, 505):
            raise AssertionError(f"status {error.status}") from error
        return None
    touch(message)
    return message


def test_request_is_read() -> None:
    message = parse_message(INVITE)
    assert isinstance(message, Request)
    assert (message.method, str(message.uri), message.max_forwards) == (
        "INVITE",
        "sip:bob@example.com",
        69,
    )
    assert (message.via.host, message.via.port, message.via.branch) == (
        "p.example.com",
        5070,
        "z9hG4bK2",
    )
    assert (message.from_.tag, message.to.tag, message.call_id) == ("a1", None, "38@10.0.0.1")
    assert (message.cseq, message.cseq_method) == (7, "INVITE")
    assert [str(r) for r in message.record_route] == ["<sip:p.example.com;lr>"]
    assert str(message.contact) == "<sip:al@10.0.0.1:5061>"
    assert message.tokens("supported") == ["timer", "100rel"]
    assert (message.content_type, message.body) == ("application/sdp", b"v=0")


def test_response_is_read() -> None:
    message = parse_message(OK)
    assert isinstance(message, Response)
    assert (message.status, message.reason, message.success) == (200, "All right", True)


@pytest.mark.parametrize("data", VALID)
def test_written_and_read_again(data: bytes) -> None:
    once = parse_message(data).encode()
    assert parse_message(once).encode() == once
    assert b'"Al \xc3\xa9 \\" x"' in once
    assert once.endswith(b"Content-Length: 3\r\n\r\nv=0")


def test_length_rules_of_a_datagram() -> None:
    assert parse_message(INVITE + b"more").body == b"v=0"
    assert parse_message(INVITE.replace(b"l: 3\r\n", b"") + b"12").body == b"v=012"
    with pytest.raises(SipParseError, match="Content-Length is 3") as error:
        parse_message(INVITE[:-1])
    assert error.value.status == 400


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b" SIP/2.0\r\nv:", b" SIP/2.1\r\nv:", 505),
        (b" SIP/2.0\r\nv:", b" HTTP/1.1\r\nv:", 400),
        (b"INVITE sip", b"INVITE  sip", 400),
        (b"sip:bob@example.com SIP", b"sip:bob@example.com?X=y SIP", 400),
        (b"7 INVITE", b"7 BYE", 400),
        (b"7 INVITE", b"2147483648 INVITE", 400),
        (b"i: 38@10.0.0.1\r\n", b"", 400),
        (b"i: 38@10.0.0.1\r\n", b"i: a\r\nCall-ID: b\r\n", 400),
        (b"Max-Forwards: 69", b"Max-Forwards: 256", 400),
        (b"Max-Forwards: 69", b"Max Forwards: 69", 400),
        (b"Max-Forwards: 69", b"no colon", 400),
        (b"Max-Forwards: 69", b"X: bare\nline", 400),
        (b"l: 3", b"l: -3", 400),
        (b"l: 3", b"l: 3, 3", 400),
        (b"m: <sip:al@10.0.0.1:5061>", b"m: sip:al@h?a=b", 400),
    ],
)
def test_broken_requests_can_still_be_answered(old: bytes, new: bytes, status: int) -> None:
    assert old in INVITE
    with pytest.raises(SipParseError) as error:
        parse_message(INVITE.replace(old, new))
    assert error.value.status == status
    fragment = error.value.fragment
    assert fragment is not None
    assert fragment.method == "INVITE"
    assert fragment.vias[0].startswith("SIP/2.0/UDP p.example.com:5070")
    assert "a1" in fragment.headers["from"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n\r\n",
        b"\0" * 4,
        b"hello",
        b"GET / HTTP/1.1\r\n\r\n",
        INVITE.replace(b"INVITE", b"ACK").replace(b"7 ACK", b"8 INVITE"),
        OK.replace(b"200", b"99"),
        OK.replace(b"200", b"700"),
        OK.replace(b"200", b"2000"),
    ],
)
def test_what_must_not_be_answered_has_no_fragment(data: bytes) -> None:
    with pytest.raises(SipParseError) as error:
        parse_message(data)
    fragment = error.value.fragment
    assert fragment is None or not fragment.vias


def test_sizes_are_bounded() -> None:
    body = b"x" * (MAX_BODY_BYTES + 1)
    big = INVITE.replace(b"l: 3", b"l: %d" % len(body)).replace(b"v=0", body)
    with pytest.raises(SipParseError) as error:
        parse_message(big)
    assert error.value.status == 413
    with pytest.raises(SipParseError, match="headers of"):
        parse_message(INVITE.replace(b"CSeq", b"X: " + b"y" * MAX_HEADER_BYTES + b"\r\nCSeq"))
    with pytest.raises(SipParseError, match="header lines"):
        parse_message(INVITE.replace(b"CSeq", b"X:\r\n" * 300 + b"CSeq"))


def test_a_stream_needs_content_length() -> None:
    with pytest.raises(SipParseError, match="no Content-Length"):
        parse_message(INVITE.replace(b"l: 3\r\n", b""), stream=True)


@pytest.mark.parametrize("data", VALID)
def test_every_truncation_is_refused(data: bytes) -> None:
    for end in range(len(data)):
        with pytest.raises(SipParseError):
            parse_message(data[:end])


@given(st.binary(max_size=300))
@example(b"INVITE ")
def test_noise_never_raises_anything_else(data: bytes) -> None:
    attempt(data)


@given(
    st.sampled_from(VALID),
    st.lists(
        st.tuples(st.integers(0, 600), st.integers(0, 12), st.binary(max_size=8)),
        min_size=1,
        max_size=4,
    ),
    st.booleans(),
)
def test_mutations_never_raise_anything_else(
    data: bytes, edits: list[tuple[int, int, bytes]], stream: bool
) -> None:
    for at, cut, put in edits:
        data = data[:at] + put + data[at + cut :]
    message = attempt(data, stream=stream)
    if message is not None:
        again = parse_message(message.encode())
        assert again.encode() == message.encode()


@given(st.lists(st.sampled_from(INVITE.split(b"\r\n")[1:-2]), min_size=1, max_size=14))
def test_shuffled_and_doubled_headers_never_raise_anything_else(lines: list[bytes]) -> None:
    data = b"\r\n".join([INVITE.split(b"\r\n")[0], *lines, b"", b"v=0"])
    attempt(data)


def test_targets() -> None:
    assert str(parse_target("sip:a@b:5070;transport=TCP")) == "sip:a@b:5070;transport=TCP"
    assert str(parse_target("sips:a@b")) == "sips:a@b"
    for bad in ("tel:1", "sips:a@b;transport=udp", "sip:a@b;transport=ws"):
        with pytest.raises(SipParseError, match="can't call"):
            parse_target(bad)
