"""URIs as SIP uses them (RFC 3261 §19.1, §25.1; IPv6 references per RFC 5118 §4)."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import unquote

from ringtrue.telephony.sip.errors import SipParseError

_ESCAPED = r"%[0-9A-Fa-f]{2}"
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*\Z")
_OPAQUE: Final = re.compile(r"[!-~]+\Z")
_USER: Final = re.compile(rf"(?:[A-Za-z0-9\-_.!~*'()&=+$,;?/]|{_ESCAPED})+\Z")
_PASSWORD: Final = re.compile(rf"(?:[A-Za-z0-9\-_.!~*'()&=+$,]|{_ESCAPED})*\Z")
_PARAM: Final = re.compile(rf"(?:[A-Za-z0-9\-_.!~*'()\[\]/:&+$]|{_ESCAPED})+\Z")
_HEADERS: Final = re.compile(rf"(?:[A-Za-z0-9\-_.!~*'()\[\]/?:+$&=]|{_ESCAPED})+\Z")
_HOSTNAME: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_\-.]*[A-Za-z0-9_.])?\Z")
_NUMERIC: Final = re.compile(r"[0-9.]+\Z")


@dataclass(frozen=True, slots=True)
class SipUri:
    """A ``sip:`` or ``sips:`` URI. Parts are kept escaped, as they were written."""

    host: str
    """Host name, IPv4 address, or IPv6 address without brackets."""

    port: int | None = None
    user: str | None = None
    password: str | None = None
    params: tuple[tuple[str, str | None], ...] = ()
    headers: str | None = None
    """What follows the question mark, unread: it never becomes a header of ours."""

    scheme: str = "sip"

    def param(self, name: str) -> str | None:
        """The parameter's value; an empty string where it has none, None where absent."""
        for key, value in self.params:
            if key.lower() == name:
                return value or ""
        return None

    @property
    def transport(self) -> str | None:
        """The ``transport`` parameter in lower case."""
        value = self.param("transport")
        return value.lower() if value else None

    @property
    def user_text(self) -> str:
        """The user part with its escapes resolved, for display and policy; empty if none."""
        return unquote(self.user or "", errors="replace")

    def bare(self) -> SipUri:
        """This URI as a Request-URI may carry it: no headers, no method (§19.1.1)."""
        params = tuple(p for p in self.params if p[0].lower() != "method")
        return replace(self, headers=None, params=params)

    def __str__(self) -> str:
        """The URI as it goes on the wire."""
        text = f"{self.scheme}:"
        if self.user is not None:
            text += self.user
            if self.password is not None:
                text += f":{self.password}"
            text += "@"
        text += host_port(self.host, self.port)
        for key, value in self.params:
            text += f";{key}" if value is None else f";{key}={value}"
        return text if self.headers is None else f"{text}?{self.headers}"


@dataclass(frozen=True, slots=True)
class OtherUri:
    """A URI of any other scheme, unread."""

    scheme: str
    rest: str

    def __str__(self) -> str:
        """The URI as it was written."""
        return f"{self.scheme}:{self.rest}"


Uri = SipUri | OtherUri


def is_secure(uri: Uri) -> bool:
    """Whether it is a ``sips`` URI: TLS on every hop."""
    return uri.scheme == "sips"


def host_port(host: str, port: int | None) -> str:
    """``host[:port]`` with brackets around an IPv6 address."""
    text = f"[{host}]" if ":" in host else host
    return text if port is None else f"{text}:{port}"


def parse_uri(text: str) -> Uri:
    """Read one URI without surrounding space or brackets.

    Raises :class:`SipParseError` on anything RFC 3261 §25.1 does not allow.
    """
    scheme, colon, rest = text.partition(":")
    if not colon or not _SCHEME.match(scheme) or not _OPAQUE.match(rest):
        raise SipParseError(f"not a URI: {text[:80]!r}")
    if scheme.lower() not in ("sip", "sips"):
        return OtherUri(scheme.lower(), rest)
    user = password = headers = None
    userinfo, at, tail = rest.rpartition("@")
    if at:
        user, colon, secret = userinfo.partition(":")
        password = secret if colon else None
        if not _USER.match(user) or (colon and not _PASSWORD.match(secret)):
            raise SipParseError(f"bad user part in URI: {userinfo[:80]!r}")
    tail, question, after = tail.partition("?")
    if question:
        if not _HEADERS.match(after):
            raise SipParseError(f"bad headers in URI: {after[:80]!r}")
        headers = after
    where, *pieces = tail.split(";")
    host, port = parse_host_port(where)
    params: list[tuple[str, str | None]] = []
    for piece in pieces:
        key, equals, value = piece.partition("=")
        if not _PARAM.match(key) or (equals and not _PARAM.match(value)):
            raise SipParseError(f"bad URI parameter: {piece[:80]!r}")
        params.append((key, value if equals else None))
    return SipUri(host, port, user, password, tuple(params), headers, scheme.lower())


def parse_host_port(text: str) -> tuple[str, int | None]:
    """Read ``host[:port]``; an IPv6 address must be in brackets and loses them.

    Raises :class:`SipParseError`.
    """
    if text.startswith("["):
        host, bracket, after = text[1:].partition("]")
        if not bracket or not is_ip6(host):
            raise SipParseError(f"bad IPv6 reference: {text[:80]!r}")
        if after and not after.startswith(":"):
            raise SipParseError(f"unexpected text after IPv6 reference: {text[:80]!r}")
        colon, digits = bool(after), after[1:]
    else:
        host, separator, digits = text.partition(":")
        colon = bool(separator)
        if not _is_host(host):
            raise SipParseError(f"bad host: {text[:80]!r}")
    return host, parse_port(digits) if colon else None


def parse_port(digits: str) -> int:
    """Read a port, 1 to 65535. Raises :class:`SipParseError`."""
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 5):
        raise SipParseError(f"bad port {digits[:20]!r}; it must be 1 to 65535")
    port = int(digits)
    if not 1 <= port <= 65535:
        raise SipParseError(f"bad port {port}; it must be 1 to 65535")
    return port


def is_ip6(text: str) -> bool:
    """Whether ``text`` is an IPv6 address without zone or brackets."""
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return "%" not in text


def _is_host(text: str) -> bool:
    if len(text) > 255 or not _HOSTNAME.match(text):
        return False
    if _NUMERIC.match(text):
        try:
            ipaddress.IPv4Address(text)
        except ValueError:
            return False
    return ".." not in text
