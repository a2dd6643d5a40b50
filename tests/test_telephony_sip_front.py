"""Several user agents behind one set of sockets."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from certificates import Authority
from sip_front import House, Worker, house
from sip_media import OFFER, MediaShelf
from sip_peer import Peer

from ringtrue.streaming.ports import EndReason
from ringtrue.telephony.sip.auth_server import AuthPolicy
from ringtrue.telephony.sip.driver import TlsListener
from ringtrue.telephony.sip.endpoint import SipEndpoint
from ringtrue.telephony.sip.handles import ServerInvite
from ringtrue.telephony.sip.message import Response
from ringtrue.telephony.sip.tls import client_context, server_context
from ringtrue.telephony.sip.transport import Hop

BODY = OFFER.decode()
SDP = "Content-Type: application/sdp"


async def refuse(invite: ServerInvite) -> None:
    await invite.reject(486)


async def full(invite: ServerInvite) -> None:
    await invite.reject(503, retry_after=10)


async def ringing(invite: ServerInvite) -> None:
    await invite.ring()
    await asyncio.sleep(60)


async def settled() -> None:
    """Let everything that is on its way arrive."""
    await asyncio.sleep(0.05)


def with_calls(it: House) -> list[Worker]:
    return [worker for worker in it.workers.values() if worker.invites]


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_calls_on_two_workers_and_the_end_of_one(transport: str) -> None:
    shelf = MediaShelf()
    async with (
        house() as it,
        SipEndpoint("127.0.0.1", 0, on_invite=refuse) as phone,
    ):
        first, second = await it.add(), await it.add()
        target = f"sip:agent@127.0.0.1:{it.front.port};transport={transport}"
        calls = [await (await phone.call(target, shelf)).answered() for _ in range(4)]
        assert [len(worker.invites) for worker in (first, second)] == [2, 2]

        first.kill()
        done, going = await asyncio.wait(
            [asyncio.create_task(call.ended()) for call in calls], timeout=0.5
        )
        assert [task.result() for task in done] == [EndReason.CALLER_HUNG_UP] * 2
        assert it.front.ended_for_the_dead == 2
        assert await it.front.idle(1)

        again = await (await phone.call(target, shelf)).answered()
        assert len(second.invites) == 3
        await again.hangup()
        for call in calls:
            await call.hangup()  # those that are over take it too
        assert len(await asyncio.gather(*going)) == 2
        await settled()
        assert not [call for call in it.front.dispatcher.table if call.lasting]
    assert shelf.all_closed


async def test_a_caller_over_tls_whom_only_his_connection_reaches(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.sign("desk", "127.0.0.1")
    tls = TlsListener(server_context(pair.both), 0)
    trusting = client_context(ca=authority.path)
    async with (
        house(tls=tls) as it,
        SipEndpoint("127.0.0.1", 0, on_invite=refuse, tcp=False, tls_client=trusting) as phone,
    ):
        worker = await it.add()
        outgoing = await phone.call(f"sips:desk@127.0.0.1:{it.front.tls_port}", MediaShelf())
        call = await outgoing.answered()
        await settled()
        worker.kill()
        async with asyncio.timeout(2):
            assert await call.ended() is EndReason.CALLER_HUNG_UP
        assert await it.front.idle(1)


async def test_a_dead_workers_call_is_ended_in_its_dialog() -> None:
    async with house() as it:
        worker = await it.add()
        with Peer(it.front.port) as peer:
            await peer.send("INVITE", SDP, body=BODY)
            answer = await peer.final()
            await peer.send("ACK", tag=answer.to.tag or "")
            await settled()
            worker.kill()
            bye = await peer.heard("BYE")
            assert bye.call_id == "peer-call"
            assert (bye.from_.tag, bye.to.tag) == (answer.to.tag, "p")
            assert str(bye.uri) == f"sip:peer@127.0.0.1:{peer.port}"
            # It comes again until it is answered; what the peer sends meanwhile is answered too.
            await peer.heard("BYE")
            await peer.send("BYE", tag=answer.to.tag or "", cseq=2)
            assert (await peer.final("BYE")).status == 200
            await peer.respond(bye, 200)
            await settled()
            assert it.front._ua.sizes()["calls"] == 0


async def test_a_caller_who_was_not_answered_yet_gets_another_worker() -> None:
    async with house() as it:
        worker = await it.add(ringing)
        with Peer(it.front.port) as peer:
            await peer.send("INVITE", SDP, body=BODY)
            while True:
                heard = await peer.receive()
                if isinstance(heard, Response) and heard.status == 180:
                    break
            other = await it.add()
            worker.kill()
            answer = await peer.final()
            assert answer.status == 200
            assert len(other.invites) == 1
            await peer.send("ACK", tag=answer.to.tag or "")


async def test_a_caller_whom_nobody_is_left_to_answer_is_told_when_to_try_again() -> None:
    async with house() as it:
        worker = await it.add(ringing)
        with Peer(it.front.port) as peer:
            await peer.send("INVITE", SDP, body=BODY)
            await settled()
            worker.kill()
            answer = await peer.final()
            assert answer.status == 503
            assert answer.retry_after is not None
            await peer.send("ACK", tag=answer.to.tag or "")
            await peer.send("INVITE", SDP, body=BODY, cseq=2)
            assert (await peer.final()).status == 503


async def test_a_call_that_was_being_placed_is_cancelled() -> None:
    async with house() as it:
        worker = await it.add()
        with Peer(it.front.port) as peer:
            placing = await worker.endpoint.call(f"sip:x@127.0.0.1:{peer.port}", worker.media)
            waiting = asyncio.create_task(placing.answered())
            invite = await peer.heard("INVITE")
            await peer.respond(invite, 180)
            await settled()
            worker.kill()
            again = await peer.heard("INVITE")
            assert again.via.branch == invite.via.branch
            await peer.respond(again, 180)
            cancel = await peer.heard("CANCEL")
            assert cancel.via.branch == invite.via.branch
            await peer.respond(cancel, 200)
            # The answer crosses it: it is acknowledged and ended at once.
            await peer.respond(invite, 200, body=OFFER)
            assert (await peer.heard("ACK")).cseq == invite.cseq
            bye = await peer.heard("BYE")
            await peer.respond(bye, 200)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)


async def test_a_full_worker_sends_the_caller_to_another() -> None:
    async with house() as it:
        shut, other = await it.add(full), await it.add()
        it.front.dispatcher.reported(other.owner, 9, is_open=True, heard=0)
        with Peer(it.front.port) as peer:
            await peer.send("INVITE", SDP, body=BODY)
            answer = await peer.final()
            assert answer.status == 200
            await peer.send("ACK", tag=answer.to.tag or "")
        await settled()
        assert (len(shut.invites), len(other.invites)) == (1, 1)
        assert shut.endpoint.sizes()["calls"] == 0


async def test_a_caller_whom_all_refuse_hears_of_it() -> None:
    async with house() as it:
        workers = [await it.add(full), await it.add(full), await it.add(full)]
        with Peer(it.front.port) as peer:
            await peer.send("INVITE", SDP, body=BODY)
            answer = await peer.final()
            assert (answer.status, answer.retry_after) == (503, 10)
            await peer.send("ACK", tag=answer.to.tag or "")
        assert sum(len(worker.invites) for worker in workers) == 2


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 1000,
        b"\r\n\r\n",
        b"SIP/2.0 200 OK\r\n\r\n",
        b"INVITE sip:a@b SIP/2.0\r\nCall-ID: x\r\nVia: junk\r\n\r\n",
        b"INVITE sip:a@b SIP/2.0\r\nCall-ID: x\r\nContent-Length: 99999\r\n\r\n",
        b"BYE sip:a@b SIP/2.0\r\nCall-ID: peer-call\r\n\r\n",
        b"INVITE \xff\xfe SIP/7.0\r\nCall-ID: \xff\r\n\r\n",
    ],
)
async def test_hostile_bytes_hurt_nobody(data: bytes) -> None:
    async with house() as it:
        await it.add()
        with Peer(it.front.port) as hostile, Peer(it.front.port) as peer:
            await hostile.send_raw(data)
            reader, writer = await asyncio.open_connection("127.0.0.1", it.front.port)
            writer.write(data)
            await peer.send("INVITE", SDP, body=BODY)
            answer = await peer.final()
            assert answer.status == 200
            await peer.send("ACK", tag=answer.to.tag or "")
            writer.close()
            del reader
            await settled()


async def test_a_far_end_that_asks_whether_we_are_there_needs_no_worker() -> None:
    async with house() as it:
        with Peer(it.front.port) as peer:
            await peer.send("OPTIONS")
            assert (await peer.final("OPTIONS")).status == 200
            await peer.send("INVITE", SDP, body=BODY, cseq=2)
            assert (await peer.final()).status == 503
        assert len(it.front.dispatcher.table) == 0


async def test_one_source_may_begin_so_many_calls_whatever_the_number_of_workers() -> None:
    async with house(call_rate=(0.001, 3)) as it:
        workers = [await it.add(refuse) for _ in range(3)]
        for number in range(9):
            with Peer(it.front.port) as peer:
                data = f"INVITE sip:a@127.0.0.1 SIP/2.0\r\nCall-ID: c{number}\r\n\r\n"
                await peer.send_raw(data.encode())
        await settled()
        assert it.front.dropped == 6
        assert sum(len(worker.invites) for worker in workers) == 0  # none of them was whole


async def test_strangers_who_have_to_prove_who_they_are_stay_with_one_worker() -> None:
    auth = AuthPolicy(realm="x", users={"u": "p"})
    async with house(auth=auth) as it:
        for _ in range(3):
            await it.add(refuse)
        for number in range(4):
            with Peer(it.front.port) as peer:
                await peer.send("INVITE", SDP, body=BODY, cseq=number + 1)
                await peer.final()
        assert len(with_calls(it)) == 1
        it.front.own_hosts = frozenset({"127.0.0.1"})
        assert not it.front._has_to_prove("127.0.0.1")


async def test_pings_of_a_stream_are_answered_and_answers_reach_whoever_asked() -> None:
    async with house() as it:
        worker = await it.add()
        reader, writer = await asyncio.open_connection("127.0.0.1", it.front.port)
        writer.write(b"\r\n\r\n")
        assert await reader.readexactly(2) == b"\r\n"
        writer.close()

        heard: list[bytes] = []
        worker.relay._on_data = lambda data, hop: heard.append(data)

        async def registrar(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert await reader.readexactly(4) == b"\r\n\r\n"
            writer.write(b"\r\n")
            await reader.read()
            writer.close()

        server = await asyncio.start_server(registrar, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            worker.relay.send(b"\r\n\r\n", Hop("tcp", "127.0.0.1", port))
            async with asyncio.timeout(2):
                while heard != [b"\r\n"]:
                    await asyncio.sleep(0.01)
            worker.relay.close_stream(Hop("tcp", "127.0.0.1", port))
            await settled()


async def test_what_a_worker_says_of_a_call_that_was_given_away_is_not_sent() -> None:
    async with house() as it:
        first, second = await it.add(), await it.add()
        with Peer(it.front.port) as peer:
            await peer.send("INVITE", SDP, body=BODY)
            answer = await peer.final()
            await peer.send("ACK", tag=answer.to.tag or "")
            await settled()
            call = it.front.dispatcher.table.get("peer-call")
            assert call is not None
            has, other = (first, second) if call.owner == 1 else (second, first)
            call.owner = other.owner
            ending = asyncio.create_task(has.calls[0].hangup())
            with pytest.raises(TimeoutError):
                await peer.heard("BYE", within=0.2)
            call.owner = has.owner
            bye = await peer.heard("BYE")
            await peer.respond(bye, 200)
            await ending


async def test_a_request_never_goes_to_a_worker_of_another_call() -> None:
    async with house() as it:
        await it.add()
        with Peer(it.front.port) as peer:
            await peer.send("BYE", tag="unknown")
            answer = await peer.final("BYE")
            assert answer.status == 481
        assert it.front.dispatcher.table.get("peer-call") is None
