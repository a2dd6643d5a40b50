"""RTP packets: round trips, every truncation, any bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtrue.telephony.rtp.packet import (
    RtpError,
    RtpPacket,
    is_rtcp,
    sequence_delta,
    timestamp_delta,
)

PLAIN = bytes.fromhex("8000 15f4 00000d70 3f5a2c11") + bytes(range(160))
FULL = (
    bytes.fromhex("b289 0001 ffffffff 01020304 0000000a 0000000b bede 0001 10ff0000")
    + b"payload!"
    + bytes.fromhex("00000004")
)


def test_reads_a_plain_packet() -> None:
    packet = RtpPacket.parse(PLAIN)
    assert packet == RtpPacket(0, 0x15F4, 0xD70, 0x3F5A2C11, bytes(range(160)))
    assert packet.serialize() == PLAIN


def test_reads_csrc_extension_and_padding() -> None:
    packet = RtpPacket.parse(FULL)
    assert packet == RtpPacket(
        payload_type=9,
        sequence_number=1,
        timestamp=0xFFFFFFFF,
        ssrc=0x01020304,
        payload=b"payload!",
        marker=True,
        csrc=(10, 11),
        extension=(0xBEDE, bytes.fromhex("10ff0000")),
        padding=4,
    )
    assert packet.serialize() == FULL


@pytest.mark.parametrize("whole", [PLAIN, FULL], ids=["plain", "full"])
def test_every_truncation_is_refused_or_shorter(whole: bytes) -> None:
    for size in range(len(whole)):
        try:
            packet = RtpPacket.parse(whole[:size])
        except RtpError:
            continue
        assert len(packet.payload) <= size - 12
    for size in range(12):
        with pytest.raises(RtpError, match="12"):
            RtpPacket.parse(whole[:size])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x40" + PLAIN[1:], "version 1"),
        (b"\x8f" + PLAIN[1:40], "15 CSRC"),
        (b"\x90" + PLAIN[1:12] + b"\xbe\xde", "extension header"),
        (b"\x90" + PLAIN[1:12] + b"\xbe\xde\xff\xff", "65535 words"),
        (b"\xa0" + PLAIN[1:12] + b"\x00", "padding of 0"),
        (b"\xa0" + PLAIN[1:12] + b"\x02", "padding of 2"),
        (b"\xa0" + PLAIN[1:12], "padding"),
    ],
)
def test_what_is_wrong_is_named(data: bytes, why: str) -> None:
    with pytest.raises(RtpError, match=why):
        RtpPacket.parse(data)


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for candidate in (data, b"\xbf" + data, b"\x80" + data):
        try:
            packet = RtpPacket.parse(candidate)
        except RtpError:
            continue
        assert RtpPacket.parse(packet.serialize()) == packet


@given(
    st.builds(
        RtpPacket,
        payload_type=st.integers(0, 127),
        sequence_number=st.integers(0, 0xFFFF),
        timestamp=st.integers(0, 0xFFFFFFFF),
        ssrc=st.integers(0, 0xFFFFFFFF),
        payload=st.binary(max_size=40),
        marker=st.booleans(),
        csrc=st.lists(st.integers(0, 0xFFFFFFFF), max_size=15).map(tuple),
        extension=st.none()
        | st.tuples(st.integers(0, 0xFFFF), st.integers(0, 4).map(lambda n: bytes(4 * n))),
        padding=st.integers(0, 255),
    )
)
def test_every_packet_survives_the_round_trip(packet: RtpPacket) -> None:
    assert RtpPacket.parse(packet.serialize()) == packet


def test_differences_wrap() -> None:
    assert sequence_delta(2, 65534) == 4
    assert sequence_delta(65534, 2) == -4
    assert timestamp_delta(5, 0xFFFFFFFB) == 10
    assert timestamp_delta(0xFFFFFFFB, 5) == -10


def test_rtcp_is_told_from_rtp_on_one_port() -> None:
    assert is_rtcp(bytes([0x80, 200]))
    assert not is_rtcp(bytes([0x80, 0]))
    assert not is_rtcp(bytes([0x80, 0x80 | 9]))
    assert not is_rtcp(b"\x80")
