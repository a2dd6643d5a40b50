"""Finding servers: NAPTR, SRV, A and AAAA (RFC 3263 §4, RFC 2782)."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

import dns.asyncresolver
import dns.exception
import dns.name
import dns.rdatatype
import structlog
from dns.rdtypes.IN.NAPTR import NAPTR
from dns.rdtypes.IN.SRV import SRV

from ringtrue.telephony.sip.sockets import addresses, is_address
from ringtrue.telephony.sip.transport import Hop, default_port, uri_transport
from ringtrue.telephony.sip.uri import SipUri

log = structlog.get_logger(__name__)

LOOKUP_SECONDS: Final = 5.0
"""How long one DNS question may take, with all its repetitions."""

MAX_HOPS: Final = 16
MAX_RECORDS: Final = 32

_SERVICES: Final = {"SIP+D2U": "udp", "SIP+D2T": "tcp", "SIPS+D2T": "tls"}
_LABELS: Final = {"udp": "_sip._udp", "tcp": "_sip._tcp", "tls": "_sips._tcp"}


@dataclass(frozen=True, slots=True)
class Srv:
    """One SRV record."""

    priority: int
    weight: int
    port: int
    target: str


@dataclass(frozen=True, slots=True)
class Naptr:
    """One NAPTR record, as far as SIP uses it."""

    order: int
    preference: int
    flags: str
    service: str
    replacement: str


class Names(Protocol):
    """Answers DNS questions; no answer is an empty list."""

    async def srv(self, name: str) -> list[Srv]:
        """SRV records of ``name``."""
        ...

    async def naptr(self, name: str) -> list[Naptr]:
        """NAPTR records of ``name``."""
        ...

    async def addresses(self, name: str, port: int, family: int) -> list[str]:
        """Addresses of ``name``."""
        ...


class SystemNames:
    """The resolver this machine is configured with."""

    def __init__(self, resolver: dns.asyncresolver.Resolver | None = None) -> None:
        """``resolver`` is for tests; the default reads the system's configuration when asked."""
        self._resolver = resolver

    async def srv(self, name: str) -> list[Srv]:
        """SRV records of ``name``."""
        return [
            Srv(record.priority, record.weight, record.port, _text(record.target))
            for record in await self._ask(name, dns.rdatatype.SRV)
            if isinstance(record, SRV)
        ]

    async def naptr(self, name: str) -> list[Naptr]:
        """NAPTR records of ``name``."""
        return [
            Naptr(
                record.order,
                record.preference,
                record.flags.decode("ascii", "replace"),
                record.service.decode("ascii", "replace"),
                _text(record.replacement),
            )
            for record in await self._ask(name, dns.rdatatype.NAPTR)
            if isinstance(record, NAPTR)
        ]

    async def addresses(self, name: str, port: int, family: int) -> list[str]:
        """Addresses of ``name``, by the system (its hosts file included)."""
        return await addresses(name, port, family)

    async def _ask(self, name: str, kind: dns.rdatatype.RdataType) -> list[dns.rdata.Rdata]:
        try:
            if self._resolver is None:
                self._resolver = dns.asyncresolver.Resolver()
            answer = await self._resolver.resolve(
                f"{name.rstrip('.')}.", kind, lifetime=LOOKUP_SECONDS, raise_on_no_answer=False
            )
        except (dns.exception.DNSException, OSError, ValueError) as error:
            if not isinstance(error, dns.resolver.NXDOMAIN):
                log.info("sip.lookup_failed", record=kind.name, error=type(error).__name__)
            return []
        return list(answer)[:MAX_RECORDS]


class Locator:
    """Turns a URI into the hops to try, in order."""

    def __init__(self, names: Names | None = None, rng: random.Random | None = None) -> None:
        """``rng`` chooses among SRV records of one priority."""
        self._names: Names = names or SystemNames()
        self._random = rng or random.SystemRandom()
        self.transports: tuple[str, ...] = ("udp", "tcp")
        """What we can send over, in our order of preference."""

        self.family: int = socket.AF_UNSPEC
        """Of the addresses we can send to."""

    async def locate(self, uri: SipUri) -> list[Hop]:
        """Every hop that ``uri`` may mean, best first; none where nothing was found."""
        wanted = uri_transport(uri)
        if wanted is not None and wanted not in self.transports:
            return []
        if is_address(uri.host) or uri.port is not None:
            transport = wanted or self._default(uri)
            port = uri.port or default_port(transport)
            return await self._hops(transport, [(uri.host, port)], uri.host)
        allowed = (wanted,) if wanted is not None else self.transports
        hops: list[Hop] = []
        for transport, name in await self._services(uri.host, wanted, allowed):
            servers = ordered(await self._names.srv(name), self._random)
            pairs = [(srv.target, srv.port) for srv in servers]
            hops += await self._hops(transport, pairs, uri.host)
        if not hops:
            transport = wanted or self._default(uri)
            hops = await self._hops(transport, [(uri.host, default_port(transport))], uri.host)
        return hops[:MAX_HOPS]

    def _default(self, uri: SipUri) -> str:
        """UDP where nothing says otherwise (§4.1), or what else there is."""
        return "udp" if "udp" in self.transports else self.transports[0]

    async def _services(
        self, domain: str, wanted: str | None, allowed: Iterable[str]
    ) -> list[tuple[str, str]]:
        """(transport, SRV name) to ask for, in order (§4.1)."""
        found: list[tuple[str, str]] = []
        if wanted is None:
            records = [r for r in await self._names.naptr(domain) if r.flags.lower() == "s"]
            for record in sorted(records, key=lambda r: (r.order, r.preference)):
                transport = _SERVICES.get(record.service.upper())
                if transport is not None and transport in allowed:
                    found.append((transport, record.replacement))
        return found or [(transport, f"{_LABELS[transport]}.{domain}") for transport in allowed]

    async def _hops(self, transport: str, pairs: list[tuple[str, int]], domain: str) -> list[Hop]:
        name = domain if transport == "tls" else ""
        hops: list[Hop] = []
        for host, port in pairs[:MAX_HOPS]:
            if is_address(host):
                found = [host]
            else:
                found = await self._names.addresses(host, port, self.family)
            hops += [Hop(transport, address, port, name) for address in found]
        return hops


def ordered(records: Iterable[Srv], rng: random.Random) -> list[Srv]:
    """SRV records in the order to try them (RFC 2782): by priority, then by chance and weight."""
    result: list[Srv] = []
    groups: dict[int, list[Srv]] = {}
    for record in records:
        if record.target and record.port:  # a target of "." says that there is no such service
            groups.setdefault(record.priority, []).append(record)
    for _, group in sorted(groups.items()):
        # Those of weight 0 first, so that they have a small chance where others have weight.
        left = sorted(group, key=lambda record: record.weight)
        while left:
            at = rng.randint(0, sum(record.weight for record in left))
            for record in left:
                at -= record.weight
                if at <= 0:
                    break
            left.remove(record)
            result.append(record)
    return result


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True) if name != dns.name.root else ""
