"""One-use tokens that expire: what lets a media connection in after its signalling was trusted.

A media websocket or a WebRTC offer carries no signature of its own; it shows a token that the
signed webhook, or the served page, was given. Tokens are 256 random bits; the store keeps only
their SHA-256, so what it holds in memory opens nothing.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from typing import Final, Generic, TypeVar

PayloadT = TypeVar("PayloadT")

MAX_TOKENS: Final = 1024
"""Tokens outstanding at once."""

MAX_TOKEN_LENGTH: Final = 128
"""Longer strings are refused unread; ours are 43 characters."""


class TokenStore(Generic[PayloadT]):
    """Tokens issued and not yet used, each with what it stands for (never ``None``).

    Overflow policy: the oldest token gives way to a new one, so a flood of requests for tokens
    costs a bounded amount of memory and at worst makes waiting holders ask again.
    """

    def __init__(self, ttl: float, *, max_tokens: int = MAX_TOKENS, mark: str = "") -> None:
        """``ttl`` is how long a token lives, in seconds of the clock ``now`` is read from.

        Every token ends with ``mark``, by which a request that shows it finds this process.
        """
        if ttl <= 0:
            raise ValueError(f"token ttl must be above 0 seconds, got {ttl}")
        if max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {max_tokens}")
        self.ttl = ttl
        self._max = max_tokens
        self._mark = mark
        self._tokens: OrderedDict[bytes, tuple[float, PayloadT]] = OrderedDict()

    def __len__(self) -> int:
        """How many are outstanding, expired ones not yet swept included."""
        return len(self._tokens)

    def issue(self, payload: PayloadT, now: float) -> str:
        """A new token for ``payload``, good until ``now + ttl``; URL-safe text."""
        self._sweep(now)
        while len(self._tokens) >= self._max:
            self._tokens.popitem(last=False)
        token = f"{secrets.token_urlsafe(32)}{self._mark}"
        self._tokens[_key(token)] = (now + self.ttl, payload)
        return token

    def redeem(self, token: str, now: float) -> PayloadT | None:
        """What ``token`` stands for, once; None if it is unknown, used or expired."""
        self._sweep(now)
        if not 0 < len(token) <= MAX_TOKEN_LENGTH:
            return None
        held = self._tokens.pop(_key(token), None)
        return None if held is None else held[1]

    def _sweep(self, now: float) -> None:
        """Forget what has expired; tokens lie in the order they were issued."""
        while self._tokens:
            key, (expires, _) = next(iter(self._tokens.items()))
            if expires > now:
                return
            del self._tokens[key]


def _key(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
