"""What the browser says: Opus packets in, one 20 ms step out at every tick.

aiortc's own receiver holds 80 ms back, never gives back the delay that one lost packet costs,
and plays nothing in a lost packet's place. So its jitter buffer is replaced by
:class:`PacketTap`, which hands every packet on to the adaptive buffer, the concealment and the
stretching that SIP calls use too (:mod:`ringtrue.telephony.rtp`). aiortc still decrypts, keeps
the RTCP statistics and sends the reports.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from ringtrue.streaming.ports import Inbound
from ringtrue.telephony.codecs.opus import OPUS, RATE, RTP_CLOCK
from ringtrue.telephony.rtp.packet import RtpPacket
from ringtrue.telephony.rtp.receiver import RtpReceiver

_PAYLOAD_TYPE: Final = OPUS.payload_type


class AiortcPacket(Protocol):
    """The fields read from aiortc's ``RtpPacket``."""

    sequence_number: int
    timestamp: int
    ssrc: int
    payload: bytes


class OpusInbound:
    """One browser's audio. Sans-IO: ``now`` is seconds on the loop's clock."""

    def __init__(self) -> None:
        """Start receiving at once."""
        self.receiver = RtpReceiver(RATE, RTP_CLOCK)
        self.receiver.configure({_PAYLOAD_TYPE: OPUS}, frozenset(), receiving=True)

    def packet(self, packet: AiortcPacket, now: float) -> None:
        """Take one decrypted packet."""
        self.receiver.packet(
            RtpPacket(
                payload_type=_PAYLOAD_TYPE,
                sequence_number=packet.sequence_number,
                timestamp=packet.timestamp,
                ssrc=packet.ssrc,
                payload=packet.payload,
            ),
            now,
        )

    def pull(self, now: float) -> Inbound:
        """The next 20 ms at 16 kHz."""
        return self.receiver.pull(now)


class PacketTap:
    """Stands in for aiortc's jitter buffer: hands packets on and completes no frame."""

    def __init__(self, take: Callable[[AiortcPacket], None]) -> None:
        """``take`` is called with every packet of the receiver's track."""
        self._take = take

    def add(self, packet: AiortcPacket) -> tuple[bool, None]:
        """aiortc's contract: whether to ask for a key frame, and a frame to decode."""
        self._take(packet)
        return False, None
