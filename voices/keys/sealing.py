"""Authenticated encryption of one voice's secrets: AES-256-GCM (NIST SP 800-38D).

Every voice has a data key of its own. Nonces are 96 random bits; SP 800-38D §8.3 allows 2^32 of
them under one key, far more than a voice is ever written. What is sealed is bound to its place by
the additional data, so a ciphertext copied to another tenant, voice, kind or version fails.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Final, NoReturn, final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ringtrue.voices.keys.errors import UnsealError

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16

MAX_FIELD: Final = 256
"""Longest tenant, voice or kind in characters."""

_DOMAIN: Final = b"ringtrue/seal/1"
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class SealContext:
    """The one place a sealed value belongs to.

    Raises :class:`ValueError` on an empty, over-long or unprintable field and on a version
    outside 0 … 2^64-1.
    """

    tenant: str
    voice: str
    kind: str
    version: int

    def __post_init__(self) -> None:
        for name in ("tenant", "voice", "kind"):
            value = getattr(self, name)
            if not 0 < len(value) <= MAX_FIELD or _CONTROL.search(value):
                raise ValueError(
                    f"{name} {value!r} must be 1 to {MAX_FIELD} characters without controls"
                )
        if not 0 <= self.version < 1 << 64:
            raise ValueError(f"version {self.version} must be from 0 to 2^64-1")

    def aad(self) -> bytes:
        """The additional data: every field with its length before it, so no two contexts agree."""
        out = bytearray(_DOMAIN)
        for value in (self.tenant, self.voice, self.kind):
            raw = value.encode()
            out += len(raw).to_bytes(4, "big") + raw
        out += self.version.to_bytes(8, "big")
        return bytes(out)


@dataclass(frozen=True, slots=True)
class Sealed:
    """A nonce of 12 bytes and a ciphertext that ends in its 16-byte tag."""

    nonce: bytes
    ciphertext: bytes


@final
class DataKey:
    """256 bits that encrypt one voice. Printing, pickling and copying don't give them away."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        """Take existing key bytes; :meth:`generate` makes new ones."""
        if len(secret) != KEY_BYTES:
            raise ValueError(f"a key is {KEY_BYTES} bytes, got {len(secret)}")
        self._secret = secret

    @classmethod
    def generate(cls) -> DataKey:
        """A new key from the system's random source."""
        return cls(secrets.token_bytes(KEY_BYTES))

    def seal(self, plaintext: bytes, context: SealContext) -> Sealed:
        """Encrypt ``plaintext`` for the place ``context`` names."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return Sealed(nonce, AESGCM(self._secret).encrypt(nonce, plaintext, context.aad()))

    def unseal(self, sealed: Sealed, context: SealContext) -> bytes:
        """Decrypt what was sealed for ``context``.

        Raises :class:`UnsealError` on anything else.
        """
        if len(sealed.nonce) != NONCE_BYTES or len(sealed.ciphertext) < TAG_BYTES:
            raise UnsealError(
                f"{context.kind} version {context.version}: a nonce of {len(sealed.nonce)} bytes "
                f"and a ciphertext of {len(sealed.ciphertext)}; sealed values have a nonce of "
                f"{NONCE_BYTES} and at least {TAG_BYTES}"
            )
        try:
            return AESGCM(self._secret).decrypt(sealed.nonce, sealed.ciphertext, context.aad())
        except InvalidTag:
            raise UnsealError(
                f"{context.kind} version {context.version}: it was altered, moved from another "
                "place, or sealed under another key"
            ) from None

    def export(self) -> bytes:
        """The bytes themselves, for wrapping only."""
        return self._secret

    def __repr__(self) -> str:
        return "DataKey(…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is not pickled or copied; wrap it")
