"""The exception tree of ``ringtrue.voices.keys``.

::

    RingtrueError                  (ringtrue.streaming.errors)
    └── KeyManagementError         keys that can't be had or can't open something
        ├── KeyMaterialError       a key file or variable that can't be used as it stands
        ├── UnknownKeyError        wrapped or signed under a key this process doesn't hold
        └── UnsealError            altered, moved, or sealed under another key

No message ever holds key material.
"""

from __future__ import annotations

from collections.abc import Iterable

from ringtrue.streaming.errors import RingtrueError


class KeyManagementError(RingtrueError):
    """A key can't be had, or can't open what it was given."""


class KeyMaterialError(KeyManagementError):
    """A key file or variable can't be used as it stands."""


class UnknownKeyError(KeyManagementError):
    """Something names a key that this process doesn't hold."""

    def __init__(self, key_id: str, known: Iterable[str]) -> None:
        """Name the key asked for and the ones there are."""
        held = ", ".join(sorted(known)) or "none"
        super().__init__(f"unknown key {key_id!r}; keys held: {held}")
        self.key_id = key_id


class UnsealError(KeyManagementError):
    """The ciphertext is not what was sealed here: altered, moved, or under another key."""
