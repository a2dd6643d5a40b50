"""Handing a caller over: what a call does from the dialogue's request to what came of it.

Where to is decided by the agent's own list; the dialogue, or a language model, only names an
entry, and says what whoever is there shall be told. Where a transfer fails the caller is told so,
and the conversation goes on.

::

    blind       the caller's phone calls the place (REFER); where it can't, we call it and join
                the calls
    attended    we call the place and ask; then the caller's phone takes over that call (REFER
                with Replaces), or we join the calls
    conference  likewise, but the calls are joined and the agent stays in
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from ringtrue.agent.briefing import briefing_agent, unrecorded
from ringtrue.agent.consultation import Consultation, Line
from ringtrue.agent.handing import Talk
from ringtrue.agent.referrals import Follows, place_of
from ringtrue.config.agent_schema import Agent
from ringtrue.config.agent_transfers import TransferTarget
from ringtrue.streaming.bridge import Bridge
from ringtrue.streaming.errors import RingtrueError
from ringtrue.streaming.llm.actions import Transfer
from ringtrue.streaming.llm.factory import filled
from ringtrue.streaming.ports import EndReason, TransferOutcome, TransferResult, Transferring
from ringtrue.streaming.record import TransferRecord
from ringtrue.telephony.sip.handles import SipCall
from ringtrue.telephony.sip.moving import Referral

log = structlog.get_logger(__name__)

MAX_ATTEMPTS: Final = 5
"""Transfers that one call may try; the caller is told that it failed from then on."""

REPLACES_SECONDS: Final = 20.0
"""How long a caller's phone may take to take over our call to the place."""

RUNNING_SECONDS: Final = 15.0
"""How long an answered call may take until it can be joined."""


class Transfers:
    """The transfers of one call, one at a time; its :class:`~ringtrue.agent.handing.Handing`."""

    def __init__(self, talk: Talk, line: Line | None = None) -> None:
        """``line`` calls places for us; None: only callers' own phones can."""
        self._talk = talk
        self._call, self._agent, self._record = talk.call, talk.agent, talk.record
        self._session = talk.graph.session
        self._line = line
        self._task: asyncio.Task[None] | None = None
        self._consultation: Consultation | None = None
        self._bridge: Bridge | None = None
        self._conference = False
        if isinstance(self._call, SipCall) and self._agent.transferring.follow:
            self._call.on_referred = self._referred

    @property
    def greets(self) -> bool:
        """The agent speaks first."""
        return True

    @property
    def busy(self) -> bool:
        """Whether one is under way, or the caller talks to somebody else."""
        return self._task is not None and not self._task.done()

    def begin(self, action: Transfer) -> None:
        """Hand the caller over to an entry of the agent's list.

        Where neither its transport nor we can, the call ends with ``transfer_requested``. Nothing
        happens while another transfer is under way.
        """
        if self.busy:
            return
        self._record.transfer_requested = action.target
        if not isinstance(self._call, Transferring) and not self._calls:
            self._talk.end(EndReason.TRANSFER_REQUESTED)
            return
        work = self._hand_over(action)
        self._task = asyncio.get_running_loop().create_task(work, name="call-transfer")
        self._task.add_done_callback(self._done)

    def leaves(self) -> bool:
        """In a conference the agent leaves the others to themselves instead of ending the call."""
        if self._bridge is None or not self._conference:
            return False
        self._conference = False
        self._session.join(self._bridge, agent=False)
        log.info("call.agent_left", call=self._call.id)
        return True

    async def close(self) -> None:
        """The call is over: stop waiting, and hang up on whoever was called for it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._session.part()
        if self._consultation is not None:
            self._consultation.end(EndReason.TRANSFERRED)

    # -- one transfer ------------------------------------------------------------------------

    async def _hand_over(self, action: Transfer) -> None:
        record = TransferRecord(action.target, TransferOutcome.UNCONFIRMED, self._now())
        self._record.transfers.append(record)
        self._session.hold(True, music=self._agent.transferring.music)
        try:
            result = await self._attempt(action, record)
            record.outcome, record.status = result.outcome, result.status
        finally:
            self._tell(record)
        if result.outcome is not TransferOutcome.TRANSFERRED:
            self._let_go(EndReason.AGENT_HUNG_UP)
            self._session.hold(False)
            texts = self._agent.transferring.failed
            await self._say(texts[(len(self._record.transfers) - 1) % len(texts)], action.target)
        elif self._bridge is None:
            self._let_go(EndReason.TRANSFERRED)
            self._talk.end(EndReason.TRANSFERRED)
        else:
            await self._together(action.target)

    async def _attempt(self, action: Transfer, record: TransferRecord) -> TransferResult:
        target = self._agent.transfers.get(action.target)
        if target is None or len(self._record.transfers) > MAX_ATTEMPTS:
            return TransferResult(TransferOutcome.NOT_TRIED)
        try:
            if target.how == "blind":
                return await self._blind(target, action.briefing, record)
            return await self._attended(target, action.briefing, record)
        except RingtrueError as error:
            log.warning("call.transfer_failed", call=self._call.id, error=type(error).__name__)
            return TransferResult(TransferOutcome.NOT_TRIED)

    async def _blind(
        self, target: TransferTarget, briefing: str, record: TransferRecord
    ) -> TransferResult:
        policy = self._agent.transferring
        if isinstance(self._call, Transferring) and (policy.hand_over == "auto" or not self._calls):
            result = await self._call.transfer(target.to, within=policy.seconds)
            if result.outcome is not TransferOutcome.UNSUPPORTED or not self._calls:
                return result
        if self._agent.recording.enabled:  # nobody is recorded without being told
            consultation = Consultation(asks=True)
            agent = briefing_agent(self._agent, target, briefing)
        else:
            consultation, agent = Consultation(asks=False), unrecorded(self._agent)
        failed = await self._consult(consultation, agent, target, record)
        return failed or self._join(consultation, record)

    async def _attended(
        self, target: TransferTarget, briefing: str, record: TransferRecord
    ) -> TransferResult:
        consultation = Consultation(asks=True)
        agent = briefing_agent(self._agent, target, briefing)
        failed = await self._consult(consultation, agent, target, record)
        if failed is not None:
            return failed
        sent_on = target.how == "attended" and self._agent.transferring.hand_over == "auto"
        if sent_on and isinstance(self._call, Transferring) and consultation.talk is not None:
            result = await self._call.transfer(
                target.to, within=REPLACES_SECONDS, replaces=consultation.talk.call
            )
            if result.outcome is TransferOutcome.TRANSFERRED or consultation.over.is_set():
                record.how = "replaces"
                return result
        self._conference = target.how == "conference"
        return self._join(consultation, record)

    async def _consult(
        self,
        consultation: Consultation,
        agent: Agent,
        target: TransferTarget,
        record: TransferRecord,
    ) -> TransferResult | None:
        """Call the place; None where the caller is taken, else what came of it."""
        if self._line is None or not self._calls:
            return TransferResult(TransferOutcome.NOT_TRIED)
        self._consultation, record.how = consultation, "bridge"
        policy = self._agent.transferring
        reached = await self._line.call(
            agent, target.to, within=policy.seconds, desk=consultation.desk
        )
        record.call = reached.call
        if not reached.answered:
            return TransferResult(TransferOutcome.FAILED, reached.status)
        within = policy.briefing.seconds if consultation.greets else RUNNING_SECONDS
        if not await consultation.accepted(within):
            return TransferResult(TransferOutcome.DECLINED, 200)
        return None

    def _join(self, consultation: Consultation, record: TransferRecord) -> TransferResult:
        """Let both hear each other."""
        talk = consultation.talk
        if talk is None or consultation.over.is_set():
            return TransferResult(TransferOutcome.DECLINED, 200)
        self._bridge = Bridge()
        self._session.join(self._bridge, agent=self._conference)
        self._session.hold(False)
        talk.graph.session.join(self._bridge)
        record.how = "conference" if self._conference else "bridge"
        return TransferResult(TransferOutcome.TRANSFERRED, 200)

    async def _together(self, name: str) -> None:
        """Until whoever was called hangs up; where the caller does, this is cancelled."""
        assert self._consultation is not None
        texts = self._agent.transferring
        if self._conference and texts.introduction:
            await self._say(texts.introduction[0], name)
        await self._consultation.over.wait()
        if not self._conference:
            self._talk.end(EndReason.TRANSFERRED)
            return
        self._session.part()
        self._consultation = self._bridge = None
        self._conference = False
        await self._say(texts.returned[0], name)

    # -- where the caller's phone sends us --------------------------------------------------

    def _referred(self, referral: Referral) -> bool:
        """Its phone wants us to call somebody else: only a place of the list, and not now if
        the caller is being handed over."""
        name, line = place_of(referral.target, self._agent.transfers), self._line
        if self.busy or name is None or not isinstance(line, Follows) or not self._calls:
            log.warning("call.referral_refused", call=self._call.id)
            return False
        work = self._follow(line, name, referral)
        self._task = asyncio.get_running_loop().create_task(work, name="call-referral")
        self._task.add_done_callback(self._done)
        return True

    async def _follow(self, line: Follows, name: str, referral: Referral) -> None:
        record = TransferRecord(name, TransferOutcome.UNCONFIRMED, self._now(), how="follow")
        self._record.transfers.append(record)
        self._session.hold(True, music=False)
        assert isinstance(self._call, SipCall)
        try:
            record.status = await line.follow(
                self._agent.tenant,
                self._agent.transfers[name].to,
                self._call,
                referral,
                within=self._agent.transferring.seconds,
            )
            answered = record.status < 300
            record.outcome = TransferOutcome.TRANSFERRED if answered else TransferOutcome.FAILED
        except RingtrueError as error:
            record.outcome = TransferOutcome.NOT_TRIED
            referral.tell(503)
            log.warning("call.referral_failed", call=self._call.id, error=type(error).__name__)
        finally:
            self._tell(record)
            self._session.hold(False)

    # -- around it ---------------------------------------------------------------------------

    @property
    def _calls(self) -> bool:
        """Whether we may call places ourselves."""
        return self._line is not None and self._line.usable(self._agent.tenant)

    def _let_go(self, reason: EndReason) -> None:
        """Hang up on whoever was called."""
        if self._consultation is not None:
            self._consultation.end(reason)
            self._consultation = None

    def _tell(self, record: TransferRecord) -> None:
        record.ended_at = self._now()
        log.info(
            "call.transfer",
            call=self._call.id,
            to=record.to,
            outcome=str(record.outcome),
            status=record.status,
            how=record.how,
        )
        if self._talk.on_result is not None:
            self._talk.on_result(record)

    async def _say(self, text: str, name: str) -> None:
        target = self._agent.transfers.get(name)
        place = "" if target is None else target.title
        await self._talk.graph.say(filled(text, {**self._agent.variables, "place": place}))

    def _done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        self._record.errors[type(error).__name__] += 1
        log.error("call.transfer_broken", call=self._call.id, exc_info=error)
        self._talk.end(EndReason.ERROR)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
