"""Worker messages: round trip in any pieces, hostile bytes."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtrue.streaming.recognizers.wire import (
    MAX_PAYLOAD,
    Kind,
    Message,
    MessageReader,
    WireError,
)

messages = st.builds(
    Message, st.sampled_from(Kind), st.integers(0, 2**32 - 1), st.binary(max_size=300)
)


@given(st.lists(messages, max_size=8), st.lists(st.integers(1, 60), min_size=1, max_size=20))
def test_round_trip_in_any_pieces(sent: list[Message], sizes: list[int]) -> None:
    data = b"".join(message.encode() for message in sent)
    reader, received, position, turn = MessageReader(), [], 0, 0
    while position < len(data):
        size = sizes[turn % len(sizes)]
        received += reader.feed(data[position : position + size])
        position, turn = position + size, turn + 1
    assert received == sent


@given(st.binary(max_size=200))
def test_hostile_bytes_raise_nothing_else(data: bytes) -> None:
    with contextlib.suppress(WireError):
        MessageReader().feed(data)


def test_unknown_kind_is_named() -> None:
    with pytest.raises(WireError, match="kind 99"):
        MessageReader().feed(struct.pack("<BII", 99, 1, 0))


def test_oversized_payload_is_refused_before_it_is_read() -> None:
    with pytest.raises(WireError, match=str(MAX_PAYLOAD + 1)):
        MessageReader().feed(struct.pack("<BII", Kind.AUDIO, 1, MAX_PAYLOAD + 1))
