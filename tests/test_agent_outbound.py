"""Placed calls on loopback: outcomes, early media, ends, caps; every one is recorded."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from sip_media import ANSWER, MediaShelf
from sip_peer import Peer

from ringtrue.agent.calls import Calls
from ringtrue.agent.dial_ledger import DialLedger
from ringtrue.agent.dial_plan import DialPlan, DialRefusal, DialRefusedError
from ringtrue.agent.outbound import (
    DialOutcome,
    Order,
    Outbound,
    Phone,
    PlacedCall,
    PlacedState,
    outcome_of,
    with_variables,
)
from ringtrue.agent.problems import Problem
from ringtrue.config.agent_schema import Agent, load_agents
from ringtrue.config.dial_settings import OutboundSettings
from ringtrue.streaming.clock import MediaClock
from ringtrue.streaming.ports import Call, EndReason
from ringtrue.streaming.record import CallRecord
from ringtrue.telephony.sip.core import Policy
from ringtrue.telephony.sip.endpoint import SipEndpoint
from ringtrue.telephony.sip.errors import CallFailedError, CallTimeoutError
from ringtrue.telephony.sip.handles import ServerInvite
from ringtrue.telephony.sip.media import MediaFactory
from ringtrue.telephony.sip.message import Request
from ringtrue.telephony.sip.schedule import Timers

QUICK = Policy(timers=Timers(t1=0.02, t2=0.08, t4=0.05))
REMINDER = load_agents()["reminder"]


class Desk:
    """Stands for the calls of a server: takes each answered one until it ends."""

    def __init__(self) -> None:
        self.clock = MediaClock()
        self.room = 10
        self.records: list[CallRecord] = []
        self.agents: list[Agent] = []
        self.running: asyncio.Queue[Call] = asyncio.Queue()

    def reserve(self) -> str | None:
        if not self.room:
            return "full"
        self.room -= 1
        return None

    def release(self) -> None:
        self.room += 1

    async def run(
        self, call: Call, agent: Agent, *, on_record: Callable[[CallRecord], None]
    ) -> CallRecord:
        now = asyncio.get_running_loop().time()
        record = CallRecord(call.id, "sip", str(call.direction), agent.name, 8000, now)
        on_record(record)
        self.agents.append(agent)
        await self.running.put(call)
        record.outcome = str(await call.ended())
        self.release()
        self.records.append(record)
        return record

    async def unanswered(self, record: CallRecord) -> None:
        self.records.append(record)


@dataclass
class Line:
    """What places calls, and what it left behind."""

    outbound: Outbound
    desk: Desk
    shelf: MediaShelf
    endpoint: SipEndpoint
    told: list[tuple[PlacedState, DialRefusal | None]] = field(default_factory=list)

    def order(self, port: int, user: str = "bob", **changes: Any) -> Order:
        return Order(
            "default",
            "test",
            f"sip:{user}@127.0.0.1:{port}",
            changes.pop("agent", REMINDER),
            **changes,
        )

    async def settled(self, placed: PlacedCall) -> PlacedCall:
        async with asyncio.timeout(10):
            while not placed.over:
                await self.outbound.wait(placed.tenant, placed.id, placed.version, 5)
            while placed.task is not None and not placed.task.done():
                await asyncio.sleep(0.005)
        return placed


@asynccontextmanager
async def line(**limits: Any) -> AsyncIterator[Line]:
    rules = {"uris": ["sip:*@127.0.0.1:*"], "max_concurrent": 5} | limits
    settings = OutboundSettings.model_validate({"enabled": True, "tenants": {"default": rules}})
    desk, shelf = Desk(), MediaShelf()

    def media(host: str) -> MediaFactory:
        assert host == "127.0.0.1"
        return shelf

    async def refuse(invite: ServerInvite) -> None:
        await invite.reject(486)

    def clock() -> datetime:
        return datetime(2026, 3, 4, tzinfo=UTC)

    async with SipEndpoint("127.0.0.1", 0, on_invite=refuse, policy=QUICK) as endpoint:
        outbound = Outbound(
            DialPlan(settings),
            DialLedger(None, clock=clock),
            cast(Calls, desk),
            lambda: Phone(endpoint, media),
            clock=clock,
            ring_seconds=30,
            on_placed=lambda placed, order, refusal: made.told.append(
                (placed.state, refusal and refusal.reason)
            ),
        )
        made = Line(outbound, desk, shelf, endpoint)
        try:
            yield made
        finally:
            await outbound.close()
            desk.clock.stop()
            assert desk.room == 10, "a place was kept"
            assert shelf.all_closed


@asynccontextmanager
async def callee(handler: Callable[[ServerInvite], Awaitable[None]]) -> AsyncIterator[int]:
    async with SipEndpoint("127.0.0.1", 0, on_invite=handler, policy=QUICK) as endpoint:
        yield endpoint.port


async def test_from_the_order_to_the_record() -> None:
    shelf, answer = MediaShelf(), asyncio.Event()

    async def handler(invite: ServerInvite) -> None:
        await invite.ring()
        await answer.wait()
        await (await invite.answer(shelf)).ended()

    async with callee(handler) as port, line() as made:
        agent = with_variables(REMINDER, {"customer": "Ms Rivera"})
        placed = made.outbound.place(made.order(port, agent=agent))
        assert (placed.state, placed.outcome) == (PlacedState.DIALLING, None)
        assert placed.to == f"sip:***ob@127.0.0.1:{port}"
        await made.outbound.wait("default", placed.id, placed.version, 5)
        assert placed.state.value == "ringing"
        answer.set()
        call = await made.desk.running.get()
        assert (placed.state, placed.outcome) == (PlacedState.ANSWERED, DialOutcome.ANSWERED)
        assert placed.call == call.id
        assert made.desk.agents[0].variables["customer"] == "Ms Rivera"
        assert made.desk.agents[0].variables["company"] == REMINDER.variables["company"]
        await call.hangup(EndReason.AGENT_HUNG_UP)
        await made.settled(placed)
        assert (placed.state, placed.ended) == (PlacedState.ENDED, EndReason.AGENT_HUNG_UP)
        (record,) = made.desk.records
        assert record.dialled_at is not None
        assert record.direction == "outbound"
        assert made.outbound.get("default", placed.id) is placed
        with pytest.raises(Problem, match="no call"):
            made.outbound.get("other", placed.id)
        assert made.told == [
            (PlacedState.DIALLING, None),
            (PlacedState.ENDED, None),
        ]


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (486, DialOutcome.BUSY),
        (600, DialOutcome.BUSY),
        (603, DialOutcome.DECLINED),
        (480, DialOutcome.NO_ANSWER),
        (404, DialOutcome.UNREACHABLE),
        (403, DialOutcome.REFUSED),
        (302, DialOutcome.FAILED),
        (488, DialOutcome.FAILED),
        (503, DialOutcome.FAILED),
    ],
)
async def test_what_is_not_answered_has_an_outcome(status: int, outcome: DialOutcome) -> None:
    async def handler(invite: ServerInvite) -> None:
        await invite.reject(status, retry_after=9)

    async with callee(handler) as port, line() as made:
        placed = await made.settled(made.outbound.place(made.order(port)))
        assert (placed.state, placed.outcome) == (PlacedState.FAILED, outcome)
        assert (placed.sip_status, placed.retry_after) == (status, 9)
        (record,) = made.desk.records
        assert (record.outcome, record.sip_status) == (outcome.value, status)
        assert record.sip_reason == placed.sip_reason
        written = record.as_dict()
        assert written["duration_ms"] == 0
        assert written["setup_ms"] >= 0


async def test_nobody_answers_in_time() -> None:
    async def handler(invite: ServerInvite) -> None:
        await invite.ring()
        await invite.cancelled

    async with callee(handler) as port, line() as made:
        placed = await made.settled(made.outbound.place(made.order(port, ring_seconds=0.2)))
        assert placed.outcome is DialOutcome.NO_ANSWER


async def test_nobody_is_there() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        async with line() as made:
            placed = made.outbound.place(made.order(deaf.getsockname()[1]))
            await made.settled(placed)
            assert (placed.outcome, placed.sip_status) == (DialOutcome.UNREACHABLE, None)


def test_outcomes_of_silence() -> None:
    silent = CallTimeoutError(408, "Request Timeout", heard=False)
    assert outcome_of(silent, rang=False) is DialOutcome.UNREACHABLE
    assert outcome_of(silent, rang=True) is DialOutcome.NO_ANSWER
    assert outcome_of(CallFailedError(503, "x", heard=False), rang=False) is DialOutcome.UNREACHABLE
    assert outcome_of(CallFailedError(503, "x"), rang=False) is DialOutcome.FAILED


@pytest.mark.parametrize("when", ["dialling", "ringing", "answered"])
async def test_ended_by_its_owner(when: str) -> None:
    shelf, arrived = MediaShelf(), asyncio.Event()

    async def handler(invite: ServerInvite) -> None:
        arrived.set()
        if when != "dialling":
            await invite.ring()
        if when == "answered":
            await (await invite.answer(shelf)).ended()
        else:
            await invite.cancelled

    async with callee(handler) as port, line() as made:
        placed = made.outbound.place(made.order(port))
        if when == "answered":
            await made.desk.running.get()
        elif when == "ringing":
            await made.outbound.wait("default", placed.id, 1, 5)
        made.outbound.cancel("default", placed.id)
        made.outbound.cancel("default", placed.id)
        await made.settled(placed)
        if when == "answered":
            assert (placed.state, placed.ended) == (PlacedState.ENDED, EndReason.CANCELLED)
        else:
            assert (placed.state, placed.outcome) == (PlacedState.FAILED, DialOutcome.CANCELLED)
        assert len(made.desk.records) == 1


async def test_early_media_is_listened_to_and_not_spoken_on() -> None:
    """The leg is pulled on the clock, nothing is sent on it, and the answer takes it over."""
    async with line() as made:
        with Peer(made.endpoint.port) as peer:
            placed = made.outbound.place(made.order(peer.port))
            invite = await peer.receive()
            assert isinstance(invite, Request)
            answer = response(invite, 183, peer.port)
            await peer.send_raw(answer)
            await asyncio.sleep(0.2)
            (media,) = made.shelf.made
            assert [what for what, _ in media.log] == ["offer", "preview"]
            assert media.leg.sent == []
            assert len(made.desk.clock) == 1
            await peer.send_raw(response(invite, 200, peer.port))
            await made.desk.running.get()
            assert len(made.desk.clock) == 0
            assert [what for what, _ in media.log] == ["offer", "preview", "set_answer"]
            assert placed.early_media_ms >= 100
            made.outbound.cancel("default", placed.id)
            bye = await peer.receive()
            while not (isinstance(bye, Request) and bye.method == "BYE"):
                bye = await peer.receive()
            await peer.send_raw(response(bye, 200, peer.port, body=b""))
            await made.settled(placed)
        assert made.desk.records[0].early_media_ms == placed.early_media_ms


def response(request: Request, status: int, port: int, body: bytes = ANSWER) -> bytes:
    lines = [f"SIP/2.0 {status} Said"]
    lines += [f"Via: {via}" for via in request.headers.get_all("via")]
    to = request.headers.get("to") or ""
    lines += [f"From: {request.headers.get('from')}", to if "tag=" in to else f"To: {to};tag=x"]
    lines[-1] = lines[-1] if lines[-1].startswith("To:") else f"To: {lines[-1]}"
    lines += [f"Call-ID: {request.call_id}", f"CSeq: {request.headers.get('cseq')}"]
    lines += [f"Contact: <sip:x@127.0.0.1:{port}>", "Content-Type: application/sdp"]
    lines += [f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


async def test_a_tenant_whose_minutes_are_used_up_is_cut_off() -> None:
    shelf = MediaShelf()

    async def handler(invite: ServerInvite) -> None:
        await (await invite.answer(shelf)).ended()

    async with callee(handler) as port, line(max_minutes_per_day=2.5 / 60) as made:
        placed = made.outbound.place(made.order(port))
        await made.settled(placed)
        assert placed.ended is EndReason.MAX_DURATION


async def test_refusals_place_nothing() -> None:
    async with line(max_concurrent=1) as made:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
            deaf.bind(("127.0.0.1", 0))
            port = deaf.getsockname()[1]
            made.outbound.place(made.order(port))
            with pytest.raises(DialRefusedError) as refused:
                made.outbound.place(made.order(port))
            assert refused.value.reason is DialRefusal.CONCURRENT
            with pytest.raises(DialRefusedError) as refused:
                made.outbound.place(made.order(port, user="911"))
            assert refused.value.reason is DialRefusal.EMERGENCY
            made.outbound.stop_dialling()
            with pytest.raises(DialRefusedError) as refused:
                made.outbound.place(made.order(port))
            assert refused.value.reason is DialRefusal.FULL
    assert [reason for _, reason in made.told if reason] == [
        DialRefusal.CONCURRENT,
        DialRefusal.EMERGENCY,
        DialRefusal.FULL,
    ]
    assert [record.outcome for record in made.desk.records] == ["cancelled"]


async def test_a_full_server_places_nothing_and_keeps_no_charge() -> None:
    async with line(max_concurrent=1) as made:
        made.desk.room = 0
        for _ in range(3):
            with pytest.raises(DialRefusedError) as refused:
                made.outbound.place(made.order(5))
            assert refused.value.reason is DialRefusal.FULL
            await asyncio.sleep(0.01)
        made.desk.room = 10
