"""The graph's voice: phrases in, audio with its words in place out, by any synthesis engine.

Downstream of an utterance come, in this order::

    AggregatedTextFrame   each phrase, as it is about to be spoken (not for the context)
    TTSStartedFrame
    TTSAudioRawFrame …    100 ms at most each, cut where a word ends
    SpokenWordFrame …     each word (a TTSTextFrame), right behind the audio in which it ended
    TTSStoppedFrame

An utterance is one LLM response or one ``TTSSpeakFrame``. Other downstream frames keep their place
behind the speech that was asked for before them. Interruption ends everything at once.

A cloned voice speaks by a licence, which its audio carries. When that is lost, or the voice
fails, playout gives back what nobody heard yet, and the stock voice says it and all that follows.

Speech markup goes to engines that speak it; the text of every frame that leaves here is plain.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

import structlog
from pipecat.frames.frames import (
    AggregatedTextFrame,
    CancelFrame,
    EndFrame,
    Frame,
    InterruptionFrame,
    LLMAssistantPushAggregationFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    StartFrame,
    SystemFrame,
    TTSSpeakFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.utils.errors import ErrorCategory

from ringtrue.streaming.ahead import AheadStream, Prepared
from ringtrue.streaming.budget.filler import joined
from ringtrue.streaming.budget.lines import Recalling
from ringtrue.streaming.delivery import Delivery
from ringtrue.streaming.errors import SynthesisError
from ringtrue.streaming.handover import Utterance, carry_on
from ringtrue.streaming.patience import Pacer, Patient, at_work
from ringtrue.streaming.ports import (
    LicensedVoice,
    SynthesisEngine,
    SynthesisStream,
)
from ringtrue.streaming.provenance import Provenance
from ringtrue.streaming.ssml import markup_of, parse, set_markup
from ringtrue.streaming.voice_frames import TakeBackFrame

log = structlog.get_logger(__name__)

MAX_AHEAD: Final = 3.0
"""Seconds of audio pushed ahead of real time; the rest of a long utterance is made later."""

MAX_WAITING: Final = 1000
"""Phrases and frames that may wait here; beyond, phrases are refused with an error."""

DRAIN_SECONDS: Final = 15.0
"""How long an ending call waits for the engine to finish what was asked of it."""

HANDOVER_SECONDS: Final = 2.0
"""How long playout may take to give back what was not heard."""

STALL_SECONDS: Final = 1.0
"""How long an engine may make nothing of what it was given."""

ENGINE_RATES: Final = (8000, 16000)

FAILED: Final = "engine_failed"
"""Why a cloned voice gave way that its consent still allows."""


class SpeechSynthesizer(FrameProcessor):
    """Speaks with a :class:`~ringtrue.streaming.ports.SynthesisEngine`.

    Speech always yields to an interruption, also that of a frame marked uninterruptible: a
    caller who speaks is listened to.
    """

    def __init__(
        self,
        engine: SynthesisEngine,
        voice: str,
        *,
        rate: int | None = None,
        max_ahead: float = MAX_AHEAD,
        cloned: LicensedVoice | None = None,
        on_fallback: Callable[[str], None] | None = None,
        lines: Recalling | None = None,
        stall: float = STALL_SECONDS,
    ) -> None:
        """Speak in ``voice``, or in ``cloned`` as long as it may.

        ``on_fallback`` is told once why ``cloned`` gave way to ``voice``. ``lines`` are what
        ``voice`` said before; an engine that makes nothing for ``stall`` seconds has failed.

        ``rate`` in Hz is 8000 or 16000 and defaults to the pipeline's output rate where that is
        one of them, else 16000. ``max_ahead`` bounds, in seconds, the audio pushed ahead of real
        time. Raises ``ValueError`` for another rate.
        """
        if rate is not None and rate not in ENGINE_RATES:
            raise ValueError(f"rate must be one of {ENGINE_RATES} Hz, got {rate}")
        super().__init__(name="synthesizer")
        self._engine = engine
        self._voice = voice
        self._asked_rate = rate
        self._rate = rate or ENGINE_RATES[-1]
        self._pacer = Pacer(max_ahead)
        self._stall = stall
        self._lines = lines
        self._patient: Patient | None = None
        self._cloned = cloned
        self._on_fallback = on_fallback
        self._provenance: Provenance | None = None
        self._handing_over = False
        self._broken: Utterance | None = None
        self._draining = False
        self._queue: deque[Utterance | Frame] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None
        self._speaking: Utterance | None = None
        self._open: Utterance | None = None
        self._in_response = False
        self._prepared = Prepared()
        self._waiting_phrases = 0
        self._idle.set()
        if cloned is not None:
            cloned.on_lost(self._voice_lost)

    def can_generate_metrics(self) -> bool:
        """True: time to first byte, from the first phrase to the first audio, is reported."""
        return True

    def seal_with(self, provenance: Provenance) -> None:
        """Seal what is spoken, for the gate of one call; what is not sealed, none lets out."""
        self._provenance = provenance

    @property
    def voice(self) -> str:
        """The voice of utterances to come."""
        return self._voice

    @voice.setter
    def voice(self, voice: str) -> None:
        self.discard()
        self._voice = voice

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Take text to speak; pass everything else on in its place."""
        await super().process_frame(frame, direction)
        if direction is FrameDirection.UPSTREAM:
            await self.push_frame(frame, direction)
        elif isinstance(frame, StartFrame):
            self._start()
            await self.push_frame(frame, direction)
        elif isinstance(frame, InterruptionFrame):
            await self._interrupt()
            await self.push_frame(frame, direction)
        elif isinstance(frame, CancelFrame):
            await self._stop()
            await self.push_frame(frame, direction)
        elif isinstance(frame, SystemFrame):
            await self.push_frame(frame, direction)
        elif isinstance(frame, EndFrame):
            self._close_open()
            await self._drain()
            await self.push_frame(frame, direction)
        elif isinstance(frame, TTSSpeakFrame):
            await self._speak(frame)
        elif type(frame) is AggregatedTextFrame and not frame.skip_tts:
            await self._phrase(frame)
        else:
            if isinstance(frame, LLMFullResponseStartFrame | LLMFullResponseEndFrame):
                self._close_open()
                self._in_response = isinstance(frame, LLMFullResponseStartFrame)
            self._enqueue(frame)

    async def cleanup(self) -> None:
        """Stop speaking."""
        await super().cleanup()  # type: ignore[no-untyped-call]
        await self._stop()

    def _start(self) -> None:
        rate = self.processor_setup.audio_out_sample_rate
        if self._asked_rate is None and rate in ENGINE_RATES:
            self._rate = rate
        self._start_pump()

    def _start_pump(self) -> None:
        if self._pump is None:
            self._pump = self.create_task(self._run(), "synthesizer::pump")

    async def _stop(self) -> None:
        """End the pump; what it was speaking is cut and nothing of it is pushed any more."""
        pump, self._pump = self._pump, None
        for item in (self._speaking, self._open, *self._queue):
            if isinstance(item, Utterance) and item.stream is not None:
                item.stream.cut()
        self.discard()
        self._open = self._speaking = None
        self._broken = None
        self._handed_over()  # the cut that ends this speech takes all of it back
        if pump is not None:
            await self.cancel_task(pump)
        if self._provenance is not None:
            self._provenance.supersede()
        self._queue = deque(item for item in self._queue if _outlives_interruption(item))
        self._waiting_phrases = 0
        self._pacer.reset()
        if not self._queue:
            self._idle.set()

    async def _interrupt(self) -> None:
        await self._stop()
        self._in_response = False
        self._start_pump()
        self._wake.set()

    def _enqueue(self, item: Utterance | Frame) -> None:
        self._queue.append(item)
        self._idle.clear()
        self._wake.set()

    async def _speak(self, frame: TTSSpeakFrame) -> None:
        self._close_open()
        if not frame.text.strip():
            return
        commit = frame.append_to_context and not self._in_response
        text = AggregatedTextFrame(frame.text, frame.text_type)
        set_markup(text, markup_of(frame) or frame.text)
        context, memory, asked = frame.append_to_context, self._memory(), markup_of(text) or ""
        known = memory is not None and memory.knows(asked, self._rate)
        line = memory.recall(asked, self._rate) if memory is not None and known else None
        if line is not None and self._put_in_front(text, line, context):
            return
        await self._feed(text, append_to_context=context, commit=commit, line=line)
        self._close_open()

    def knows(self, text: str) -> bool:
        """Whether ``text`` can be said at once, even while the engine makes nothing."""
        memory = self._memory()
        return memory is not None and memory.knows(text, self._rate)

    def _memory(self) -> Recalling | None:
        if self._cloned is None:
            return self._lines
        return self._cloned if isinstance(self._cloned, Recalling) else None

    def _put_in_front(
        self, text: AggregatedTextFrame, line: SynthesisStream, append_to_context: bool
    ) -> bool:
        """Say ``line`` before the utterance in hand, where nothing of that was made yet."""
        utterance, patient = self._speaking, self._patient
        if utterance is None or patient is None or self._handing_over:
            return False
        if utterance.append_to_context is not append_to_context or not patient.interject(line):
            return False
        text.append_to_context = False
        text.will_be_spoken = True
        utterance.phrases.appendleft(text)
        self._waiting_phrases += 1
        return True

    async def _phrase(self, frame: AggregatedTextFrame) -> None:
        if not frame.text.strip():
            return
        await self._feed(frame, append_to_context=frame.append_to_context, commit=False)
        if not self._in_response:
            self._close_open()

    async def _feed(
        self,
        frame: AggregatedTextFrame,
        *,
        append_to_context: bool,
        commit: bool,
        line: SynthesisStream | None = None,
    ) -> None:
        if self._waiting_phrases + len(self._queue) >= MAX_WAITING:
            await self._report(SynthesisError(f"more than {MAX_WAITING} phrases wait to be spoken"))
            return
        markup = markup_of(frame)
        if markup is None:
            markup = frame.text
        frame.text = parse(markup).text
        set_markup(frame, markup)
        utterance = self._open
        if utterance is None or utterance.append_to_context != append_to_context:
            self._close_open()
            utterance = Utterance(append_to_context, commit)
            try:
                if line is None:
                    self._begin(utterance, markup)
                else:
                    utterance.begin(line, speaks_markup=True, licensed=self._cloned is not None)
            except Exception as error:
                await self._report(error)
                return
            self._open = utterance
            await self.start_ttfb_metrics()
            self._enqueue(utterance)
        utterance.feed(frame)
        if self._patient is not None and utterance is self._speaking:
            self._patient.fed()
        self._waiting_phrases += 1
        await self.start_tts_usage_metrics(frame.text)

    def _begin(self, utterance: Utterance, markup: str | None = None) -> None:
        """Open a stream for it: in the cloned voice where it may speak, else in the stock voice.

        Where it begins with ``markup`` and that was prepared, it goes on with what is there.
        """
        licensed = self._cloned is not None
        prepared = None if markup is None else self._prepared.take(markup, licensed=licensed)
        if prepared is not None:
            utterance.begin(prepared[0], speaks_markup=prepared[1], licensed=licensed)
            return
        if self._cloned is not None:
            try:
                stream = self._cloned.open(self._rate)
            except Exception as error:
                log.warning("synthesizer.cloned_voice_failed", error=type(error).__name__)
                self._voice_lost(FAILED)
            else:
                marked = self._cloned.speaks_markup
                utterance.begin(stream, speaks_markup=marked, licensed=True)
                return
        stream = self._engine.open(self._voice, self._rate)
        utterance.begin(stream, speaks_markup=self._engine.speaks_markup, licensed=False)

    def prepare(self, markup: str, on_wasted: Callable[[float], None]) -> AheadStream | None:
        """Synthesize ``markup``, the first phrase of what may be said next, ahead of time.

        An utterance that begins so uses it; ``on_wasted`` is told of seconds made for nothing.
        """
        if self._handing_over or self._pump is None:
            return None
        speaker = partial(self._engine.open, self._voice)
        return self._prepared.begin(
            speaker if self._cloned is None else self._cloned.open,
            markup,
            self._rate,
            speaks_markup=(self._cloned or self._engine).speaks_markup,
            licensed=self._cloned is not None,
            on_wasted=on_wasted,
        )

    def discard(self) -> None:
        """What was prepared will not be said."""
        self._prepared.discard()

    def _voice_lost(self, reason: str) -> None:
        """The cloned voice says no more in this call; the pump hands over."""
        if self._cloned is None:
            return
        self.discard()
        self._cloned = None
        self._handing_over = True
        if self._speaking is not None and self._speaking.stream is not None:
            self._speaking.stream.cut()
        self._idle.clear()
        self._pacer.hurry.set()
        self._wake.set()
        if self._on_fallback is not None:
            self._on_fallback(str(reason))

    def _handed_over(self) -> None:
        self._handing_over = False
        if not self._draining:
            self._pacer.hurry.clear()

    def _close_open(self) -> None:
        if self._open is not None:
            if self._open.stream is not None:
                self._open.stream.finish()
            self._open = None

    async def _drain(self) -> None:
        """Push all that is queued, no longer paced, before the call ends."""
        self._draining = True
        self._pacer.hurry.set()
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await self._idle.wait()
        except TimeoutError:
            log.warning("synthesizer.drain_timeout", seconds=DRAIN_SECONDS)
            await self._stop()

    async def _run(self) -> None:
        while True:
            while self._queue or self._handing_over:
                if self._handing_over:
                    await self._hand_over()
                    continue
                item = self._queue.popleft()
                if isinstance(item, Utterance):
                    await self._say(item)
                else:
                    await self.push_frame(item)
            self._idle.set()
            self._wake.clear()
            await self._wake.wait()

    async def _hand_over(self) -> None:
        """Take back what the cloned voice said unheard, and queue it for the stock voice."""
        request = TakeBackFrame(asyncio.get_running_loop().create_future())
        await self.push_frame(request)
        unheard: tuple[Frame, ...] = ()
        try:
            async with asyncio.timeout(HANDOVER_SECONDS):
                unheard = await request.unheard
        except TimeoutError:
            log.error("synthesizer.handover_unanswered", seconds=HANDOVER_SECONDS)
        # Nothing is awaited from here until the queue is whole: phrases may come at any time.
        interrupted, self._broken = self._broken, None
        self._queue = carry_on(unheard, interrupted, self._queue)
        for item in tuple(self._queue):
            if isinstance(item, Utterance) and item.licensed:
                try:
                    self._begin(item)
                except Exception as error:
                    item.phrases.clear()
                    item.licensed = False
                    await self._report(error)
                if item is not self._open and item.stream is not None:
                    item.stream.finish()
        waiting = (item.phrases for item in self._queue if isinstance(item, Utterance))
        self._waiting_phrases = sum(map(len, waiting))
        self._pacer.reset()
        self._handed_over()

    async def _say(self, utterance: Utterance) -> None:
        self._speaking = utterance
        assert utterance.stream is not None
        owed, works = (lambda: bool(utterance.phrases)), at_work(utterance.stream)
        made = utterance.stream.frames()
        self._patient = patient = Patient(made, owed, self._stall, joined(self), works=works)
        sealer = None
        if self._provenance is not None and self._provenance.rate == self._rate:
            sealer = self._provenance.utterance()
        delivery = Delivery(self, utterance, self._rate, sealer)
        chunks = patient.frames()
        try:
            await delivery.announce()
            started = TTSStartedFrame(
                context_id=utterance.context_id, append_to_context=utterance.append_to_context
            )
            await self.push_frame(started)
            async for chunk in chunks:
                before = len(utterance.phrases)
                seconds = await delivery.push(chunk)
                self._waiting_phrases -= before - len(utterance.phrases)
                await self._pacer.went(seconds)
        except Exception as error:
            if utterance.licensed:
                if not self._handing_over:
                    log.warning("synthesizer.cloned_voice_failed", error=type(error).__name__)
                self._voice_lost(FAILED)
            else:
                await self._report(error)
        finally:
            utterance.stream.cut()
            self._speaking = self._patient = None
            await chunks.aclose()
        if self._handing_over and utterance.licensed:
            self._broken = utterance
            return
        self._waiting_phrases -= len(utterance.phrases)
        if self._open is utterance:
            self._open = None
        await self.push_frame(TTSStoppedFrame(context_id=utterance.context_id))
        if utterance.commit:
            await self.push_frame(LLMAssistantPushAggregationFrame())

    async def _report(self, error: Exception) -> None:
        """Tell the graph without costing the processor its use; the text itself is not logged."""
        log.warning("synthesizer.failed", engine=self._engine.name, error=type(error).__name__)
        message = str(error) if isinstance(error, SynthesisError) else type(error).__name__
        await self.push_error(
            f"speech synthesis failed: {message}", exception=error, category=ErrorCategory.UNKNOWN
        )


def _outlives_interruption(item: Utterance | Frame) -> bool:
    return isinstance(item, Frame) and not item.interruptible
