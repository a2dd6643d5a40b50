"""Cutting streams into messages, whatever the segments."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtrue.telephony.sip.errors import SipParseError
from ringtrue.telephony.sip.message import MAX_HEADER_BYTES
from ringtrue.telephony.sip.stream import PING, StreamFramer


def message(name: bytes, body: bytes, length: bytes = b"Content-Length") -> bytes:
    return (
        b"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\n"
        b"From: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCSeq: 1 OPTIONS\r\n"
        b"Call-ID: %b\r\n%b: %d\r\n\r\n%b" % (name, length, len(body), body)
    )


MESSAGES = [message(b"1", b""), message(b"2", b"\r\n\r\nbody\r\n\r\n", b"l"), message(b"3", b"x")]


def frames(chunks: list[bytes]) -> list[bytes]:
    framer, found = StreamFramer(), []
    for chunk in chunks:
        framer.feed(chunk)
        while (frame := framer.next()) is not None:
            found.append(frame)
    assert not framer.partial
    return found


@given(st.lists(st.integers(1, 500), max_size=30))
def test_segments_dont_matter(cuts: list[int]) -> None:
    data = MESSAGES[0] + b"\r\n" + MESSAGES[1] + b"\r\n\r\n" + MESSAGES[2] + b"\r\n\r\n"
    places = [0, *sorted({c for c in cuts if c < len(data)}), len(data)]
    chunks = [data[a:b] for a, b in zip(places, places[1:], strict=False)]
    assert frames(chunks) == [MESSAGES[0], MESSAGES[1], PING, MESSAGES[2], PING]


def test_byte_by_byte() -> None:
    data = b"".join(MESSAGES)
    assert frames([data[i : i + 1] for i in range(len(data))]) == MESSAGES


def test_partial_is_known() -> None:
    framer = StreamFramer()
    assert not framer.partial
    for part in (b"\r", b"\n"):
        framer.feed(part)
        assert framer.next() is None
        assert not framer.partial
    framer.feed(b"O")
    assert framer.next() is None
    assert framer.partial


@pytest.mark.parametrize(
    ("length", "status"),
    [
        (b"", 400),
        (b"Content-Length: -1\r\n", 400),
        (b"Content-Length: 1\r\nl: 1\r\n", 400),
        (b"Content-Length: 1\r\nl: 2\r\n", 400),
        (b"Content-Length: 65537\r\n", 413),
        (b"Content-Length: " + b"9" * 30 + b"\r\n", 400),
    ],
)
def test_a_stream_that_lost_its_framing_can_be_answered(length: bytes, status: int) -> None:
    framer = StreamFramer()
    framer.feed(MESSAGES[0].replace(b"Content-Length: 0\r\n", length))
    with pytest.raises(SipParseError) as error:
        framer.next()
    assert error.value.status == status
    assert error.value.fragment is not None


def test_headers_are_bounded() -> None:
    framer = StreamFramer()
    framer.feed(b"x" * (MAX_HEADER_BYTES + 1))
    with pytest.raises(SipParseError, match="headers over"):
        framer.next()


@given(st.lists(st.binary(max_size=60), max_size=12))
def test_noise_never_raises_anything_else(chunks: list[bytes]) -> None:
    framer = StreamFramer()
    try:
        for chunk in chunks:
            framer.feed(chunk)
            while framer.next() is not None:
                pass
    except SipParseError:
        pass
