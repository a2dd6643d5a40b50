"""RTP packets (RFC 3550 §5).

Error tree::

    RingtrueError
    └── RtpError                  bytes that are no RTP or RTCP packet
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from ringtrue.streaming.errors import RingtrueError

VERSION: Final = 2
_HEADER: Final = struct.Struct("!BBHII")
_EXTENSION: Final = struct.Struct("!HH")
_PADDING, _EXTENDED, _MARKER = 0x20, 0x10, 0x80


class RtpError(RingtrueError):
    """The bytes are no RTP or RTCP packet; the text says what is wrong with them."""


@dataclass(slots=True, init=False)
class RtpPacket:
    """One RTP packet."""

    payload_type: int
    """0–127."""

    sequence_number: int
    """0–65535, wraps."""

    timestamp: int
    """32 bits, wraps; in units of the payload's RTP clock."""

    ssrc: int
    payload: bytes
    marker: bool = False
    csrc: tuple[int, ...] = ()
    extension: tuple[int, bytes] | None = None
    """Profile-defined number and data (RFC 3550 §5.3.1); a multiple of four bytes."""

    padding: int = 0
    """Bytes of padding, its count byte included; 0 for none."""

    # Written out: what a dataclass makes is not compiled, and every packet comes through here.
    def __init__(
        self,
        payload_type: int,
        sequence_number: int,
        timestamp: int,
        ssrc: int,
        payload: bytes,
        marker: bool = False,
        csrc: tuple[int, ...] = (),
        extension: tuple[int, bytes] | None = None,
        padding: int = 0,
    ) -> None:
        """As the fields say."""
        self.payload_type = payload_type
        self.sequence_number = sequence_number
        self.timestamp = timestamp
        self.ssrc = ssrc
        self.payload = payload
        self.marker = marker
        self.csrc = csrc
        self.extension = extension
        self.padding = padding

    @staticmethod
    def parse(data: bytes) -> RtpPacket:
        """Read one datagram.

        Raises :class:`RtpError`, and nothing else, on anything that is no RTP packet.
        """
        size = len(data)
        if size < 12:
            raise RtpError(f"RTP packet of {size} bytes; the header alone has 12")
        first, second, sequence_number, timestamp, ssrc = _HEADER.unpack_from(data)
        if first >> 6 != VERSION:
            raise RtpError(f"RTP version {first >> 6}, not {VERSION}")
        start = 12
        if first == 0x80:  # no padding, extension or CSRC: nearly every packet of a call
            payload = data[12:]
            return RtpPacket(
                second & 0x7F, sequence_number, timestamp, ssrc, payload, second > 0x7F
            )
        csrc: tuple[int, ...] = ()
        count = first & 0x0F
        if count:
            start += 4 * count
            if size < start:
                raise RtpError(f"{count} CSRC announced, packet of {size} bytes")
            csrc = struct.unpack_from(f"!{count}I", data, 12)
        extension = None
        if first & _EXTENDED:
            if size < start + 4:
                raise RtpError("extension header cut short")
            profile, words = _EXTENSION.unpack_from(data, start)
            start += 4
            if size < start + 4 * words:
                raise RtpError(f"extension of {words} words cut short")
            extension = (profile, data[start : start + 4 * words])
            start += 4 * words
        padding = 0
        if first & _PADDING:
            padding = data[-1]
            if not 0 < padding <= size - start:
                raise RtpError(f"padding of {padding} bytes, {size - start} there")
        return RtpPacket(
            payload_type=second & 0x7F,
            sequence_number=sequence_number,
            timestamp=timestamp,
            ssrc=ssrc,
            payload=data[start : size - padding],
            marker=second > 0x7F,
            csrc=csrc,
            extension=extension,
            padding=padding,
        )

    def serialize(self) -> bytes:
        """The packet's bytes."""
        first = VERSION << 6 | len(self.csrc)
        tail = b""
        if self.csrc:
            tail += struct.pack(f"!{len(self.csrc)}I", *self.csrc)
        if self.extension is not None:
            first |= _EXTENDED
            profile, content = self.extension
            tail += _EXTENSION.pack(profile, len(content) // 4) + content
        tail += self.payload
        if self.padding:
            first |= _PADDING
            tail += bytes(self.padding - 1) + bytes((self.padding,))
        second = self.payload_type | (_MARKER if self.marker else 0)
        header = _HEADER.pack(first, second, self.sequence_number, self.timestamp, self.ssrc)
        return header + tail


def is_rtcp(data: bytes) -> bool:
    """Whether a datagram of a multiplexed port is RTCP (RFC 5761 §4): types 192–223."""
    return len(data) > 1 and 192 <= data[1] <= 223


def sequence_delta(new: int, old: int) -> int:
    """``new − old`` of two sequence numbers modulo 2¹⁶, −32768…32767."""
    return ((new - old + 0x8000) & 0xFFFF) - 0x8000


def timestamp_delta(new: int, old: int) -> int:
    """``new − old`` of two timestamps modulo 2³², −2³¹…2³¹−1."""
    return ((new - old + 0x8000_0000) & 0xFFFF_FFFF) - 0x8000_0000
