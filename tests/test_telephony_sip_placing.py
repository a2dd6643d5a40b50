"""What the handles make of a far end's answers: refreshes, changes before the answer, previews."""

from __future__ import annotations

import asyncio

import pytest
from sip_media import ANSWER, OFFER, UNACCEPTABLE, MediaShelf
from sip_peer import Peer

from ringtrue.telephony.sip.endpoint import SipEndpoint
from ringtrue.telephony.sip.handles import ServerInvite
from ringtrue.telephony.sip.message import Response


async def refused(invite: ServerInvite) -> None:
    """Nobody calls in here."""
    await invite.reject(486)


@pytest.mark.virtual_time
async def test_a_session_is_refreshed_with_its_media_where_update_is_unknown() -> None:
    shelf = MediaShelf()
    async with SipEndpoint("127.0.0.1", 0, on_invite=refused) as client:
        with Peer(client.port) as peer:
            outgoing = await client.call(f"sip:x@127.0.0.1:{peer.port}", shelf)
            lines = ("Session-Expires: 90;refresher=uac",)
            await peer.respond(await peer.heard("INVITE"), 200, *lines, body=ANSWER)
            call = await outgoing.answered()
            await peer.heard("ACK")
            refresh = await peer.heard("INVITE", within=60)
            assert refresh.headers.get("session-expires") == "90;refresher=uac"
            assert refresh.body == OFFER
            await peer.respond(refresh, 200, *lines, body=ANSWER)
            await peer.heard("ACK")
            (media,) = shelf.made
            assert [what for what, _ in media.log] == ["offer", "set_answer"] * 2
            goodbye = asyncio.create_task(call.hangup())
            await peer.respond(await peer.heard("BYE"), 200)
            await goodbye


@pytest.mark.virtual_time
async def test_a_far_end_may_change_what_it_plays_before_it_answers() -> None:
    """183 reliably, UPDATE, 200: what the UPDATE agreed on stands."""
    shelf = MediaShelf()
    async with SipEndpoint("127.0.0.1", 0, on_invite=refused) as client:
        with Peer(client.port) as peer:
            outgoing = await client.call(f"sip:x@127.0.0.1:{peer.port}", shelf)
            invite = await peer.heard("INVITE")
            await peer.respond(invite, 183, "Require: 100rel", "RSeq: 1", body=ANSWER)
            await peer.respond(await peer.heard("PRACK"), 200)
            assert outgoing.early_leg is shelf.made[0].leg
            await peer.update(invite, OFFER)
            answer = await peer.receive()
            assert isinstance(answer, Response)
            assert (answer.status, answer.body) == (200, ANSWER)
            await peer.respond(invite, 200, body=ANSWER)
            call = await outgoing.answered()
            assert [what for what, _ in shelf.made[0].log] == ["offer", "preview", "update"]
            goodbye = asyncio.create_task(call.hangup())
            await peer.respond(await peer.heard("BYE"), 200)
            await goodbye


@pytest.mark.virtual_time
async def test_a_preview_that_cannot_be_used_is_none() -> None:
    shelf, told = MediaShelf(), []
    async with SipEndpoint("127.0.0.1", 0, on_invite=refused) as client:
        with Peer(client.port) as peer:
            outgoing = await client.call(
                f"sip:x@127.0.0.1:{peer.port}",
                shelf,
                on_progress=lambda status, leg: told.append((status, leg)),
            )
            invite = await peer.heard("INVITE")
            await peer.respond(invite, 183, body=UNACCEPTABLE)
            await peer.respond(invite, 180)
            await asyncio.sleep(0.1)
            assert told == [(183, None), (180, None)]
            assert outgoing.early_leg is None
            await peer.respond(invite, 200, body=ANSWER)
            call = await outgoing.answered()
            goodbye = asyncio.create_task(call.hangup())
            await peer.respond(await peer.heard("BYE"), 200)
            await goodbye
