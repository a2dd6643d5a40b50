"""What an entry keeps of what was said: nothing that could be guessed, or the text, encrypted.

The hash is an HMAC under a key of its own for each entry, derived from a secret that the log does
not hold: short texts can't be found by trying, and equal texts don't look equal. Whoever holds the
secret can open one entry, by giving away its key, without opening any other.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ringtrue.agent.audit.entries import MAX_TEXT
from ringtrue.agent.audit.errors import AuditError
from ringtrue.voices.keys.errors import UnsealError
from ringtrue.voices.keys.sealing import DataKey, SealContext, Sealed

SECRET_BYTES: Final = 32
NONCE_BYTES: Final = 16
_SEALING: Final = b"ringtrue/audit/text-sealing/1"
_CODING: Final = b"ringtrue/audit/group-code/1"
_HASHING: Final = b"ringtrue/audit/text-hashing/1"


class TextPolicy(StrEnum):
    """What is kept of an utterance's text."""

    NONE = "none"
    HASH = "hash"
    ENCRYPTED = "encrypted"
    """The hash, and the text under AES-256-GCM."""


class TextKeeper:
    """Turns texts into what entries keep of them, and back."""

    def __init__(self, secret: bytes, policy: TextPolicy = TextPolicy.HASH) -> None:
        """``secret`` is 32 bytes. Raises ValueError for any other length."""
        if len(secret) != SECRET_BYTES:
            raise ValueError(f"a text secret has {SECRET_BYTES} bytes, got {len(secret)}")
        self.policy = policy
        self._hashing = _derived(secret, _HASHING)
        self._coding = _derived(secret, _CODING)
        self._sealing = DataKey(_derived(secret, _SEALING))

    def kept(self, text: str | None, *, log: str, seq: int) -> dict[str, str]:
        """What entry ``seq`` of ``log`` keeps of ``text``."""
        if text is None or self.policy is TextPolicy.NONE:
            return {}
        raw = text.encode("utf-8", "replace")
        nonce = secrets.token_bytes(NONCE_BYTES)
        found = {
            "nonce": nonce.hex(),
            "hmac": hmac.digest(self._key(nonce), raw, "sha256").hex(),
        }
        if self.policy is TextPolicy.ENCRYPTED:
            short = text[:MAX_TEXT].encode("utf-8", "replace")
            sealed = self._sealing.seal(short, _place(log, seq))
            found["sealed"] = base64.b64encode(sealed.nonce + sealed.ciphertext).decode()
        return found

    def opening(self, kept: Mapping[str, str]) -> str:
        """The key of one entry's hash, in hexadecimal: ``HMAC-SHA256(key, text)`` is the hash."""
        return self._key(bytes.fromhex(kept["nonce"])).hex()

    def matches(self, kept: Mapping[str, str], text: str) -> bool:
        """Whether ``text`` is what was said."""
        raw = text.encode("utf-8", "replace")
        found = hmac.digest(self._key(bytes.fromhex(kept["nonce"])), raw, "sha256")
        return hmac.compare_digest(found.hex(), kept["hmac"])

    def text(self, kept: Mapping[str, str], *, log: str, seq: int) -> str | None:
        """The text, where it was kept.

        Raises :class:`~ringtrue.agent.audit.errors.AuditError` where the secret is another.
        """
        if "sealed" not in kept:
            return None
        try:
            raw = base64.b64decode(kept["sealed"], validate=True)
            sealed = Sealed(raw[:12], raw[12:])
            return self._sealing.unseal(sealed, _place(log, seq)).decode()
        except (ValueError, UnsealError):
            raise AuditError(f"entry {seq} of log {log}: its text is under another key") from None

    def code(self, log: str, size: int, chain: str) -> bytes:
        """What proves, to the next writer, that ``log`` had ``size`` entries in this ``chain``.

        Entries are signed only every few seconds; until then nobody without the secret can add to
        them or change them.
        """
        return hmac.digest(self._coding, f"{log}\n{size}\n{chain}".encode(), "sha256")

    def _key(self, nonce: bytes) -> bytes:
        return hmac.digest(self._hashing, nonce, "sha256")


def _derived(secret: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose).derive(secret)


def _place(log: str, seq: int) -> SealContext:
    return SealContext(log, "-", "audit-text", seq)
