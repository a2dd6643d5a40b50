"""The thread a model lives on, and the utterances it speaks.

The thread takes every utterance that has text to speak and whose listener isn't far behind, begins
what is new, and carries all of them on by one step of 80 ms. A new utterance therefore waits for at
most one step of the others, and none is served twice while another waits.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

import numpy as np
import structlog

from ringtrue.streaming.errors import SynthesisError
from ringtrue.streaming.ports import SpeechChunk
from ringtrue.voices.pocket.backend import Backend
from ringtrue.voices.pocket.generation import FloatArray, Generator, Lane
from ringtrue.voices.pocket.marks import Pace, PhraseMarks
from ringtrue.voices.pocket.state import VoiceState
from ringtrue.voices.rerate import RealArray, Rerate

log = structlog.get_logger(__name__)

ResultT = TypeVar("ResultT")

AHEAD_SECONDS: Final = 2.0
"""Audio made ahead of an utterance's listener; one that is further ahead rests."""

RESUME_SECONDS: Final = 1.0
"""And is taken up again below this, so that batches don't change with every step."""

BEGINNINGS: Final = 4
"""Texts begun between two steps: each holds up everybody else for one pass over its tokens."""

TURN_STEPS: Final = 12
"""Steps after which an utterance makes room where more speak than a batch holds: 1 s."""

_KNEE: Final = 0.7


class Listener(Protocol):
    """Where an utterance's audio goes; called from the thread."""

    def put(self, item: SpeechChunk | SynthesisError | None) -> None:
        """A chunk; an error, which ends the utterance; None at its end."""
        ...


@dataclass(slots=True)
class CloneVoice:
    """A voice as the thread has it."""

    state: VoiceState
    pace: Pace


class Utterance:
    """One utterance being spoken. Made on the event loop; spoken on the thread."""

    def __init__(self, voice: CloneVoice, source: int, rate: int, listener: Listener) -> None:
        """Speak in ``voice`` from a model at ``source`` Hz, at ``rate`` Hz, to ``listener``."""
        self.voice = voice
        self.rate = rate
        self.listener = listener
        self.phrases: deque[str] = deque()
        self.finished = False
        self.cut = False
        self.ahead = 0
        """Samples made and not yet taken; changed under the service's lock."""

        self.resting = False
        self.lane: Lane | None = None
        self.turn = 0
        self._rerate = Rerate(source, rate)
        self._texts: deque[str] = deque()
        self._marks: PhraseMarks | None = None
        self._made = 0

    def pending(self) -> bool:
        """Whether there is something to do for it."""
        return bool(
            self.lane is not None
            or self._texts
            or self._marks is not None
            or self.phrases
            or self.finished
        )

    def next_text(self, phrase: str | None, generator: Generator) -> str | None:
        """What to begin next, of ``phrase`` if that is new; None if none of it can be spoken."""
        if phrase is not None:
            self._marks = PhraseMarks(phrase, self._made, self.rate, self.voice.pace)
            self._texts.extend(generator.texts(phrase))
        return self._texts.popleft() if self._texts else None

    @property
    def within_phrase(self) -> bool:
        """Whether a phrase was begun and isn't over."""
        return self._marks is not None

    def sound(self, frame: FloatArray) -> SpeechChunk:
        """The model's ``frame`` as a chunk."""
        samples = self._rerate.feed(frame)
        assert self._marks is not None
        self._made += len(samples)
        return SpeechChunk(self._pcm(samples), self._marks.reached(self._made))

    def phrase_over(self) -> SpeechChunk | None:
        """The chunk that ends a phrase, or None where more of it is to come."""
        if self._texts or self._marks is None:
            return None
        samples = self._rerate.finish()
        self._rerate = Rerate(self._rerate.source, self.rate)
        self._made += len(samples)
        words, self._marks = self._marks.finish(self._made), None
        return SpeechChunk(self._pcm(samples), words, phrase_end=True)

    def _pcm(self, samples: RealArray) -> bytes:
        loud = samples * self.voice.state.gain
        over = np.abs(loud) - _KNEE
        room = 1.0 - _KNEE
        bent = np.sign(loud) * (_KNEE + room * np.tanh(np.maximum(over, 0.0) / room))
        limited = np.nan_to_num(np.where(over > 0, bent, loud))
        return np.rint(limited * 32767.0).astype("<i2").tobytes()


class PocketThread:
    """One model and its thread, which starts on first use and ends with :meth:`close`."""

    def __init__(self, load: Callable[[], Backend], *, batch: int) -> None:
        """``load`` runs on the thread, once; at most ``batch`` utterances are spoken in a step."""
        if batch < 1:
            raise ValueError(f"batch must be at least 1, got {batch}")
        self._load = load
        self._batch = batch
        self._wake = threading.Condition()
        self._jobs: deque[Callable[[], None]] = deque()
        self._utterances: list[Utterance] = []
        self._thread: threading.Thread | None = None
        self._closed = False
        self._backend: Backend | None = None
        self._generator: Generator | None = None
        self._speaking: list[Utterance] = []

    def submit(self, job: Callable[[Backend], ResultT]) -> asyncio.Future[ResultT]:
        """Run ``job`` on the thread between two steps, once the model is loaded.

        The future has its result or what it or the loading raised. ``RuntimeError`` once closed.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[ResultT] = loop.create_future()

        def settle(result: Any, error: Exception | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

        def work() -> None:
            result, failure = None, None
            if not future.cancelled():
                try:
                    result = job(self._loaded())
                except Exception as error:
                    failure = error
            try:
                loop.call_soon_threadsafe(settle, result, failure)
            except RuntimeError:  # the loop closed meanwhile: nobody waits for it
                return

        with self._wake:
            self._start()
            self._jobs.append(work)
            self._wake.notify()
        return future

    def open(self, utterance: Utterance) -> None:
        """Speak ``utterance``; ``RuntimeError`` once closed."""
        with self._wake:
            self._start()
            self._utterances.append(utterance)

    def feed(self, utterance: Utterance, phrase: str) -> None:
        """Queue ``phrase``."""
        with self._wake:
            utterance.phrases.append(phrase)
            self._wake.notify()

    def finish(self, utterance: Utterance) -> None:
        """No more phrases will come."""
        with self._wake:
            utterance.finished = True
            self._wake.notify()

    def cut(self, utterance: Utterance) -> None:
        """Nobody listens to ``utterance`` any more."""
        with self._wake:
            utterance.cut = True
            utterance.phrases.clear()
            if utterance in self._utterances:
                self._utterances.remove(utterance)
            self._wake.notify()

    def taken(self, utterance: Utterance, samples: int) -> None:
        """The listener took ``samples``."""
        with self._wake:
            utterance.ahead -= samples
            if utterance.resting and utterance.ahead <= RESUME_SECONDS * utterance.rate:
                utterance.resting = False
                self._wake.notify()

    def close(self) -> None:
        """End the thread; blocks until it has. Idempotent."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()

    def _start(self) -> None:
        if self._closed:
            raise RuntimeError("the pocket engine is closed")
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="pocket", daemon=True)
            self._thread.start()

    def _loaded(self) -> Backend:
        if self._backend is None:
            self._backend = self._load()
            self._generator = Generator(self._backend)
        return self._backend

    def _run(self) -> None:
        while True:
            with self._wake:
                while not (self._closed or self._jobs or self._ready()):
                    self._wake.wait()
                if self._closed:
                    jobs: list[Callable[[], None]] = list(self._jobs)
                    self._jobs.clear()
                    ready: list[Utterance] = []
                else:
                    jobs = [self._jobs.popleft()] if self._jobs else []
                    ready = self._ready()
                closed = self._closed
            for job in jobs:
                job()
            if closed:
                return
            if ready:
                self._speak(ready)

    def _ready(self) -> list[Utterance]:
        return [u for u in self._utterances if not u.resting and u.pending()]

    def _speak(self, ready: list[Utterance]) -> None:
        try:
            self._loaded()
        except Exception as error:
            for utterance in ready:
                self._fail(utterance, error)
            return
        speaking = self._begin(self._chosen(ready))
        if not speaking:
            return
        assert self._generator is not None
        lanes = [utterance.lane for utterance in speaking if utterance.lane is not None]
        try:
            frames = self._generator.sound(lanes)
            for utterance, frame in zip(speaking, frames, strict=True):
                utterance.turn += 1
                self._put(utterance, utterance.sound(frame))
            self._generator.advance(lanes)
        except Exception as error:
            log.error("pocket.failed", exc_info=error)
            self._generator = Generator(self._loaded())
            for utterance in speaking:
                self._fail(utterance, error)
            return
        for utterance, lane in zip(speaking, lanes, strict=True):
            if lane.over:
                utterance.lane = None
                if (chunk := utterance.phrase_over()) is not None:
                    self._put(utterance, chunk)
            elif utterance.cut:
                lane.over = True

    def _chosen(self, ready: list[Utterance]) -> list[Utterance]:
        """Who speaks in this step: those who did, until their turn is over and others wait."""
        if len(ready) > self._batch:
            waiting = [u for u in ready if u not in self._speaking]
            held = [u for u in self._speaking if u in ready and u.turn < TURN_STEPS]
            spent = [u for u in self._speaking if u in ready and u.turn >= TURN_STEPS]
            ready = (held + waiting + spent)[: self._batch]
        for utterance in ready:
            if utterance not in self._speaking or utterance.turn >= TURN_STEPS:
                utterance.turn = 0
        self._speaking = ready
        return ready

    def _begin(self, chosen: list[Utterance]) -> list[Utterance]:
        """Give each of ``chosen`` a lane; who has one, or got one."""
        assert self._generator is not None
        begun = 0
        for utterance in chosen:
            if utterance.lane is not None or begun >= BEGINNINGS:
                continue
            phrase = None
            if not utterance.within_phrase:
                with self._wake:
                    phrase = utterance.phrases.popleft() if utterance.phrases else None
                    over = utterance.finished and phrase is None
                if over:
                    self._end(utterance, None)
                    continue
            try:
                text = utterance.next_text(phrase, self._generator)
                if text is not None:
                    begun += 1
                    utterance.lane = self._generator.begin(utterance.voice.state.prompt, text)
                elif (chunk := utterance.phrase_over()) is not None:
                    self._put(utterance, chunk)
            except Exception as error:
                log.error("pocket.failed", exc_info=error)
                self._fail(utterance, error)
        return [u for u in chosen if u.lane is not None]

    def _put(self, utterance: Utterance, chunk: SpeechChunk) -> None:
        with self._wake:
            utterance.ahead += len(chunk.pcm) // 2
            utterance.resting = utterance.ahead > AHEAD_SECONDS * utterance.rate
        if not utterance.cut:
            utterance.listener.put(chunk)

    def _fail(self, utterance: Utterance, error: Exception) -> None:
        known = isinstance(error, SynthesisError)
        said = str(error) if known else f"the pocket engine failed: {type(error).__name__}"
        failure = error if isinstance(error, SynthesisError) else SynthesisError(said)
        self._end(utterance, failure)

    def _end(self, utterance: Utterance, error: SynthesisError | None) -> None:
        utterance.lane = None
        with self._wake:
            if utterance in self._utterances:
                self._utterances.remove(utterance)
        utterance.listener.put(error)
