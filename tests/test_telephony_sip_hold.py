"""Hold between two endpoints with the real media, and the numbers of session descriptions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from ringtrue.telephony.rtp.leg import RtpLeg
from ringtrue.telephony.rtp.ports import PortPool
from ringtrue.telephony.rtp.session import RtpSession
from ringtrue.telephony.sdp import Direction, SessionDescription, parse
from ringtrue.telephony.sip.endpoint import SipEndpoint
from ringtrue.telephony.sip.errors import CallFailedError, SipStateError
from ringtrue.telephony.sip.handles import ServerInvite, SipCall


class Noting(RtpSession):
    """Keeps the numbers of what the far end describes."""

    told: list[int]

    async def answer(self, offer: bytes) -> bytes:
        self.told = [parse(offer).origin.version]
        return await super().answer(offer)

    async def update(self, offer: bytes) -> bytes:
        self.told.append(parse(offer).origin.version)
        return await super().update(offer)

    async def set_answer(self, answer: bytes) -> None:
        self.told = [*getattr(self, "told", []), parse(answer).origin.version]
        await super().set_answer(answer)


@dataclass
class Pair:
    """Both ends of one call."""

    caller: SipCall
    callee: SipCall
    sessions: list[Noting]

    def ends(self, first: str) -> tuple[SipCall, SipCall]:
        return (self.caller, self.callee) if first == "caller" else (self.callee, self.caller)


@asynccontextmanager
async def connected() -> AsyncIterator[Pair]:
    pool = PortPool("127.0.0.1")
    answered: asyncio.Queue[SipCall] = asyncio.Queue()
    sessions: list[Noting] = []

    def session() -> Noting:
        sessions.append(Noting(pool, codecs=["PCMU"]))
        return sessions[-1]

    async def answer(invite: ServerInvite) -> None:
        call = await invite.answer(session)
        await answered.put(call)
        await call.ended()

    async with (
        SipEndpoint("127.0.0.1", 0, on_invite=answer) as server,
        SipEndpoint("127.0.0.1", 0, on_invite=answer) as client,
    ):
        target = f"sip:agent@127.0.0.1:{server.port}"
        outgoing = await client.call(target, session)
        pair = Pair(await outgoing.answered(), await answered.get(), sessions)
        yield pair
        await pair.caller.hangup()
        await pair.callee.ended()


def held(call: SipCall) -> bool:
    assert isinstance(call.leg, RtpLeg)
    return call.leg.held


@pytest.mark.parametrize("who", ["caller", "callee"])
async def test_hold_and_resume(who: str) -> None:
    async with connected() as pair:
        one, other = pair.ends(who)
        await one.hold()
        assert one.on_hold
        assert (held(one), held(other)) == (False, True), "who holds may play music"
        await other.hold()
        assert (held(one), held(other)) == (True, True)
        await one.hold(False)
        assert (held(one), held(other)) == (True, False), "it is still held by the other"
        await other.hold(False)
        assert (held(one), held(other)) == (False, False)
        assert not one.on_hold


@pytest.mark.virtual_time
async def test_both_hold_at_once() -> None:
    """The glare is retried: both come through, and no description is older than the one before."""
    async with connected() as pair:
        async with asyncio.timeout(20):
            await asyncio.gather(pair.caller.hold(), pair.callee.hold())
        assert (held(pair.caller), held(pair.callee)) == (True, True)
        for session in pair.sessions:
            assert len(session.told) == 3
            assert session.told == sorted(set(session.told))


async def test_one_change_at_a_time_and_none_after_the_end() -> None:
    async with connected() as pair:
        changing = asyncio.create_task(pair.caller.hold())
        await asyncio.sleep(0)
        with pytest.raises(SipStateError):
            await pair.caller.hold(False)
        await changing
    with pytest.raises(SipStateError):
        await pair.caller.hold(False)


async def test_a_hangup_ends_the_waiting() -> None:
    async with connected() as pair:
        changing = asyncio.create_task(pair.caller.hold())
        await asyncio.sleep(0)
        await pair.callee.hangup()
        with pytest.raises((CallFailedError, SipStateError)):
            await changing


def numbers(description: bytes) -> tuple[SessionDescription, int, Direction]:
    parsed = parse(description)
    return parsed, parsed.origin.version, parsed.direction(parsed.media[0])


async def test_every_change_of_the_description_has_a_number_of_its_own() -> None:
    """RFC 3264 §8: one more than the last one sent, even where that was refused."""
    pool = PortPool("127.0.0.1")
    one, other = RtpSession(pool, codecs=["PCMU"]), RtpSession(pool, codecs=["PCMU"])
    try:
        first = await one.offer()
        await one.set_answer(await other.answer(first))
        _, version, way = numbers(first)
        assert way is Direction.SENDRECV
        _, again, _ = numbers(await one.offer())
        assert again == version, "nothing changed: a refresh"
        _, refused, way = numbers(await one.offer(hold=True))
        assert (refused, way) == (version + 1, Direction.SENDONLY)
        _, later, way = numbers(await one.offer())
        assert (later, way) == (version + 2, Direction.SENDRECV), "as it was: the hold was refused"
        held_offer = await one.offer(hold=True)
        await one.set_answer(await other.update(held_offer))
        _, number, _ = numbers(held_offer)
        assert number == version + 3
        _, _, way = numbers(await one.update(await other.offer()))
        assert way is Direction.SENDONLY, "what the far end changes leaves our hold"
        resumed = await one.offer(hold=False)
        await one.set_answer(await other.update(resumed))
        assert numbers(resumed)[2] is Direction.SENDRECV
        assert parse(first).origin.session_id == parse(resumed).origin.session_id
    finally:
        one.close()
        other.close()


async def test_early_media_of_two_forks_and_the_answer_of_a_third() -> None:
    """Each preview replaces the one before; the answer counts."""
    pool = PortPool("127.0.0.1")
    caller = RtpSession(pool, codecs=["PCMU", "PCMA"])
    forks = [RtpSession(pool, codecs=[codec]) for codec in ("PCMU", "PCMA", "PCMU")]
    try:
        offer = await caller.offer()
        answers = [await fork.answer(offer) for fork in forks]
        for answer, codec in zip(answers[:2], ("PCMU", "PCMA"), strict=True):
            await caller.preview(answer)
            assert caller.leg.codec == codec
        leg = caller.leg
        await caller.set_answer(answers[2])
        assert caller.leg is leg
        assert leg.codec == "PCMU"
    finally:
        for session in (caller, *forks):
            session.close()
