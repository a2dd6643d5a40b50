"""End of turn: smart-turn v3 judges the caller's audio, a stop strategy joins it with the words.

The network always hears 16 kHz (8 kHz calls are resampled), runs in a shared executor off the
loop, and is loaded once per process. Time is counted in samples, so a stalled loop does not move
the segment it judges.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import structlog
from pipecat.audio.turn.smart_turn.local_smart_turn_v3 import LocalSmartTurnAnalyzerV3
from pipecat.frames.frames import (
    Frame,
    TranscriptionFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.turns.types import ProcessFrameResult
from pipecat.turns.user_stop import BaseUserTurnStopStrategy

from ringtrue.streaming.dsp import resample_segment
from ringtrue.streaming.recognizers.service import (
    EarlierTranscriptionFrame,
    NothingRecognizedFrame,
)
from ringtrue.streaming.record import Stage

log = structlog.get_logger(__name__)

MODEL_RATE: Final = 16000
MAX_SECONDS: Final = 8.0
"""What the model can hear; longer turns are judged by their end."""

PRE_SPEECH_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class TurnPolicy:
    """When a pause ends the turn."""

    complete: float = 0.5
    """Probability from which smart-turn's word is taken at once."""

    incomplete_seconds: float = 1.2
    """Silence that ends a turn the model holds for unfinished (probability 0)."""

    sure_seconds: float = 0.3
    """The most silence that is asked for when the words alone are surely a whole answer."""

    transcript_seconds: float = 1.5
    """How long a complete turn waits for the recognizer's final text."""

    def wait(self, probability: float) -> float:
        """Silence still asked for at ``probability``: none when complete, less the surer."""
        if probability >= self.complete:
            return 0.0
        return self.incomplete_seconds * (1.0 - probability / self.complete)


class SmartTurnModel:
    """The network and the thread it runs on, shared by every call of the process."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        """Load the model that Pipecat ships; ``executor`` runs it."""
        self._analyzer = LocalSmartTurnAnalyzerV3(sample_rate=MODEL_RATE)
        self._analyzer.set_sample_rate(MODEL_RATE)
        self._executor = executor

    def predict(self, samples: npt.NDArray[np.int16], rate: int) -> float:
        """Probability that the turn whose audio is ``samples`` at ``rate`` Hz is complete."""
        audio = resample_segment(samples, rate, MODEL_RATE)
        return float(self._analyzer._predict_endpoint(audio)["probability"])

    async def judge(self, samples: npt.NDArray[np.int16], rate: int) -> float:
        """:meth:`predict` off the loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, self.predict, samples, rate)


class TurnAudio:
    """The caller's recent audio, for the model: bounded to what it can hear."""

    def __init__(self, rate: int) -> None:
        """Keep :data:`MAX_SECONDS` at ``rate`` Hz."""
        self.rate = rate
        self._blocks: deque[bytes] = deque()
        self._bytes = 0
        self._limit = int(MAX_SECONDS * rate) * 2

    def push(self, pcm: bytes) -> None:
        """Append a block; the oldest is dropped beyond the limit."""
        self._blocks.append(pcm)
        self._bytes += len(pcm)
        while self._bytes - len(self._blocks[0]) >= self._limit:
            self._bytes -= len(self._blocks.popleft())

    def segment(self, samples: int) -> npt.NDArray[np.int16]:
        """The last ``samples`` samples, or as many as there are."""
        joined = np.frombuffer(b"".join(self._blocks), np.int16)
        return joined[-samples:] if samples else joined[:0]


class SpokenTurnStop(BaseUserTurnStopStrategy):  # type: ignore[no-untyped-call]
    """Ends the user's turn when the audio says so and the words have arrived.

    On each VAD stop the model is asked; if it holds the turn for complete, the recognizer's final
    word ends it (a text, or that there is none), or :attr:`TurnPolicy.transcript_seconds` of
    waiting. If not, a silence whose length depends on the model's probability ends it; so it does,
    at its longest, where the model fails. Speech starts everything over, and words that come while
    the caller speaks decide nothing.
    """

    def __init__(
        self,
        judge: Callable[[], Coroutine[Any, Any, float]] | None,
        policy: TurnPolicy,
        probe: Callable[[Stage], None],
        completes: Callable[[str], bool] | None = None,
    ) -> None:
        """``judge`` starts a judgement of the audio so far; None counts every stop as complete.

        ``completes`` says whether words alone are surely a whole answer.
        """
        super().__init__()
        self._judge = judge
        self._policy = policy
        self._probe = probe
        self._completes = completes
        self._sure = False
        self._stopped_at = 0.0
        self._speaking = False
        self._complete = False
        self._final = False
        self._judging = False
        self._timer: asyncio.Handle | None = None
        self._due = 0.0  # uvloop's handle of a timer already due doesn't know when it was
        self._tasks: set[asyncio.Task[None]] = set()
        self._generation = 0

    async def handle_user_turn_started(self) -> None:
        """Arm for the turn now starting."""
        self._restart()

    async def handle_user_turn_stopped(self) -> None:
        """Forget the turn that ended."""
        self._restart()

    async def cleanup(self) -> None:
        """Cancel what is pending."""
        self._restart()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await super().cleanup()  # type: ignore[no-untyped-call]

    async def process_frame(self, frame: Frame) -> ProcessFrameResult:
        """Follow VAD and transcripts."""
        if isinstance(frame, VADUserStartedSpeakingFrame):
            self._speaking = True
            self._restart()
        elif isinstance(frame, VADUserStoppedSpeakingFrame):
            self._speaking = self._final = False
            self._judging = True
            self._stopped_at = asyncio.get_running_loop().time()
            self._spawn(self._stopped(self._generation))
        elif isinstance(frame, TranscriptionFrame | NothingRecognizedFrame):
            self._probe(Stage.TRANSCRIPT)
            if self._speaking or isinstance(frame, EarlierTranscriptionFrame):
                return ProcessFrameResult.CONTINUE  # the words that matter are yet to come
            self._final = True
            if not self._judging:  # words without speech: digits, or a late transcript
                self._complete = True
            elif isinstance(frame, TranscriptionFrame) and self._completes is not None:
                self._note_sure(self._completes(frame.text))
            await self._maybe_end()
        return ProcessFrameResult.CONTINUE

    def _restart(self) -> None:
        self._generation += 1
        self._complete = self._final = self._judging = self._sure = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _stopped(self, generation: int) -> None:
        probability = 1.0
        if self._judge is not None:
            try:
                probability = await self._judge()
            except Exception:  # the turn must end all the same
                log.exception("turns.judgement_failed")
                probability = 0.0
        if generation != self._generation or self._speaking:
            return
        wait = self._policy.wait(probability)
        if self._sure:
            wait = min(wait, self._sure_wait())
        if wait:
            self._after(wait, self._silence_ended)
        else:
            await self._silence_ended()

    def _note_sure(self, sure: bool) -> None:
        self._sure = sure
        if sure and self._timer is not None and not self._complete:
            left = self._due - asyncio.get_running_loop().time()
            self._after(min(left, self._sure_wait()), self._silence_ended)

    def _sure_wait(self) -> float:
        since = asyncio.get_running_loop().time() - self._stopped_at
        return max(0.0, self._policy.sure_seconds - since)

    async def _silence_ended(self) -> None:
        self._complete = True
        await self._maybe_end()
        if self._complete:
            self._after(self._policy.transcript_seconds, self._end)

    def _after(self, seconds: float, action: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        generation = self._generation

        def fire() -> None:
            if generation == self._generation and not self._speaking:
                self._spawn(action())

        self._due = loop.time() + seconds
        self._timer = loop.call_at(self._due, fire)

    async def _maybe_end(self) -> None:
        if self._complete and self._final and not self._speaking:
            await self._end()

    async def _end(self) -> None:
        self._restart()
        self._probe(Stage.TURN_ENDED)
        await self.trigger_user_turn_stopped()
