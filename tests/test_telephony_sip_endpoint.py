"""The endpoint on loopback: two of them, and a hand-written peer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from sip_media import ANSWER, OFFER, UNACCEPTABLE, MediaShelf, ScriptedMedia
from sip_peer import Peer

from ringtrue.streaming.ports import Call, Direction, EndReason
from ringtrue.telephony.sip.core import Policy
from ringtrue.telephony.sip.endpoint import SipEndpoint
from ringtrue.telephony.sip.errors import (
    CallFailedError,
    CallTimeoutError,
    InviteCancelledError,
    SipError,
    SipParseError,
    SipStateError,
)
from ringtrue.telephony.sip.handles import ServerInvite, SipCall
from ringtrue.telephony.sip.media import MediaError, MediaSession
from ringtrue.telephony.sip.message import Request, Response
from ringtrue.telephony.sip.schedule import Timers

QUICK = Policy(timers=Timers(t1=0.02, t2=0.08, t4=0.05))
"""RFC 3261's timers, 25 times as fast."""


async def refuse(invite: ServerInvite) -> None:
    """An ``on_invite`` that wants no calls."""
    await invite.reject(486)


class Desk:
    """An ``on_invite`` that answers and lets the test look at what happened."""

    def __init__(self) -> None:
        self.media = MediaShelf()
        self.invites: list[ServerInvite] = []
        self.calls: asyncio.Queue[SipCall] = asyncio.Queue()

    async def __call__(self, invite: ServerInvite) -> None:
        self.invites.append(invite)
        await invite.ring()
        call = await invite.answer(self.media)
        await self.calls.put(call)
        await call.ended()


@asynccontextmanager
async def endpoint(
    on_invite: Callable[[ServerInvite], Awaitable[None]] = refuse,
    *,
    policy: Policy = QUICK,
    udp: bool = True,
    tcp: bool = True,
) -> AsyncIterator[SipEndpoint]:
    async with SipEndpoint(
        "127.0.0.1", 0, on_invite=on_invite, policy=policy, udp=udp, tcp=tcp
    ) as made:
        yield made


async def drained(reader: asyncio.StreamReader) -> bool:
    """Read to the end of the stream, reset or not."""
    with suppress(ConnectionError):
        while await reader.readline():
            continue
    return True


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_call_between_two_endpoints(transport: str) -> None:
    desk, shelf = Desk(), MediaShelf()
    async with endpoint(desk) as server, endpoint() as client:
        target = f"sip:agent@127.0.0.1:{server.port};transport={transport}"
        outgoing = await client.call(target, shelf, from_uri='"Al" <sip:al@example.com>')
        assert await outgoing.ringing() == 180
        call = await outgoing.answered()
        other = await desk.calls.get()
        assert isinstance(call, Call)
        assert isinstance(other, Call)
        assert (call.transport, call.direction) == ("sip", Direction.OUTBOUND)
        assert other.direction is Direction.INBOUND
        assert other.remote == "sip:al@example.com"
        assert other.local == target
        assert other.id == desk.invites[0].id != call.id
        assert shelf.made[0].log == [("offer", OFFER), ("set_answer", ANSWER)]
        assert desk.media.made[0].log == [("answer", OFFER)]
        assert call.leg is shelf.made[0].leg
        await call.hangup()
        assert await call.ended() is EndReason.AGENT_HUNG_UP
        assert await other.ended() is EndReason.CALLER_HUNG_UP
        assert shelf.all_closed
        assert desk.media.all_closed
        await call.hangup(EndReason.ERROR)
        assert await call.ended() is EndReason.AGENT_HUNG_UP


@pytest.mark.uvloop
@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_call_under_uvloop(transport: str) -> None:
    await test_call_between_two_endpoints(transport)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_call_over_ipv6_and_a_wildcard_address(transport: str) -> None:
    """Bound to ``::``, each side names the address the other can reach."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 loopback on this machine")
    desk = Desk()
    async with (
        SipEndpoint("::", 0, on_invite=desk, policy=QUICK) as server,
        SipEndpoint("::", 0, on_invite=refuse, policy=QUICK) as client,
    ):
        target = f"sip:agent@[::1]:{server.port};transport={transport}"
        call = await (await client.call(target, MediaShelf())).answered()
        other = await desk.calls.get()
        assert "[::1]" in (desk.invites[0].headers.get("contact") or "")
        await other.hangup()
        assert await call.ended() is EndReason.CALLER_HUNG_UP


async def test_hangup_from_the_server_with_its_reason() -> None:
    desk = Desk()
    async with endpoint(desk) as server, endpoint() as client:
        outgoing = await client.call(f"sip:agent@127.0.0.1:{server.port}", MediaShelf())
        call = await outgoing.answered()
        other = await desk.calls.get()
        await other.hangup(EndReason.MAX_DURATION)
        assert await other.ended() is EndReason.MAX_DURATION
        assert await call.ended() is EndReason.CALLER_HUNG_UP


async def test_rejection_is_typed() -> None:
    async def busy(invite: ServerInvite) -> None:
        await invite.reject(503, retry_after=7)
        await invite.reject(486)

    shelf = MediaShelf()
    async with endpoint(busy) as server, endpoint() as client:
        outgoing = await client.call(f"sip:agent@127.0.0.1:{server.port}", shelf)
        with pytest.raises(CallFailedError, match="503") as failure:
            await outgoing.answered()
        assert (failure.value.status, failure.value.retry_after) == (503, 7)
        assert await outgoing.ringing() is None
        assert shelf.all_closed


@pytest.mark.parametrize(("fault", "status"), [(None, 480), (RuntimeError("x"), 500)])
async def test_a_handler_that_gives_no_answer(fault: Exception | None, status: int) -> None:
    async def handler(invite: ServerInvite) -> None:
        if fault is not None:
            raise fault

    async with endpoint(handler) as server, endpoint() as client:
        outgoing = await client.call(f"sip:agent@127.0.0.1:{server.port}", MediaShelf())
        with pytest.raises(CallFailedError) as failure:
            await outgoing.answered()
        assert failure.value.status == status


async def test_descriptions_that_dont_meet_are_488() -> None:
    seen: list[Exception] = []

    async def handler(invite: ServerInvite) -> None:
        try:
            await invite.answer(shelf)
        except MediaError as error:
            seen.append(error)

    shelf = MediaShelf()
    async with endpoint(handler) as server:
        with Peer(server.port) as peer:
            body = UNACCEPTABLE.decode()
            await peer.send("INVITE", "Content-Type: application/sdp", body=body)
            final = await peer.final()
            assert final.status == 488
            assert "no common codec" in (final.headers.get("warning") or "")
            await peer.send("ACK", tag=final.to.tag or "")
    assert len(seen) == 1
    assert shelf.all_closed


async def test_the_caller_gives_up() -> None:
    seen: asyncio.Queue[ServerInvite] = asyncio.Queue()

    async def handler(invite: ServerInvite) -> None:
        await invite.ring()
        await seen.put(invite)
        await invite.cancelled
        with pytest.raises(InviteCancelledError):
            await invite.answer(MediaShelf())

    async with endpoint(handler) as server, endpoint() as client:
        outgoing = await client.call(f"sip:agent@127.0.0.1:{server.port}", MediaShelf())
        await outgoing.ringing()
        await outgoing.cancel()
        with pytest.raises(CallFailedError) as failure:
            await outgoing.answered()
        assert failure.value.status == 487
        invite = await seen.get()
        async with asyncio.timeout(5):
            await asyncio.shield(invite.cancelled)
        assert not invite.pending


async def test_cancel_while_media_prepares_its_answer() -> None:
    """The answer must not go out, and the media is released."""
    preparing, failed = asyncio.Event(), asyncio.Event()

    class Slow(ScriptedMedia):
        async def answer(self, offer: bytes) -> bytes:
            preparing.set()
            await gone.wait()
            return ANSWER

    gone = asyncio.Event()
    media = Slow()

    async def handler(invite: ServerInvite) -> None:
        invite.cancelled.add_done_callback(lambda _: gone.set())
        with pytest.raises(InviteCancelledError):
            await invite.answer(lambda: media)
        failed.set()

    async with endpoint(handler) as server, endpoint() as client:
        outgoing = await client.call(f"sip:agent@127.0.0.1:{server.port}", MediaShelf())
        await preparing.wait()
        await outgoing.cancel()
        async with asyncio.timeout(5):
            await failed.wait()
    assert media.closed


async def test_nobody_there() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        async with endpoint() as client:
            target = f"sip:x@127.0.0.1:{deaf.getsockname()[1]}"
            outgoing = await client.call(target, shelf := MediaShelf())
            with pytest.raises(CallTimeoutError):
                await outgoing.answered()
            assert shelf.all_closed


async def test_refused_tcp_connection_fails_at_once() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        async with endpoint() as client:
            target = f"sip:x@127.0.0.1:{bound.getsockname()[1]};transport=tcp"
            outgoing = await client.call(target, MediaShelf())
            with pytest.raises(CallFailedError) as failure:
                await outgoing.answered()
            assert failure.value.status == 503


async def test_bad_targets() -> None:
    shelf = MediaShelf()
    async with endpoint() as client:
        with pytest.raises(SipParseError, match="tel"):
            await client.call("tel:123", shelf)
        with pytest.raises(SipError, match=r"nowhere\.invalid"):
            await client.call("sip:x@nowhere.invalid", shelf)
    assert shelf.made == []


async def test_delayed_offer_takes_the_answer_from_the_ack() -> None:
    desk = Desk()
    async with endpoint(desk) as server:
        with Peer(server.port) as peer:
            await peer.send("INVITE")
            final = await peer.final()
            assert (final.status, final.body) == (200, OFFER)
            ack = ("Content-Type: application/sdp",)
            await peer.send("ACK", *ack, tag=final.to.tag or "", body=ANSWER.decode())
            call = await desk.calls.get()
            assert desk.media.made[0].log == [("offer", OFFER), ("set_answer", ANSWER)]
            hangup = asyncio.ensure_future(call.hangup())
            bye = await peer.receive()
            while not isinstance(bye, Request):
                bye = await peer.receive()
            assert bye.method == "BYE"
            headers = bye.headers.copy()
            await peer.send_raw(Response(status=200, reason="OK", headers=headers).encode())
            await hangup


async def test_an_ack_that_never_comes() -> None:
    failures: asyncio.Queue[Exception] = asyncio.Queue()
    shelf = MediaShelf()

    async def handler(invite: ServerInvite) -> None:
        try:
            await invite.answer(shelf)
        except CallFailedError as error:
            await failures.put(error)

    async with endpoint(handler) as server:
        with Peer(server.port) as peer:
            await peer.send("INVITE", "Content-Type: application/sdp", body=OFFER.decode())
            final = await peer.final()
            assert final.status == 200
            bye = await peer.receive()
            while not isinstance(bye, Request):
                bye = await peer.receive()
            assert bye.method == "BYE"
            await peer.send_raw(Response(status=200, reason="OK", headers=bye.headers).encode())
            async with asyncio.timeout(10):
                assert isinstance(await failures.get(), CallTimeoutError)
    assert shelf.all_closed


async def test_reinvites_reach_the_media() -> None:
    desk = Desk()
    async with endpoint(desk) as server:
        with Peer(server.port) as peer:
            sdp = "Content-Type: application/sdp"
            await peer.send("INVITE", sdp, body=OFFER.decode())
            tag = (await peer.final()).to.tag or ""
            await peer.send("ACK", tag=tag)
            await desk.calls.get()
            media = desk.media.made[0]

            await peer.send("INVITE", sdp, tag=tag, cseq=2, body="v=0 hold")
            final = await peer.final()
            assert (final.status, final.cseq, final.body) == (200, 2, ANSWER)
            await peer.send("ACK", tag=tag, cseq=2)
            assert media.log[-1] == ("update", b"v=0 hold")

            await peer.send("INVITE", sdp, tag=tag, cseq=3, body=UNACCEPTABLE.decode())
            final = await peer.final()
            while final.cseq != 3:
                final = await peer.final()
            assert final.status == 488
            await peer.send("ACK", tag=tag, cseq=3)

            await peer.send("INVITE", tag=tag, cseq=4)
            final = await peer.final()
            while final.cseq != 4:
                final = await peer.final()
            assert (final.status, final.body) == (200, OFFER)
            await peer.send("ACK", sdp, tag=tag, cseq=4, body=ANSWER.decode())

            await peer.send("BYE", tag=tag, cseq=5)
            assert (await peer.final("BYE")).status == 200
            assert media.log[-1] == ("set_answer", ANSWER)
            assert media.closed


async def test_close_ends_everything() -> None:
    desk, shelf = Desk(), MediaShelf()
    async with endpoint(desk) as server:
        async with endpoint() as client:
            outgoing = await client.call(f"sip:agent@127.0.0.1:{server.port}", shelf)
            call = await outgoing.answered()
            other = await desk.calls.get()
        assert await call.ended() is EndReason.SHUTDOWN
        assert await other.ended() is EndReason.CALLER_HUNG_UP
        await client.close()
        with pytest.raises(SipError, match="closing"):
            await client.call(f"sip:agent@127.0.0.1:{server.port}", shelf)
    assert shelf.all_closed
    assert desk.media.all_closed


async def test_close_with_a_silent_far_end() -> None:
    """The far end never answers our BYE: close gives up in bounded time."""
    desk = Desk()
    slow = Policy()
    async with endpoint(desk, policy=slow) as server:
        with Peer(server.port) as peer:
            await peer.send("INVITE", "Content-Type: application/sdp", body=OFFER.decode())
            final = await peer.final()
            await peer.send("ACK", tag=final.to.tag or "")
            call = await desk.calls.get()
            await server.close()
            assert await call.ended() is EndReason.SHUTDOWN
    assert desk.media.all_closed


async def test_answering_twice_is_an_error() -> None:
    errors: asyncio.Queue[Exception] = asyncio.Queue()

    async def handler(invite: ServerInvite) -> None:
        call = await invite.answer(MediaShelf())
        try:
            await invite.answer(MediaShelf())
        except SipStateError as error:
            await errors.put(error)
        await call.ended()

    async with endpoint(handler) as server, endpoint() as client:
        outgoing = await client.call(f"sip:agent@127.0.0.1:{server.port}", MediaShelf())
        call = await outgoing.answered()
        assert isinstance(await errors.get(), SipStateError)
        await call.hangup()


async def test_two_hundred_calls_leave_the_tables_empty() -> None:
    desk = Desk()
    async with endpoint(desk) as server, endpoint() as client:
        for _ in range(200):
            outgoing = await client.call(f"sip:agent@127.0.0.1:{server.port}", MediaShelf())
            call = await outgoing.answered()
            await (await desk.calls.get()).hangup()
            await call.ended()
        async with asyncio.timeout(10):
            while any(server.sizes().values()) or any(client.sizes().values()):
                await asyncio.sleep(0.05)
    assert len(desk.media.made) == 200
    assert desk.media.all_closed


async def test_udp_and_tcp_share_the_port_and_a_taken_port_is_an_error() -> None:
    async with endpoint() as first:
        _, writer = await asyncio.open_connection("127.0.0.1", first.port)
        writer.close()
        await writer.wait_closed()
        second = SipEndpoint("127.0.0.1", first.port, on_invite=refuse)
        with pytest.raises(OSError, match="in use"):
            await second.start()
        await second.close()
    with pytest.raises(ValueError, match="UDP, TCP or TLS"):
        SipEndpoint("127.0.0.1", 0, on_invite=refuse, udp=False, tcp=False)


async def test_idle_streams_are_displaced_when_full() -> None:
    policy = Policy(timers=QUICK.timers, max_streams=2)
    options = (
        b"OPTIONS sip:a@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1;branch=z9hG4bK%d\r\n"
        b"From: <sip:x@y>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: %d\r\nCSeq: 1 OPTIONS\r\n"
        b"Content-Length: 0\r\n\r\n"
    )
    async with endpoint(policy=policy) as server:
        streams = []
        for n in range(4):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(options % (n, n))
            async with asyncio.timeout(5):
                assert (await reader.readline()).startswith(b"SIP/2.0 200")
            streams.append((reader, writer))
        assert server.sizes()["streams"] == 2
        for reader, _ in streams[:2]:
            async with asyncio.timeout(5):
                assert await drained(reader)
        for _, writer in streams:
            writer.close()


def test_the_scripted_media_is_a_media_session() -> None:
    assert isinstance(ScriptedMedia(), MediaSession)
