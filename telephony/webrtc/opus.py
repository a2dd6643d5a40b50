"""Opus for telephone speech: 16 kHz mono PCM in 20 ms frames, by libopus through PyAV.

The encoder takes 16 kHz as it is (RFC 6716 §2: wideband), so nothing is resampled on the way
out and a frame costs about 0.15 ms. RTP's clock for Opus is 48 kHz whatever the audio's rate is
(RFC 7587 §4.1); here everything counts at 16 kHz, a third of that.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Final

import av
from av import AudioFrame, AudioResampler, CodecContext, Packet

from ringtrue.streaming.ports import frame_samples
from ringtrue.telephony.codecs import Codec

RATE: Final = 16000
RTP_CLOCK: Final = 48000
RTP_PER_SAMPLE: Final = RTP_CLOCK // RATE

BIT_RATE: Final = 32000
COMPLEXITY: Final = 5
"""Of 0–10: half the CPU of 10, and not told apart from it at this bit rate."""

EXPECTED_LOSS: Final = 5
"""Percent; how much of the previous frame is repeated in each packet (in-band FEC)."""

MAX_PACKET_MS: Final = 120
"""Longest packet Opus allows (RFC 6716 §3.2.5)."""

_SAMPLE_US: Final = Fraction(1, RATE)
_FRAME_TENTHS_MS: Final = (
    (100, 200, 400, 600) * 3  # SILK, narrow to wide band
    + (100, 200) * 2  # hybrid
    + (25, 50, 100, 200) * 4  # CELT
)
"""Length of one frame by configuration number (RFC 6716 §3.1, table 2)."""


def packet_samples(payload: bytes) -> int:
    """Samples at 16 kHz in one Opus packet, read from its head (RFC 6716 §3.1); 0 if invalid."""
    if not payload:
        return 0
    head = payload[0]
    match head & 0x03:
        case 0:
            frames = 1
        case 3:
            frames = payload[1] & 0x3F if len(payload) > 1 else 0
        case _:
            frames = 2
    tenths = frames * _FRAME_TENTHS_MS[head >> 3]
    return tenths * RATE // 10_000 if tenths <= 10 * MAX_PACKET_MS else 0


class OpusEncoder:
    """One outbound direction."""

    def __init__(self, bit_rate: int = BIT_RATE) -> None:
        """``bit_rate`` in bits per second."""
        context = CodecContext.create("libopus", "w")
        context.bit_rate = bit_rate
        context.format = av.AudioFormat("s16")
        context.layout = av.AudioLayout("mono")
        context.sample_rate = RATE
        context.time_base = _SAMPLE_US
        context.options = {
            "application": "voip",
            "frame_duration": "20",
            "fec": "1",
            "packet_loss": str(EXPECTED_LOSS),
            "compression_level": str(COMPLEXITY),
        }
        self._context = context
        self._samples = frame_samples(RATE)
        self._position = 0

    def encode(self, pcm: bytes) -> bytes:
        """Encode one 20 ms frame (640 bytes) to one packet; holds nothing back."""
        frame = AudioFrame(format="s16", layout="mono", samples=self._samples)
        frame.planes[0].update(pcm)
        frame.sample_rate = RATE
        frame.time_base = _SAMPLE_US
        frame.pts = self._position
        self._position += self._samples
        return b"".join(bytes(packet) for packet in self._context.encode(frame))


class OpusDecoder:
    """One inbound direction."""

    def __init__(self) -> None:
        """Start with no history."""
        context = CodecContext.create("libopus", "r")
        context.layout = av.AudioLayout("mono")
        context.sample_rate = RTP_CLOCK
        self._context = context
        self._resampler = AudioResampler(format="s16", layout="mono", rate=RATE)
        self._owed = 0

    def decode(self, payload: bytes) -> bytes:
        """16 kHz PCM of one packet, exactly as long as its head says; ``b""`` if invalid.

        The resampler's start-up (1 ms) is filled with silence, so that lengths always add up.
        """
        samples = packet_samples(payload)
        if not samples:
            return b""
        try:
            frames = self._context.decode(Packet(payload))
            pcm = b"".join(self._resampled(frame) for frame in frames)
        except av.FFmpegError:
            return b""
        if not pcm:
            return b""
        self._owed += samples - len(pcm) // 2
        if self._owed > 0:
            pcm = bytes(2 * self._owed) + pcm
            self._owed = 0
        return pcm

    def _resampled(self, frame: Any) -> bytes:
        frame.pts = None
        return b"".join(
            bytes(part.planes[0])[: 2 * part.samples] for part in self._resampler.resample(frame)
        )


class _Opus(Codec):
    """Packets tell their own length."""

    __slots__ = ()

    def duration(self, payload: bytes) -> int:
        """16 kHz samples ``payload`` covers."""
        return packet_samples(payload)


OPUS: Final = _Opus(
    name="opus",
    payload_type=111,
    clock_rate=RATE,
    pcm_rate=RATE,
    payload_bytes_per_second=BIT_RATE // 8,
    encoder=OpusEncoder,
    decoder=OpusDecoder,
)
"""Opus on a 16 kHz leg. Its payload type is dynamic: the session says which (RFC 7587)."""
