"""Leave to call: signed tokens that name one agent, expire soon, and are good once.

``rtw1.CLAIMS.MAC``: the claims as JSON and their HMAC-SHA256 (RFC 2104), both base64url without
padding. Any process that has the key can check one; which were shown is known to the process that
took them, so all that shows one token has to reach the same. Sans-IO: ``now`` is Unix time in
seconds.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from ringtrue.telephony.webrtc.errors import WebRtcError

PREFIX: Final = "rtw1"
MAX_TOKEN: Final = 1024
"""Characters; ours have about 250."""

MAX_SPENT: Final = 65_536
"""Tokens remembered as shown, until they expire."""

MIN_KEY: Final = 32
"""Bytes of the key."""


class TokenError(WebRtcError):
    """A token gives no leave to call; the text says why, and holds nothing of it."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token stands for."""

    id: str
    """Of the token; safe to log."""

    agent: str
    tenant: str
    expires: float
    """Unix time in seconds."""

    origin: str | None = None
    """The site whose pages may show it; None: any client that the server talks to at all."""


class AccessTokens:
    """Makes tokens and takes them, each once.

    Overflow policy: where :data:`MAX_SPENT` unexpired tokens were shown, further ones are refused
    until some expire, since a token that can't be remembered could be shown twice.
    """

    def __init__(self, key: bytes, *, max_spent: int = MAX_SPENT) -> None:
        """Sign with ``key``, :data:`MIN_KEY` bytes or more (``ValueError`` otherwise)."""
        if len(key) < MIN_KEY:
            raise ValueError(f"key has {len(key)} bytes; allowed: {MIN_KEY} or more")
        self._key = key
        self._max_spent = max_spent
        self._spent: OrderedDict[str, float] = OrderedDict()

    def mint(
        self, agent: str, tenant: str, *, now: float, ttl: float, origin: str | None = None
    ) -> tuple[str, Grant]:
        """A new token, and what it stands for; ``ttl`` in seconds."""
        grant = Grant(secrets.token_hex(12), agent, tenant, round(now + ttl, 3), origin)
        claims = {"jti": grant.id, "agent": agent, "tenant": tenant, "exp": grant.expires}
        if origin is not None:
            claims["origin"] = origin
        text = json.dumps(claims, separators=(",", ":"), ensure_ascii=False)
        body = f"{PREFIX}.{_encoded(text.encode())}"
        return f"{body}.{self._mac(body)}", grant

    def redeem(self, token: str, *, now: float, origin: str | None) -> Grant:
        """What ``token`` stands for, once.

        ``origin`` is the site of the page that shows it, None where no page does. Raises
        :class:`TokenError`.
        """
        grant = self._read(token)
        if grant.expires <= now:
            raise TokenError("the token has expired; ask for a new one")
        if grant.origin is not None and grant.origin != origin:
            raise TokenError("the token belongs to another site's pages")
        self._sweep(now)
        if grant.id in self._spent:
            raise TokenError("the token was used before; ask for a new one")
        if len(self._spent) >= self._max_spent:
            raise TokenError("too many tokens are in use; try again later")
        self._spent[grant.id] = grant.expires
        return grant

    def _read(self, token: str) -> Grant:
        body, _, mac = token.rpartition(".")
        prefix, _, claims = body.partition(".")
        if len(token) > MAX_TOKEN or prefix != PREFIX or not token.isascii():
            raise TokenError("this is no token of this server")
        if not hmac.compare_digest(self._mac(body), mac):
            raise TokenError("this is no token of this server")
        try:
            value = json.loads(_decoded(claims))
            return Grant(
                str(value["jti"]),
                str(value["agent"]),
                str(value["tenant"]),
                float(value["exp"]),
                value.get("origin"),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TokenError("this token is of another version of this server") from error

    def _mac(self, body: str) -> str:
        return _encoded(hmac.digest(self._key, body.encode(), hashlib.sha256))

    def _sweep(self, now: float) -> None:
        """Forget what has expired; with ever the same lifetime the oldest expire first."""
        while self._spent:
            token, expires = next(iter(self._spent.items()))
            if expires > now:
                break
            del self._spent[token]
        if len(self._spent) >= self._max_spent:  # lifetimes differ
            for token in [held for held, expires in self._spent.items() if expires <= now]:
                del self._spent[token]


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("not base64url") from error
