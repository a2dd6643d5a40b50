"""Calls that others move, over sockets: taken over by Replaces, sent on by REFER."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from outbound_line import QUICK
from sip_media import MediaShelf

from ringtrue.streaming.ports import EndReason, TransferOutcome, TransferResult
from ringtrue.telephony.sip.auth_server import AuthPolicy, networks
from ringtrue.telephony.sip.endpoint import SipEndpoint
from ringtrue.telephony.sip.errors import SipError
from ringtrue.telephony.sip.events import Event, IncomingInvite
from ringtrue.telephony.sip.handles import ServerInvite, SipCall
from ringtrue.telephony.sip.moving import Referral
from ringtrue.telephony.sip.replaces import Replaces, replacing


@dataclass
class Phone:
    """An endpoint that answers every call."""

    endpoint: SipEndpoint
    shelf: MediaShelf = field(default_factory=MediaShelf)
    calls: list[SipCall] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    answers: int = 200

    @property
    def uri(self) -> str:
        return f"sip:phone@127.0.0.1:{self.endpoint.port}"

    async def next(self, count: int = 1) -> SipCall:
        """The call that came in as its ``count``-th."""
        async with asyncio.timeout(5):
            while len(self.calls) < count:
                await asyncio.sleep(0.005)
        return self.calls[count - 1]

    async def call(self, other: Phone) -> SipCall:
        return await (await self.endpoint.call(other.uri, self.shelf)).answered()


@asynccontextmanager
async def phone() -> AsyncIterator[Phone]:
    made: Phone

    async def serve(invite: ServerInvite) -> None:
        if made.answers != 200:
            await invite.reject(made.answers)
            return
        made.calls.append(await invite.answer(made.shelf))

    policy = AuthPolicy(realm="x", users={}, trusted=networks(("127.0.0.0/8",)))
    async with SipEndpoint("127.0.0.1", 0, on_invite=serve, policy=QUICK, auth=policy) as endpoint:
        made = Phone(endpoint)
        yield made
    assert made.shelf.all_closed


@asynccontextmanager
async def three() -> AsyncIterator[tuple[Phone, Phone, Phone]]:
    async with phone() as a, phone() as b, phone() as c:
        yield a, b, c


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.005)


async def test_a_call_is_taken_over_and_goes_on() -> None:
    """The handle, its id and its media stay; the far end is another."""
    async with three() as (a, us, c):
        theirs = await a.call(us)
        ours = await us.next()
        dialog = a.endpoint._driver.ua.established(theirs._handle).dialog
        wanted = Replaces(dialog.call_id, dialog.remote.tag or "", dialog.local.tag or "")
        identity, media = ours.id, us.shelf.made[0]
        taking = await c.endpoint.call(us.uri, c.shelf, headers=[("replaces", str(wanted))])
        taken = await taking.answered()
        assert await theirs.ended() is EndReason.CALLER_HUNG_UP
        assert ours.id == identity
        assert not ours._over.done()
        assert [what for what, _ in media.log] == ["answer", "update"]
        assert len(us.shelf.made) == 1
        await ours.hangup()
        assert await taken.ended() is EndReason.CALLER_HUNG_UP


async def test_what_cannot_be_described_stays_where_it_is() -> None:
    async with three() as (a, us, c):
        theirs = await a.call(us)
        ours = await us.next()
        us.shelf.made[0].refuses = True
        dialog = a.endpoint._driver.ua.established(theirs._handle).dialog
        wanted = Replaces(dialog.call_id, dialog.remote.tag or "", dialog.local.tag or "")
        taking = await c.endpoint.call(us.uri, c.shelf, headers=[("replaces", str(wanted))])
        with pytest.raises(SipError, match="488"):
            await taking.answered()
        assert not theirs._over.done()
        await theirs.hangup()
        assert await ours.ended() is EndReason.CALLER_HUNG_UP


async def test_a_call_that_rings_is_not_given_away() -> None:
    async with three() as (a, us, c):
        silent = asyncio.Event()

        async def ring(event: IncomingInvite) -> None:
            invite = ServerInvite(a.endpoint._driver, event)
            await invite.ring()
            rung.append(event)
            await silent.wait()
            await invite.reject(486)

        rung: list[IncomingInvite] = []
        a.endpoint._driver._on_invite = lambda event: (
            a.endpoint._driver.spawn(ring(event), "ring"),
            None,
        )[1]
        outgoing = await us.endpoint.call(a.uri, us.shelf)
        await outgoing.ringing()
        request = rung[0].request
        wanted = Replaces(request.call_id, request.from_.tag or "", rung[0].call)
        taking = await c.endpoint.call(us.uri, c.shelf, headers=[("replaces", str(wanted))])
        with pytest.raises(SipError, match="603"):
            await taking.answered()
        silent.set()
        with pytest.raises(SipError, match="486"):
            await outgoing.answered()


async def test_attended_transfer_between_three() -> None:
    """We call the target, and the transferee's phone takes that call over (RFC 5589 §7)."""
    async with three() as (a, us, c):
        to_a, to_c = await us.call(a), await us.call(c)
        at_a = await a.next()
        followed: list[asyncio.Task[int]] = []

        def follow(referral: Referral) -> bool:
            work = a.endpoint.follow(at_a, referral, referral.target)
            followed.append(asyncio.ensure_future(work))
            return True

        at_a.on_referred = follow
        result = await to_a.transfer("", within=5, replaces=to_c)
        assert result == TransferResult(TransferOutcome.TRANSFERRED, 200)
        assert await to_c.ended() is EndReason.CALLER_HUNG_UP
        assert await to_a.ended() is EndReason.TRANSFERRED
        assert await followed[0] == 200
        assert [what for what, _ in a.shelf.made[0].log] == ["answer", "offer", "set_answer"]
        at_c = await c.next()
        assert not at_a._over.done()
        await at_c.hangup()
        assert await at_a.ended() is EndReason.CALLER_HUNG_UP


@pytest.mark.parametrize("who", ["transferee", "target"])
async def test_both_far_ends_have_to_know_replaces(who: str) -> None:
    """RFC 5589 §7: else the target would get a second call, and keep the first."""
    async with three() as (a, us, c):
        to_a, to_c = await us.call(a), await us.call(c)
        lacking = to_a if who == "transferee" else to_c
        us.endpoint._driver.ua.established(lacking._handle).replaceable = False
        result = await to_a.transfer("", within=5, replaces=to_c)
        assert result == TransferResult(TransferOutcome.UNSUPPORTED)
        await to_a.hangup()
        await to_c.hangup()


@pytest.mark.parametrize(("decides", "status"), [(None, 603), (lambda referral: False, 403)])
async def test_a_referral_is_refused(
    decides: Callable[[Referral], bool] | None, status: int
) -> None:
    async with three() as (a, us, c):
        to_us = await a.call(us)
        ours = await us.next()
        ours.on_referred = decides
        result = await to_us.transfer(c.uri, within=5)
        assert result == TransferResult(TransferOutcome.FAILED, status)
        assert not c.calls
        assert not ours._over.done()
        await to_us.hangup()


@pytest.mark.parametrize("leaves", [False, True])
@pytest.mark.parametrize("answers", [200, 486])
async def test_we_go_where_we_are_sent(leaves: bool, answers: int) -> None:
    """Whether the far end waits for the outcome or hangs up as soon as it was taken."""
    async with three() as (a, us, c):
        c.answers = answers
        to_us = await a.call(us)
        ours = await us.next()
        going: list[asyncio.Task[int]] = []

        def follow(referral: Referral) -> bool:
            going.append(asyncio.ensure_future(us.endpoint.follow(ours, referral, referral.target)))
            return True

        ours.on_referred = follow
        asked = asyncio.ensure_future(to_us.transfer(c.uri, within=5))
        await until(lambda: going)
        if leaves:
            await to_us.hangup()
        assert await going[0] == answers
        result = await asked
        if not leaves:
            kind = TransferOutcome.TRANSFERRED if answers == 200 else TransferOutcome.FAILED
            assert result == TransferResult(kind, answers)
        if answers == 200:
            await to_us.ended()
            at_c = await c.next()
            assert not ours._over.done()
            await at_c.hangup()
        elif not leaves:
            assert not ours._over.done()
            await to_us.hangup()
        assert await ours.ended() is EndReason.CALLER_HUNG_UP


async def test_nowhere_to_go() -> None:
    async with three() as (a, us, c):
        to_us = await a.call(us)
        ours = await us.next()
        taken: list[Referral] = []
        ours.on_referred = lambda referral: not taken.append(referral)
        asked = asyncio.ensure_future(to_us.transfer(c.uri, within=5))
        await until(lambda: taken)
        with pytest.raises(SipError):
            await us.endpoint.follow(ours, taken[0], "sip:x@[::1", ring_limit=1)
        taken[0].tell(503)
        assert await asked == TransferResult(TransferOutcome.FAILED, 503)
        await to_us.hangup()
        await ours.ended()


async def test_the_far_end_hears_why() -> None:
    """RFC 3326."""
    async with three() as (a, us, c):
        to_a = await us.call(a)
        at_a = await a.next()
        seen: list[str | None] = []
        usage = a.endpoint._driver.ua.established(at_a._handle)
        receive = usage.receive
        usage.receive = lambda transaction, request, now: (  # type: ignore[method-assign]
            seen.append(request.headers.get("reason")),
            receive(transaction, request, now),
        )[1]
        await to_a.hangup(EndReason.MAX_DURATION)
        assert seen == ['Q.850;cause=31;text="Longest duration reached"']


async def test_where_to_is_the_far_ends_own_contact() -> None:
    async with three() as (a, us, c):
        to_c = await us.call(c)
        dialog = us.endpoint._driver.ua.established(to_c._handle).dialog
        text = str(replacing(dialog))
        assert text.startswith(f"<sip:phone@127.0.0.1:{c.endpoint.port}?Replaces=")
        assert "%3Bto-tag%3D" in text
        await to_c.hangup()
