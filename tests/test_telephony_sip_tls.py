"""TLS between endpoints: who is believed, and who is not."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from certificates import Authority, Pair
from sip_media import MediaShelf

from ringtrue.streaming.ports import EndReason
from ringtrue.telephony.sip import tls_acceptor
from ringtrue.telephony.sip.core import Policy
from ringtrue.telephony.sip.driver import TlsListener
from ringtrue.telephony.sip.endpoint import SipEndpoint
from ringtrue.telephony.sip.errors import CallFailedError, SipError
from ringtrue.telephony.sip.handles import ServerInvite
from ringtrue.telephony.sip.schedule import Timers
from ringtrue.telephony.sip.tls import client_context, server_context

QUICK = Policy(timers=Timers(t1=0.05, t2=0.1, t4=0.05))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def desk(authority: Authority) -> Pair:
    return authority.sign("desk", "127.0.0.1", "localhost")


@asynccontextmanager
async def listening(context: ssl.SSLContext) -> AsyncIterator[tuple[SipEndpoint, MediaShelf]]:
    shelf = MediaShelf()

    async def answer(invite: ServerInvite) -> None:
        call = await invite.answer(shelf)
        await call.ended()

    async with SipEndpoint(
        "127.0.0.1",
        0,
        on_invite=answer,
        udp=False,
        tcp=False,
        tls=TlsListener(context, 0),
        policy=QUICK,
    ) as server:
        yield server, shelf


@asynccontextmanager
async def calling(context: ssl.SSLContext | None) -> AsyncIterator[SipEndpoint]:
    async def refuse(invite: ServerInvite) -> None:
        await invite.reject(486)

    async with SipEndpoint(
        "127.0.0.1", 0, on_invite=refuse, tls_client=context, policy=QUICK
    ) as client:
        yield client


async def attempt(client: SipEndpoint, target: str) -> CallFailedError:
    outgoing = await client.call(target, MediaShelf())
    with pytest.raises(CallFailedError) as failure:
        await outgoing.answered()
    return failure.value


@pytest.mark.parametrize("scheme", ["sip", "sips"])
async def test_a_call_over_tls(scheme: str, authority: Authority, desk: Pair) -> None:
    """What is said inside the call uses the connection it was made on."""
    async with (
        listening(server_context(desk.certificate, desk.key)) as (server, shelf),
        calling(client_context(ca=authority.path)) as client,
    ):
        assert server.port == 0
        more = ";transport=tls" if scheme == "sip" else ""
        target = f"{scheme}:desk@localhost:{server.tls_port}{more}"
        call = await (await client.call(target, MediaShelf())).answered()
        assert client.sizes()["streams"] == server.sizes()["streams"] == 1
        await call.hangup()
        assert await call.ended() is EndReason.AGENT_HUNG_UP
        assert server.sizes()["streams"] == 1
        assert server.sizes()["calls"] == 0
        assert shelf.all_closed


@pytest.mark.uvloop
async def test_a_call_over_tls_under_uvloop(authority: Authority, desk: Pair) -> None:
    await test_a_call_over_tls("sips", authority, desk)


async def test_the_name_has_to_be_the_certificates(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path).sign("other", "127.0.0.1")
    elsewhere = authority.sign("elsewhere", "sip.example.com")
    expired = authority.sign("expired", "127.0.0.1", days=-1)
    for pair in (other, elsewhere, expired):
        async with (
            listening(server_context(pair.both)) as (server, shelf),
            calling(client_context(ca=authority.path)) as client,
        ):
            failure = await attempt(client, f"sips:desk@127.0.0.1:{server.tls_port}")
            assert failure.status == 503
            assert shelf.made == []


async def test_without_authorities_there_is_no_tls(desk: Pair) -> None:
    async with (
        listening(server_context(desk.both)) as (server, _),
        calling(None) as client,
    ):
        with pytest.raises(SipError, match="no address"):
            await client.call(f"sips:desk@127.0.0.1:{server.tls_port}", MediaShelf())


async def test_far_ends_may_have_to_show_theirs(authority: Authority, desk: Pair) -> None:
    phone = authority.sign("phone", "phone.example.com")
    context = server_context(desk.both, client_ca=authority.path)
    async with listening(context) as (server, _):
        target = f"sips:desk@127.0.0.1:{server.tls_port}"
        async with calling(client_context(ca=authority.path)) as client:
            assert (await attempt(client, target)).status == 503
        shown = client_context(ca=authority.path, certificate=phone.certificate, key=phone.key)
        async with calling(shown) as client:
            call = await (await client.call(target, MediaShelf())).answered()
            await call.hangup()


async def test_old_tls_and_plain_text_get_nowhere(authority: Authority, desk: Pair) -> None:
    async with listening(server_context(desk.both)) as (server, _):
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.load_verify_locations(authority.path)
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", server.tls_port, ssl=old)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.tls_port)
        writer.write(b"OPTIONS sip:x SIP/2.0\r\n\r\n")
        async with asyncio.timeout(5):
            assert b"SIP" not in await reader.read()
        writer.close()
        assert server.sizes()["streams"] == 0


@pytest.mark.parametrize("limit", [1, 3])
async def test_handshakes_that_never_end_are_bounded(
    limit: int, authority: Authority, desk: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each stranger holds a place until its time is up; then the next one's turn comes."""
    monkeypatch.setattr(tls_acceptor, "MAX_HANDSHAKES", limit)
    monkeypatch.setattr(tls_acceptor, "HANDSHAKE_LIMIT", 0.2)
    async with (
        listening(server_context(desk.both)) as (server, _),
        calling(client_context(ca=authority.path)) as client,
    ):
        silent = [socket.create_connection(("127.0.0.1", server.tls_port)) for _ in range(4)]
        try:
            target = f"sips:desk@127.0.0.1:{server.tls_port}"
            call = await (await client.call(target, MediaShelf())).answered()
            await call.hangup()
        finally:
            for stranger in silent:
                stranger.close()


@pytest.mark.uvloop
async def test_handshakes_are_bounded_under_uvloop(
    authority: Authority, desk: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    await test_handshakes_that_never_end_are_bounded(1, authority, desk, monkeypatch)


def test_files_that_cannot_be_used_are_named(
    authority: Authority, desk: Pair, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    missing = tmp_path / "missing.pem"
    with pytest.raises(SipError, match=r"can't read .*missing.pem"):
        server_context(missing)
    with pytest.raises(SipError, match=r"can't use .*desk.crt"):
        server_context(desk.certificate)
    with pytest.raises(SipError, match=r"can't use .*empty.pem"):
        server_context(empty)
    with pytest.raises(SipError, match=r"no certificates .*empty.pem"):
        client_context(ca=empty)
    with pytest.raises(SipError, match=r"can't read .*missing.pem"):
        client_context(ca=missing)
    with pytest.raises(SipError, match=r"no certificate authority in .*desk.crt"):
        client_context(ca=desk.certificate)
    with pytest.raises(SipError, match=r"can't use .*desk.crt and .*ca.pem"):
        client_context(certificate=desk.certificate, key=authority.path)


async def test_strangers_dont_displace_our_own_connections(
    authority: Authority, desk: Pair
) -> None:
    few = Policy(timers=QUICK.timers, max_streams=2)

    async def refuse(invite: ServerInvite) -> None:
        await invite.reject(486)

    async with (
        listening(server_context(desk.both)) as (server, _),
        SipEndpoint(
            "127.0.0.1",
            0,
            on_invite=refuse,
            policy=few,
            tls_client=client_context(ca=authority.path),
        ) as client,
    ):
        target = f"sips:desk@127.0.0.1:{server.tls_port}"
        call = await (await client.call(target, MediaShelf())).answered()
        strangers = [socket.create_connection(("127.0.0.1", client.port)) for _ in range(5)]
        try:
            await asyncio.sleep(0.1)
            assert server.sizes()["streams"] == 1
            await call.hangup()
            assert await call.ended() is EndReason.AGENT_HUNG_UP
        finally:
            for stranger in strangers:
                stranger.close()
