"""Calls that this server places: from the order to the record, owned by the server.

A placed call outlives the request that ordered it. States are kept for a while after the end, a
bounded number of them, in memory. Every call has an outcome, typed; none is dropped in silence.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import structlog

from ringtrue.agent.background import Background
from ringtrue.agent.calls import RETRY_AFTER_SECONDS, Calls
from ringtrue.agent.dial_ledger import Charge, DialLedger
from ringtrue.agent.dial_outcomes import DialOutcome, PlacedState
from ringtrue.agent.dial_plan import DialPlan, DialRefusal, DialRefusedError, Route
from ringtrue.agent.dial_watch import watch_charge
from ringtrue.agent.handing import Desk
from ringtrue.agent.held_work import HeldWork, Register
from ringtrue.agent.logs import masked
from ringtrue.agent.outbound_lines import (
    Attempt,
    DialFailedError,
    Line,
    Phone,
    Progress,
    SipLine,
    TwilioLine,
)
from ringtrue.agent.problems import Problem
from ringtrue.config.agent_schema import Agent
from ringtrue.config.dial_settings import DialTenant
from ringtrue.streaming.errors import RingtrueError
from ringtrue.streaming.ports import Call, Direction, EndReason, Holding, MediaLeg
from ringtrue.streaming.record import CallRecord
from ringtrue.telephony.twilio.placing import TwilioDialler

log = structlog.get_logger(__name__)

KEPT: Final = 2000
"""Calls remembered in all; the oldest that are over are forgotten first."""

CLOSE_SECONDS: Final = 30.0
"""How long calls may take to end, once each was told to."""


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
    answered_by: str | None = None
    """The carrier's word on who answered, where it looked: ``human``, ``machine_start`` …"""

    attempt: Attempt | None = field(default=None, repr=False)
    active: Call | None = field(default=None, repr=False)
    cancelled: bool = field(default=False, repr=False)
    """It is to end, whatever it is doing."""

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
        twilio: Callable[[], TwilioDialler | None] = lambda: None,
        mark: str = "",
    ) -> None:
        """``phone`` gives what to call with, None where SIP is off, ``twilio`` the same for
        Twilio; ``clock`` the time of day. ``mark`` ends the ids of calls: it says which worker
        placed them."""
        self._plan = plan
        self._ledger = ledger
        self._calls = calls
        self._phone = phone
        self._twilio = twilio
        self._clock = clock
        self._ring_seconds = ring_seconds
        self._on_placed = on_placed
        self._mark = mark
        self._held: Register[PlacedCall] = Register("call", kept=KEPT, clock=clock)
        self._background = Background("outbound.task_failed")
        self._closed = False

    def place(self, order: Order) -> PlacedCall:
        """Begin to call; returns at once. Raises :class:`DialRefusedError`."""
        now = self._clock()
        placed = PlacedCall(
            id=f"call_{secrets.token_hex(12)}{self._mark}",
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
        line = self._line(route)
        self._held.tidy()
        if self._closed or self._held.full:
            raise _full()
        charge = self._ledger.admit(order.tenant, rules, route.rate, self._now())
        if self._calls.reserve(Direction.OUTBOUND) is not None:
            self._background.spawn(self._ledger.close(charge, self._now()), "outbound-release")
            raise _full()
        self._held.add(placed)
        work = self._run(placed, order, rules, route, charge, line)
        placed.task = self._background.spawn(work, f"outbound-{placed.id}")

    def places(self, tenant: str) -> bool:
        """Whether calls are placed for ``tenant`` at all."""
        try:
            self._plan.tenant(tenant)
        except DialRefusedError:
            return False
        return not self._closed and (self._phone() or self._twilio()) is not None

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
        if not isinstance(placed.active, Holding):
            raise Problem(409, "conflict", "this call's transport has no hold")
        try:
            held = await self._calls.hold(placed.call, on, music=music)
        except RingtrueError as error:
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
            self._background.spawn(placed.active.hangup(EndReason.CANCELLED), "outbound-hangup")
        elif placed.attempt is not None:
            self._background.spawn(placed.attempt.cancel(), "outbound-cancel")

    def stop_dialling(self) -> None:
        """Place no more, and give up what is not answered; answered calls go on."""
        self._closed = True
        for placed in self._held.all():
            if placed.active is None:
                self._cancel(placed)

    async def close(self) -> None:
        """Wait for what is left to end, once every call was ended; idempotent."""
        self.stop_dialling()
        if self._background.tasks:
            _, late = await asyncio.wait(self._background.tasks, timeout=CLOSE_SECONDS)
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
        line: Line,
    ) -> None:
        reserved = True
        dialled_at = self._now()
        watcher = _Watcher(self, placed, order, route)
        try:
            try:
                await self._calls.door.begin(Direction.OUTBOUND)
                ring_seconds = order.ring_seconds or self._ring_seconds
                attempt = await line.dial(route, ring_seconds, watcher)
                call = await attempt.answered()
            finally:
                watcher.stop()
            charge.answered_at = self._now()
            placed.active, placed.call = call, call.id
            placed.answered_at = self._clock()
            placed.outcome = DialOutcome.ANSWERED
            self._change(placed, PlacedState.ANSWERED)
            self._tell(placed, order, None)
            if placed.cancelled:  # between the answer and here
                self._background.spawn(call.hangup(EndReason.CANCELLED), "outbound-hangup")

            def complete(record: CallRecord) -> None:
                record.dialled_at = dialled_at
                record.early_media_ms = placed.early_media_ms

            watching = watch_charge(self._ledger, call, charge, rules)
            watch = self._background.spawn(watching, "outbound-watch")
            reserved = False  # the place is given back by the run
            try:
                run = self._calls.run(call, order.agent, on_record=complete, desk=order.desk)
                record = await run
            finally:
                watch.cancel()
            placed.ended = EndReason(record.outcome or EndReason.ERROR)
            self._change(placed, PlacedState.ENDED)
        except DialFailedError as error:
            log.info("outbound.not_answered", placed=placed.id, outcome=str(error.outcome))
            await self._failed(placed, line, dialled_at, error)
        except BaseException:
            if placed.active is None:
                failure = DialFailedError(DialOutcome.FAILED)
                await self._failed(placed, line, dialled_at, failure)
            else:
                placed.ended = EndReason.ERROR
                self._change(placed, PlacedState.ENDED)
            raise
        finally:
            if reserved:
                self._calls.release()
            await self._ledger.close(charge, self._now())
            self._tell(placed, order, None)

    def _line(self, route: Route) -> Line:
        """What ``route`` is called over. Raises :class:`DialRefusedError` where it is off."""
        if route.provider == "twilio":
            dialler = self._twilio()
            if dialler is None:
                raise DialRefusedError(DialRefusal.DISABLED, "this server has no Twilio")
            return TwilioLine(dialler)
        phone = self._phone()
        if phone is None:
            raise DialRefusedError(DialRefusal.DISABLED, "this server has no SIP: sip.enabled")
        return SipLine(phone)

    async def _failed(
        self, placed: PlacedCall, line: Line, dialled_at: float, error: DialFailedError
    ) -> None:
        if placed.over:
            return
        now = self._now()
        placed.outcome = outcome = DialOutcome.CANCELLED if placed.cancelled else error.outcome
        placed.sip_status, placed.sip_reason = error.status, error.reason
        placed.retry_after = error.retry_after
        record = CallRecord(
            call_id=placed.call or placed.id,
            transport=line.transport,
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


class _Watcher(Progress):
    """What happens to one attempt, written down."""

    def __init__(self, outbound: Outbound, placed: PlacedCall, order: Order, route: Route) -> None:
        self._outbound = outbound
        self._placed = placed
        self._order = order
        self._route = route
        self._early: _EarlyMedia | None = None

    def begun(self, attempt: Attempt) -> None:
        placed = self._placed
        placed.attempt, placed.call = attempt, attempt.id
        log.info(
            "outbound.dialling",
            call=attempt.id,
            placed=placed.id,
            tenant=self._order.tenant,
            agent=self._order.agent.name,
            trunk=self._route.trunk,
        )
        if placed.cancelled:  # while the name was looked up
            self._outbound._background.spawn(attempt.cancel(), "outbound-cancel")

    def rings(self, early: MediaLeg | None) -> None:
        if self._placed.state is PlacedState.DIALLING:
            self._outbound._change(self._placed, PlacedState.RINGING)
        if early is not None and self._early is None and not self._placed.over:
            self._early = _EarlyMedia(early)
            self._outbound._calls.clock.add(self._early)

    def answered_by(self, verdict: str) -> None:
        self._placed.answered_by = verdict
        self._outbound._held.changed(self._placed)

    def stop(self) -> None:
        """It is answered, or never will be."""
        if self._early is not None:
            self._outbound._calls.clock.remove(self._early)
            self._placed.early_media_ms = self._early.frames * 20


def with_variables(agent: Agent, given: Mapping[str, str]) -> Agent:
    """``agent`` with the values of one call for its variables, each of which it has."""
    return agent.model_copy(update={"variables": {**agent.variables, **given}})


def _full() -> DialRefusedError:
    return DialRefusedError(
        DialRefusal.FULL,
        "the server has no place for another call, or is stopping",
        retry_after=RETRY_AFTER_SECONDS,
    )
