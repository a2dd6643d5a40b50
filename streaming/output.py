"""The graph's last processor but one: everything audible goes from here to playout.

It keeps Pipecat's output contract (bot-speaking frames, interruption, words released as they are
heard) and none of its pacing: the media clock takes frames from playout, and this processor only
feeds it. Whatever kind of frame carries audio, it ends in the same buffer and so in the gate,
which refuses what nobody vouches for; transport messages and second destinations end here.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    CancelFrame,
    EndFrame,
    Frame,
    InterruptionFrame,
    MixerControlFrame,
    OutputAudioRawFrame,
    OutputDTMFFrame,
    OutputDTMFUrgentFrame,
    OutputImageRawFrame,
    OutputTransportMessageFrame,
    OutputTransportMessageUrgentFrame,
    StartFrame,
    SystemFrame,
    TextFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from ringtrue.streaming.playout import Playout
from ringtrue.streaming.playout_steps import Cut, Step
from ringtrue.streaming.provenance import Sealer, unsealed
from ringtrue.streaming.record import Stage
from ringtrue.streaming.voice_frames import SealedAudioFrame, TakeBackFrame

log = structlog.get_logger(__name__)

DRAIN_SECONDS: Final = 30.0
"""How long an ending call may go on speaking what was queued."""

MAX_WITHHELD: Final = 50
"""Ticks for which an ending call waits for a licence to hold again: one second."""

_STARTED: Final = "started"
_STOPPED: Final = "stopped"
_INTERRUPTED: Final = "interrupted"


class PlayoutOutput(FrameProcessor):
    """Feeds a :class:`Playout` and releases what was heard, in order."""

    def __init__(
        self,
        playout: Playout[Frame],
        *,
        on_cut: Callable[[Cut[Frame]], None],
        on_taken_back: Callable[[Cut[Frame]], None],
        heard_position: Callable[[], int | None],
        probe: Callable[[Stage], None],
        tones: Callable[[], Sealer],
        on_heard: Callable[[Frame], Awaitable[None]] | None = None,
        on_silence: Callable[[bool], None] | None = None,
        on_message: Callable[[Any], None] | None = None,
    ) -> None:
        """Feed ``playout``.

        ``on_cut`` runs at once on barge-in (close the utterance at the gate, clear the far end's
        buffer), ``on_taken_back`` where a cloned voice may not go on; ``heard_position`` is the
        leg's; ``tones`` gives the seal of digits dialled; ``on_heard`` sees every frame as it is
        released;
        ``on_silence`` is told when the agent stopped speaking, and whether it was interrupted;
        ``on_message`` takes transport messages where the leg has a side channel, else they are
        dropped and counted.
        """
        super().__init__(name="playout")
        self._playout = playout
        self._on_cut = on_cut
        self._on_taken_back = on_taken_back
        self._heard_position = heard_position
        self._probe = probe
        self._tones = tones
        self._on_heard = on_heard
        self._on_silence = on_silence
        self._on_message = on_message
        self._released: deque[Frame | str] = deque()
        self._wake = asyncio.Event()
        self._moved = asyncio.Event()
        self._awaited = 0
        """How many wait for that; mostly none, and setting it at every tick costs."""

        self._order = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._clock_at_start = 0
        self._in_tts = False
        self._speaking = False
        self.refused: Counter[str] = Counter()
        self.on_interrupted: Callable[[], None] | None = None
        """Told once an interruption has passed, and what follows in direct mode with it."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Queue audio, keep everything else in its place behind it."""
        await super().process_frame(frame, direction)
        if isinstance(frame, StartFrame):
            self._task = self.create_task(self._release_task(), "playout::release")
            await self.push_frame(frame, direction)
        elif direction is FrameDirection.UPSTREAM:
            await self.push_frame(frame, direction)
        elif isinstance(frame, InterruptionFrame | CancelFrame):
            await self._interrupt()
            await self.push_frame(frame, direction)
            if self.on_interrupted is not None:
                self.on_interrupted()
        elif isinstance(frame, TakeBackFrame):
            await self._take_back(frame)
        elif isinstance(frame, EndFrame):
            await self._drain()
            await self.push_frame(frame, direction)
        elif isinstance(frame, OutputDTMFFrame | OutputDTMFUrgentFrame):
            self._dial("".join(str(button.value) for button in frame.buttons or ()))
        elif isinstance(frame, OutputTransportMessageFrame | OutputTransportMessageUrgentFrame):
            self._message(frame.message)
        elif isinstance(frame, OutputAudioRawFrame):
            await self._audio(frame)
        elif isinstance(frame, OutputImageRawFrame | MixerControlFrame):
            self.refused[type(frame).__name__] += 1
        elif isinstance(frame, SystemFrame):
            await self.push_frame(frame, direction)
        else:
            self._keep_place(frame)

    async def cleanup(self) -> None:
        """Stop releasing."""
        await super().cleanup()  # type: ignore[no-untyped-call]
        if self._task is not None:
            await self.cancel_task(self._task)
            self._task = None

    def step(self, step: Step[Frame]) -> None:
        """The media clock took a frame: note what began, was heard and ended."""
        if step.began is None and step.ended is None and not step.heard:
            if self._awaited and (self._playout.idle or self._playout.has_room()):
                self._moved.set()
            return
        if step.began is not None and not self._speaking:
            self._speaking = True
            self._released.append(_STARTED)
        self._released.extend(step.heard)
        if step.ended is not None and self._speaking and not self._playout.pending_seconds:
            self._speaking = False
            self._released.append(_STOPPED)
        self._wake.set()
        self._moved.set()

    async def _audio(self, frame: OutputAudioRawFrame) -> None:
        if frame.transport_destination is not None:
            self.refused["destination"] += 1
            return
        own = not isinstance(frame, TTSAudioRawFrame) and not self._in_tts
        if own:
            self._playout.begin("audio")
        else:
            if not self._in_tts:
                self._begin("speech")
            self._probe(Stage.FIRST_AUDIO)
        if isinstance(frame, SealedAudioFrame):
            chunk = frame.chunk
        else:
            pcm = frame.audio[: len(frame.audio) // 2 * 2]
            chunk = unsealed(pcm, frame.sample_rate, self.get_event_loop().time())
        while not self._playout.write(chunk):
            await self._move()
        if own:
            self._playout.finish()

    def _begin(self, label: str) -> None:
        self._in_tts = True
        self._playout.begin(label)
        self._clock_at_start = self.get_clock().get_time()

    def _keep_place(self, frame: Frame) -> None:
        at: int | None = None
        if isinstance(frame, TTSStartedFrame):
            self._begin(frame.context_id or "speech")
            at = 0
        elif isinstance(frame, TTSStoppedFrame):
            self._in_tts = False
        elif frame.pts:
            at = (frame.pts - self._clock_at_start) * self._playout.rate // 1_000_000_000
        if not self._playout.mark(frame, at=at):
            self._released.append(frame)
            self._wake.set()
        if isinstance(frame, TTSStoppedFrame):
            self._playout.finish()

    def _dial(self, digits: str) -> None:
        try:
            self._playout.write_digits(digits, self.get_event_loop().time(), self._tones())
        except ValueError:
            self.refused["digit"] += 1

    def _message(self, message: Any) -> None:
        if self._on_message is None:
            self.refused["message"] += 1
        else:
            self._on_message(message)

    async def _interrupt(self) -> None:
        cut = self._playout.cut(self._heard_position())
        self._in_tts = False
        self._on_cut(cut)
        self._released.extend(cut.heard)
        self._released.extend(frame for frame in cut.unheard if _must_arrive(frame))
        if self._speaking:
            self._speaking = False
            self._released.append(_INTERRUPTED)
        self._moved.set()
        await self._flush()

    async def _take_back(self, request: TakeBackFrame) -> None:
        """Give back what a cloned voice has said and nobody heard yet."""
        cut = self._playout.take_back(self._heard_position())
        self._in_tts = False
        self._on_taken_back(cut)
        self._released.extend(cut.heard)
        if self._speaking and not self._playout.pending_seconds:
            self._speaking = False
            self._released.append(_STOPPED)
        request.give(cut.unheard)
        self._moved.set()
        await self._flush()

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while not self._playout.idle and self._playout.withheld < MAX_WITHHELD:
                    await self._move()
        except TimeoutError:
            log.warning("playout.drain_timeout", seconds=DRAIN_SECONDS)
        await self._flush()

    async def _move(self) -> None:
        """Until playout went on: has room, or nothing left."""
        self._moved.clear()
        self._awaited += 1
        try:
            await self._moved.wait()
        finally:
            self._awaited -= 1

    async def _flush(self) -> None:
        async with self._order:
            while self._released:
                await self._release(self._released.popleft())

    async def _release_task(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._flush()

    async def _release(self, item: Frame | str) -> None:
        if item is _STARTED:
            await self.broadcast_frame(BotStartedSpeakingFrame)
        elif item is _STOPPED or item is _INTERRUPTED:
            await self.broadcast_frame(BotStoppedSpeakingFrame)
            if self._on_silence is not None:
                self._on_silence(item is _INTERRUPTED)
        elif isinstance(item, Frame):
            await self.push_frame(item)
            if self._on_heard is not None:
                await self._on_heard(item)


def _must_arrive(frame: Frame) -> bool:
    """Whether ``frame`` outlives an interruption; words that were not heard never do."""
    return not frame.interruptible and not isinstance(frame, TextFrame)
