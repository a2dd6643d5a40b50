"""What a load test calls: an address of one of the three transports."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from ringtrue.loadtest.results import Transport
from ringtrue.streaming.errors import RingtrueError
from ringtrue.telephony.sip.errors import SipError
from ringtrue.telephony.sip.message import parse_target

ALLOWED: Final = (
    "sip:agent@host:port[;transport=tcp], ws://host:port (Twilio's frames), "
    "webrtc:http://host:port/agent"
)

_NUMBER: Final = re.compile(r"\d{5,}")
_LOCAL: Final = ("127.", "[::1]", "::1", "localhost")


class TargetError(RingtrueError):
    """The address can't be called."""


@dataclass(frozen=True, slots=True)
class Target:
    """One address."""

    transport: Transport
    address: str
    """A SIP URI, or the base of the target's web server (``http://host:port``)."""

    agent: str | None = None
    """The agent that is called, where the address names it."""

    @property
    def host(self) -> str:
        """Its host."""
        if self.transport is Transport.SIP:
            return parse_target(self.address).host
        return urlsplit(self.address).hostname or ""

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine's loopback: then one monotonic clock serves both."""
        return self.host.startswith(_LOCAL)

    @property
    def shown(self) -> str:
        """It without any telephone number."""
        return _NUMBER.sub("…", self.address)


def read_target(text: str) -> Target:
    """The target that ``text`` names. Raises :class:`TargetError` saying what is allowed."""
    scheme, _, rest = text.partition(":")
    if scheme in ("sip", "sips"):
        try:
            uri = parse_target(text)
        except SipError as error:
            raise TargetError(f"target {text[:80]!r}: {error}; allowed: {ALLOWED}") from None
        return Target(Transport.SIP, text, uri.user or None)
    if scheme in ("ws", "wss"):
        base, _ = _web(f"http{scheme[2:]}:{rest}", text)
        return Target(Transport.TWILIO, base)
    if scheme == "webrtc":
        base, path = _web(f"http:{rest}" if rest.startswith("//") else rest, text)
        return Target(Transport.WEBRTC, base, path or None)
    raise TargetError(f"target {text[:80]!r} is none; allowed: {ALLOWED}")


def _web(url: str, text: str) -> tuple[str, str]:
    parts = urlsplit(url)
    try:
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or parts.query or parts.username:
        raise TargetError(f"target {text[:80]!r} has no host; allowed: {ALLOWED}")
    return f"{parts.scheme}://{parts.netloc}", parts.path.strip("/")
