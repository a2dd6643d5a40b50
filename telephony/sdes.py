"""Keys for SRTP in session descriptions: the a=crypto attribute (RFC 4568, RFC 7714 §14.2).

The keys stand in the description in clear, so they are as secret as the signalling is: over TLS.
Nothing here shows a key in a ``repr`` or an error.

Left out, because nothing we send with or receive by could follow them: master key identifiers
(and so several keys in one attribute), key derivation rates other than the default, and streams
that are not encrypted or not authenticated. An attribute that asks for one of these is passed
over, as RFC 4568 §6.3.7 demands.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from ringtrue.telephony.sdp import Attribute, Media, SdpError

MAX_ATTRIBUTES: Final = 16
"""a=crypto lines read of one m= section; further ones are passed over."""

_LIFETIME: Final = re.compile(r"(2\^)?[0-9]{1,15}", re.ASCII)


class SrtpMode(StrEnum):
    """How media is to be protected."""

    OFF = "off"
    """Plain RTP; streams that must be encrypted are refused."""

    OFFER = "offer"
    """Encrypted where the far end can (RFC 8643), plain where it can't."""

    REQUIRE = "require"
    """Encrypted, or no call."""


@dataclass(frozen=True, slots=True)
class CryptoSuite:
    """A crypto-suite (RFC 4568 §6.2, RFC 7714 §14.2)."""

    name: str
    key_bytes: int
    salt_bytes: int


SUITES: Final = tuple(
    CryptoSuite(*suite)
    for suite in (
        ("AEAD_AES_256_GCM", 32, 12),
        ("AEAD_AES_128_GCM", 16, 12),
        ("AES_CM_128_HMAC_SHA1_80", 16, 14),
        ("AES_CM_128_HMAC_SHA1_32", 16, 14),
    )
)
"""All there are, strongest first."""

SUITE_NAMES: Final = tuple(suite.name for suite in SUITES)

DEFAULT_SUITES: Final = ("AES_CM_128_HMAC_SHA1_80", "AEAD_AES_256_GCM", "AEAD_AES_128_GCM")
"""The one that every far end has comes first."""


def suite_named(name: str) -> CryptoSuite:
    """The suite called ``name``.

    Raises ``ValueError`` naming the choices.
    """
    for suite in SUITES:
        if suite.name == name:
            return suite
    raise ValueError(f"unknown crypto suite {name!r}; known: {', '.join(SUITE_NAMES)}")


@dataclass(frozen=True, slots=True)
class Crypto:
    """One a=crypto attribute."""

    tag: int
    suite: CryptoSuite
    key: bytes = field(repr=False)
    """Master key, then master salt: what protects packets of the side that wrote it."""

    def attribute(self) -> Attribute:
        """As it stands in a description."""
        inline = base64.b64encode(self.key).decode()
        return Attribute("crypto", f"{self.tag} {self.suite.name} inline:{inline}")


@dataclass(frozen=True, slots=True)
class SrtpKeys:
    """What both sides agreed on, seen from ours."""

    suite: CryptoSuite
    send: bytes = field(repr=False)
    receive: bytes = field(repr=False)


def new_key(suite: CryptoSuite) -> bytes:
    """A random master key and salt."""
    return secrets.token_bytes(suite.key_bytes + suite.salt_bytes)


@dataclass(frozen=True, slots=True)
class Security:
    """Our side's wishes; ``suites`` best first."""

    mode: SrtpMode = SrtpMode.OFF
    suites: tuple[CryptoSuite, ...] = tuple(suite_named(name) for name in DEFAULT_SUITES)
    make_key: Callable[[CryptoSuite], bytes] = new_key


PLAIN: Final = Security()
"""No encryption."""


def parse_crypto(value: str) -> Crypto:
    """Read the value of one a=crypto attribute.

    Raises :class:`SdpError`, which never quotes it, where it can't be read or followed.
    """
    fields = value.split()
    if len(fields) < 3:
        raise SdpError("a=crypto needs tag, suite and key")
    tag, name, parameters, *session = fields
    if not (tag.isascii() and tag.isdigit() and len(tag) <= 9):
        raise SdpError("a=crypto tag must be 1-9 digits")
    try:
        suite = suite_named(name)
    except ValueError:
        raise SdpError("a=crypto names a suite that is not supported") from None
    # a dash before a session parameter says that it may be left aside; WSH is a mere hint
    if any(not part.startswith(("-", "WSH=")) for part in session):
        raise SdpError("a=crypto has a session parameter that is not supported")
    return Crypto(int(tag), suite, _inline(parameters, suite))


def _inline(parameters: str, suite: CryptoSuite) -> bytes:
    method, colon, info = parameters.partition(":")
    if method != "inline" or not colon:
        raise SdpError("a=crypto key method is not inline")
    if ";" in info:
        raise SdpError("a=crypto has several keys; only one is supported")
    encoded, *rest = info.split("|")
    if rest and _LIFETIME.fullmatch(rest[0]):
        rest = rest[1:]  # for its owner to heed: it changes the key in time
    if rest:
        raise SdpError("a=crypto has a master key identifier, or a lifetime that can't be read")
    try:
        key = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise SdpError("a=crypto key is not base64") from None
    expected = suite.key_bytes + suite.salt_bytes
    if len(key) != expected:
        raise SdpError(f"a=crypto key has {len(key)} bytes; {suite.name} takes {expected}")
    return key


def usable(media: Media, suites: Sequence[CryptoSuite]) -> list[Crypto]:
    """The attributes of ``media`` that can be followed with one of ``suites``, in its order."""
    found: list[Crypto] = []
    values = [a.value for a in media.attributes if a.name == "crypto" and a.value]
    for value in values[:MAX_ATTRIBUTES]:
        try:
            crypto = parse_crypto(value)
        except SdpError:
            continue
        if crypto.suite in suites:
            found.append(crypto)
    return found


def offered(security: Security, current: SrtpKeys | None) -> tuple[Crypto, ...]:
    """What an offer of ours gives; a later one keeps the key in use (RFC 4568 §7.1.4)."""
    if current is not None:
        return (Crypto(1, current.suite, current.send),)
    return tuple(
        Crypto(tag, suite, security.make_key(suite)) for tag, suite in enumerate(security.suites, 1)
    )


def answered(
    media: Media, security: Security, current: SrtpKeys | None
) -> tuple[Crypto, SrtpKeys] | None:
    """Our attribute and the keys in answer to an offered ``media``; None where none fits.

    Our key stays while the far end keeps its own, and is new where that is new.
    """
    for theirs in usable(media, security.suites):
        if current is not None and (current.suite, current.receive) == (theirs.suite, theirs.key):
            key = current.send
        else:
            key = security.make_key(theirs.suite)
        keys = SrtpKeys(theirs.suite, key, theirs.key)
        return Crypto(theirs.tag, theirs.suite, key), keys
    return None


def agreed(ours: Media, theirs: Media, security: Security) -> SrtpKeys | None:
    """The keys of an offered ``ours`` and its answer ``theirs``; None where none was taken."""
    for answer in usable(theirs, security.suites):
        for crypto in usable(ours, security.suites):
            if (crypto.tag, crypto.suite) == (answer.tag, answer.suite):
                return SrtpKeys(crypto.suite, crypto.key, answer.key)
    return None
