"""The sending half of a stream: one sealed 20 ms frame in, packets out."""

from __future__ import annotations

import struct
from typing import Final

from ringtrue.streaming.gate import FrameKind, SealedFrame, SealGuard
from ringtrue.streaming.ports import FRAME_MS
from ringtrue.telephony.codecs import Codec, Encoder
from ringtrue.telephony.codecs.comfort_noise import noise_payload
from ringtrue.telephony.codecs.rerate import encoder_at
from ringtrue.telephony.rtp.dtmf import DtmfSender

_HEADER: Final = struct.Struct("!BBHII")
_TICK: Final = FRAME_MS / 1000
_SILENCE: Final = FrameKind.SILENCE

PAUSE_AFTER: Final = 10
"""Silent ticks sent as audio before comfort noise takes their place."""

NOISE_EVERY: Final = 25
"""Ticks between two comfort noise packets: 0.5 s, so that far end and NAT know we are there."""


class RtpSender:
    """One agent's audio to one far end.

    Every tick moves the RTP timestamp by 20 ms, sent or not, and a tick the clock skipped moves
    it too, so that the far end's buffer sees a gap and not a growing delay. Silence is sent as
    audio, which keeps NAT bindings and far ends content, unless a payload type for comfort noise
    is given: then a longer silence is a packet of that, and nothing between.
    """

    __slots__ = (
        "_codec",
        "_dtmf",
        "_encoder",
        "_event_type",
        "_guard",
        "_last_tick",
        "_mark",
        "_noise_type",
        "_payload_type",
        "_rate",
        "_sending",
        "_sequence",
        "_silent",
        "_timestamp",
        "_units",
        "octets",
        "packets",
        "ssrc",
    )

    def __init__(self, rate: int, *, ssrc: int, sequence_number: int, timestamp: int) -> None:
        """``rate`` is the leg's PCM rate in Hz; the rest begins random (RFC 3550 §5.1)."""
        self._rate = rate
        self.ssrc = ssrc
        self._sequence = sequence_number
        self._timestamp = timestamp
        self._codec: Codec | None = None
        self._encoder: Encoder | None = None
        self._payload_type = 0
        self._event_type: int | None = None
        self._noise_type: int | None = None
        self._silent = 0
        self._sending = False
        self._units = 0
        self._mark = True
        self._guard = SealGuard()
        self._dtmf = DtmfSender()
        self._last_tick: float | None = None
        self.packets = 0
        self.octets = 0
        """Payload octets, as SR counts them."""

    @property
    def timestamp(self) -> int:
        """RTP timestamp (32 bits) of the next frame."""
        return self._timestamp & 0xFFFF_FFFF

    def configure(
        self,
        codec: Codec,
        payload_type: int,
        event_type: int | None,
        *,
        sending: bool,
        noise_type: int | None = None,
    ) -> None:
        """Send ``codec`` as ``payload_type`` from now on; with ``sending`` off, nothing.

        ``event_type`` and ``noise_type`` are those of telephone events and comfort noise.
        """
        if codec is not self._codec:
            self._codec, self._encoder = codec, encoder_at(codec, self._rate)
            self._units = codec.clock_rate * FRAME_MS // 1000
        self._payload_type, self._event_type = payload_type, event_type
        self._noise_type = noise_type
        if sending and not self._sending:
            self._mark = True
        self._sending = sending

    def send(self, frame: SealedFrame, now: float) -> list[bytes]:
        """The packets of one frame, in order.

        Raises ``TypeError`` for anything but a sealed frame,
        :class:`~ringtrue.streaming.errors.GateError` for another call's or a repeated one.
        """
        frame = self._guard.check(frame)
        if self._last_tick is not None:
            skipped = round((now - self._last_tick) / _TICK) - 1
            if skipped > 0:
                self._timestamp += skipped * self._units
                self._mark = True
        self._last_tick = now
        timestamp = self._timestamp
        self._timestamp = timestamp + self._units
        encoder = self._encoder
        if not self._sending or encoder is None:
            self._dtmf.abandon()
            return []
        packets: list[bytes] = []
        if self._event_type is not None and (frame.digit is not None or self._dtmf.active):
            for event in self._dtmf.step(frame.digit, timestamp, self._units):
                packets.append(
                    self._packet(self._event_type, event.timestamp, event.payload, event.marker)
                )
            if frame.digit is not None:
                self._mark = True
                return packets
        if self._noise_type is not None and frame.kind is _SILENCE:
            self._silent += 1
            since = self._silent - PAUSE_AFTER - 1
            if since >= 0:
                self._mark = True  # on what comes after the pause (RFC 3551 §4.1)
                if since % NOISE_EVERY == 0:
                    noise = noise_payload(frame.pcm)
                    packets.append(self._packet(self._noise_type, timestamp, noise, False))
                return packets
        else:
            self._silent = 0
        marker = frame.talkspurt or self._mark
        self._mark = False
        packets.append(
            self._packet(self._payload_type, timestamp, encoder.encode(frame.pcm), marker)
        )
        return packets

    def change_source(self, ssrc: int) -> None:
        """Go on as another source: its packets are counted anew, and it reports for itself."""
        self.ssrc = ssrc
        self.packets = self.octets = 0
        self._mark = True

    def _packet(self, payload_type: int, timestamp: int, payload: bytes, marker: bool) -> bytes:
        header = _HEADER.pack(
            0x80,
            payload_type | 0x80 if marker else payload_type,
            self._sequence,
            timestamp & 0xFFFF_FFFF,
            self.ssrc,
        )
        self._sequence = self._sequence + 1 & 0xFFFF
        self.packets += 1
        self.octets += len(payload)
        return header + payload
