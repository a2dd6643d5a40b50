"""The Ed25519 key that signs consents (RFC 8032), and the public keys that check them.

A key's id is the first 16 hexadecimal digits of the SHA-256 of its 32 public bytes, so a
signature names its key without anybody keeping a list of names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn, final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from ringtrue.voices.keys.errors import KeyMaterialError, UnknownKeyError
from ringtrue.voices.keys.secret_files import read_secret, write_secret


@final
class Signer:
    """Signs; its private key never prints or pickles."""

    __slots__ = ("_key", "id", "public")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        """Wrap a private key; :meth:`generate` and :meth:`load` are the usual ways."""
        self._key = key
        self.public = key.public_key().public_bytes_raw()
        """32 bytes (RFC 8032 §5.1.5)."""
        self.id = key_id(self.public)

    @classmethod
    def generate(cls) -> Signer:
        """A new key that lives in memory only."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def create(cls, path: Path) -> Signer:
        """A new key, kept in a new file (PKCS #8 PEM, mode 0600).

        Raises :class:`KeyMaterialError` if the file exists or can't be written.
        """
        signer = cls.generate()
        pem = signer._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_secret(path, pem, replace=False)
        return signer

    @classmethod
    def load(cls, path: Path) -> Signer:
        """Read a key file; blocking, for start-up.

        Raises :class:`KeyMaterialError` naming the file and what is wrong with it.
        """
        try:
            key = load_pem_private_key(read_secret(path), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise KeyMaterialError(f"{path}: not an unencrypted PEM private key") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyMaterialError(
                f"{path}: not an Ed25519 key (openssl genpkey -algorithm ed25519)"
            )
        return cls(key)

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature of ``message``."""
        return self._key.sign(message)

    def __repr__(self) -> str:
        return f"Signer(id={self.id!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signer is not pickled or copied; load it where it is needed")


class TrustedKeys:
    """The public keys whose signatures count; old ones stay, so that old consents hold."""

    def __init__(self, keys: Iterable[bytes]) -> None:
        """``keys`` are 32 public bytes each. Raises :class:`KeyMaterialError` on other lengths."""
        self._keys: dict[str, Ed25519PublicKey] = {}
        for public in keys:
            if len(public) != 32:
                raise KeyMaterialError(f"a public key has {len(public)} bytes; it takes 32")
            self._keys[key_id(public)] = Ed25519PublicKey.from_public_bytes(public)

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of all trusted keys, sorted."""
        return tuple(sorted(self._keys))

    def public(self, key_id: str) -> bytes:
        """The 32 public bytes of one of :attr:`ids`. Raises :class:`UnknownKeyError`."""
        key = self._keys.get(key_id)
        if key is None:
            raise UnknownKeyError(key_id, self._keys)
        return key.public_bytes_raw()

    def check(self, key_id: str, signature: bytes, message: bytes) -> bool:
        """Whether ``signature`` of ``message`` is by the trusted key ``key_id``.

        Raises :class:`UnknownKeyError` where that key is not trusted.
        """
        key = self._keys.get(key_id)
        if key is None:
            raise UnknownKeyError(key_id, self._keys)
        try:
            key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


def key_id(public: bytes) -> str:
    """The id of a public key."""
    return hashlib.sha256(public).hexdigest()[:16]
