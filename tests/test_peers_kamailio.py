"""Kamailio as the provider: registered with digest, called through, and left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from certificates import Authority
from sip_media import MediaShelf

from peers.kamailio import DOMAIN, running_kamailio
from ringtrue.streaming.ports import EndReason
from ringtrue.telephony.sip import registration
from ringtrue.telephony.sip.account import Account
from ringtrue.telephony.sip.auth_server import AuthPolicy, Verdict
from ringtrue.telephony.sip.driver import TlsListener
from ringtrue.telephony.sip.endpoint import SipEndpoint
from ringtrue.telephony.sip.errors import CallFailedError, SipError
from ringtrue.telephony.sip.handles import ServerInvite, SipCall
from ringtrue.telephony.sip.registration import Registration, RegistrationState
from ringtrue.telephony.sip.tls import client_context, server_context

PATIENCE = 15
INSTANCE = "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"


async def until(condition: Callable[[], bool]) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.02)


class Desk:
    """Answers what comes."""

    def __init__(self) -> None:
        self.media = MediaShelf()
        self.calls: asyncio.Queue[SipCall] = asyncio.Queue()

    async def __call__(self, invite: ServerInvite) -> None:
        await invite.ring()
        call = await invite.answer(self.media)
        await self.calls.put(call)
        await call.ended()


@asynccontextmanager
async def endpoint(
    desk: Desk, *accounts: Account, auth: AuthPolicy | None = None
) -> AsyncIterator[SipEndpoint]:
    async with SipEndpoint("127.0.0.1", 0, on_invite=desk, accounts=accounts, auth=auth) as made:
        yield made


def state(made: SipEndpoint) -> RegistrationState:
    (registration,) = made.registrations
    return registration.state


async def registered(made: SipEndpoint) -> Registration:
    await until(lambda: state(made) is RegistrationState.REGISTERED)
    return made.registrations[0]


@pytest.mark.parametrize(("transport", "algorithm"), [("udp", "MD5"), ("tcp", "SHA-256")])
async def test_calls_through_it_both_ways(transport: str, algorithm: str, tmp_path: Path) -> None:
    """Each side is challenged for its registration and its calls; then one of them leaves.

    The agent registers its flow (RFC 5626), of which this provider knows nothing.
    """
    caller_desk, agent_desk = Desk(), Desk()
    strict = AuthPolicy(realm="us", users={"nobody": "else"})
    with running_kamailio(tmp_path / "kamailio", algorithm=algorithm) as provider:
        caller_account = provider.account("alice", transport=transport)
        agent_account = replace(provider.account("agent", transport=transport), instance=INSTANCE)
        async with endpoint(caller_desk, caller_account, auth=strict) as caller:
            async with endpoint(agent_desk, agent_account, auth=strict) as agent:
                await registered(caller)
                await registered(agent)
                assert provider.challenged("REGISTER") == 2
                pairs = (
                    (caller, "alice", agent, "agent", agent_desk),
                    (agent, "agent", caller, "alice", caller_desk),
                )
                for ours, mine, theirs, name, desk in pairs:
                    target = f"sip:{name}@{DOMAIN}"
                    outgoing = await ours.call(target, shelf := MediaShelf(), account=mine)
                    assert await outgoing.ringing() == 180
                    call = await outgoing.answered()
                    other = await asyncio.wait_for(desk.calls.get(), PATIENCE)
                    assert other.remote == f"sip:{mine}@{DOMAIN}"
                    await (call if name == "agent" else other).hangup()
                    await other.ended()
                    await call.ended()
                    assert shelf.all_closed
                    # The provider's own calls need no password.
                    assert theirs.auth is not None
                    assert theirs.auth.counts == {Verdict.TRUSTED: 1}
                assert provider.challenged("INVITE") == 2
            # The agent has left: its binding is gone.
            outgoing = await caller.call(f"sip:agent@{DOMAIN}", MediaShelf(), account="alice")
            with pytest.raises(CallFailedError) as failure:
                await outgoing.answered()
            assert failure.value.status == 404


async def test_over_tls(tmp_path: Path) -> None:
    """Registered and called over TLS, with its certificate verified by name."""
    authority = Authority(tmp_path / "tls")
    theirs, ours = authority.sign("provider", "127.0.0.1"), authority.sign("us", "127.0.0.1")
    desk, listener = Desk(), TlsListener(server_context(ours.both), 0)
    with running_kamailio(tmp_path / "kamailio", certificate=theirs.both) as provider:

        def made(user: str, ca: Path) -> SipEndpoint:
            return SipEndpoint(
                "127.0.0.1",
                0,
                on_invite=desk,
                udp=False,
                tcp=False,
                tls=listener,
                tls_client=client_context(ca=ca),
                accounts=[provider.account(user, transport="tls")],
            )

        async with made("alice", authority.path) as caller, made("agent", authority.path) as agent:
            await registered(caller)
            await registered(agent)
            outgoing = await caller.call(f"sip:agent@{DOMAIN}", MediaShelf(), account="alice")
            call = await outgoing.answered()
            await (await desk.calls.get()).hangup()
            assert await call.ended() is EndReason.CALLER_HUNG_UP
        strangers = Authority(tmp_path / "others")
        async with made("bob", strangers.path) as mistrusting:
            await until(lambda: state(mistrusting) is RegistrationState.WAITING)
            assert mistrusting.registrations[0].detail == "unreachable"
            assert provider.challenged("REGISTER") == 2


async def test_a_wrong_password(tmp_path: Path) -> None:
    with running_kamailio(tmp_path / "kamailio") as provider:
        async with endpoint(Desk(), provider.account("alice", "guess")) as made:
            await until(lambda: state(made) is RegistrationState.REJECTED)
            await asyncio.sleep(0.5)
            assert provider.challenged("REGISTER") == 2
            with pytest.raises(SipError, match="'alice' is rejected: 401"):
                await made.call(f"sip:bob@{DOMAIN}", MediaShelf(), account="alice")


async def test_an_interval_that_is_too_brief(tmp_path: Path) -> None:
    with running_kamailio(tmp_path / "kamailio", least=90) as provider:
        account = replace(provider.account("alice"), expires=60)
        async with endpoint(Desk(), account) as made:
            assert (await registered(made)).detail == "for 90 s"


async def test_refresh_when_the_nonce_is_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Registered for 4 s with a nonce that is good for one."""
    monkeypatch.setattr(registration, "LEAST_REFRESH", 1.0)
    with running_kamailio(tmp_path / "kamailio", least=2, longest=4, nonce=1) as provider:
        account = provider.account("alice")
        async with endpoint(Desk(), account) as made:
            held = await registered(made)
            before = held.local_seq
            await until(lambda: held.local_seq >= before + 2)
            await asyncio.sleep(0.3)
            assert held.state is RegistrationState.REGISTERED
            assert provider.challenged("REGISTER") == 2


async def test_the_dispatcher_leaves_out_who_has_died(tmp_path: Path) -> None:
    desks = [Desk(), Desk()]
    async with AsyncExitStack() as alive:
        first = await alive.enter_async_context(endpoint(desks[0]))
        async with AsyncExitStack() as dying:
            second = await dying.enter_async_context(endpoint(desks[1]))
            ports = [first.port, second.port]
            with running_kamailio(tmp_path / "kamailio", agents=ports) as provider:
                caller = await alive.enter_async_context(endpoint(Desk(), provider.account("bob")))
                await registered(caller)

                async def call_agents() -> None:
                    target = f"sip:agents@{DOMAIN}"
                    outgoing = await caller.call(target, MediaShelf(), account="bob")
                    call = await outgoing.answered()
                    await call.hangup()
                    assert await call.ended() is EndReason.AGENT_HUNG_UP

                for _ in range(4):
                    await call_agents()
                assert [len(desk.media.made) for desk in desks] == [2, 2]
                await dying.aclose()
                for _ in range(4):
                    await call_agents()
                assert [len(desk.media.made) for desk in desks] == [6, 2]
                await caller.close()
