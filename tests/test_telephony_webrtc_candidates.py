"""SDP fragments of trickle ICE."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtrue.telephony.webrtc.candidates import (
    MAX_FRAGMENT,
    Fragment,
    FragmentError,
    offered_ufrag,
    parse_fragment,
)

HOST = "candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw"
MDNS = "candidate:0 1 UDP 2122252543 6f2b0f5c-0c1e-4a3e-9e7d-6a1d7b1b2c3d.local 51000 typ host"
RELAY = (
    "candidate:3471623853 1 tcp 1518280447 2001:db8::7 9 typ relay raddr 0.0.0.0 rport 0 "
    "tcptype active"
)


def test_a_fragment_as_in_rfc_9725() -> None:
    text = (
        "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n"
        "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n"
        f"a={HOST}\r\na={RELAY}\r\na=end-of-candidates\r\n"
    )
    assert parse_fragment(text) == Fragment("EsAw", (HOST, RELAY), True)


def test_candidates_alone_and_their_end_alone() -> None:
    assert parse_fragment(f"a=mid:0\na={MDNS}\n") == Fragment(None, (MDNS,), False)
    assert parse_fragment("a=end-of-candidates") == Fragment(None, (), True)
    assert parse_fragment("a=x-later:1\r\na=end-of-candidates\r\n").complete


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "neither"),
        ("a=mid:0\r\n", "neither"),
        ("a=candidate:", "8839"),
        ("a=candidate:1 1 udp 1 192.0.2.1 typ host", "8839"),
        ("a=candidate:1 1 udp 1 192.0.2.1 65536 typ host", "8839"),
        ("a=ice-ufrag:ab\r\na=end-of-candidates", "ice-ufrag is not"),
        ("a=ice-ufrag:abcd\r\na=ice-ufrag:abce\r\na=end-of-candidates", "differs"),
        ("v=0\r\na=end-of-candidates", "neither an attribute"),
        ("a=" + "x" * 600, "600|602"),
        ("a" * (MAX_FRAGMENT + 1), str(MAX_FRAGMENT)),
    ],
)
def test_a_bad_fragment_says_why(text: str, says: str) -> None:
    with pytest.raises(FragmentError, match=says):
        parse_fragment(text)


@given(st.text(max_size=2000))
def test_nonsense_is_a_documented_error_or_a_fragment(text: str) -> None:
    try:
        fragment = parse_fragment(text)
    except FragmentError:
        return
    assert fragment.candidates or fragment.complete


def test_the_generation_of_an_offer() -> None:
    assert offered_ufrag("v=0\r\na=ice-ufrag:EsAw\r\n") == "EsAw"
    assert offered_ufrag("v=0\r\n") is None
