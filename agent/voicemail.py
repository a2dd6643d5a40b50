"""Who answered a call we placed, and what the agent does about a machine.

The agent greets whoever answers at once. Meanwhile
:class:`~ringtrue.streaming.answering.judge.AnswerJudge` listens; a machine's verdict makes the
agent stop, wait for the beep and leave its message, or hang up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from ringtrue.agent.side import Side
from ringtrue.config.agent_schema import Agent
from ringtrue.config.agent_voicemail import VoicemailFile
from ringtrue.streaming.answering.judge import AnsweredBy, AnswerJudge
from ringtrue.streaming.llm.factory import filled
from ringtrue.streaming.ports import Call, Direction, EndReason
from ringtrue.streaming.record import CallRecord

log = structlog.get_logger(__name__)

KNOWN_SECONDS: Final = 6.0
"""How long it may take from the first sound until it is known who answered."""

AFTER_BEEP_SECONDS: Final = 0.3
"""Between the beep and the message: some machines begin to record late."""


class Speaking(Protocol):
    """What of a call's graph is needed."""

    async def hush(self) -> None:
        """Stop what is being said; say and hear nothing from now on."""
        ...

    async def announce(self, text: str) -> None:
        """Say ``text``, and nothing of before, to somebody who has heard nothing yet."""
        ...


class Answering:
    """One placed call, until it is known who answered and what was to be done is done."""

    def __init__(
        self,
        policy: VoicemailFile,
        record: CallRecord,
        rate: int,
        *,
        message: str,
        graph: Callable[[], Speaking],
        end: Callable[[EndReason], None],
    ) -> None:
        """``message`` is the policy's with its placeholders filled; ``end`` ends the call once
        what was queued is said."""
        self._policy, self._record, self._message = policy, record, message
        self._graph, self._end = graph, end
        self._judge = AnswerJudge(rate)
        self._ready = asyncio.Event()
        self._known = asyncio.Event()
        self._over = False
        self._task: asyncio.Task[None] | None = None
        record.answered_by = str(AnsweredBy.UNKNOWN)

    def hear(self, pcm: bytes) -> None:
        """The next 20 ms from the far end, as they came."""
        if self._ready.is_set() or self._judge.settled or self._over:
            return
        self._judge.push(pcm)
        self._note()
        if self._task is not None and self._judge.ready:
            self._ready.set()

    def words(self, text: str) -> None:
        """What was recognized of it."""
        if not (self._judge.settled or self._over):
            self._judge.words(text)
            self._note()

    def keyed(self) -> None:
        """A key was pressed: no machine does that, so nobody is judged any more."""
        if self._task is None:
            self._over = True
            self._known.set()

    async def person(self) -> bool:
        """Whether it isn't a machine, as far as is known once there is a verdict.

        From then on nobody is judged any more: what is heard later changes nothing.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KNOWN_SECONDS):
                await self._known.wait()
        machine = self._record.answered_by == AnsweredBy.MACHINE
        self._over = not machine
        return not machine

    async def close(self) -> None:
        """The call is over."""
        self._known.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _note(self) -> None:
        verdict = self._judge.verdict
        if verdict is not None:
            self._known.set()
        if verdict is None or self._record.answered_by == verdict.by:
            return
        self._record.answered_by = str(verdict.by)
        self._record.answered_by_ms = round(1000 * verdict.seconds)
        log.info(
            "call.answered_by",
            call=self._record.call_id,
            by=str(verdict.by),
            telltale=str(verdict.telltale),
            seconds=verdict.seconds,
        )
        if verdict.by is AnsweredBy.MACHINE and self._policy.action != "talk":
            self._task = asyncio.get_running_loop().create_task(self._act(), name="voicemail")
            self._task.add_done_callback(self._done)

    async def _act(self) -> None:
        graph = self._graph()
        await graph.hush()
        if self._policy.action == "leave_message":
            try:
                async with asyncio.timeout(self._policy.wait_seconds):
                    await self._ready.wait()
            except TimeoutError:
                log.warning("call.no_beep", call=self._record.call_id)
            await asyncio.sleep(AFTER_BEEP_SECONDS)
            await graph.announce(self._message)
            self._record.message_left = True
        self._end(EndReason.AGENT_HUNG_UP)

    def _done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("call.voicemail_failed", call=self._record.call_id, exc_info=error)
            self._end(EndReason.ERROR)


def answering_of(
    call: Call,
    agent: Agent,
    record: CallRecord,
    graph: Callable[[], Speaking],
    end: Callable[[EndReason], None],
) -> Answering | None:
    """Who judges the answer to ``call``: nobody, where it isn't ours or ``agent`` wants none."""
    policy = agent.voicemail
    if call.direction is not Direction.OUTBOUND or not policy.detect:
        return None
    message = filled(policy.message or "", agent.variables)
    return Answering(policy, record, call.leg.rate, message=message, graph=graph, end=end)


def captions(side: Side, answering: Answering | None) -> Callable[[str, bool], None] | None:
    """Who is told what is recognized; None where nobody is."""
    shown = side.caller_said if side.open else None
    if answering is None:
        return shown

    def caption(text: str, final: bool) -> None:
        answering.words(text)
        if shown is not None:
            shown(text, final)

    return caption
