"""Deadlines on an LLM's response: what fails is heard as an apology, never as silence.

The watchdog stands right behind the LLM, in direct mode, so that a token passes it without a
queue. A response that doesn't begin, stops in the middle, fails or comes out empty is closed,
its generation is cancelled, and whatever of it still arrives is dropped.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol, runtime_checkable

import structlog
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    ErrorFrame,
    Frame,
    FunctionCallsStartedFrame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMRunFrame,
    LLMTextFrame,
    TTSSpeakFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.utils.errors import ErrorCategory

from ringtrue.streaming.budget.filler import FillerFrame
from ringtrue.streaming.budget.ladder import Rung
from ringtrue.streaming.llm.actions import CallAction, CallActionFrame, Hangup, Transfer
from ringtrue.streaming.record import Stage

log = structlog.get_logger(__name__)

EMPTY_GRACE: Final = 0.05
"""Seconds to wait before an empty response counts: an interruption ends one, too, and follows."""


class StallReason(StrEnum):
    """Why a response was given up."""

    FIRST_CHUNK = "first_chunk"
    """Nothing came within the deadline."""

    INTER_CHUNK = "inter_chunk"
    """It began, and then nothing more came within the deadline."""

    ERROR = "error"
    """The service reported an error."""

    EMPTY = "empty"
    """It ended without a word and without a tool call."""


@dataclass(frozen=True, slots=True)
class StallReport:
    """One response that was given up."""

    reason: StallReason
    waited: float
    """Seconds since the response, or its last chunk, began."""

    chunks: int
    """Chunks that had come."""

    consecutive: int
    """Failures in a row, this one included."""

    detail: str = ""
    """Pipecat's error category, where there is one."""


@dataclass(frozen=True, slots=True)
class WatchdogPolicy:
    """Deadlines in seconds, and what is said and done when they pass."""

    first_chunk: float = 2.5
    inter_chunk: float = 2.0
    filler: tuple[str, ...] = ("One moment, please.",)
    """Said while the model is asked once more."""

    apology: tuple[str, ...] = ("I'm sorry, could you say that again?",)
    """Said when the caller has to go on."""

    retry: bool = True
    """Ask once more, after a filler, when nothing of a response came."""

    give_up_after: int = 2
    """Failures in a row that end it."""

    give_up_say: tuple[str, ...] = ("I'm sorry, I'm having technical trouble. Goodbye.",)
    give_up_action: CallAction = Hangup()


@runtime_checkable
class Cancellable(Protocol):
    """An LLM whose generation can be stopped (:class:`~ringtrue.streaming.llm.hook.LlmHook`)."""

    async def cancel_generation(self) -> None:
        """Stop it."""
        ...


class LlmWatchdog(FrameProcessor):
    """Watches the LLM in front of it."""

    def __init__(
        self,
        llm: FrameProcessor,
        policy: WatchdogPolicy | None = None,
        *,
        on_stall: Callable[[StallReport], None] | None = None,
        probe: Callable[[Stage], None] | None = None,
        on_step: Callable[[Rung, str], None] | None = None,
        filling: Callable[[], bool] | None = None,
    ) -> None:
        """Watch ``llm``.

        Where it is not :class:`Cancellable`, a stalled generation runs on unheard until the
        caller speaks. ``on_stall`` is told of every failure, ``probe`` of ``FIRST_TOKEN``,
        ``on_step`` of what was done and why. Where ``filling``, somebody else says something while
        the caller waits, and no filler is needed.
        """
        super().__init__(name="llm-watchdog", enable_direct_mode=True)
        self._llm = llm
        self._policy = policy or WatchdogPolicy()
        self._on_stall = on_stall
        self._probe = probe
        self._on_step = on_step
        self._filling = filling
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._open = False
        """A response has begun and not ended."""

        self._dropping = False
        """A response was given up; what is left of it goes nowhere."""

        self._since = 0.0
        self._chunks = 0
        self._tool_called = False
        self._error = ""
        self._consecutive = 0
        self._said: Counter[tuple[str, ...]] = Counter()
        self.stalls: Counter[StallReason] = Counter()
        llm.add_event_handler("on_error", self._on_llm_error)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Watch what comes down; pass everything but the rest of a response given up."""
        await super().process_frame(frame, direction)
        if direction is FrameDirection.UPSTREAM:
            await self.push_frame(frame, direction)
        elif isinstance(frame, InterruptionFrame | CancelFrame | EndFrame):
            self._forget()
            await self.push_frame(frame, direction)
        elif isinstance(frame, LLMFullResponseStartFrame):
            self._begin()
            await self.push_frame(frame, direction)
        elif isinstance(frame, LLMTextFrame):
            if not self._dropping:
                self._chunk(frame)
                await self.push_frame(frame, direction)
        elif isinstance(frame, LLMFullResponseEndFrame):
            await self._end(frame)
        else:
            if isinstance(frame, FunctionCallsStartedFrame):
                self._tool_called = True
                self._restart(self._policy.inter_chunk, StallReason.INTER_CHUNK)
            elif isinstance(frame, CallActionFrame) and not self._chunks:
                self._acted()
            await self.push_frame(frame, direction)

    async def cleanup(self) -> None:
        """Stop the timer and what it began."""
        await super().cleanup()  # type: ignore[no-untyped-call]
        self._disarm()
        if self._task is not None:
            task, self._task = self._task, None
            await self.cancel_task(task)

    def _begin(self) -> None:
        self._open, self._dropping = True, False
        self._chunks, self._tool_called, self._error = 0, False, ""
        self._restart(self._policy.first_chunk, StallReason.FIRST_CHUNK)

    def _chunk(self, frame: LLMTextFrame) -> None:
        if not self._open or not frame.text:
            return
        if not self._chunks and self._probe is not None:
            self._probe(Stage.FIRST_TOKEN)
        self._chunks += 1
        self._restart(self._policy.inter_chunk, StallReason.INTER_CHUNK)

    async def _end(self, frame: LLMFullResponseEndFrame) -> None:
        if self._dropping:
            # Its end was pushed when it was given up.
            self._dropping = False
            return
        was_open, self._open = self._open, False
        self._disarm()
        await self.push_frame(frame)
        if not was_open:
            return
        if self._chunks or self._tool_called:
            if not self._error:
                self._consecutive = 0
                return
            self._later(0.0, StallReason.ERROR)
        else:
            self._later(EMPTY_GRACE, StallReason.ERROR if self._error else StallReason.EMPTY)

    def _acted(self) -> None:
        """The answer is to do something: a response without words is none that failed."""
        self._tool_called = True
        if not self._open:
            self._disarm()
            self._consecutive = 0

    def _forget(self) -> None:
        """The caller speaks, or the call ends: nothing is owed any more."""
        self._disarm()
        self._open = self._dropping = False
        if self._task is not None and not self._task.done():
            self._task.cancel()

    def _restart(self, seconds: float, reason: StallReason) -> None:
        if self._open:
            self._since = self.get_event_loop().time()
            self._later(seconds, reason)

    def _later(self, seconds: float, reason: StallReason) -> None:
        self._disarm()
        self._timer = self.get_event_loop().call_later(seconds, self._expired, reason)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expired(self, reason: StallReason) -> None:
        self._timer = None
        cut, self._open = self._open, False
        self._dropping = cut
        self._consecutive += 1
        self.stalls[reason] += 1
        report = StallReport(
            reason=reason,
            waited=self.get_event_loop().time() - self._since,
            chunks=self._chunks,
            consecutive=self._consecutive,
            detail=self._error,
        )
        log.warning(
            "llm.stalled",
            reason=str(reason),
            waited=round(report.waited, 3),
            chunks=report.chunks,
            consecutive=report.consecutive,
            detail=report.detail,
        )
        if self._on_stall is not None:
            self._on_stall(report)
        self._task = self.create_task(self._recover(report, cut), "llm-watchdog::recover")

    async def _recover(self, report: StallReport, cut: bool) -> None:
        """Close what was begun, say something, and go on or give up."""
        policy = self._policy
        if cut:
            await self.push_frame(LLMFullResponseEndFrame())
        reason = f"llm_{report.reason}"
        if report.consecutive >= policy.give_up_after:
            self._consecutive = 0
            transfer = isinstance(policy.give_up_action, Transfer)
            self._took(Rung.TRANSFER if transfer else Rung.HANGUP, reason)
            await self._speak(policy.give_up_say, in_context=True)
            await self._stop_generation(cut)
            await self.push_frame(CallActionFrame(policy.give_up_action, reason="llm_stalled"))
        elif policy.retry and not report.chunks:
            self._took(Rung.ASKED_AGAIN, reason)
            if self._filling is None or not self._filling():
                # Not part of the conversation: the model is asked the same once more.
                await self._speak(policy.filler, in_context=False, kind=FillerFrame)
            await self._stop_generation(cut)
            await self.push_frame(LLMRunFrame(), FrameDirection.UPSTREAM)
        else:
            self._took(Rung.APOLOGY, reason)
            await self._speak(policy.apology, in_context=True)
            await self._stop_generation(cut)

    def _took(self, rung: Rung, reason: str) -> None:
        if self._on_step is not None:
            self._on_step(rung, reason)

    async def _speak(
        self,
        variants: tuple[str, ...],
        *,
        in_context: bool,
        kind: type[TTSSpeakFrame] = TTSSpeakFrame,
    ) -> None:
        text = variants[self._said[variants] % len(variants)]
        self._said[variants] += 1
        await self.push_frame(kind(text, append_to_context=in_context))

    async def _stop_generation(self, running: bool) -> None:
        if running and isinstance(self._llm, Cancellable):
            await self._llm.cancel_generation()

    async def _on_llm_error(self, _processor: FrameProcessor, error: ErrorFrame) -> None:
        """The error frame itself goes upstream; the service tells of it here."""
        if self._open and error.category is not ErrorCategory.APPLICATION:
            self._error = (error.category or ErrorCategory.UNKNOWN).value
