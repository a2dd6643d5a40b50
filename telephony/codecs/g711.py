"""G.711: 64 kbit/s companded PCM at 8 kHz, µ-law and A-law (ITU-T G.711).

Stateless; a payload byte is a sample, so packets of any length decode.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ringtrue.streaming.audio_ops import audioop

_TO_ULAW: Final[Callable[[bytes, int], bytes]] = audioop.lin2ulaw
_FROM_ULAW: Final[Callable[[bytes, int], bytes]] = audioop.ulaw2lin
_TO_ALAW: Final[Callable[[bytes, int], bytes]] = audioop.lin2alaw
_FROM_ALAW: Final[Callable[[bytes, int], bytes]] = audioop.alaw2lin


class UlawCodec:
    """µ-law, both directions."""

    __slots__ = ()

    def encode(self, pcm: bytes) -> bytes:
        """16-bit PCM at 8 kHz to one byte a sample."""
        return _TO_ULAW(pcm, 2)

    def decode(self, payload: bytes) -> bytes:
        """One byte a sample to 16-bit PCM at 8 kHz."""
        return _FROM_ULAW(payload, 2)


class AlawCodec:
    """A-law, both directions."""

    __slots__ = ()

    def encode(self, pcm: bytes) -> bytes:
        """16-bit PCM at 8 kHz to one byte a sample."""
        return _TO_ALAW(pcm, 2)

    def decode(self, payload: bytes) -> bytes:
        """One byte a sample to 16-bit PCM at 8 kHz."""
        return _FROM_ALAW(payload, 2)
