"""Audio codecs of the telephone network behind one contract.

A :class:`Codec` is a stateless description; :meth:`Codec.encoder` and :meth:`Codec.decoder`
make the state of one direction of one call. PCM is signed 16-bit little-endian mono at
:attr:`Codec.pcm_rate`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ringtrue.telephony.codecs import g711, g722


class Encoder(Protocol):
    """One outbound direction."""

    def encode(self, pcm: bytes) -> bytes:
        """Encode one 20 ms frame of PCM to the payload of one packet; holds nothing back."""
        ...


class Decoder(Protocol):
    """One inbound direction."""

    def decode(self, payload: bytes) -> bytes:
        """Decode a payload of any length to PCM; never raises, ``b""`` where nothing fits."""
        ...


@dataclass(frozen=True, slots=True)
class Codec:
    """An RTP audio format (RFC 3551)."""

    name: str
    """Encoding name of a=rtpmap."""

    payload_type: int
    """Static payload type (RFC 3551 §6)."""

    clock_rate: int
    """RTP timestamp units per second."""

    pcm_rate: int
    """PCM samples per second."""

    payload_bytes_per_second: int
    encoder: Callable[[], Encoder]
    decoder: Callable[[], Decoder]

    def duration(self, payload: bytes) -> int:
        """RTP timestamp units ``payload`` covers."""
        return len(payload) * self.clock_rate // self.payload_bytes_per_second


PCMU = Codec("PCMU", 0, 8000, 8000, 8000, g711.UlawCodec, g711.UlawCodec)
"""G.711 µ-law."""

PCMA = Codec("PCMA", 8, 8000, 8000, 8000, g711.AlawCodec, g711.AlawCodec)
"""G.711 A-law."""

G722 = Codec("G722", 9, 8000, 16000, 8000, g722.G722Encoder, g722.G722Decoder)
"""G.722 at 64 kbit/s; its RTP clock is 8000 by an old mistake kept on purpose (RFC 3551 §4.5.2)."""

CODECS: tuple[Codec, ...] = (G722, PCMU, PCMA)
"""All there are, best first."""

CODEC_NAMES: tuple[str, ...] = ("G722", "PCMU", "PCMA")
"""Their names, as configuration gives them."""


def by_name(name: str) -> Codec:
    """The codec called ``name``, whatever its case.

    Raises ``ValueError`` naming the choices.
    """
    for codec in CODECS:
        if codec.name == name.upper():
            return codec
    raise ValueError(f"unknown codec {name!r}; known: {', '.join(CODEC_NAMES)}")
