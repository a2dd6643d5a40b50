"""Calls that this server places: from the order to the record, owned by the server.

A placed call outlives the request that ordered it. States are kept for a while after the end, a
bounded number of them, in memory. Every call has an outcome, typed; none is dropped in silence.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import structlog

from ringtrue.agent.calls import RETRY_AFTER_SECONDS, Calls
from ringtrue.agent.dial_ledger import Charge, DialLedger
from ringtrue.agent.dial_outcomes import DialOutcome, PlacedState, outcome_of, printable
from ringtrue.agent.dial_plan import DialPlan, DialRefusal, DialRefusedError, Route
from ringtrue.agent.handing import Desk
from ringtrue.agent.held_work import HeldWork, Register
from ringtrue.agent.logs import masked
from ringtrue.agent.problems import Problem
from ringtrue.config.agent_schema import Agent
from ringtrue.config.dial_settings import DialTenant
from ringtrue.streaming.ports import Direction, EndReason, MediaLeg
from ringtrue.streaming.record import CallRecord
from ringtrue.telephony.sip.endpoint import SipEndpoint
from ringtrue.telephony.sip.errors import CallFailedError, SipError
from ringtrue.telephony.sip.handles import SipCall
from ringtrue.telephony.sip.media import MediaFactory
from ringtrue.telephony.sip.placing import OutgoingCall

log = structlog.get_logger(__name__)

KEPT: Final = 2000
"""Calls remembered in all; the oldest that are over are forgotten first."""

CLOSE_SECONDS: Final = 30.0
"""How long calls may take to end, once each was told to."""

WATCH_SECONDS: Final = 1.0
SAVE_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True)
class Order:
    """A call somebody wants placed."""

    tenant: str
    asked_by: str
    """The API key's holder, as the audit log names it."""

    to: str = field(repr=False)
    agent: Agent = field(repr=False)
    """With the variables of this call."""

    caller: str | None = field(default=None, repr=False)
    ring_seconds: float | None = None
    desk: Desk | None = field(default=None, repr=False)
    """What takes what the call's dialogue asks for; None: what all calls have."""


@dataclass(slots=True, eq=False, kw_only=True)
class PlacedCall(HeldWork):
    """One call as it stands."""

    agent: str
    to: str
    """Masked: what it was placed to is kept nowhere."""

    placed_at: datetime
    state: PlacedState = PlacedState.DIALLING
    outcome: DialOutcome | None = None
    ended: EndReason | None = None
    """How an answered call ended."""

    sip_status: int | None = None
    sip_reason: str | None = None
    retry_after: int | None = None
    answered_at: datetime | None = None
    call: str | None = None
    """Id of its record and its entries in the audit log."""

    early_media_ms: int = 0
    on_hold: bool = False
    outgoing: OutgoingCall | None = field(default=None, repr=False)
    active: SipCall | None = field(default=None, repr=False)
    cancelled: bool = field(default=False, repr=False)
    """It is to end, whatever it is doing."""

    rang: bool = field(default=False, repr=False)

    @property
    def over(self) -> bool:
        """Whether nothing changes any more."""
        return self.state.over


class _EarlyMedia:
    """Listens to what is played before the answer, so that the buffer is in step when it comes."""

    def __init__(self, leg: MediaLeg) -> None:
        self.leg = leg
        self.frames = 0

    def tick_in(self, now: float) -> None:
        """Take 20 ms and let it go."""
        self.frames += not self.leg.pull(now).concealed

    def tick_out(self, now: float) -> None:
        """Nothing is said before the call is answered."""


@dataclass(frozen=True, slots=True)
class Phone:
    """What calls are placed with."""

    endpoint: SipEndpoint
    media: Callable[[str], MediaFactory]
    """The media of a call whose signalling goes to an address."""


OnPlaced = Callable[[PlacedCall, Order, DialRefusedError | None], None]
"""Told of every call placed, answered, and over; and of every refusal, of a call that then never
was."""


class Outbound:
    """Places calls and remembers them. Serves one event loop."""

    def __init__(
        self,
        plan: DialPlan,
        ledger: DialLedger,
        calls: Calls,
        phone: Callable[[], Phone | None],
        *,
        clock: Callable[[], datetime],
        ring_seconds: float,
        on_placed: OnPlaced | None = None,
    ) -> None:
        """``phone`` gives what to call with, None where SIP is off; ``clock`` the time of day."""
        self._plan = plan
        self._ledger = ledger
        self._calls = calls
        self._phone = phone
        self._clock = clock
        self._ring_seconds = ring_seconds
        self._on_placed = on_placed
        self._held: Register[PlacedCall] = Register("call", kept=KEPT, clock=clock)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def place(self, order: Order) -> PlacedCall:
        """Begin to call; returns at once. Raises :class:`DialRefusedError`."""
        now = self._clock()
        placed = PlacedCall(
            id=f"call_{secrets.token_hex(12)}",
            tenant=order.tenant,
            agent=order.agent.name,
            to=masked(order.to[:200]),
            placed_at=now,
            changed_at=now,
        )
        try:
            self._begin(placed, order)
        except DialRefusedError as refusal:
            log.info("outbound.refused", tenant=order.tenant, reason=refusal.reason.value)
            self._tell(placed, order, refusal)
            raise
        self._tell(placed, order, None)
        return placed

    def _begin(self, placed: PlacedCall, order: Order) -> None:
        rules = self._plan.tenant(order.tenant)
        route = self._plan.route(order.tenant, order.to, order.caller)
        phone = self._phone()
        if phone is None:
            raise DialRefusedError(DialRefusal.DISABLED, "this server has no SIP: sip.enabled")
        self._held.tidy()
        if self._closed or self._held.full:
            raise _full()
        charge = self._ledger.admit(order.tenant, rules, route.rate, self._now())
        if self._calls.reserve(Direction.OUTBOUND) is not None:
            self._spawn(self._ledger.close(charge, self._now()), "outbound-release")
            raise _full()
        self._held.add(placed)
        work = self._run(placed, order, rules, route, charge, phone)
        placed.task = self._spawn(work, f"outbound-{placed.id}")

    def places(self, tenant: str) -> bool:
        """Whether calls are placed for ``tenant`` at all."""
        try:
            self._plan.tenant(tenant)
        except DialRefusedError:
            return False
        return not self._closed and self._phone() is not None

    def get(self, tenant: str, placed_id: str) -> PlacedCall:
        """A call of ``tenant``.

        Raises :class:`~ringtrue.agent.problems.Problem` (404) where there is none.
        """
        self._held.tidy()
        return self._held.get(tenant, placed_id)

    async def wait(self, tenant: str, placed_id: str, after: int, seconds: float) -> PlacedCall:
        """The call once its version is above ``after``, or as it is after ``seconds``.

        Raises as :meth:`get`.
        """
        return await self._held.wait(self.get(tenant, placed_id), after, seconds)

    def cancel(self, tenant: str, placed_id: str) -> PlacedCall:
        """End it, answered or not; one that is over stays as it was. Raises as :meth:`get`."""
        placed = self.get(tenant, placed_id)
        self._cancel(placed)
        return placed

    async def hold(self, tenant: str, placed_id: str, on: bool, *, music: bool) -> PlacedCall:
        """Put the far end on hold, or take it off.

        Raises :class:`~ringtrue.agent.problems.Problem`: 404 where there is no such call, 409
        where it is not answered or the far end doesn't agree.
        """
        placed = self.get(tenant, placed_id)
        if placed.state is not PlacedState.ANSWERED or placed.call is None:
            raise Problem(409, "conflict", f"this call is {placed.state}; only answered ones hold")
        try:
            held = await self._calls.hold(placed.call, on, music=music)
        except SipError as error:
            raise Problem(409, "conflict", f"the far end did not agree: {error}") from None
        if not held:
            raise Problem(409, "conflict", "this call is just beginning or ending; try again")
        placed.on_hold = on
        self._held.changed(placed)
        return placed

    def _cancel(self, placed: PlacedCall) -> None:
        if placed.over or placed.cancelled:
            return
        placed.cancelled = True
        if placed.active is not None:
            self._spawn(placed.active.hangup(EndReason.CANCELLED), "outbound-hangup")
        elif placed.outgoing is not None:
            self._spawn(placed.outgoing.cancel(), "outbound-cancel")

    def stop_dialling(self) -> None:
        """Place no more, and give up what is not answered; answered calls go on."""
        self._closed = True
        for placed in self._held.all():
            if placed.active is None:
                self._cancel(placed)

    async def close(self) -> None:
        """Wait for what is left to end, once every call was ended; idempotent."""
        self.stop_dialling()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    # -- one call ----------------------------------------------------------------------------

    async def _run(
        self,
        placed: PlacedCall,
        order: Order,
        rules: DialTenant,
        route: Route,
        charge: Charge,
        phone: Phone,
    ) -> None:
        reserved = True
        dialled_at = self._now()
        early: list[_EarlyMedia] = []
        try:
            try:
                await self._calls.door.begin(Direction.OUTBOUND)
                call = await self._dial(placed, order, route, phone, early)
            finally:
                self._stop_listening(placed, early)
            charge.answered_at = self._now()
            placed.active = call
            placed.answered_at = self._clock()
            placed.outcome = DialOutcome.ANSWERED
            self._change(placed, PlacedState.ANSWERED)
            self._tell(placed, order, None)
            if placed.cancelled:  # between the answer and here
                self._spawn(call.hangup(EndReason.CANCELLED), "outbound-hangup")

            def complete(record: CallRecord) -> None:
                record.dialled_at = dialled_at
                record.early_media_ms = placed.early_media_ms

            watch = self._spawn(self._watch(placed, call, charge, rules), "outbound-watch")
            reserved = False  # the place is given back by the run
            try:
                run = self._calls.run(call, order.agent, on_record=complete, desk=order.desk)
                record = await run
            finally:
                watch.cancel()
            placed.ended = EndReason(record.outcome or EndReason.ERROR)
            self._change(placed, PlacedState.ENDED)
        except CallFailedError as error:
            outcome = outcome_of(error, rang=placed.rang)
            if placed.cancelled:
                outcome = DialOutcome.CANCELLED
            await self._failed(placed, outcome, dialled_at, error)
        except SipError as error:
            log.info("outbound.not_sent", placed=placed.id, reason=type(error).__name__)
            await self._failed(placed, DialOutcome.UNREACHABLE, dialled_at, None)
        except BaseException:
            if placed.active is None:
                await self._failed(placed, DialOutcome.FAILED, dialled_at, None)
            else:
                placed.ended = EndReason.ERROR
                self._change(placed, PlacedState.ENDED)
            raise
        finally:
            if reserved:
                self._calls.release()
            await self._ledger.close(charge, self._now())
            self._tell(placed, order, None)

    async def _dial(
        self,
        placed: PlacedCall,
        order: Order,
        route: Route,
        phone: Phone,
        early: list[_EarlyMedia],
    ) -> SipCall:
        def progress(status: int, leg: MediaLeg | None) -> None:
            placed.rang = True
            if placed.state is PlacedState.DIALLING:
                self._change(placed, PlacedState.RINGING)
            if leg is not None and not early and not placed.over:
                early.append(_EarlyMedia(leg))
                self._calls.clock.add(early[0])

        hop = await phone.endpoint.locate(route.uri, via=route.via, account=route.account)
        outgoing = await phone.endpoint.call(
            route.uri,
            phone.media(hop.host),
            from_uri=None if route.caller is None else f"<{route.caller}>",
            via=hop,
            account=route.account,
            ring_limit=order.ring_seconds or self._ring_seconds,
            on_progress=progress,
        )
        placed.outgoing, placed.call = outgoing, outgoing.id
        log.info(
            "outbound.dialling",
            call=outgoing.id,
            placed=placed.id,
            tenant=order.tenant,
            agent=order.agent.name,
            trunk=route.trunk,
        )
        if placed.cancelled:  # while the name was looked up
            self._spawn(outgoing.cancel(), "outbound-cancel")
        return await outgoing.answered()

    def _stop_listening(self, placed: PlacedCall, early: list[_EarlyMedia]) -> None:
        for listener in early:
            self._calls.clock.remove(listener)
            placed.early_media_ms = listener.frames * 20

    async def _watch(
        self, placed: PlacedCall, call: SipCall, charge: Charge, rules: DialTenant
    ) -> None:
        """End the call where its time or its tenant's day is used up."""
        saved = self._now()
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            now = self._now()
            over = charge.seconds(now) >= rules.max_call_seconds
            reason = "call" if over else self._ledger.exhausted(charge, rules, now)
            if reason is not None:
                log.warning("outbound.cut", call=call.id, limit=str(reason))
                await call.hangup(EndReason.MAX_DURATION)
                return
            if now - saved >= SAVE_SECONDS:
                saved = now
                await self._ledger.save(now)

    async def _failed(
        self,
        placed: PlacedCall,
        outcome: DialOutcome,
        dialled_at: float,
        error: CallFailedError | None,
    ) -> None:
        if placed.over:
            return
        now = self._now()
        placed.outcome = outcome
        if error is not None:
            placed.sip_status = error.status if error.heard else None
            placed.sip_reason, placed.retry_after = printable(error.reason), error.retry_after
        record = CallRecord(
            call_id=placed.call or placed.id,
            transport="sip",
            direction="outbound",
            agent=placed.agent,
            rate=8000,
            answered_at=now,
            ended_at=now,
            outcome=outcome.value,
            dialled_at=dialled_at,
            sip_status=placed.sip_status,
            sip_reason=placed.sip_reason,
            early_media_ms=placed.early_media_ms,
        )
        self._change(placed, PlacedState.FAILED)
        await self._calls.unanswered(record)

    # -- bookkeeping -------------------------------------------------------------------------

    def _change(self, placed: PlacedCall, state: PlacedState) -> None:
        placed.state = state
        self._held.changed(placed)

    def _tell(self, placed: PlacedCall, order: Order, refusal: DialRefusedError | None) -> None:
        if self._on_placed is not None:
            self._on_placed(placed, order, refusal)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("outbound.task_failed", task=task.get_name(), exc_info=error)


def with_variables(agent: Agent, given: Mapping[str, str]) -> Agent:
    """``agent`` with the values of one call for its variables, each of which it has."""
    return agent.model_copy(update={"variables": {**agent.variables, **given}})


def _full() -> DialRefusedError:
    return DialRefusedError(
        DialRefusal.FULL,
        "the server has no place for another call, or is stopping",
        retry_after=RETRY_AFTER_SECONDS,
    )
