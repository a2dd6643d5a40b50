"""RTCP: compound packets there and back, every truncation, any bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtrue.telephony.rtp.packet import RtpError
from ringtrue.telephony.rtp.rtcp import (
    Goodbye,
    ReceiverReport,
    ReportBlock,
    Rtcp,
    SenderReport,
    SourceDescription,
    build_compound,
    parse_compound,
)

BLOCK = ReportBlock(0xCAFE, 25, -3, 70_000, 480, 0x12345678, 65_536)
COMPOUND: list[Rtcp] = [
    SenderReport(1, 0x83AA7E80_80000000, 160, 50, 8000, (BLOCK,)),
    SourceDescription(1, "a1b2c3"),
    Goodbye((1, 2)),
]


def test_a_compound_packet_survives_the_round_trip() -> None:
    assert parse_compound(build_compound(COMPOUND)) == COMPOUND


def test_the_bytes_are_those_of_the_rfc() -> None:
    data = build_compound([ReceiverReport(7), SourceDescription(7, "ab")])
    assert data == bytes.fromhex("80c90001 00000007 81ca0003 00000007 01026162 00000000")


@pytest.mark.parametrize("length", range(9))
def test_descriptions_are_padded_to_words(length: int) -> None:
    packets: list[Rtcp] = [SourceDescription(7, "x" * length), Goodbye((7,))]
    data = build_compound(packets)
    assert len(data) % 4 == 0
    assert parse_compound(data) == packets


def test_unknown_types_and_items_are_passed_over() -> None:
    application = bytes.fromhex("80cc0002 00000001 74657374")
    note = bytes.fromhex("81ca0004 00000009 0703 686579 0102 6162 000000")
    assert parse_compound(application + note) == [SourceDescription(9, "ab")]


def test_padding_of_the_last_packet_is_dropped() -> None:
    padded = bytes.fromhex("a0c90002 00000007 00000004")
    assert parse_compound(padded) == [ReceiverReport(7)]
    with pytest.raises(RtpError, match="padding"):
        parse_compound(padded + build_compound([Goodbye((7,))]))


def test_truncations_are_refused_or_end_at_a_packet() -> None:
    data = build_compound(COMPOUND)
    whole = {len(build_compound(COMPOUND[:count])): count for count in range(1, 4)}
    for size in range(len(data)):
        if size in whole:
            assert parse_compound(data[:size]) == COMPOUND[: whole[size]]
        else:
            with pytest.raises(RtpError):
                parse_compound(data[:size])


@given(st.binary(max_size=120))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for kind in (b"", b"\x81\xc8", b"\x9f\xc9", b"\x9f\xca", b"\x9f\xcb", b"\xa1\xca\x00\x04"):
        try:
            parse_compound(kind + data)
        except RtpError:
            continue
