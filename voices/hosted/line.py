"""A line to a hosted service: one Pipecat TTS service in a pipeline of its own, kept between uses.

Each phrase is a ``TTSSpeakFrame``, so the service opens a context of its own for it, and a marker
frame behind it. Services emit frames in the order of what was asked of them, so the marker comes
out once the phrase's last audio has.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog
from pipecat.frames.frames import (
    DataFrame,
    ErrorFrame,
    Frame,
    InterruptionFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    TTSTextFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.tts_service import TTSService
from pipecat.workers.runner import WorkerRunner

from ringtrue.streaming.errors import SynthesisError
from ringtrue.streaming.services import ServiceError, build_tts

log = structlog.get_logger(__name__)

SERVICE_RATE: Final = 24000
"""Rate in Hz that services are asked for: all of them have it, and some have no other."""

START_SECONDS: Final = 10.0
STOP_SECONDS: Final = 10.0
INTERRUPT_SECONDS: Final = 3.0
"""How long a service may take to fall silent; one that takes longer is let go."""


@dataclass(frozen=True, slots=True)
class HostedService:
    """A service as it is configured."""

    service: str
    """Pipecat's name for it; see :mod:`ringtrue.streaming.services`."""

    settings: Mapping[str, Any]
    """Plain; may hold secrets, so it is never shown."""

    def __repr__(self) -> str:
        return f"HostedService({self.service!r})"

    def build(self, voice: str) -> TTSService:
        """The service, speaking in ``voice``; raises ``ServiceError``."""
        return build_tts(self.service, {**self.settings, "voice": voice})


class Hearer(Protocol):
    """Who listens to a line."""

    def audio(self, pcm: bytes, rate: int) -> None:
        """Mono 16-bit PCM at ``rate`` Hz."""
        ...

    def word(self, text: str, start: float | None) -> None:
        """A word; ``start`` in seconds after its phrase's first audio where the service says."""
        ...

    def phrase_over(self) -> None:
        """Everything of the oldest phrase has come."""
        ...

    def failed(self, error: SynthesisError) -> None:
        """Nothing more comes."""
        ...


@dataclass
class _PhraseOver(DataFrame):
    pass


class _Entry(FrameProcessor):
    """Before the service: errors come back here."""

    def __init__(self, line: Line) -> None:
        super().__init__(name="hosted-entry", enable_direct_mode=True)
        self._line = line

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, ErrorFrame) and direction is FrameDirection.UPSTREAM:
            self._line.error(frame)
        await self.push_frame(frame, direction)


class _Exit(FrameProcessor):
    """Behind the service: what it says."""

    def __init__(self, line: Line) -> None:
        super().__init__(name="hosted-exit", enable_direct_mode=True)
        self._line = line
        self._began: int | None = None
        """The pipeline's clock at the phrase's first audio, in nanoseconds."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        hearer = self._line.hearer
        if isinstance(frame, InterruptionFrame):
            self._began = None
            self._line.silent.set()
        elif hearer is None:
            pass
        elif isinstance(frame, TTSAudioRawFrame):
            if self._began is None:
                self._began = self.get_clock().get_time()
            hearer.audio(frame.audio, frame.sample_rate)
        elif isinstance(frame, TTSTextFrame):
            start = None
            if frame.pts is not None and self._began is not None:
                start = max(0.0, (frame.pts - self._began) / 1e9)
            hearer.word(frame.text, start)
        elif isinstance(frame, _PhraseOver):
            self._began = None
            hearer.phrase_over()
        await self.push_frame(frame, direction)


class Line:
    """One running service. Speaks for one hearer at a time."""

    def __init__(self, service: HostedService, voice: str, label: str) -> None:
        """Build the service; nothing runs before :meth:`start`.

        ``label`` is what errors call it. Raises :class:`SynthesisError` for settings that the
        service doesn't take.
        """
        self.label = label
        self.hearer: Hearer | None = None
        self.silent = asyncio.Event()
        self.usable = True
        try:
            built = service.build(voice)
        except ServiceError as error:
            raise SynthesisError(f"hosted service {label}: {error}") from None
        self.times_words = not getattr(built, "_push_text_frames", True)
        """Whether words come with their times, not each phrase as a whole at its end."""

        self._entry = _Entry(self)
        self._worker = PipelineWorker(
            Pipeline([self._entry, built, _Exit(self)]),
            params=PipelineParams(
                audio_in_sample_rate=SERVICE_RATE, audio_out_sample_rate=SERVICE_RATE
            ),
            cancel_on_idle_timeout=False,
            idle_timeout_secs=None,
            enable_turn_tracking=False,
            enable_rtvi=False,
            check_dangling_tasks=False,
        )
        self._runner = WorkerRunner(handle_sigint=False)
        self._started = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._worker.add_event_handler("on_pipeline_started", self._on_started)

    async def start(self) -> None:
        """Connect; raises :class:`SynthesisError` where the service doesn't come up."""
        await self._runner.add_workers(self._worker)
        self._task = asyncio.get_running_loop().create_task(self._run(), name="hosted-line")
        waiting = asyncio.ensure_future(self._started.wait())
        try:
            await asyncio.wait(
                [self._task, waiting], timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
        except asyncio.CancelledError:
            await self.stop()
            raise
        finally:
            waiting.cancel()
        if not self._started.is_set() or not self.usable:
            await self.stop()
            raise SynthesisError(f"hosted service {self.label} did not start")

    async def _run(self) -> None:
        try:
            await self._runner.run()
        except Exception as error:
            log.error("hosted.failed", service=self.label, exc_info=error)
        finally:
            self._fail(SynthesisError(f"hosted service {self.label} ended"))

    async def _on_started(self, _worker: object, _frame: Frame) -> None:
        self._started.set()

    async def say(self, phrase: str, *, spoken: bool) -> None:
        """Queue ``phrase``; one that isn't ``spoken`` only takes its place."""
        if spoken:
            await self._entry.push_frame(TTSSpeakFrame(phrase, append_to_context=False))
        await self._entry.push_frame(_PhraseOver())

    async def interrupt(self) -> bool:
        """Drop what was asked for; whether the line can be used again."""
        self.silent.clear()
        try:
            async with asyncio.timeout(INTERRUPT_SECONDS):
                await self._entry.push_frame(InterruptionFrame())
                await self.silent.wait()
        except TimeoutError:
            self.usable = False
        return self.usable

    def error(self, frame: ErrorFrame) -> None:
        """The service reports an error; its text may quote what was said, so it isn't shown."""
        category = getattr(frame.category, "value", "unknown")
        log.warning("hosted.error", service=self.label, category=category)
        self._fail(SynthesisError(f"hosted service {self.label} failed ({category})"))

    def _fail(self, error: SynthesisError) -> None:
        self.usable = False
        if self.hearer is not None:
            self.hearer.failed(error)

    async def stop(self) -> None:
        """Disconnect; what doesn't end in time is abandoned. Idempotent."""
        self.usable = False
        task, self._task = self._task, None
        if task is None:
            return
        await self._worker.cancel()
        done, _ = await asyncio.wait([task], timeout=STOP_SECONDS)
        if not done:
            log.error("hosted.stuck", service=self.label)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


class Lines:
    """The lines of one voice: idle ones are kept for a while, so that connections are reused."""

    def __init__(self, make: Callable[[], Line], *, most: int, keep_seconds: float) -> None:
        """``make`` builds a line; at most ``most`` exist; idle ones last ``keep_seconds``."""
        self._make = make
        self._most = most
        self._keep = keep_seconds
        self._idle: dict[Line, asyncio.TimerHandle] = {}
        self._count = 0
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    async def take(self) -> Line:
        """A line that is up; raises :class:`SynthesisError` where none can be had."""
        while self._idle:
            line, timer = self._idle.popitem()
            timer.cancel()
            if line.usable:
                return line
            self._stop(line)
        if self._closed:
            raise SynthesisError("the hosted engine is closed")
        if self._count >= self._most:
            raise SynthesisError(f"{self._most} utterances speak in this hosted voice already")
        self._count += 1
        try:
            line = self._make()
            await line.start()
        except BaseException:
            self._count -= 1
            raise
        return line

    def give_back(self, line: Line, *, speaking: bool) -> None:
        """Keep ``line`` for another utterance; one that is ``speaking`` is interrupted first."""
        line.hearer = None
        if self._closed or not line.usable:
            self._stop(line)
        elif speaking:
            self._later(self._silenced(line))
        else:
            self._keep_idle(line)

    async def _silenced(self, line: Line) -> None:
        if await line.interrupt() and not self._closed:
            self._keep_idle(line)
        else:
            await self._stopped(line)

    def _keep_idle(self, line: Line) -> None:
        loop = asyncio.get_running_loop()
        self._idle[line] = loop.call_later(self._keep, self._expire, line)

    def _expire(self, line: Line) -> None:
        if self._idle.pop(line, None) is not None:
            self._stop(line)

    def _stop(self, line: Line) -> None:
        self._later(self._stopped(line))

    async def _stopped(self, line: Line) -> None:
        try:
            await line.stop()
        finally:
            self._count -= 1

    def _later(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work, name="hosted-line-ending")
        self._ending.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("hosted.failed", exc_info=error)

    async def close(self) -> None:
        """End idle lines; those in use end when they are given back."""
        self._closed = True
        for line, timer in self._idle.items():
            timer.cancel()
            self._stop(line)
        self._idle.clear()
        while self._ending:
            await asyncio.wait(tuple(self._ending))
