"""Where messages come from and go to (RFC 3261 §18, RFC 3581)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ringtrue.telephony.sip.headers import Via
from ringtrue.telephony.sip.uri import SipUri

DEFAULT_PORT: Final = 5060


@dataclass(frozen=True, slots=True)
class Hop:
    """One end of a transport: a datagram's peer, or a stream by its peer."""

    transport: str
    """``udp`` or ``tcp``."""

    host: str
    """Address, or a name still to be resolved; IPv6 without brackets."""

    port: int

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
    return Hop(uri.transport or default_transport, uri.host, uri.port or DEFAULT_PORT)
