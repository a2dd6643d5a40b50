"""Callers who say nothing while nothing is said to them: spoken to, and at last let go.

:class:`IdleCaller` is sans IO; :class:`IdleKeeper` is the processor around it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    CancelFrame,
    EndFrame,
    Frame,
    FunctionCallCancelFrame,
    FunctionCallInProgressFrame,
    FunctionCallResultFrame,
    StartFrame,
    TranscriptionFrame,
    TTSSpeakFrame,
    UserBackchannelFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from ringtrue.streaming.llm.actions import CallActionFrame, Hangup
from ringtrue.streaming.turn_taking import TurnTaking

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class IdlePolicy:
    """When and how a silent caller is spoken to."""

    seconds: float
    """Silence of both sides before each text, and before the end."""

    still_there: tuple[str, ...]
    """Said in turn to a caller who has spoken before."""

    can_you_hear: tuple[str, ...]
    """The same where nothing was ever heard of the caller."""

    goodbye: tuple[str, ...]
    """The first is said before the call is ended."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is to be said now."""

    text: str
    last: bool = False
    """Whether the call ends behind it."""


class IdleCaller:
    """How long both have been silent, and what is to be done about it."""

    def __init__(self, policy: IdlePolicy, now: float) -> None:
        """The call was answered at ``now``, in loop seconds."""
        self._policy = policy
        self._since = now
        self._prompts = 0
        self._over = False
        self.ever = False
        """Whether anything was ever heard of the caller."""

    def busy(self, now: float) -> None:
        """Somebody speaks or works, or the call rests: silence begins anew."""
        self._since = now

    def heard(self, now: float) -> None:
        """The caller said something, or pressed a key."""
        self.ever = True
        self._prompts, self._over = 0, False
        self._since = now

    def due(self, now: float) -> Prompt | None:
        """What is to be said to the caller now, if anything; each only once."""
        if self._over or now - self._since < self._policy.seconds:
            return None
        self._since = now
        texts = self._policy.still_there if self.ever else self._policy.can_you_hear
        if self._prompts < len(texts):
            self._prompts += 1
            return Prompt(texts[self._prompts - 1])
        self._over = True
        return Prompt(self._policy.goodbye[0], last=True)


class IdleKeeper(FrameProcessor):
    """Stands in front of the user's context, in direct mode."""

    def __init__(
        self, policy: IdlePolicy, record: TurnTaking, *, rests: Callable[[], bool]
    ) -> None:
        """Count into ``record``; ``rests`` says whether the call is on hold or handed over."""
        super().__init__(name="idle", enable_direct_mode=True)
        self._policy = policy
        self._record = record
        self._rests = rests
        self._caller: IdleCaller | None = None
        self._agent_speaks = self._caller_speaks = False
        self._tools: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Follow who speaks; pass everything on."""
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)
        if isinstance(frame, StartFrame):
            self._caller = IdleCaller(self._policy, self._now())
            self._arm()
        elif isinstance(frame, EndFrame | CancelFrame):
            self._disarm()
            self._caller = None
        elif self._caller is not None:
            self._follow(frame, self._caller)

    async def cleanup(self) -> None:
        """Stop looking."""
        await super().cleanup()  # type: ignore[no-untyped-call]
        self._disarm()
        if self._task is not None:
            task, self._task = self._task, None
            await self.cancel_task(task)

    def _follow(self, frame: Frame, caller: IdleCaller) -> None:
        if isinstance(frame, BotStartedSpeakingFrame | BotStoppedSpeakingFrame):
            self._agent_speaks = isinstance(frame, BotStartedSpeakingFrame)
            caller.busy(self._now())
        elif isinstance(frame, VADUserStartedSpeakingFrame | VADUserStoppedSpeakingFrame):
            self._caller_speaks = isinstance(frame, VADUserStartedSpeakingFrame)
            caller.busy(self._now())
        elif isinstance(frame, TranscriptionFrame | UserBackchannelFrame):
            caller.heard(self._now())
        elif isinstance(frame, FunctionCallInProgressFrame):
            self._tools.add(frame.tool_call_id)
        elif isinstance(frame, FunctionCallResultFrame | FunctionCallCancelFrame):
            self._tools.discard(frame.tool_call_id)
            caller.busy(self._now())

    async def _look(self) -> None:
        caller = self._caller
        if caller is None:
            return
        now = self._now()
        if self._agent_speaks or self._caller_speaks or self._tools or self._rests():
            caller.busy(now)
            return
        prompt = caller.due(now)
        if prompt is None:
            return
        self._record.idle_prompts += 1
        log.info("turns.idle", last=prompt.last, ever_heard=caller.ever)
        await self.push_frame(TTSSpeakFrame(prompt.text, append_to_context=True))
        if prompt.last:
            await self.push_frame(CallActionFrame(Hangup(), reason="idle"))

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._due)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._arm()
        if self._task is None or self._task.done():
            self._task = self.create_task(self._look(), "idle::look")

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
