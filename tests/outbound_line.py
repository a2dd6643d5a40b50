"""What places calls, on loopback: a real endpoint and rules, and no engines behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

from sip_media import MediaShelf

from ringtrue.agent.admission import Door
from ringtrue.agent.calls import Calls
from ringtrue.agent.dial_ledger import DialLedger
from ringtrue.agent.dial_outcomes import PlacedState
from ringtrue.agent.dial_plan import DialPlan, DialRefusal
from ringtrue.agent.handing import Desk as Handling
from ringtrue.agent.outbound import Order, Outbound, PlacedCall
from ringtrue.agent.outbound_lines import Phone
from ringtrue.config.admission_settings import AdmissionSettings
from ringtrue.config.agent_schema import Agent, load_agents
from ringtrue.config.dial_settings import OutboundSettings
from ringtrue.streaming.clock import MediaClock
from ringtrue.streaming.ports import Call, Direction, Holding
from ringtrue.streaming.record import CallRecord
from ringtrue.telephony.sip.account import Account
from ringtrue.telephony.sip.auth_server import AuthPolicy
from ringtrue.telephony.sip.core import Policy
from ringtrue.telephony.sip.endpoint import SipEndpoint
from ringtrue.telephony.sip.handles import ServerInvite
from ringtrue.telephony.sip.media import MediaFactory
from ringtrue.telephony.sip.schedule import Timers

QUICK = Policy(timers=Timers(t1=0.02, t2=0.08, t4=0.05))
REMINDER = load_agents()["reminder"]


class Desk:
    """Stands for the calls of a server: takes each answered one until it ends."""

    def __init__(self) -> None:
        self.clock = MediaClock()
        self.door = Door(AdmissionSettings(enabled=False))
        self.room = 10
        self.records: list[CallRecord] = []
        self.agents: list[Agent] = []
        self.active: list[Call] = []
        self.running: asyncio.Queue[Call] = asyncio.Queue()

    def reserve(self, direction: Direction) -> str | None:
        assert direction is Direction.OUTBOUND
        if not self.room:
            return "full"
        self.room -= 1
        return None

    def release(self) -> None:
        self.room += 1

    async def run(
        self,
        call: Call,
        agent: Agent,
        *,
        on_record: Callable[[CallRecord], None],
        desk: Handling | None = None,
    ) -> CallRecord:
        now = asyncio.get_running_loop().time()
        record = CallRecord(call.id, "sip", str(call.direction), agent.name, 8000, now)
        on_record(record)
        self.agents.append(agent)
        self.active.append(call)
        await self.running.put(call)
        record.outcome = str(await call.ended())
        self.release()
        self.records.append(record)
        return record

    async def hold(self, call_id: str, on: bool = True, *, music: bool = True) -> bool:
        for call in self.active:
            if call.id == call_id:
                assert isinstance(call, Holding)
                await call.hold(on)
                return True
        return False

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
async def line(
    *, trunks: Mapping[str, Any] | None = None, accounts: Iterable[Account] = (), **limits: Any
) -> AsyncIterator[Line]:
    rules = {"uris": ["sip:*@127.0.0.1:*"], "max_concurrent": 5} | limits
    settings = OutboundSettings.model_validate(
        {"enabled": True, "trunks": trunks or {}, "tenants": {"default": rules}}
    )
    desk, shelf = Desk(), MediaShelf()

    def media(host: str) -> MediaFactory:
        assert host == "127.0.0.1"
        return shelf

    async def refuse(invite: ServerInvite) -> None:
        await invite.reject(486)

    def clock() -> datetime:
        return datetime(2026, 3, 4, tzinfo=UTC)

    async with SipEndpoint(
        "127.0.0.1", 0, on_invite=refuse, policy=QUICK, accounts=accounts
    ) as endpoint:
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
async def callee(
    handler: Callable[[ServerInvite], Awaitable[None]], auth: AuthPolicy | None = None
) -> AsyncIterator[int]:
    async with SipEndpoint("127.0.0.1", 0, on_invite=handler, policy=QUICK, auth=auth) as endpoint:
        yield endpoint.port
