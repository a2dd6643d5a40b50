"""What a call's handle makes of a far end that is asked to call somebody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sip_media import ANSWER, MediaShelf
from sip_peer import Peer

from ringtrue.streaming.ports import EndReason, TransferOutcome, TransferResult, Transferring
from ringtrue.telephony.sip.endpoint import SipEndpoint
from ringtrue.telephony.sip.errors import SipParseError, SipStateError
from ringtrue.telephony.sip.handles import ServerInvite, SipCall
from ringtrue.telephony.sip.message import Request

DESK = "sip:desk@example.com"


async def refused(invite: ServerInvite) -> None:
    """Nobody calls in here."""
    await invite.reject(486)


@asynccontextmanager
async def calling() -> AsyncIterator[tuple[SipCall, Peer]]:
    """A call to a hand-written far end, which says BYE last."""
    async with SipEndpoint("127.0.0.1", 0, on_invite=refused) as client:
        with Peer(client.port) as peer:
            outgoing = await client.call(f"sip:x@127.0.0.1:{peer.port}", MediaShelf())
            await peer.respond(await peer.heard("INVITE"), 200, body=ANSWER)
            call = await outgoing.answered()
            ack = await peer.heard("ACK")
            yield call, peer
            if not call._over.done():
                await say(peer, ack, "BYE", 9)
                await call.ended()


async def say(
    peer: Peer, ours: Request, method: str, cseq: int, *lines: str, body: str = ""
) -> None:
    """A request from the far end, in the dialog of ``ours``."""
    head = [
        f"{method} {ours.uri} SIP/2.0",
        f"Via: SIP/2.0/UDP 127.0.0.1:{peer.port};branch=z9hG4bKs{cseq}",
        f"From: {ours.headers.get('to')}",
        f"To: {ours.headers.get('from')}",
        f"Call-ID: {ours.call_id}",
        f"CSeq: {cseq} {method}",
        "Max-Forwards: 70",
        *lines,
        f"Content-Length: {len(body)}",
    ]
    await peer.send_raw("\r\n".join([*head, "", body]).encode())


async def notify(peer: Peer, refer: Request, cseq: int, line: str, state: str) -> None:
    await say(
        peer,
        refer,
        "NOTIFY",
        cseq,
        "Event: refer",
        f"Subscription-State: {state}",
        "Content-Type: message/sipfrag",
        body=f"SIP/2.0 {line}\r\n",
    )


def asking(call: SipCall, to: str = DESK) -> asyncio.Task[TransferResult]:
    return asyncio.create_task(call.transfer(to, within=20))


async def test_a_far_end_that_hangs_up_once_it_is_through() -> None:
    async with calling() as (call, peer):
        assert isinstance(call, Transferring)
        transfer = asking(call)
        refer = await peer.heard("REFER")
        await peer.respond(refer, 202)
        await notify(peer, refer, 1, "180 Ringing", "active;expires=60")
        await notify(peer, refer, 2, "200 OK", "terminated;reason=noresource")
        await say(peer, refer, "BYE", 3)
        assert await transfer == TransferResult(TransferOutcome.TRANSFERRED, 200)
        assert await call.ended() is EndReason.TRANSFERRED


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (405, TransferOutcome.UNSUPPORTED),
        (501, TransferOutcome.UNSUPPORTED),
        (603, TransferOutcome.FAILED),
    ],
)
async def test_a_far_end_that_refuses(status: int, outcome: TransferOutcome) -> None:
    async with calling() as (call, peer):
        transfer = asking(call)
        with pytest.raises(SipStateError, match="another transfer"):
            await asyncio.gather(asyncio.sleep(0), call.transfer(DESK, within=20))
        await peer.respond(await peer.heard("REFER"), status)
        assert await transfer == TransferResult(outcome, status)


async def test_a_far_end_that_reports_a_refusal_may_be_asked_again() -> None:
    async with calling() as (call, peer):
        for cseq, line in ((1, "486 Busy Here"), (2, "600 Busy Everywhere")):
            transfer = asking(call)
            refer = await peer.heard("REFER")
            await peer.respond(refer, 202)
            await notify(peer, refer, cseq, line, "terminated")
            assert await transfer == TransferResult(TransferOutcome.FAILED, int(line[:3]))


async def test_a_far_end_that_hangs_up_before_it_tells() -> None:
    async with calling() as (call, peer):
        transfer = asking(call)
        refer = await peer.heard("REFER")
        await peer.respond(refer, 202)
        await say(peer, refer, "BYE", 1)
        assert await transfer == TransferResult(TransferOutcome.UNCONFIRMED)
        assert await call.ended() is EndReason.CALLER_HUNG_UP
        with pytest.raises(SipStateError, match="over"):
            await call.transfer(DESK, within=20)


async def test_what_is_no_address_is_not_sent() -> None:
    async with calling() as (call, peer):
        with pytest.raises(SipParseError):
            await call.transfer("mailto:desk@example.com", within=20)
        transfer = asking(call)
        refer = await peer.heard("REFER")
        assert refer.cseq == 2  # the INVITE was the first
        await peer.respond(refer, 403)
        assert (await transfer).outcome is TransferOutcome.FAILED
