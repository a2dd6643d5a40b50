"""G.722 at 64 kbit/s: sub-band ADPCM of 16 kHz PCM (ITU-T G.722 mode 1), by FFmpeg.

Each codec context is the state of one direction. The QMF banks delay the signal by 22 samples
(1.4 ms) in all; nothing else is held back, so every frame in is a payload out.
"""

from __future__ import annotations

from typing import Final, Literal

import av
from av.audio.codeccontext import AudioCodecContext

PCM_RATE: Final = 16000


def _context(mode: Literal["r", "w"]) -> AudioCodecContext:
    context = av.CodecContext.create("g722", mode)
    context.sample_rate = PCM_RATE
    context.layout = "mono"
    context.format = "s16"
    return context


class G722Encoder:
    """16 kHz PCM to G.722: two samples a byte."""

    __slots__ = ("_context", "_pts")

    def __init__(self) -> None:
        self._context = _context("w")
        self._pts = 0

    def encode(self, pcm: bytes) -> bytes:
        """One 20 ms frame (640 bytes) to 160 bytes."""
        samples = len(pcm) // 2
        frame = av.AudioFrame(format="s16", layout="mono", samples=samples)
        frame.planes[0].update(pcm)
        frame.sample_rate = PCM_RATE
        frame.pts = self._pts
        self._pts += samples
        packets = self._context.encode(frame)
        return bytes(packets[0]) if len(packets) == 1 else b"".join(map(bytes, packets))


class G722Decoder:
    """G.722 to 16 kHz PCM: two samples a byte."""

    __slots__ = ("_context",)

    def __init__(self) -> None:
        self._context = _context("r")

    def decode(self, payload: bytes) -> bytes:
        """A payload of any length to PCM of four times its length."""
        if not payload:  # an empty packet would tell FFmpeg that the stream ends
            return b""
        frames = self._context.decode(av.Packet(payload))
        return b"".join(bytes(frame.planes[0])[: frame.samples * 2] for frame in frames)
