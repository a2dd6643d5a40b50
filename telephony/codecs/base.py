"""What every codec is: a stateless description that makes the state of one direction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


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


@runtime_checkable
class ConcealingDecoder(Decoder, Protocol):
    """A decoder that knows best what a lost packet might have held."""

    def conceal(self, samples: int) -> bytes:
        """Exactly ``samples`` of PCM in place of packets that did not come."""
        ...

    def recover(self, payload: bytes, samples: int) -> bytes:
        """Exactly ``samples`` of PCM in place of the packet right before that of ``payload``."""
        ...


@dataclass(frozen=True, slots=True)
class Codec:
    """An RTP audio format (RFC 3551). PCM is signed 16-bit little-endian mono."""

    name: str
    """Encoding name of a=rtpmap."""

    payload_type: int
    """Static payload type (RFC 3551 §6), or the one we offer a dynamic one as."""

    clock_rate: int
    """RTP timestamp units per second."""

    pcm_rate: int
    """PCM samples per second."""

    payload_bytes_per_second: int
    encoder: Callable[[], Encoder]
    decoder: Callable[[], Decoder]
    channels: int = 1
    """Of a=rtpmap; the PCM is mono all the same."""

    parameters: str | None = None
    """What our descriptions say of it in a=fmtp."""

    quantum: int = 1
    """Timestamp units its decoder conceals at least, and any multiple of them."""

    def duration(self, payload: bytes) -> int:
        """RTP timestamp units ``payload`` covers."""
        return len(payload) * self.clock_rate // self.payload_bytes_per_second

    def tuned(self, parameters: str) -> Codec:
        """The codec as the far end's a=fmtp ``parameters`` ask to be sent it.

        The same object for the same wishes, so that a change can be told by identity.
        """
        return self

    def silent(self, payload: bytes) -> bool:
        """Whether after ``payload`` the far end may send nothing until it speaks again."""
        return False
