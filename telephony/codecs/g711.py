"""G.711: 64 kbit/s companded PCM at 8 kHz, µ-law and A-law (ITU-T G.711).

Stateless; a payload byte is a sample, so packets of any length decode.
"""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    # in the standard library until 3.12; from 3.13 on the audioop-lts distribution
    warnings.simplefilter("ignore", DeprecationWarning)
    import audioop


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
