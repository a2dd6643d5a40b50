"""Handing a caller over: what a call does from the dialogue's request to what came of it.

Where to is decided by the agent's own list; the dialogue, or a language model, only names an
entry. Where a transfer fails the caller is told so, and the conversation goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from ringtrue.config.agent_schema import Agent
from ringtrue.streaming.errors import RingtrueError
from ringtrue.streaming.graph import CallGraph
from ringtrue.streaming.llm.factory import filled
from ringtrue.streaming.ports import (
    Call,
    EndReason,
    TransferOutcome,
    TransferResult,
    Transferring,
)
from ringtrue.streaming.record import CallRecord, TransferRecord

log = structlog.get_logger(__name__)

MAX_ATTEMPTS: Final = 5
"""Transfers that one call may try; the caller is told that it failed from then on."""


class Transfers:
    """The transfers of one call, one at a time."""

    def __init__(
        self,
        call: Call,
        agent: Agent,
        graph: CallGraph,
        record: CallRecord,
        *,
        end: Callable[[EndReason], None],
        on_result: Callable[[TransferRecord], None] | None = None,
    ) -> None:
        """``end`` ends the call; ``on_result`` is told of each transfer that is over."""
        self._call = call
        self._agent = agent
        self._graph = graph
        self._record = record
        self._end = end
        self._on_result = on_result
        self._task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether one is under way; the call rests meanwhile."""
        return self._task is not None and not self._task.done()

    def begin(self, name: str) -> None:
        """Hand the caller over to the entry ``name`` of the agent's list.

        A transport that can't is left: the call ends with ``transfer_requested``. Nothing
        happens while another transfer is under way.
        """
        if self.busy:
            return
        self._record.transfer_requested = name
        if not isinstance(self._call, Transferring):
            self._end(EndReason.TRANSFER_REQUESTED)
            return
        work = self._hand_over(self._call, name)
        self._task = asyncio.get_running_loop().create_task(work, name="call-transfer")
        self._task.add_done_callback(self._done)

    async def close(self) -> None:
        """The call is over: stop waiting."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _hand_over(self, call: Transferring, name: str) -> None:
        record = TransferRecord(name, TransferOutcome.UNCONFIRMED, self._now())
        self._record.transfers.append(record)
        session = self._graph.session
        session.hold(True, music=self._agent.transferring.music)
        try:
            result = await self._attempt(call, name)
            record.outcome, record.status = result.outcome, result.status
        finally:
            record.ended_at = self._now()
            log.info(
                "call.transfer",
                call=self._call.id,
                to=name,
                outcome=str(record.outcome),
                status=record.status,
            )
            if self._on_result is not None:
                self._on_result(record)
        if result.outcome is TransferOutcome.TRANSFERRED:
            self._end(EndReason.TRANSFERRED)
            return
        session.hold(False)
        await self._graph.say(self._apology(name))

    async def _attempt(self, call: Transferring, name: str) -> TransferResult:
        target = self._agent.transfers.get(name)
        if target is None or len(self._record.transfers) > MAX_ATTEMPTS:
            return TransferResult(TransferOutcome.NOT_TRIED)
        try:
            return await call.transfer(target.to, within=self._agent.transferring.seconds)
        except RingtrueError as error:
            log.warning("call.transfer_failed", call=self._call.id, error=type(error).__name__)
            return TransferResult(TransferOutcome.NOT_TRIED)

    def _apology(self, name: str) -> str:
        texts = self._agent.transferring.failed
        text = texts[(len(self._record.transfers) - 1) % len(texts)]
        target = self._agent.transfers.get(name)
        place = "" if target is None else target.title
        return filled(text, {**self._agent.variables, "place": place})

    def _done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        self._record.errors[type(error).__name__] += 1
        log.error("call.transfer_broken", call=self._call.id, exc_info=error)
        self._end(EndReason.ERROR)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
