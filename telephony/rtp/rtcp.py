"""RTCP: sender and receiver reports, source descriptions, goodbyes (RFC 3550 §6)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from ringtrue.telephony.rtp.packet import VERSION, RtpError

SR: Final = 200
RR: Final = 201
SDES: Final = 202
BYE: Final = 203

_U32: Final = 0xFFFF_FFFF

_CNAME: Final = 1
_HEADER: Final = struct.Struct("!BBH")
_SENDER: Final = struct.Struct("!IQIII")
_BLOCK: Final = struct.Struct("!IIIIII")


@dataclass(frozen=True, slots=True)
class ReportBlock:
    """What a receiver says of one source (RFC 3550 §6.4.1)."""

    ssrc: int
    """The source reported on."""

    fraction_lost: int
    """Lost since the last report, in 1/256."""

    cumulative_lost: int
    """Lost since the start, 24 bits signed: duplicates may make it negative."""

    highest_sequence: int
    """Extended highest sequence number received."""

    jitter: int
    """Interarrival jitter in RTP timestamp units."""

    last_sr: int
    """Middle 32 bits of the NTP time of the last SR from the source; 0 if none."""

    delay_since_last_sr: int
    """In 1/65536 s; 0 if none."""


@dataclass(frozen=True, slots=True)
class SenderReport:
    """SR: what a sender sent and heard."""

    ssrc: int
    ntp: int
    """64-bit NTP timestamp, 32.32 seconds."""

    rtp_timestamp: int
    packet_count: int
    octet_count: int
    reports: tuple[ReportBlock, ...] = ()


@dataclass(frozen=True, slots=True)
class ReceiverReport:
    """RR: what someone who sent nothing heard."""

    ssrc: int
    reports: tuple[ReportBlock, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceDescription:
    """SDES of one source; only CNAME is kept (RFC 3550 §6.5)."""

    ssrc: int
    cname: str


@dataclass(frozen=True, slots=True)
class Goodbye:
    """BYE: these sources are no longer active (RFC 3550 §6.6)."""

    ssrcs: tuple[int, ...]


Rtcp = SenderReport | ReceiverReport | SourceDescription | Goodbye


def parse_compound(data: bytes) -> list[Rtcp]:
    """Read one compound packet; packets of other types are passed over.

    Reduced-size packets (RFC 5506) are read too: the first need not be a report.
    Raises :class:`RtpError`, and nothing else, on anything that is no RTCP.
    """
    if len(data) < 4:
        raise RtpError(f"RTCP packet of {len(data)} bytes; the header alone has 4")
    packets: list[Rtcp] = []
    position = 0
    while position < len(data):
        if len(data) - position < 4:
            raise RtpError(f"{len(data) - position} stray bytes after an RTCP packet")
        first, kind, words = _HEADER.unpack_from(data, position)
        if first >> 6 != VERSION:
            raise RtpError(f"RTCP version {first >> 6}, not {VERSION}")
        end = position + 4 + 4 * words
        if end > len(data):
            raise RtpError(f"RTCP packet of {words + 1} words cut short")
        body = data[position + 4 : end]
        if first & 0x20:  # padding: allowed in the last packet of a compound alone
            if end != len(data) or not body or not 0 < body[-1] <= len(body):
                raise RtpError("bad RTCP padding")
            body = body[: -body[-1]]
        packets.extend(_parse_one(kind, first & 0x1F, body))
        position = end
    return packets


def _parse_one(kind: int, count: int, body: bytes) -> list[Rtcp]:
    if kind == SR:
        if len(body) < 24:
            raise RtpError("SR cut short")
        ssrc, ntp, timestamp, packets, octets = _SENDER.unpack_from(body)
        reports = _parse_blocks(body, 24, count)
        return [SenderReport(ssrc, ntp, timestamp, packets, octets, reports)]
    if kind == RR:
        if len(body) < 4:
            raise RtpError("RR cut short")
        (ssrc,) = struct.unpack_from("!I", body)
        return [ReceiverReport(ssrc, _parse_blocks(body, 4, count))]
    if kind == SDES:
        return list(_parse_chunks(body, count))
    if kind == BYE:
        if len(body) < 4 * count:
            raise RtpError("BYE cut short")
        return [Goodbye(struct.unpack_from(f"!{count}I", body))]
    return []


def _parse_blocks(body: bytes, start: int, count: int) -> tuple[ReportBlock, ...]:
    if len(body) < start + 24 * count:
        raise RtpError(f"{count} report blocks cut short")
    blocks = []
    for position in range(start, start + 24 * count, 24):
        ssrc, lost, highest, jitter, last_sr, delay = _BLOCK.unpack_from(body, position)
        cumulative = lost & 0xFFFFFF
        if cumulative & 0x800000:
            cumulative -= 0x1000000
        blocks.append(ReportBlock(ssrc, lost >> 24, cumulative, highest, jitter, last_sr, delay))
    return tuple(blocks)


def _parse_chunks(body: bytes, count: int) -> list[SourceDescription]:
    chunks: list[SourceDescription] = []
    position = 0
    for _ in range(count):
        if len(body) < position + 4:
            raise RtpError("SDES chunk cut short")
        (ssrc,) = struct.unpack_from("!I", body, position)
        position += 4
        cname = ""
        while True:
            if position >= len(body):
                raise RtpError("SDES chunk has no end")
            kind = body[position]
            if kind == 0:  # the list ends; the chunk is padded to the next word
                position = (position // 4 + 1) * 4
                break
            if position + 2 > len(body) or position + 2 + body[position + 1] > len(body):
                raise RtpError("SDES item cut short")
            end = position + 2 + body[position + 1]
            if kind == _CNAME:
                cname = body[position + 2 : end].decode(errors="replace")
            position = end
        chunks.append(SourceDescription(ssrc, cname))
    return chunks


def build_compound(packets: list[Rtcp]) -> bytes:
    """The bytes of one compound packet; a report should come first (RFC 3550 §6.1)."""
    return b"".join(map(_build_one, packets))


def _build_one(packet: Rtcp) -> bytes:
    if isinstance(packet, SenderReport):
        body = _SENDER.pack(
            packet.ssrc,
            packet.ntp,
            packet.rtp_timestamp,
            packet.packet_count & _U32,
            packet.octet_count & _U32,
        )
        return _framed(SR, len(packet.reports), body + _build_blocks(packet.reports))
    if isinstance(packet, ReceiverReport):
        body = struct.pack("!I", packet.ssrc)
        return _framed(RR, len(packet.reports), body + _build_blocks(packet.reports))
    if isinstance(packet, SourceDescription):
        cname = packet.cname.encode()[:255]
        body = struct.pack("!IBB", packet.ssrc, _CNAME, len(cname)) + cname
        return _framed(SDES, 1, body + bytes(4 - len(body) % 4))
    return _framed(BYE, len(packet.ssrcs), struct.pack(f"!{len(packet.ssrcs)}I", *packet.ssrcs))


def _build_blocks(blocks: tuple[ReportBlock, ...]) -> bytes:
    return b"".join(
        _BLOCK.pack(
            block.ssrc,
            (block.fraction_lost & 0xFF) << 24 | block.cumulative_lost & 0xFFFFFF,
            block.highest_sequence & _U32,
            block.jitter & _U32,
            block.last_sr,
            block.delay_since_last_sr & _U32,
        )
        for block in blocks
    )


def _framed(kind: int, count: int, body: bytes) -> bytes:
    return _HEADER.pack(VERSION << 6 | count, kind, len(body) // 4) + body
