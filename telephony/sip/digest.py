"""Digest challenges and credentials: reading, writing, and the arithmetic.

RFC 7616 (digest), RFC 8760 (its algorithms in SIP), RFC 3261 §22.4. Only ``qop=auth`` is used,
and the form without qop of RFC 2069 where a challenge offers none.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from ringtrue.telephony.sip.errors import SipParseError

_HASHES: Final = {"SHA-512-256": "sha512_256", "SHA-256": "sha256", "MD5": "md5"}
ALGORITHMS: Final = tuple(_HASHES)
"""Strongest first; each also in its ``-sess`` form."""

MAX_PARAMS: Final = 32
_SCHEME: Final = re.compile(r"\s*Digest\s+", re.IGNORECASE)
_PARAM: Final = re.compile(
    r"\s*([A-Za-z0-9\-.!%*_+`'~]+)\s*=\s*"
    r"(?:\"((?:[^\"\\\r\n]|\\[^\r\n])*)\"|([^\s,\"]+))\s*(?:,|\Z)"
)
_NONCE_COUNT: Final = re.compile(r"[0-9a-fA-F]{8}\Z")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One WWW-Authenticate or Proxy-Authenticate value."""

    realm: str
    nonce: str
    algorithm: str = "MD5"
    """As :data:`ALGORITHMS` spells it, with ``-sess`` where it was asked for."""

    qop: bool = True
    """Whether ``qop=auth`` is offered; else the answer has neither cnonce nor count."""

    opaque: str | None = None
    stale: bool = False
    """The credentials were right, their nonce is too old."""

    def __str__(self) -> str:
        """The value as it goes on the wire."""
        text = f'Digest realm="{quoted(self.realm)}", nonce="{quoted(self.nonce)}"'
        if self.opaque is not None:
            text += f', opaque="{quoted(self.opaque)}"'
        text += f", algorithm={self.algorithm}"
        text += ', qop="auth"' if self.qop else ""
        return text + (", stale=true" if self.stale else "")


@dataclass(frozen=True, slots=True)
class Credentials:
    """One Authorization or Proxy-Authorization value."""

    user: str
    realm: str
    nonce: str
    uri: str
    response: str
    algorithm: str = "MD5"
    opaque: str | None = None
    cnonce: str | None = None
    count: int | None = None
    """Nonce count; None without ``qop``."""

    def __str__(self) -> str:
        """The value as it goes on the wire."""
        text = f'Digest username="{quoted(self.user)}", realm="{quoted(self.realm)}"'
        text += f', nonce="{quoted(self.nonce)}", uri="{quoted(self.uri)}"'
        text += f', response="{self.response}", algorithm={self.algorithm}'
        if self.opaque is not None:
            text += f', opaque="{quoted(self.opaque)}"'
        if self.count is not None:
            text += f', cnonce="{quoted(self.cnonce or "")}", qop=auth, nc={self.count:08x}'
        return text


def quoted(text: str) -> str:
    """The inside of a quoted-string; line ends, which it can't hold, become question marks."""
    text = re.sub(r"[\r\n\0]", "?", text)
    return text.replace("\\", "\\\\").replace('"', '\\"')


def read_params(value: str) -> dict[str, str]:
    """The parameters of a Digest value by lower-case name, unquoted.

    Raises :class:`SipParseError` where it is of another scheme, malformed, or repeats itself.
    """
    scheme = _SCHEME.match(value)
    if not scheme:
        raise SipParseError(f"not a Digest value: {value[:40]!r}")
    params: dict[str, str] = {}
    at = scheme.end()
    while at < len(value):
        match = _PARAM.match(value, at)
        if not match or len(params) >= MAX_PARAMS:
            raise SipParseError("bad parameter in a Digest value")
        name = match[1].lower()
        if name in params:
            raise SipParseError(f"{name[:40]} is given twice in a Digest value")
        params[name] = match[3] if match[2] is None else re.sub(r"\\(.)", r"\1", match[2])
        at = match.end()
    return params


def parse_challenge(value: str) -> Challenge:
    """Read a challenge.

    Raises :class:`SipParseError` on a malformed one and on one we can't answer: another scheme
    or algorithm, or ``auth-int`` alone.
    """
    params = read_params(value)
    qop = params.get("qop")
    if qop is not None and "auth" not in [word.strip().lower() for word in qop.split(",")]:
        raise SipParseError(f"qop {qop[:40]!r} is not supported; only auth is")
    if "realm" not in params or not params.get("nonce"):
        raise SipParseError("a challenge without realm or nonce")
    return Challenge(
        realm=params["realm"],
        nonce=params["nonce"],
        algorithm=known_algorithm(params.get("algorithm", "MD5")),
        qop=qop is not None,
        opaque=params.get("opaque"),
        stale=params.get("stale", "").lower() == "true",
    )


def parse_credentials(value: str) -> Credentials:
    """Read credentials. Raises :class:`SipParseError` on anything incomplete or unsupported."""
    params = read_params(value)
    for name in ("username", "realm", "nonce", "uri", "response"):
        if not params.get(name):
            raise SipParseError(f"credentials without {name}")
    count: int | None = None
    if "qop" in params:
        if params["qop"].lower() != "auth":
            raise SipParseError(f"qop {params['qop'][:40]!r} is not supported; only auth is")
        if not _NONCE_COUNT.match(params.get("nc", "")) or not params.get("cnonce"):
            raise SipParseError("credentials with qop but without nc or cnonce")
        count = int(params["nc"], 16)
    return Credentials(
        user=params["username"],
        realm=params["realm"],
        nonce=params["nonce"],
        uri=params["uri"],
        response=params["response"].lower(),
        algorithm=known_algorithm(params.get("algorithm", "MD5")),
        opaque=params.get("opaque"),
        cnonce=params.get("cnonce"),
        count=count,
    )


def known_algorithm(name: str) -> str:
    """An algorithm's name as we write it. Raises :class:`SipParseError` on one we don't have."""
    base = name.upper()
    session = base.endswith("-SESS")
    base = base.removesuffix("-SESS")
    if base not in _HASHES:
        raise SipParseError(f"algorithm {name[:40]!r} is not one of {', '.join(ALGORITHMS)}")
    return base + ("-sess" if session else "")


def strength(algorithm: str) -> int:
    """Orders algorithms; higher is stronger."""
    return -ALGORITHMS.index(algorithm.removesuffix("-sess"))


def digest_response(
    *,
    algorithm: str,
    user: str,
    realm: str,
    password: str,
    method: str,
    uri: str,
    nonce: str,
    cnonce: str | None = None,
    count: int | None = None,
) -> str:
    """The response of RFC 7616 §3.4.1 in lower-case hex; without ``count`` that of RFC 2069."""
    hash_name = _HASHES[algorithm.removesuffix("-sess")]

    def hashed(text: str) -> str:
        data = text.encode("utf-8", "surrogateescape")
        return hashlib.new(hash_name, data, usedforsecurity=False).hexdigest()

    secret = hashed(f"{user}:{realm}:{password}")
    if algorithm.endswith("-sess"):
        secret = hashed(f"{secret}:{nonce}:{cnonce or ''}")
    target = hashed(f"{method}:{uri}")
    if count is None:
        return hashed(f"{secret}:{nonce}:{target}")
    return hashed(f"{secret}:{nonce}:{count:08x}:{cnonce or ''}:auth:{target}")
