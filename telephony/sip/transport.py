"""Where messages come from and go to (RFC 3261 §18, RFC 3581)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ringtrue.telephony.sip.headers import Via
from ringtrue.telephony.sip.uri import SipUri

DEFAULT_PORT: Final = 5060
DEFAULT_TLS_PORT: Final = 5061
TRANSPORTS: Final = ("udp", "tcp", "tls")


@dataclass(frozen=True, slots=True)
class Hop:
    """One end of a transport: a datagram's peer, or a stream by its peer."""

    transport: str
    """One of :data:`TRANSPORTS`; what a stranger's URI names may be another, and is not sent to."""

    host: str
    """Address, or a name still to be resolved; IPv6 without brackets."""

    port: int
    name: str = ""
    """TLS: whose certificate is expected; empty: ``host``'s. The domain that was asked for
    (RFC 5922 §4), not what DNS made of it."""

    @property
    def reliable(self) -> bool:
        """Whether the transport delivers or fails."""
        return self.transport != "udp"


@dataclass(frozen=True, slots=True)
class Send:
    """Output: a datagram, or bytes for the stream to ``hop`` (opened if there is none)."""

    data: bytes
    hop: Hop


@dataclass(frozen=True, slots=True)
class Close:
    """Output: close the stream to ``hop`` once what was sent before is written."""

    hop: Hop


TransportOutput = Send | Close


def response_hop(via: Via, source: Hop) -> Hop:
    """Where the response to a request from ``source`` goes (§18.2.2, RFC 3581 §4).

    A stream's response goes back on it. A datagram's goes to the source address, at the source
    port where ``rport`` asked for it, else at the port the sent-by names. ``maddr`` is not
    followed: it would let a stranger aim our responses, broadcast included.
    """
    if source.reliable:
        return source
    port = source.port if via.rport is not None else via.port or DEFAULT_PORT
    return Hop("udp", source.host, port)


def request_hop(uri: SipUri, default_transport: str = "udp") -> Hop:
    """Where a request to ``uri`` goes, before name resolution (RFC 3263 without SRV)."""
    transport = uri_transport(uri) or default_transport
    port = uri.port or default_port(transport)
    return Hop(transport, uri.host, port, uri.host if transport == "tls" else "")


def uri_transport(uri: SipUri) -> str | None:
    """The transport a URI asks for; ``sips`` asks for TLS. None where it leaves the choice."""
    return "tls" if uri.scheme == "sips" else uri.transport


def default_port(transport: str) -> int:
    """5061 for TLS, else 5060 (RFC 3261 §19.1.2)."""
    return DEFAULT_TLS_PORT if transport == "tls" else DEFAULT_PORT
