"""Audio codecs of the telephone network behind one contract.

A :class:`Codec` is a stateless description; :attr:`Codec.encoder` and :attr:`Codec.decoder`
make the state of one direction of one call. PCM is signed 16-bit little-endian mono at
:attr:`Codec.pcm_rate`.
"""

from __future__ import annotations

from ringtrue.telephony.codecs import g711, g722
from ringtrue.telephony.codecs.base import Codec, ConcealingDecoder, Decoder, Encoder
from ringtrue.telephony.codecs.opus import OPUS

PCMU = Codec("PCMU", 0, 8000, 8000, 8000, g711.UlawCodec, g711.UlawCodec)
"""G.711 µ-law."""

PCMA = Codec("PCMA", 8, 8000, 8000, 8000, g711.AlawCodec, g711.AlawCodec)
"""G.711 A-law."""

G722 = Codec("G722", 9, 8000, 16000, 8000, g722.G722Encoder, g722.G722Decoder)
"""G.722 at 64 kbit/s; its RTP clock is 8000 by an old mistake kept on purpose (RFC 3551 §4.5.2)."""

CODECS: tuple[Codec, ...] = (OPUS, G722, PCMU, PCMA)
"""All there are, best first."""

CODEC_NAMES: tuple[str, ...] = ("opus", "G722", "PCMU", "PCMA")
"""Their names, as configuration gives them."""

__all__ = [
    "CODECS",
    "CODEC_NAMES",
    "G722",
    "OPUS",
    "PCMA",
    "PCMU",
    "Codec",
    "ConcealingDecoder",
    "Decoder",
    "Encoder",
    "by_name",
]


def by_name(name: str) -> Codec:
    """The codec called ``name``, whatever its case.

    Raises ``ValueError`` naming the choices.
    """
    for codec in CODECS:
        if codec.name.upper() == name.upper():
            return codec
    raise ValueError(f"unknown codec {name!r}; known: {', '.join(CODEC_NAMES)}")
