"""The port to whatever holds the master keys, and the ring that holds them in this process.

A hosted key service implements :class:`KeyManagement`; :class:`KeyRing` is the one that needs
none. Master keys never encrypt anything but data keys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NoReturn, Protocol, final

from ringtrue.voices.keys.errors import KeyMaterialError, UnknownKeyError
from ringtrue.voices.keys.sealing import DataKey, SealContext, Sealed

KEY_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What a master key may be called."""

_WRAP_KIND: Final = "data-key"


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A data key encrypted under the master key ``key_id``."""

    key_id: str
    nonce: bytes
    ciphertext: bytes


class KeyManagement(Protocol):
    """Wraps data keys; may be a network service, hence asynchronous.

    Every method may raise :class:`~ringtrue.voices.keys.errors.KeyManagementError`.
    """

    @property
    def current_id(self) -> str:
        """The master key that :meth:`wrap` uses."""
        ...

    async def wrap(self, key: DataKey, *, tenant: str, voice: str) -> WrappedKey:
        """Encrypt ``key`` under the current master key, bound to its tenant and voice."""
        ...

    async def unwrap(self, wrapped: WrappedKey, *, tenant: str, voice: str) -> DataKey:
        """Get back what :meth:`wrap` took, for the same tenant and voice only."""
        ...


@final
class KeyRing:
    """Master keys in memory: one current, the others kept to unwrap what they wrapped."""

    __slots__ = ("_current", "_keys")

    def __init__(self, keys: Mapping[str, bytes], current: str) -> None:
        """``keys`` maps ids to 32 bytes each; ``current`` is one of them.

        Raises :class:`KeyMaterialError` on a bad id, a wrong length, two ids for the same key,
        or a ``current`` that is not there.
        """
        for key_id, secret in keys.items():
            if not KEY_ID.fullmatch(key_id):
                raise KeyMaterialError(
                    f"key id {key_id!r}: 1 to 64 of A-Z a-z 0-9 . _ -, beginning with a letter "
                    "or digit"
                )
            if len(secret) != 32:
                raise KeyMaterialError(f"key {key_id!r} has {len(secret)} bytes; it takes 32")
        if len(set(keys.values())) != len(keys):
            raise KeyMaterialError("two key ids hold the same key; each needs its own")
        if current not in keys:
            raise KeyMaterialError(
                f"current key {current!r} is not in the ring; it holds: "
                f"{', '.join(sorted(keys)) or 'none'}"
            )
        self._keys = {key_id: DataKey(bytes(secret)) for key_id, secret in keys.items()}
        self._current = current

    @property
    def current_id(self) -> str:
        """The key new data keys are wrapped under."""
        return self._current

    @property
    def ids(self) -> tuple[str, ...]:
        """All keys held, sorted."""
        return tuple(sorted(self._keys))

    async def wrap(self, key: DataKey, *, tenant: str, voice: str) -> WrappedKey:
        """Encrypt ``key`` under the current master key."""
        context = _context(tenant, voice)
        sealed = self._keys[self._current].seal(key.export(), context)
        return WrappedKey(self._current, sealed.nonce, sealed.ciphertext)

    async def unwrap(self, wrapped: WrappedKey, *, tenant: str, voice: str) -> DataKey:
        """Decrypt a data key.

        Raises :class:`UnknownKeyError` where the ring lacks its master key and
        :class:`~ringtrue.voices.keys.errors.UnsealError` where it doesn't belong to this voice.
        """
        master = self._keys.get(wrapped.key_id)
        if master is None:
            raise UnknownKeyError(wrapped.key_id, self._keys)
        sealed = Sealed(wrapped.nonce, wrapped.ciphertext)
        return DataKey(master.unseal(sealed, _context(tenant, voice)))

    def __repr__(self) -> str:
        return f"KeyRing(current={self._current!r}, ids={self.ids!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key ring is not pickled or copied; load it where it is needed")


def _context(tenant: str, voice: str) -> SealContext:
    return SealContext(tenant, voice, _WRAP_KIND, 0)
