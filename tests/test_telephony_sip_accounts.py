"""Calls on an account: which of its servers they go to."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from sip_link import A, Net, Station
from sip_media import MediaShelf

from ringtrue.telephony.sip.account import Account
from ringtrue.telephony.sip.endpoint import SipEndpoint
from ringtrue.telephony.sip.errors import SipError
from ringtrue.telephony.sip.events import Event
from ringtrue.telephony.sip.handles import ServerInvite, SipCall
from ringtrue.telephony.sip.message import Request, parse_message
from ringtrue.telephony.sip.registration import LookUp, RegistrationState
from ringtrue.telephony.sip.responses import make_response
from ringtrue.telephony.sip.transport import Hop
from ringtrue.telephony.sip.uri import parse_uri

TRUNK = Account(name="trunk", domain="sip.example.com", user="100", password="s3cret")
ONE, TWO = Hop("udp", "10.0.0.8", 5060), Hop("udp", "10.0.0.9", 5060)


def held(account: Account, *extra: tuple[str, str]) -> Station:
    """A user agent with that account; its registrars answer REGISTER with 200 and ``extra``."""
    net = Net()

    def answer(station: Station, hop: Hop, data: bytes) -> bool:
        message = parse_message(data)
        assert isinstance(message, Request)
        lines = (("contact", f"{message.headers.get('contact')};expires=300"), *extra)
        reply = make_response(message, 200, to_tag="r", extra=lines)
        net.inject(reply.encode(), hop, Hop("udp", A, 5060))
        return False

    def resolve(station: Station, event: Event) -> None:
        if isinstance(event, LookUp):
            station.ua.accounts.resolved(event.call, [ONE, TWO], net.now)

    net.tap = answer
    station = net.add("a", A, on_event=resolve)
    station.ua.accounts.add(account, 0.0)
    net.run(1.0)
    return station


def test_a_static_accounts_servers_in_their_order_those_that_rest_last() -> None:
    ua = held(replace(TRUNK, register=False)).ua
    assert ua.accounts.ways("trunk", 1.0) == [ONE, TWO]
    ua.core.resting.note(ONE, 60, 1.0)
    assert ua.accounts.ways("trunk", 2.0) == [TWO, ONE]
    assert ua.accounts.ways("trunk", 62.0) == [ONE, TWO]
    with pytest.raises(SipError, match="accounts: trunk"):
        ua.accounts.ways("other", 2.0)


def test_where_it_is_registered_comes_first() -> None:
    ua = held(TRUNK).ua
    ua.core.resting.note(ONE, 60, 1.0)
    assert ua.accounts.ways("trunk", 2.0) == [ONE, TWO]


@pytest.mark.parametrize(
    ("account", "extra"),
    [
        (TRUNK, (("service-route", "<sip:edge.example.com;lr>"),)),
        (replace(TRUNK, instance="urn:uuid:0b5e7a30-2c5e-4d5a-9a52-6f0e3a0e6d01"), ()),
    ],
)
def test_where_a_route_or_a_flow_leads_through_one_it_is_the_only_one(
    account: Account, extra: tuple[tuple[str, str], ...]
) -> None:
    station = held(account, *extra)
    (registration,) = station.ua.accounts
    assert registration.state is RegistrationState.REGISTERED
    assert station.ua.accounts.ways("trunk", 2.0) == [ONE]


async def test_a_call_goes_by_the_second_server_where_the_first_is_down() -> None:
    calls: asyncio.Queue[SipCall] = asyncio.Queue()

    async def answer(invite: ServerInvite) -> None:
        call = await invite.answer(MediaShelf())
        await calls.put(call)
        await call.ended()

    async with SipEndpoint("127.0.0.1", 0, on_invite=answer) as provider:
        async with SipEndpoint("127.0.0.1", 0, on_invite=answer) as gone:
            dead = f"sip:127.0.0.1:{gone.port};transport=tcp"
        live = f"sip:127.0.0.1:{provider.port}"
        servers = tuple(parse_uri(text) for text in (dead, live))
        trunk = replace(TRUNK, register=False, servers=servers)  # type: ignore[arg-type]
        async with SipEndpoint("127.0.0.1", 0, on_invite=answer, accounts=[trunk]) as phone:
            await phone.idle()
            outgoing = await phone.call("sip:bob@sip.example.com", MediaShelf(), account="trunk")
            async with asyncio.timeout(5):
                call = await outgoing.answered()
            ways = await phone.ways("sip:bob@sip.example.com", account="trunk")
            assert [hop.port for hop in ways] == [provider.port, gone.port]
            await call.hangup()
            await (await calls.get()).ended()
