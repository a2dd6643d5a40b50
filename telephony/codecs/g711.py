"""G.711: 64 kbit/s companded PCM at 8 kHz, µ-law and A-law (ITU-T G.711).

Stateless; a payload byte is a sample, so packets of any length decode.
"""

from __future__ import annotations

from ringtrue.streaming.audio_ops import audioop


class UlawCodec:
    """µ-law, both directions."""

    __slots__ = ()

    def encode(self, pcm: bytes) -> bytes:
        """16-bit PCM at 8 kHz to one byte a sample."""
        return audioop.lin2ulaw(pcm, 2)

    def decode(self, payload: bytes) -> bytes:
        """One byte a sample to 16-bit PCM at 8 kHz."""
        return audioop.ulaw2lin(payload, 2)


class AlawCodec:
    """A-law, both directions."""

    __slots__ = ()

    def encode(self, pcm: bytes) -> bytes:
        """16-bit PCM at 8 kHz to one byte a sample."""
        return audioop.lin2alaw(pcm, 2)

    def decode(self, payload: bytes) -> bytes:
        """One byte a sample to 16-bit PCM at 8 kHz."""
        return audioop.alaw2lin(payload, 2)
