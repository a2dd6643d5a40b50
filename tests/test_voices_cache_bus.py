from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtrue.voices.cache.bus import MAX_MESSAGE, News, Revocation, packed, unpacked

VOICE = "v_0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize("news", News)
def test_what_is_packed_is_unpacked(news: News) -> None:
    revocation = Revocation(VOICE, news)
    message = packed(revocation, "a" * 16)
    assert len(message) <= MAX_MESSAGE
    assert unpacked(message) == (revocation, "a" * 16)


def good(**changes: object) -> bytes:
    fields: dict[str, object] = {"voice": VOICE, "news": "erased", "from": "me"}
    return json.dumps(fields | changes).encode()


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b"[" * 500,
        good(voice="ada"),
        good(voice=None),
        good(voice=VOICE + "\n"),
        good(news="resurrected"),
        good(news=["erased"]),
        good(news=None),
        good(**{"from": 7}),
        good(**{"from": "x" * 65}),
        good(padding="x" * MAX_MESSAGE),
        1,
        None,
        "text",
    ],
)
def test_anything_else_is_no_message(message: object) -> None:
    assert unpacked(good()) is not None
    assert unpacked(message) is None


@given(st.binary(max_size=600))
def test_no_bytes_raise(message: bytes) -> None:
    unpacked(message)
