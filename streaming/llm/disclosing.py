"""The last word on what the agent says of itself, between the LLM hook and the phrases.

Whatever LLM is behind it, and whatever prompt: the first thing a caller hears is the disclosure,
which is said again until it was heard to its end; and a text that claims that a person speaks is
replaced by the truth. The caller's own question is answered in
:class:`~ringtrue.streaming.llm.hook.LlmHook`, before the LLM sees it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TTSSpeakFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from ringtrue.streaming.llm.actions import CallActionFrame
from ringtrue.streaming.llm.claims import ClaimFilter
from ringtrue.streaming.llm.disclosure import Disclosure
from ringtrue.streaming.record import CallRecord

log = structlog.get_logger(__name__)


class Disclosing(FrameProcessor):
    """Stands right behind the watchdog, in direct mode like it."""

    def __init__(self, disclosure: Disclosure) -> None:
        """Say what ``disclosure`` has to say."""
        super().__init__(name="disclosing", enable_direct_mode=True)
        self._disclosure = disclosure
        self._claims = ClaimFilter(disclosure.texts.language, disclosure.texts.truth)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Put the disclosure before what the agent says; pass everything else."""
        await super().process_frame(frame, direction)
        if direction is FrameDirection.UPSTREAM:
            await self.push_frame(frame, direction)
        elif isinstance(frame, InterruptionFrame | CancelFrame):
            self._claims.reset()
            self._disclosure.interrupted()
            await self.push_frame(frame, direction)
        elif isinstance(frame, LLMFullResponseStartFrame):
            await self._flush()
            await self.push_frame(frame, direction)
            before = "" if frame.skip_tts else self._disclosure.begins()
            if before:
                await self.push_frame(LLMTextFrame(f"{before} "))
        elif isinstance(frame, LLMTextFrame) and not frame.skip_tts:
            await self._text(frame)
        elif isinstance(frame, LLMFullResponseEndFrame):
            await self._flush()
            if after := self._disclosure.ends():
                await self.push_frame(LLMTextFrame(f" {after}"))
            await self.push_frame(frame, direction)
        elif isinstance(frame, TTSSpeakFrame):
            await self._flush()
            await self._speak(frame)
        else:
            if isinstance(frame, CallActionFrame | EndFrame):
                await self._flush()
            await self.push_frame(frame, direction)

    async def _text(self, frame: LLMTextFrame) -> None:
        said = self._checked(self._claims.feed(frame.text))
        if said:
            self._disclosure.said(said)
            frame.text = said
            await self.push_frame(frame)

    async def _flush(self) -> None:
        rest = self._checked(self._claims.finish())
        if rest:
            self._disclosure.said(rest)
            await self.push_frame(LLMTextFrame(rest))

    async def _speak(self, frame: TTSSpeakFrame) -> None:
        if not frame.text.strip():
            await self.push_frame(frame)
            return
        if before := self._disclosure.begins(response=False):
            await self.push_frame(TTSSpeakFrame(before, append_to_context=True))
        frame.text = self._checked(self._claims.feed(frame.text) + self._claims.finish())
        await self.push_frame(frame)

    def _checked(self, said: str) -> str:
        caught, self._disclosure.claims = self._disclosure.claims, self._claims.caught
        if self._claims.caught > caught:
            log.warning("llm.claim_replaced", claims=self._claims.caught)
        return said


def listening(
    disclosure: Disclosure | None,
    record: CallRecord,
    on_heard: Callable[[Frame], Awaitable[None]] | None,
) -> Callable[[Frame], Awaitable[None]] | None:
    """``on_heard`` of a call, telling ``disclosure`` and ``record`` what the caller heard first."""
    if disclosure is None:
        return on_heard

    record.disclosure = str(disclosure.told)

    async def heard(frame: Frame) -> None:
        if isinstance(frame, TTSTextFrame):
            disclosure.heard(frame.text)
        elif isinstance(frame, TTSStoppedFrame):
            disclosure.stopped()
        record.disclosure = str(disclosure.told)
        record.disclosure_attempts = disclosure.attempts
        record.asked_whether_human = disclosure.questions
        record.claims_replaced = disclosure.claims
        if on_heard is not None:
            await on_heard(frame)

    return heard
