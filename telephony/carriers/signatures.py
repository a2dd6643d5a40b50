"""How carriers' requests prove where they come from. Sans-IO: ``now`` is Unix time in seconds."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MAX_AGE: Final = 300.0
"""Seconds that a signed webhook may be old, or ahead of our clock."""

MAX_SOCKET_AGE: Final = 10.0
"""The same for a websocket's signed request, as Genesys has it."""

MAX_NONCES: Final = 65_536

_TIME: Final = re.compile(r"[0-9]{1,12}")


class Nonces:
    """Nonces that were shown. Overflow policy: the oldest is forgotten."""

    def __init__(self, lifetime: float) -> None:
        """Remember each for ``lifetime`` seconds."""
        self._lifetime = lifetime
        self._seen: OrderedDict[str, float] = OrderedDict()

    def fresh(self, nonce: str, now: float) -> bool:
        """Whether ``nonce`` is shown for the first time."""
        while self._seen:
            oldest, at = next(iter(self._seen.items()))
            if now - at <= self._lifetime and len(self._seen) < MAX_NONCES:
                break
            del self._seen[oldest]
        if nonce in self._seen:
            return False
        self._seen[nonce] = now
        return True


def basic(header: str, user: str, password: str) -> bool:
    """Whether an ``Authorization`` header shows these (RFC 7617)."""
    wanted = base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
    scheme, _, shown = header.partition(" ")
    return scheme.lower() == "basic" and same(shown.strip(), wanted)


def telnyx(headers: Mapping[str, str], body: bytes, key: bytes, now: float) -> bool:
    """Whether Telnyx signed ``body``: Ed25519 over ``TIMESTAMP|BODY``."""
    stamp = headers.get("telnyx-timestamp", "")
    if not _TIME.fullmatch(stamp) or abs(now - int(stamp)) > MAX_AGE:
        return False
    try:
        signature = base64.b64decode(headers.get("telnyx-signature-ed25519", ""), validate=True)
        Ed25519PublicKey.from_public_bytes(key).verify(signature, stamp.encode() + b"|" + body)
    except (binascii.Error, InvalidSignature, ValueError):
        return False
    return True


def plivo(
    headers: Mapping[str, str], method: str, url: str, form: Mapping[str, list[str]], token: str
) -> bool:
    """Whether Plivo signed the request (V3): HMAC-SHA256 over address, parameters and nonce.

    Source: https://www.plivo.com/docs/voice/concepts/signature-validation.
    """
    nonce = headers.get("x-plivo-signature-v3-nonce", "")
    shown = headers.get("x-plivo-signature-v3", "")
    if not nonce or not shown:
        return False
    signed = f"{_plivo_base(method, url, form)}.{nonce}".encode()
    wanted = base64.b64encode(hmac.digest(token.encode(), signed, hashlib.sha256)).decode()
    return any(same(one, wanted) for one in shown.split(","))


def _plivo_base(method: str, url: str, form: Mapping[str, list[str]]) -> str:
    parts = urlsplit(url)
    base = f"{parts.scheme}://{parts.netloc}{parts.path}"
    asked = parse_qs(parts.query, keep_blank_values=True)
    query = "&".join(f"{key}={value}" for key in sorted(asked) for value in sorted(asked[key]))
    if method == "GET":
        return f"{base}?{query}" if query else base
    if query or form:
        base += f"?{query}"
    if query and form:
        base += "."
    return base + "".join(f"{key}{value}" for key in sorted(form) for value in sorted(form[key]))


def vonage(header: str, body: bytes, secret: str, api_key: str | None, now: float) -> bool:
    """Whether Vonage signed the request: a JWT (HS256) that holds the body's SHA-256.

    Source: https://developer.vonage.com/en/getting-started/concepts/webhooks (signed webhooks).
    """
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or len(token) > 4096:
        return False
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            secret,
            algorithms=["HS256"],
            options={"require": ["iat"], "verify_iat": False, "verify_exp": False},
        )
    except jwt.PyJWTError:
        return False
    issued = claims["iat"]
    if not isinstance(issued, int | float) or abs(now - issued) > MAX_AGE:
        return False
    if api_key is not None and claims.get("api_key") != api_key:
        return False
    if not body:
        return True
    return same(str(claims.get("payload_hash", "")), hashlib.sha256(body).hexdigest())


_COMPONENTS: Final = (
    "@request-target",
    "@authority",
    "audiohook-organization-id",
    "audiohook-session-id",
    "audiohook-correlation-id",
    "x-api-key",
)
"""What Genesys signs at least."""

_INPUT: Final = re.compile(
    r'([a-z][a-z0-9_-]{0,31})=(\(((?:"[a-z@][a-z0-9@-]*" ?)+)\)((?:;[^,]*)))'
)
_PARAMETER: Final = re.compile(r';([a-z]+)=(?:"([^"]*)"|([0-9]+))')


def genesys(
    headers: Mapping[str, str],
    target: str,
    secret: bytes,
    nonces: Nonces,
    now: float,
) -> bool:
    """Whether Genesys signed a websocket's request (HTTP Message Signatures, HMAC-SHA256).

    ``target`` is path and query. A request is believed once. Source:
    https://developer.genesys.cloud/devapps/audiohook/security.
    """
    match = _INPUT.fullmatch(headers.get("signature-input", ""))
    if match is None:
        return False
    label, parameters, names, rest = match[1], match[2], match[3].replace('"', "").split(), match[4]
    values = {name: quoted or plain for name, quoted, plain in _PARAMETER.findall(rest)}
    if not set(_COMPONENTS) <= set(names) or len(names) != len(set(names)):
        return False
    if values.get("alg") != "hmac-sha256" or values.get("keyid") != headers.get("x-api-key"):
        return False
    if not _timely(values, now):
        return False
    lines = []
    for name in names:
        value = target if name == "@request-target" else headers.get(name)
        value = headers.get("host") if name == "@authority" else value
        if value is None:
            return False
        lines.append(f'"{name}": {value}')
    lines.append(f'"@signature-params": {parameters}')
    mac = base64.b64encode(hmac.digest(secret, "\n".join(lines).encode(), hashlib.sha256))
    shown = headers.get("signature", "")
    if not same(shown, f"{label}=:{mac.decode()}:"):
        return False
    nonce = values.get("nonce", "")
    return len(nonce) >= 22 and nonces.fresh(nonce, now)


def _timely(values: Mapping[str, str], now: float) -> bool:
    created, expires = values.get("created", ""), values.get("expires", "")
    if not _TIME.fullmatch(created) or abs(now - int(created)) > MAX_SOCKET_AGE:
        return False
    return not expires or (_TIME.fullmatch(expires) is not None and now <= int(expires))


def same(shown: str, wanted: str) -> bool:
    """Whether two strings are equal, in a time that tells nothing."""
    return hmac.compare_digest(shown.encode("utf-8", "replace"), wanted.encode())
