"""SIP with the real media: two endpoints agree on a codec, change it, and release the ports."""

from __future__ import annotations

import asyncio

import pytest

from ringtrue.telephony.rtp.ports import PortPool
from ringtrue.telephony.rtp.session import session_factory
from ringtrue.telephony.sip.endpoint import SipEndpoint
from ringtrue.telephony.sip.errors import CallFailedError
from ringtrue.telephony.sip.handles import ServerInvite, SipCall
from ringtrue.telephony.sip.media import MediaError


@pytest.mark.parametrize(("codec", "rate"), [("PCMU", 8000), ("PCMA", 8000), ("G722", 16000)])
async def test_both_sides_agree(codec: str, rate: int) -> None:
    pool = PortPool("127.0.0.1")
    answered: asyncio.Queue[SipCall] = asyncio.Queue()

    async def answer(invite: ServerInvite) -> None:
        call = await invite.answer(session_factory(pool))
        await answered.put(call)
        await call.ended()

    async with (
        SipEndpoint("127.0.0.1", 0, on_invite=answer) as server,
        SipEndpoint("127.0.0.1", 0, on_invite=answer) as client,
    ):
        target = f"sip:agent@127.0.0.1:{server.port}"
        outgoing = await client.call(target, session_factory(pool, codecs=[codec]))
        call, other = await outgoing.answered(), await answered.get()
        assert (call.leg.rate, other.leg.rate) == (rate, rate)
        await other.hangup()
        await call.ended()


async def test_no_common_codec_is_488() -> None:
    pool = PortPool("127.0.0.1")

    async def answer(invite: ServerInvite) -> None:
        with pytest.raises(MediaError):
            await invite.answer(session_factory(pool, codecs=["PCMA"]))

    async with (
        SipEndpoint("127.0.0.1", 0, on_invite=answer) as server,
        SipEndpoint("127.0.0.1", 0, on_invite=answer) as client,
    ):
        target = f"sip:agent@127.0.0.1:{server.port}"
        outgoing = await client.call(target, session_factory(pool, codecs=["PCMU"]))
        with pytest.raises(CallFailedError) as failure:
            await outgoing.answered()
        assert failure.value.status == 488
