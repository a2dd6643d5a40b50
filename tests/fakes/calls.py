"""A call without a network, and what answers it without models of speech or language."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from legs import ScriptedLeg
from pipecat.frames.frames import (
    EndFrame,
    Frame,
    InputAudioRawFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    StartFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from ringtrue.agent.casting import Casting
from ringtrue.config.agent_schema import Agent
from ringtrue.streaming.gate import Unmarked
from ringtrue.streaming.graph import Services, SharedModels
from ringtrue.streaming.ports import Direction, EndReason
from ringtrue.streaming.record import Stage

RATE = 8000
WORD_SECONDS = 0.3
_numbers = itertools.count(1)


class ScriptedCall:
    """Implements ``Call``; the far end hangs up by :meth:`far_end_hangs_up`."""

    transport = "scripted"
    direction = Direction.INBOUND
    remote = "sip:caller@example.com"
    local = "sip:agent@example.com"

    def __init__(self, *, confirms_hangup: bool = True) -> None:
        self.id = f"scripted-{next(_numbers)}"
        self.leg = ScriptedLeg(RATE)
        self.hung_up: list[EndReason] = []
        self.hung_up_at: float | None = None
        self._confirms = confirms_hangup
        self._over: asyncio.Future[EndReason] = asyncio.get_running_loop().create_future()

    def far_end_hangs_up(self, reason: EndReason = EndReason.CALLER_HUNG_UP) -> None:
        self._over.set_result(reason)

    async def hangup(self, reason: EndReason = EndReason.AGENT_HUNG_UP) -> None:
        if not self._over.done():
            self.hung_up.append(reason)
            self.hung_up_at = asyncio.get_running_loop().time()
            if self._confirms:
                self._over.set_result(reason)
        await asyncio.shield(self._over)

    async def ended(self) -> EndReason:
        return await asyncio.shield(self._over)


class NotifiedCall(ScriptedCall):
    """One with a side channel."""

    transport = "notified"

    def __init__(self) -> None:
        super().__init__()
        self.events: list[dict[str, Any]] = []

    def notify(self, event: dict[str, Any]) -> None:
        self.events.append(event)


class Ears(FrameProcessor):
    """Understands ``hours`` after each stretch of speech."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            return
        await self.push_frame(frame, direction)
        if isinstance(frame, VADUserStoppedSpeakingFrame):
            text = TranscriptionFrame(text="hours", user_id="", timestamp="", finalized=True)
            await self.push_frame(text)


class Mind(FrameProcessor):
    """Answers every context with as many words as asked, and then with other frames."""

    def __init__(
        self, words: int, then: Sequence[Callable[[], Frame]], probe: Callable[[Stage], None]
    ) -> None:
        super().__init__()
        self._words, self._then, self._probe = words, then, probe

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if not isinstance(frame, LLMContextFrame):
            await self.push_frame(frame, direction)
            return
        self._probe(Stage.FIRST_TOKEN)
        await self.push_frame(LLMFullResponseStartFrame())
        for number in range(self._words):
            await self.push_frame(LLMTextFrame(f"w{number} "))
        await self.push_frame(LLMFullResponseEndFrame())
        for make in self._then:
            await self.push_frame(make())


class Mouth(FrameProcessor):
    """Speaks each word as :data:`WORD_SECONDS` of a steady level."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, LLMTextFrame):
            pcm = np.full(int(WORD_SECONDS * RATE), 1000, np.int16).tobytes()
            await self.push_frame(TTSAudioRawFrame(audio=pcm, sample_rate=RATE, num_channels=1))
            await self.push_frame(TTSTextFrame(frame.text.strip(), text_type="word"))
            return
        if isinstance(frame, LLMFullResponseEndFrame):
            await self.push_frame(TTSStoppedFrame(context_id="u"))
        await self.push_frame(frame, direction)
        if isinstance(frame, LLMFullResponseStartFrame):
            await self.push_frame(TTSStartedFrame(context_id="u"))


class Blocked(FrameProcessor):
    """Keeps back every frame of one kind."""

    def __init__(self, kind: type[Frame] = StartFrame) -> None:
        super().__init__()
        self._kind = kind

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if not isinstance(frame, self._kind):
            await self.push_frame(frame, direction)


class DeafToEnd(Blocked):
    """Never lets a graph end in order."""

    def __init__(self) -> None:
        super().__init__(EndFrame)


class ScriptedEngines:
    """Stands in for ``Engines``: services are scripted, voice activity is the real one."""

    def __init__(
        self,
        models: SharedModels,
        *,
        words: int = 10,
        then: Sequence[Callable[[], Frame]] = (),
        before_tts: Callable[[], FrameProcessor] | None = None,
        fails: Exception | None = None,
    ) -> None:
        self.models = models
        self.words, self.then = words, then
        self._before_tts = before_tts
        self.fails = fails
        self.built = 0

    async def cast(self, agent: Agent) -> Casting:
        return Casting(agent.voice)

    def watermarker(self, rate: int) -> Unmarked:
        return Unmarked()

    def services(self, agent: Agent, *, probe: Callable[[Stage], None], **_: Any) -> Services:
        if self.fails is not None:
            raise self.fails
        self.built += 1
        between = () if self._before_tts is None else (self._before_tts(),)
        mind = Mind(self.words, self.then, probe)
        return Services(stt=Ears(), llm=mind, tts=Mouth(), before_tts=between)
