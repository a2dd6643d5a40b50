"""A recognizer in the Pipecat graph.

An utterance is what the VAD says it is: it begins with the audio kept from before the VAD made up
its mind, and its end is asked for as soon as the VAD reports it. One turn may hold several.

How a turn ends: a text goes out as ``TranscriptionFrame(finalized=True)``, on which Pipecat's stop
strategies act at once. If the caller speaks again before the text is there, it goes out as
:class:`EarlierTranscriptionFrame`, not finalized, for the rest is yet to come. An utterance without
a credible text must not become an empty transcription: it goes out as
:class:`NothingRecognizedFrame`, and a stop strategy that knows it can end the turn
(:mod:`ringtrue.streaming.turns`); Pipecat's own leave such a turn to their watchdog of 5 s.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, TypeVar

import structlog
from pipecat.frames.frames import (
    CancelFrame,
    DataFrame,
    EndFrame,
    Frame,
    InterimTranscriptionFrame,
    StartFrame,
    STTMuteFrame,
    TranscriptionFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.settings import STTSettings
from pipecat.services.stt_service import STTService
from pipecat.utils.errors import ErrorCategory
from pipecat.utils.time import time_now_iso8601

from ringtrue.streaming.errors import RecognizerError
from ringtrue.streaming.recognizers.port import Pulsed, Recognizer, RecognizerStream

_T = TypeVar("_T")

_log = structlog.get_logger(__name__)

PREROLL_SECONDS: Final = 0.6
"""Audio kept from before the VAD's start event: it confirms speech 0.2 s late or more."""

VAD_STOP_SECONDS: Final = 0.2
"""The VAD's pause before it reports the end: part of the time from speech to text."""

PATIENCE: Final = 2.25
"""Seconds after the pause for which an engine that is known to work is waited for, at least."""

PULSE_SECONDS: Final = 0.2
"""How often it is looked at meanwhile."""


@dataclass
class EarlierTranscriptionFrame(TranscriptionFrame):
    """The text of speech behind which there is more that has no text yet."""


@dataclass
class NothingRecognizedFrame(DataFrame):
    """An utterance ended without a text."""

    rejected: bool = False
    """True where words were found that were not credible, False where none were."""

    failed: bool = False
    """True where the recognizer failed; an ``ErrorFrame`` went upstream."""


class _Act(Enum):
    START = "start"
    AUDIO = "audio"
    FINISH = "finish"
    CANCEL = "cancel"
    OVERFLOW = "overflow"
    STOP = "stop"


class StreamingRecognizer(STTService):
    """Speech to text by any :class:`~ringtrue.streaming.recognizers.port.Recognizer`.

    Audio stops here. Frames never wait for the recognizer: a task of its own feeds it from a
    queue bounded in seconds; an utterance that overflows it fails and the next one works.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        *,
        preroll_seconds: float = PREROLL_SECONDS,
        max_utterance_seconds: float = 20.0,
        max_queued_seconds: float = 5.0,
        vad_stop_seconds: float = VAD_STOP_SECONDS,
        stall_seconds: float | None = None,
        **kwargs: Any,
    ) -> None:
        """``recognizer`` must be loaded, and is not closed here: it serves other calls too.

        A final text that isn't there ``stall_seconds`` after the VAD's stop is not waited for, or
        after twice what the recognizer says that it may take; for :data:`PATIENCE` where the
        engine is known to work on it; None: as long as it takes. An
        utterance longer than ``max_utterance_seconds`` is cut into several transcriptions.
        """
        super().__init__(
            # Frames are only noted here and acted upon by the feeder, so that no queue is needed.
            enable_direct_mode=True,
            audio_passthrough=False,
            ttfs_p99_latency=vad_stop_seconds + recognizer.finish_p99,
            settings=STTSettings(model=recognizer.name, language=None),
            **kwargs,
        )
        self._recognizer = recognizer
        self._preroll_seconds = preroll_seconds
        self._max_utterance_seconds = max_utterance_seconds
        self._max_queued_seconds = max_queued_seconds
        self._stall = stall_seconds and max(stall_seconds, 2 * recognizer.finish_p99)
        self._due: float | None = None
        """Loop time at which the final text is late."""

        self._stopped_at = 0.0
        self._patience: asyncio.TimerHandle | None = None
        self._limit: asyncio.Timeout | None = None
        self._preroll: deque[bytes] = deque()
        self._preroll_bytes = 0
        self._queue: asyncio.Queue[tuple[_Act, bytes]] = asyncio.Queue()
        self._queued_bytes = 0
        self._speaking = False
        self._waiting = 0
        """Utterances queued and not begun."""

        self._stream: RecognizerStream | None = None
        self._feeder: asyncio.Task[None] | None = None

    async def start(self, frame: StartFrame) -> None:
        """Open the call's stream."""
        await super().start(frame)
        self._stream = self._recognizer.open(self.sample_rate)
        self._feeder = self.create_task(self._feed(self._stream), "recognizer")

    async def stop(self, frame: EndFrame) -> None:
        """Recognize what is queued, then end."""
        if self._feeder is not None:
            if self._speaking:
                self._speaking = False
                self._put(_Act.FINISH)
            self._put(_Act.STOP)
            await self._feeder
            self._feeder = None
        await self._close_stream()
        await super().stop(frame)

    async def cancel(self, frame: CancelFrame) -> None:
        """End at once."""
        await self._abandon()
        await super().cancel(frame)

    async def cleanup(self) -> None:
        """Leave nothing behind, however the pipeline ended."""
        await self._abandon()
        await super().cleanup()  # type: ignore[no-untyped-call]

    async def _abandon(self) -> None:
        if self._feeder is not None:
            await self.cancel_task(self._feeder)
            self._feeder = None
        await self._close_stream()

    async def _close_stream(self) -> None:
        stream, self._stream = self._stream, None
        self._expect_final(None)  # its timer would find what is left of an ended call
        if stream is not None:
            await stream.close()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Frames as the base class takes them; muting drops what was being heard."""
        await super().process_frame(frame, direction)
        if isinstance(frame, STTMuteFrame) and frame.mute:
            self._preroll.clear()
            self._preroll_bytes = 0
            if self._speaking:
                self._speaking = False
                self._put(_Act.CANCEL)

    def hear(self, pcm: bytes) -> None:
        """Take one block of audio that comes by no frame: what the graph's first processor has.

        For every block of a call a frame, with what goes with it, costs more than all that is
        done with it here.
        """
        if self._stream is not None and not self._muted and self.is_usable:
            self._record_stt_audio_usage(pcm)
            self._take(pcm)

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame | None, None]:
        """Take one block of audio; texts are pushed from the feeding task, not yielded."""
        self._take(audio)
        return
        yield  # pragma: no cover

    def _take(self, audio: bytes) -> None:
        if self._speaking:
            self._put(_Act.AUDIO, audio)
        else:
            self._preroll.append(audio)
            self._preroll_bytes += len(audio)
            limit = 2 * self.sample_rate * self._preroll_seconds
            while self._preroll and self._preroll_bytes - len(self._preroll[0]) >= limit:
                self._preroll_bytes -= len(self._preroll.popleft())

    async def _handle_vad_user_started_speaking(self, frame: VADUserStartedSpeakingFrame) -> None:
        await super()._handle_vad_user_started_speaking(frame)
        if self._muted or self._speaking:
            return
        self._speaking = True
        self._expect_final(None)
        self._waiting += 1
        self._put(_Act.START)
        self._put(_Act.AUDIO, b"".join(self._preroll))
        self._preroll.clear()
        self._preroll_bytes = 0

    async def _handle_vad_user_stopped_speaking(self, frame: VADUserStoppedSpeakingFrame) -> None:
        await super()._handle_vad_user_stopped_speaking(frame)
        if self._speaking:
            self._speaking = False
            if self._stall is not None:
                self._stopped_at = self.get_event_loop().time()
                self._expect_final(self._stopped_at + self._stall)
            self._put(_Act.FINISH)

    def _expect_final(self, due: float | None) -> None:
        self._due = due
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        if due is not None and isinstance(self._stream, Pulsed):
            loop = self.get_event_loop()
            self._patience = loop.call_at(due - PULSE_SECONDS / 2, self._wait_on, due, self._stream)
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(due)

    def _wait_on(self, due: float, stream: Pulsed) -> None:
        """Give an engine that works, but has much to do, a little longer."""
        assert self._stall is not None
        until = due + PULSE_SECONDS
        if stream.alive and until - self._stopped_at <= max(PATIENCE, self._stall):
            self._expect_final(until)

    async def _in_time(self, work: Awaitable[_T]) -> _T:
        """What the stream does, unless the final text is late by then."""
        try:
            async with asyncio.timeout_at(self._due) as self._limit:
                return await work
        except TimeoutError:
            late = RecognizerError(f"no final text within {self._stall:g} s")
            raise late from None
        finally:
            self._limit = None

    def _put(self, act: _Act, audio: bytes = b"") -> None:
        """Queue for the feeding task. Audio past the bound is dropped with its utterance."""
        if act is _Act.AUDIO:
            limit = 2 * self.sample_rate * (self._max_queued_seconds + self._preroll_seconds)
            if self._queued_bytes + len(audio) > limit:
                act, audio = _Act.OVERFLOW, b""
                self._speaking = False
                _log.warning("recognizer_queue_overflow", recognizer=self._recognizer.name)
        self._queued_bytes += len(audio)
        self._queue.put_nowait((act, audio))

    async def _feed(self, stream: RecognizerStream) -> None:
        """Drive the stream, one act after another."""
        utterance = _Progress()
        while True:
            act, audio = await self._queue.get()
            self._queued_bytes -= len(audio)
            try:
                if act is _Act.STOP:
                    return
                await self._act(stream, act, audio, utterance)
            except Exception as error:  # whatever it is, the call goes on
                utterance.open, utterance.failed = False, True
                await self.push_error(
                    f"{self._recognizer.name}: {error}", error, category=ErrorCategory.UNKNOWN
                )
                if not isinstance(error, RecognizerError):
                    _log.exception("recognizer_fault", recognizer=self._recognizer.name)
                    await stream.cancel()
            if utterance.failed and act in (_Act.FINISH, _Act.OVERFLOW):
                utterance.failed = False
                await self.push_frame(NothingRecognizedFrame(failed=True))

    async def _act(
        self, stream: RecognizerStream, act: _Act, audio: bytes, utterance: _Progress
    ) -> None:
        if act is _Act.START:
            self._waiting -= 1
            utterance.open, utterance.failed, utterance.bytes = True, False, 0
            await self._in_time(stream.start())
        elif act is _Act.CANCEL:
            utterance.open = False
            await stream.cancel()
            await self.push_frame(NothingRecognizedFrame())
        elif act is _Act.OVERFLOW:
            await stream.cancel()
            raise RecognizerError(f"more than {self._max_queued_seconds:g} s behind the call")
        elif not utterance.open:
            return  # what is left of an utterance that failed
        elif act is _Act.FINISH:
            utterance.open = False
            await self._finish(stream)
        else:
            partial = await self._in_time(stream.accept(audio))
            utterance.bytes += len(audio)
            if partial:
                await self.push_frame(
                    InterimTranscriptionFrame(partial, self._user_id, time_now_iso8601())
                )
            if utterance.bytes >= 2 * self.sample_rate * self._max_utterance_seconds:
                utterance.bytes = 0
                await self._finish(stream, more=True)
                await stream.start()

    async def _finish(self, stream: RecognizerStream, *, more: bool = False) -> None:
        transcript = await self._in_time(stream.finish())
        await self.emit_stt_usage_metrics()  # type: ignore[no-untyped-call]
        if transcript.text:
            earlier = more or self._speaking or self._waiting > 0
            frame = EarlierTranscriptionFrame if earlier else TranscriptionFrame
            now = time_now_iso8601()
            await self.push_frame(
                frame(transcript.text, self._user_id, now, result=transcript, finalized=not earlier)
            )
        elif not more:
            await self.push_frame(NothingRecognizedFrame(rejected=transcript.rejected))


@dataclass(slots=True)
class _Progress:
    open: bool = False
    failed: bool = False
    bytes: int = 0
