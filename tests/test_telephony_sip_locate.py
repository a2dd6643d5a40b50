"""RFC 3263 against written-out names, and against a DNS server on loopback."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import dns.asyncresolver
import dns.flags
import dns.message
import dns.rrset
import pytest

from ringtrue.telephony.sip.locate import Locator, Naptr, Srv, SystemNames, ordered
from ringtrue.telephony.sip.transport import Hop
from ringtrue.telephony.sip.uri import SipUri, parse_uri


class Zone:
    """Names as a test writes them."""

    def __init__(self) -> None:
        self.srvs: dict[str, list[Srv]] = {}
        self.naptrs: dict[str, list[Naptr]] = {}
        self.hosts = {"example.com": ["192.0.2.1"], "a.example.com": ["192.0.2.10", "192.0.2.11"]}
        self.asked: list[str] = []

    async def srv(self, name: str) -> list[Srv]:
        self.asked.append(name)
        return self.srvs.get(name, [])

    async def naptr(self, name: str) -> list[Naptr]:
        self.asked.append(name)
        return self.naptrs.get(name, [])

    async def addresses(self, name: str, port: int, family: int) -> list[str]:
        return self.hosts.get(name, [])


async def located(zone: Zone, uri: str, *transports: str) -> list[Hop]:
    locator = Locator(zone, random.Random(1))
    locator.transports = transports or ("udp", "tcp", "tls")
    parsed = parse_uri(uri)
    assert isinstance(parsed, SipUri)
    return await locator.locate(parsed)


@pytest.mark.parametrize(
    ("uri", "hop"),
    [
        ("sip:192.0.2.9", Hop("udp", "192.0.2.9", 5060)),
        ("sip:192.0.2.9;transport=tcp", Hop("tcp", "192.0.2.9", 5060)),
        ("sips:192.0.2.9", Hop("tls", "192.0.2.9", 5061, "192.0.2.9")),
        ("sip:[2001:db8::1]:5080", Hop("udp", "2001:db8::1", 5080)),
        ("sip:example.com:5080", Hop("udp", "192.0.2.1", 5080)),
        ("sip:example.com:5080;transport=tls", Hop("tls", "192.0.2.1", 5080, "example.com")),
    ],
)
async def test_addresses_and_ports_ask_for_no_services(uri: str, hop: Hop) -> None:
    zone = Zone()
    assert await located(zone, uri) == [hop]
    assert zone.asked == []


async def test_the_domain_chooses_by_naptr() -> None:
    zone = Zone()
    zone.naptrs["example.com"] = [
        Naptr(20, 10, "s", "SIP+D2U", "_sip._udp.example.com"),
        Naptr(10, 20, "S", "sip+d2t", "_sip._tcp.example.com"),
        Naptr(10, 10, "s", "SIPS+D2T", "_sips._tcp.example.com"),
        Naptr(1, 1, "u", "E2U+sip", "x"),
        Naptr(1, 1, "s", "SIP+D2S", "_sip._sctp.example.com"),
    ]
    for name, port in (("_sips._tcp", 5061), ("_sip._tcp", 5062), ("_sip._udp", 5063)):
        zone.srvs[f"{name}.example.com"] = [Srv(1, 1, port, "a.example.com")]
    hops = await located(zone, "sip:example.com")
    assert [(hop.transport, hop.port) for hop in hops] == [
        ("tls", 5061),
        ("tls", 5061),
        ("tcp", 5062),
        ("tcp", 5062),
        ("udp", 5063),
        ("udp", 5063),
    ]
    assert hops[0] == Hop("tls", "192.0.2.10", 5061, "example.com")
    without = await located(zone, "sip:example.com", "udp")
    assert {hop.transport for hop in without} == {"udp"}


async def test_a_transport_that_is_named_skips_naptr() -> None:
    zone = Zone()
    zone.srvs["_sip._tcp.example.com"] = [Srv(1, 1, 5070, "a.example.com")]
    hops = await located(zone, "sip:example.com;transport=tcp")
    assert hops[0] == Hop("tcp", "192.0.2.10", 5070)
    assert zone.asked == ["_sip._tcp.example.com"]
    assert await located(zone, "sips:example.com") == [Hop("tls", "192.0.2.1", 5061, "example.com")]
    assert await located(zone, "sips:example.com", "udp", "tcp") == []


async def test_without_any_service_the_name_itself_is_asked() -> None:
    assert await located(Zone(), "sip:example.com") == [Hop("udp", "192.0.2.1", 5060)]
    assert await located(Zone(), "sip:example.com", "tcp") == [Hop("tcp", "192.0.2.1", 5060)]
    assert await located(Zone(), "sip:nowhere.example") == []


async def test_no_more_hops_than_can_be_tried() -> None:
    zone = Zone()
    zone.srvs["_sip._udp.example.com"] = [Srv(n, 0, 5060, f"10.0.0.{n}") for n in range(1, 100)]
    hops = await located(zone, "sip:example.com;transport=udp")
    assert [hop.host for hop in hops] == [f"10.0.0.{n}" for n in range(1, 17)]


def test_weights_share_the_load() -> None:
    """RFC 2782: three quarters of first choices to the record with three quarters of weight."""
    records = [
        Srv(1, 30, 5060, "heavy"),
        Srv(1, 10, 5060, "light"),
        Srv(2, 0, 5060, "backup"),
        Srv(0, 0, 0, ""),
    ]
    rng = random.Random(5)
    orders = [[r.target for r in ordered(records, rng)] for _ in range(2000)]
    assert all(order[2] == "backup" and len(order) == 3 for order in orders)
    first = Counter(order[0] for order in orders)
    assert 0.70 < first["heavy"] / 2000 < 0.80
    assert ordered([Srv(1, 0, 5060, "a"), Srv(1, 0, 5060, "b")], rng) != []


class _Answers(asyncio.DatagramProtocol):
    """A name server with a fixed zone."""

    def __init__(self, zone: dict[tuple[str, str], list[str]]) -> None:
        self._zone = zone
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        question = query.question[0]
        name, kind = question.name.to_text().lower(), question.rdtype.name
        records = self._zone.get((name, kind), [])
        if records:
            response.answer.append(dns.rrset.from_text(name, 60, "IN", kind, *records))
        elif not any(known == name for known, _ in self._zone):
            response.set_rcode(3)  # NXDOMAIN
        assert self.transport is not None
        self.transport.sendto(response.to_wire(), addr)


@asynccontextmanager
async def name_server(zone: dict[tuple[str, str], list[str]]) -> AsyncIterator[SystemNames]:
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Answers(zone), local_addr=("127.0.0.1", 0)
    )
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = ["127.0.0.1"]
    resolver.port = transport.get_extra_info("sockname")[1]
    try:
        yield SystemNames(resolver)
    finally:
        transport.close()
        await asyncio.sleep(0)


async def test_real_questions_to_a_name_server() -> None:
    zone = {
        ("voip.test.", "NAPTR"): ['10 10 "s" "SIP+D2T" "" _sip._tcp.voip.test.'],
        ("_sip._tcp.voip.test.", "SRV"): ["20 1 5080 127.0.0.3.", "10 1 5070 localhost."],
        ("_sip._udp.voip.test.", "SRV"): ["0 0 0 ."],
    }
    async with name_server(zone) as names:
        assert await names.srv("_sip._udp.voip.test") == [Srv(0, 0, 0, "")]
        assert await names.srv("_sip._tcp.other.test") == []
        assert await names.naptr("bad..name") == []
        locator = Locator(names)
        hops = await locator.locate(SipUri("voip.test"))
        assert hops[0].port == 5070
        assert hops[0].host in ("127.0.0.1", "::1")
        assert {hop.transport for hop in hops} == {"tcp"}


@pytest.mark.uvloop
async def test_real_questions_under_uvloop() -> None:
    await test_real_questions_to_a_name_server()


async def test_a_name_server_that_is_not_there() -> None:
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = []
    assert await SystemNames(resolver).srv("_sip._udp.example.com") == []
