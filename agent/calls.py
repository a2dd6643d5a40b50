"""A call from its answer to its record, whatever transport carried it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Final

import structlog
from pipecat.frames.frames import Frame

from ringtrue.agent.admission import Admission, Door
from ringtrue.agent.audit.log import Recorder
from ringtrue.agent.audit.trail import CallTrail, Speaker
from ringtrue.agent.call_policy import graph_policy
from ringtrue.agent.casting import Casting
from ringtrue.agent.engines import Engines
from ringtrue.agent.handing import Desk, Handing, Talk
from ringtrue.agent.last_words import end_with, last_words, settle
from ringtrue.agent.metrics import Metrics
from ringtrue.agent.recordings import Recordings, Tape
from ringtrue.agent.records import RecordStore
from ringtrue.agent.side import Side
from ringtrue.agent.transfers import Transfers
from ringtrue.agent.voicemail import Answering, answering_of, captions
from ringtrue.config.agent_schema import Agent
from ringtrue.config.settings import Settings
from ringtrue.streaming.clock import MediaClock, Ticked
from ringtrue.streaming.graph import CallGraph
from ringtrue.streaming.llm.actions import CallActionFrame, Hangup
from ringtrue.streaming.llm.deadline import StallReport
from ringtrue.streaming.loop_watch import LoopWatch
from ringtrue.streaming.ports import Call, Direction, EndReason, Holding
from ringtrue.streaming.record import CallRecord, Stage, TurnRecord
from ringtrue.streaming.refusals import RefusalReport

log = structlog.get_logger(__name__)

RETRY_AFTER_SECONDS: Final = 10
"""What a refused caller is told to wait."""

GOODBYE_SECONDS: Final = 5.0
"""How long far ends may take to confirm that a call was ended."""

LOST_FACTOR: Final = 3
"""A far end unheard this many times the gate's timeout (at first: its grace) is lost, and its call
ended."""

WATCH_SECONDS: Final = 1.0


@dataclass(slots=True)
class ActiveCall:
    """A call in progress."""

    call: Call
    graph: CallGraph
    record: CallRecord
    over: asyncio.Future[EndReason]
    transfers: Handing
    trail: CallTrail | None = None
    answering: Answering | None = None


class Calls:
    """Runs calls, bounds their number, and ends them all when the server stops."""

    def __init__(
        self,
        settings: Settings,
        engines: Engines,
        *,
        metrics: Metrics,
        records: RecordStore,
        audit: Recorder | None = None,
        recordings: Recordings | None = None,
    ) -> None:
        """Nothing runs until :meth:`run` is given a call. ``audit`` keeps what each one said,
        ``recordings`` how it sounded, where its agent records."""
        self._recordings = recordings
        self._audit = audit
        self._settings = settings
        self._engines = engines
        self._metrics = metrics
        self._records = records
        self._active: dict[str, ActiveCall] = {}
        self._places = 0
        self._draining = False
        self._ending = False
        self._idle = asyncio.Event()
        self._idle.set()
        self.door = Door(settings.admission)
        self.loop_watch = LoopWatch()
        self.clock = MediaClock(on_fault=self._fault, on_tick=self.loop_watch.tick)
        self.refused: Counter[Admission] = Counter()
        self.desk: Desk = Transfers
        """What hands callers over."""

    def __len__(self) -> int:
        """Calls in progress, those being answered included."""
        return self._places

    def full(self) -> bool:
        """Whether :meth:`reserve` would refuse."""
        if self._draining or len(self) >= self._settings.server.max_calls:
            return True
        return self.door.full(len(self), asyncio.get_running_loop().time())

    def reserve(self, direction: Direction = Direction.INBOUND) -> Admission | None:
        """Take a place for a call about to be answered or placed, or say why there is none.

        A place taken is given back by :meth:`run`, or by :meth:`release` if the call never came.
        """
        most: float = self._settings.server.max_calls
        if direction is Direction.OUTBOUND:
            most = ceil(most * (1 - self._settings.admission.inbound_reserve))
        if self._draining:
            refusal: Admission | None = Admission.DRAINING
        elif len(self) >= most:
            refusal = Admission.FULL
        else:
            refusal = self.door.ask(len(self), direction, asyncio.get_running_loop().time())
        if refusal is not None:
            self.refused[refusal] += 1
            self._metrics.call_refused(refusal.value)
            return refusal
        self._places += 1
        self._idle.clear()
        return None

    def release(self) -> None:
        """Give back a place that no call took."""
        self.door.given_back()
        self._leave()

    def _leave(self) -> None:
        self._places -= 1
        self._note_idle()

    async def run(
        self,
        call: Call,
        agent: Agent,
        *,
        on_record: Callable[[CallRecord], None] | None = None,
        desk: Desk | None = None,
    ) -> CallRecord:
        """Run an answered call, for which a place was reserved, to its end.

        ``on_record`` is given its record before the first word, to add what it knows; ``desk``
        takes what its dialogue asks for, in place of :attr:`desk`.
        """
        loop = asyncio.get_running_loop()
        record = CallRecord(
            call_id=call.id,
            transport=call.transport,
            direction=str(call.direction),
            agent=agent.name,
            rate=call.leg.rate,
            answered_at=loop.time(),
        )
        if on_record is not None:
            on_record(record)
        structlog.contextvars.bind_contextvars(call=call.id)
        log.info("call.answered", call=call.id, transport=call.transport, agent=agent.name)
        self._metrics.call_started(call.transport)
        outcome = EndReason.ERROR
        try:
            outcome = await self._converse(call, agent, record, desk or self.desk)
        except asyncio.CancelledError:
            outcome = EndReason.SHUTDOWN
            raise
        except Exception as error:
            record.errors[type(error).__name__] += 1
            log.exception("call.failed", call=call.id)
        finally:
            try:
                await self._conclude(record, outcome)
            finally:
                self._leave()
        return record

    async def _conclude(self, record: CallRecord, outcome: EndReason) -> None:
        """The call is over: count it and keep its record."""
        record.outcome = str(outcome)
        if record.ended_at is None:
            record.ended_at = asyncio.get_running_loop().time()
        self._metrics.call_ended(record)
        log.info(
            "call.ended",
            call=record.call_id,
            outcome=record.outcome,
            seconds=round(record.ended_at - record.answered_at, 1),
            turns=len(record.turns),
            interruptions=record.interruptions,
        )
        await self._records.write(record)

    async def unanswered(self, record: CallRecord) -> None:
        """Count and keep a call we placed that nobody answered."""
        self._metrics.call_unanswered(record)
        log.info(
            "call.unanswered",
            call=record.call_id,
            outcome=record.outcome,
            status=record.sip_status,
        )
        await self._records.write(record)

    async def hold(self, call_id: str, on: bool = True, *, music: bool = True) -> bool:
        """Put a call on hold, where its far end hears ``music`` or silence, or take it off.

        What the agent was saying goes on at its next sample. False where there is no such call,
        its transport has no hold, or it is being transferred. Raises what the transport does where
        the far end refuses.
        """
        active = self._active.get(call_id)
        if active is None or not isinstance(active.call, Holding) or active.transfers.busy:
            return False
        session = active.graph.session
        if on:
            session.hold(True, music=music)
        try:
            await active.call.hold(on)
        except BaseException:
            session.hold(not on, music=music)
            raise
        session.hold(on, music=music)
        return True

    def graph_wait(self) -> float:
        """Seconds of callers' audio that wait for their graph, in the worst call."""
        return max((call.graph.session.waiting for call in self._active.values()), default=0.0)

    @property
    def records(self) -> Sequence[CallRecord]:
        """The latest calls' records, oldest first."""
        return self._records.recent.all()

    async def last_record(self, within: float = 5.0) -> CallRecord | None:
        """The record of the call that ended last, once no call is left; None if there is none."""
        try:
            async with asyncio.timeout(within):
                await self._idle.wait()
        except TimeoutError:
            return None
        return self._records.recent.last()

    async def drain(self, seconds: float) -> None:
        """Take no more calls, let those in progress finish for ``seconds``, then end them."""
        self._draining = True
        self.door.close()
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            log.warning("calls.drain_timeout", calls=len(self))
        self.hurry()
        try:
            async with asyncio.timeout(GOODBYE_SECONDS):
                await self._idle.wait()
        except TimeoutError:
            log.warning("calls.not_ended", calls=len(self))
        self.clock.stop()

    def hurry(self) -> None:
        """End the calls that :meth:`drain` waits for, and any that still begins, at once."""
        self._ending = True
        for active in tuple(self._active.values()):
            end_with(active.over, EndReason.SHUTDOWN)

    async def _converse(
        self, call: Call, agent: Agent, record: CallRecord, desk: Desk
    ) -> EndReason:
        loop = asyncio.get_running_loop()
        over: asyncio.Future[EndReason] = loop.create_future()
        far_end = loop.create_task(call.ended(), name="call-far-end")
        far_end.add_done_callback(lambda task: settle(over, task))
        outcome = EndReason.ERROR
        casting: Casting | None = None
        tape: Tape | None = None
        active: ActiveCall | None = None
        try:
            casting = await self._engines.cast(agent)
            if self._recordings is not None:
                tape = self._recordings.begin(agent, record)
            active = self._build(call, agent, casting, record, over, tape, desk)
            outcome = await self._hold(active, far_end)
        except asyncio.CancelledError:
            outcome = EndReason.SHUTDOWN
            raise
        finally:
            if casting is not None:
                casting.close()
            far_end.cancel()
            try:
                await self._hang_up(call, outcome)
            finally:
                if tape is not None:
                    await tape.close()
                if active is not None:
                    active.graph.release()
        return outcome

    def _build(
        self,
        call: Call,
        agent: Agent,
        casting: Casting,
        record: CallRecord,
        over: asyncio.Future[EndReason],
        tape: Tape | None,
        desk: Desk,
    ) -> ActiveCall:
        """Everything a call needs, not yet running."""
        side = Side(call)
        trail = self._trail(agent, casting, record)
        record.voice, record.voice_refused = casting.stock, casting.refused
        if casting.lease is not None:
            record.voice = casting.lease.voice
            record.consent = casting.lease.licence.consent

        # What outlives the graph refers to how the call is ended, never to the graph: a call that
        # is over leaves no cycle behind.
        end = partial(end_with, over)

        def probe(stage: Stage, at: float | None = None) -> None:
            graph.session.probe(stage, at)

        def stalled(report: StallReport) -> None:
            graph.session.turns.stalled(str(report.reason))

        async def heard(frame: Frame) -> None:
            side.heard(frame)
            if trail is not None:
                trail.heard(frame)
            if isinstance(frame, CallActionFrame):
                self._act(active, frame)

        def turn(finished: TurnRecord) -> None:
            self._metrics.turn(finished)
            self.door.turn(finished, asyncio.get_running_loop().time())
            side.turn(finished)

        def ended(error: BaseException | None) -> None:
            if error is not None:
                record.errors[type(error).__name__] += 1
            end(EndReason.AGENT_HUNG_UP if error is None else EndReason.ERROR)

        def fell_back(reason: str) -> None:
            record.voice_revoked = reason
            record.voice_revoked_at = asyncio.get_running_loop().time()
            log.warning("call.voice_revoked", call=record.call_id, reason=reason)
            self._metrics.voice_revoked(reason)
            if trail is not None:
                trail.revoked(reason)

        def refused(report: RefusalReport) -> None:
            log.warning(
                "call.frames_refused",
                call=record.call_id,
                reason=report.reason,
                frames=report.frames,
            )
            self._metrics.frames_refused(report)
            if trail is not None:
                trail.refused(report)

        def stopped(interrupted: bool) -> None:
            if trail is not None:
                trail.stopped()
            if side.open:
                side.stopped(interrupted)

        answering = answering_of(call, agent, record, lambda: graph, end)
        services = self._engines.services(
            agent, casting=casting, probe=probe, on_stall=stalled, on_fallback=fell_back
        )
        graph = CallGraph(
            call.leg,
            record,
            services,
            self._engines.models,
            policy=graph_policy(self._settings, call.transport),
            watermarker=self._engines.watermarker(call.leg.rate),
            watch=casting.lease and self._engines.watch(casting.lease, call.leg.rate),
            tap=None if tape is None else tape.tap_for(services),
            on_heard=heard,
            on_silence=stopped,
            on_turn=turn,
            on_digest=None if trail is None else trail.digested,
            on_refusal=refused,
            on_caption=captions(side, answering),
            on_sound=None if answering is None else answering.hear,
            on_message=side.message if side.open else None,
            on_end=ended,
        )
        graph.on_key = None if answering is None else answering.keyed
        transferred = None if trail is None else trail.transferred
        person = None if answering is None else answering.person
        talk = Talk(call, agent, graph, record, end, transferred, person)
        active = ActiveCall(call, graph, record, over, desk(talk), trail, answering)
        return active

    def _trail(self, agent: Agent, casting: Casting, record: CallRecord) -> CallTrail | None:
        """What the call leaves in the audit log."""
        if self._audit is None:
            return None
        lease = casting.lease
        return CallTrail(
            self._audit,
            record,
            tenant=agent.tenant,
            stock=Speaker(casting.stock, self._engines.speaker),
            cloned=lease and Speaker(lease.voice, lease.engine, str(lease.version)),
        )

    async def _hold(self, active: ActiveCall, far_end: asyncio.Task[EndReason]) -> EndReason:
        """The conversation, from the greeting to whatever ends it."""
        graph, session = active.graph, active.graph.session
        outcome = EndReason.ERROR
        self._active[active.call.id] = active
        if self._ending:
            end_with(active.over, EndReason.SHUTDOWN)
        try:
            await graph.start()
            self.clock.add(session)
            if active.transfers.greets:
                await graph.respond()
            outcome = await self._until_over(active)
            if outcome is EndReason.AGENT_HUNG_UP:
                await last_words(graph, far_end)
        finally:
            del self._active[active.call.id]
            try:
                if active.answering is not None:
                    await active.answering.close()
                await active.transfers.close()
                await graph.stop()
            finally:
                self.clock.remove(session)
                session.close(asyncio.get_running_loop().time(), str(outcome))
                if active.trail is not None:
                    active.trail.close()
        return outcome

    async def _hang_up(self, call: Call, outcome: EndReason) -> None:
        """Tell the far end; one that doesn't confirm is left to its transport's own timers."""
        try:
            async with asyncio.timeout(GOODBYE_SECONDS):
                await call.hangup(outcome)
        except TimeoutError:
            log.warning("call.goodbye_unanswered", call=call.id)

    async def _until_over(self, active: ActiveCall) -> EndReason:
        loop = asyncio.get_running_loop()
        started = loop.time()
        gate = self._settings.gate
        while True:
            done, _ = await asyncio.wait([active.over], timeout=WATCH_SECONDS)
            if done:
                return active.over.result()
            heard = active.call.leg.last_heard()
            since, limit = started, gate.far_end_grace_seconds
            if heard is not None:
                since, limit = heard, gate.far_end_timeout_seconds.of(active.call.transport)
            if loop.time() - since > LOST_FACTOR * limit:
                return EndReason.FAR_END_LOST
            if loop.time() - started > self._settings.server.max_call_seconds:
                return EndReason.MAX_DURATION

    def _act(self, active: ActiveCall, frame: CallActionFrame) -> None:
        """Carry out what the dialogue asked for, now that its words were heard."""
        action = frame.action
        log.info("call.action", call=active.call.id, action=type(action).__name__, by=frame.reason)
        if not isinstance(action, Hangup):
            active.transfers.begin(action)
        elif not active.transfers.leaves():
            end_with(active.over, EndReason.AGENT_HUNG_UP)

    def _fault(self, ticked: Ticked, error: BaseException) -> None:
        for active in self._active.values():
            if active.graph.session is ticked:
                active.record.errors[type(error).__name__] += 1
                log.error("call.tick_failed", call=active.call.id, exc_info=error)
                end_with(active.over, EndReason.ERROR)

    def _note_idle(self) -> None:
        if not len(self):
            self._idle.set()
