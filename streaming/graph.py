"""The graph of one call: processors in their order, and the worker that runs them.

::

    leg → listener → recognizer → DTMF → user context → LLM → watchdog → phrases → synthesizer
                                                            leg ← gate ← playout ← assistant context

Recognizer, LLM and synthesizer may be any Pipecat service; everything they say still ends in
playout and the gate.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from pipecat.audio.dtmf.types import KeypadEntry
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    ErrorFrame,
    Frame,
    InputDTMFFrame,
    InterimTranscriptionFrame,
    InterruptionFrame,
    LLMRunFrame,
    TranscriptionFrame,
    TTSSpeakFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.dtmf_aggregator import DTMFAggregator
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMAssistantAggregator,
    LLMUserAggregator,
    LLMUserAggregatorParams,
    UserTurnStoppedMessage,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.turns.empty_user_turn import EmptyUserTurnConfig
from pipecat.turns.user_start import TranscriptionUserTurnStartStrategy, VADUserTurnStartStrategy
from pipecat.turns.user_turn_strategies import UserTurnStrategies
from pipecat.workers.runner import WorkerRunner

from ringtrue.streaming.budget.keeper import BudgetKeeper
from ringtrue.streaming.dismantle import take_apart
from ringtrue.streaming.echo.guard import EchoGuard
from ringtrue.streaming.errors import GraphError
from ringtrue.streaming.gate import GatePolicy, UtteranceDigest, VoiceWatch, Watermarker
from ringtrue.streaming.listen import Listener
from ringtrue.streaming.llm.disclosing import listening
from ringtrue.streaming.llm.disclosure import Disclosure
from ringtrue.streaming.ports import MediaLeg
from ringtrue.streaming.record import CallRecord, Stage, TurnRecord
from ringtrue.streaming.recording import StereoTap
from ringtrue.streaming.refusals import OnRefusal
from ringtrue.streaming.sealing import SealingTap, SealsSpeech
from ringtrue.streaming.session import CallSession
from ringtrue.streaming.silero import SileroModel
from ringtrue.streaming.spare import SpareVoice
from ringtrue.streaming.turns import SmartTurnModel, SpokenTurnStop, TurnPolicy
from ringtrue.streaming.turns.anticipation import anticipation
from ringtrue.streaming.turns.expect import Expect
from ringtrue.streaming.turns.floor import FloorKeeper
from ringtrue.streaming.turns.idle import IdleKeeper, IdlePolicy
from ringtrue.streaming.turns.overlap import Backchannels
from ringtrue.streaming.vad import SpeechDetector, VadPolicy

log = structlog.get_logger(__name__)

START_SECONDS: Final = 10.0
"""How long a graph may take to start."""

STOP_SECONDS: Final = 25.0
"""How long one may take to end: more than Pipecat gives a CancelFrame."""

UNHEARD_PROMPT: Final = (
    "The caller said something that was not understood. Briefly ask them to say it again."
)
"""What the LLM is told of a turn without words, so that a caller who speaks is not left in silence;
after two such turns in a row it is taken for noise."""

DTMF_SECONDS: Final = 2.0
"""Pause after which the digits dialled so far are one entry; ``#`` ends it at once."""


class SharedModels:
    """What every call of a process shares: VAD and turn networks, and the thread they run on."""

    def __init__(self, *, smart_turn: bool = True) -> None:
        """Load the models; takes some hundred milliseconds, so do it before the first call."""
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="turns")
        self.silero = SileroModel()
        self.smart_turn = SmartTurnModel(self._executor) if smart_turn else None

    def busy(self) -> bool:
        """Whether a judgement asked for now would wait for another."""
        return self.smart_turn is not None and self.smart_turn.busy

    def close(self) -> None:
        """Stop the thread."""
        self._executor.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class Services:
    """The three services of a call, and what stands between them."""

    stt: FrameProcessor
    llm: FrameProcessor
    tts: FrameProcessor
    before_tts: Sequence[FrameProcessor] = ()
    """Watchdog and phrase chunker, in their order."""

    context: LLMContext = field(default_factory=LLMContext)
    completes: Callable[[str], bool] | None = None
    """Whether words alone are surely a whole answer, where the LLM hook can tell."""

    expects: Callable[[], Expect] | None = None
    """What kind of answer was asked for, where the LLM hook can tell."""

    believe: Callable[[float | None], None] | None = None
    """Told how sure the recognizer is of the words of the turn that ends; None: it doesn't say."""

    suffices: Callable[[str], bool | None] | None = None
    """Whether words are all that was asked for; None where it can't be told."""

    backchannels: Backchannels | None = None
    """What callers say while they listen; None: any speech stops the agent."""

    idle: IdlePolicy | None = None
    """What is said to a caller who says nothing; None: nothing is."""

    disclosure: Disclosure | None = None
    """What the caller is told of the agent; it hears what of it was heard."""

    sensitive: Callable[[], bool] | None = None
    """Whether something is being asked that no recording may keep, where the LLM hook can tell."""

    keeper: BudgetKeeper | None = None
    """Keeps turns to their budget; stands right before the synthesizer."""


@dataclass(frozen=True, slots=True)
class GraphPolicy:
    """Behaviour of one call's graph."""

    vad: VadPolicy = VadPolicy()
    turns: TurnPolicy = TurnPolicy()
    gate: GatePolicy = GatePolicy()
    cancel_echo: bool = False
    """Take the agent's own voice out of what comes back; needs libspeexdsp."""


class CaptionTap(FrameProcessor):
    """Shows what is recognized to whoever may see it (the caller's own page)."""

    def __init__(self, on_caption: Callable[[str, bool], None]) -> None:
        """``on_caption`` takes the text and whether it is final."""
        super().__init__(name="captions", enable_direct_mode=True)
        self._on_caption = on_caption

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Pass everything on."""
        await super().process_frame(frame, direction)
        if isinstance(frame, TranscriptionFrame | InterimTranscriptionFrame):
            self._on_caption(frame.text, isinstance(frame, TranscriptionFrame))
        await self.push_frame(frame, direction)


class CallGraph:
    """The running graph of one call."""

    def __init__(
        self,
        leg: MediaLeg,
        record: CallRecord,
        services: Services,
        models: SharedModels,
        *,
        policy: GraphPolicy | None = None,
        watermarker: Watermarker | None = None,
        watch: VoiceWatch | None = None,
        tap: StereoTap | None = None,
        on_heard: Callable[[Frame], Awaitable[None]] | None = None,
        on_silence: Callable[[bool], None] | None = None,
        on_turn: Callable[[TurnRecord], None] | None = None,
        on_digest: Callable[[UtteranceDigest], None] | None = None,
        on_refusal: OnRefusal | None = None,
        on_message: Callable[[Any], None] | None = None,
        on_caption: Callable[[str, bool], None] | None = None,
        on_sound: Callable[[bytes], None] | None = None,
        on_end: Callable[[BaseException | None], None] | None = None,
    ) -> None:
        """Build the graph; nothing runs before :meth:`start`.

        ``on_caption`` is told what the caller says as it is recognized: text, and whether final.
        ``on_sound`` is given every 20 ms the far end sends, as it comes.
        ``on_end`` is told that the graph ended by itself, neither :meth:`finish` nor
        :meth:`stop` asking for it: None where a processor ended it in order, else what failed.
        """
        policy = policy or GraphPolicy()
        rate = leg.rate
        self._listener = Listener(
            SpeechDetector(models.silero, rate, policy.vad),
            rate,
            smart_turn=models.smart_turn,
            probe=self._probe,
        )
        self.on_key: Callable[[], None] | None = None
        """Told of each key that the far end presses."""

        self.session = CallSession(
            leg,
            record,
            hear=self._listener.hear,
            on_digit=self._digit,
            on_heard=listening(services.disclosure, record, on_heard),
            on_silence=on_silence,
            on_turn=on_turn,
            on_digest=on_digest,
            on_refusal=on_refusal,
            on_message=on_message,
            policy=policy.gate,
            watermarker=watermarker,
            watch=watch,
            tap=tap,
            on_sound=on_sound,
            eager=lambda: self._listener.eager,
            echo=EchoGuard(rate) if policy.cancel_echo else None,
            keeper=services.keeper,
        )
        judge = self._listener.judge if models.smart_turn is not None else None
        self.context = services.context
        self._disclosure = services.disclosure
        self._keeper = services.keeper
        self._user = LLMUserAggregator(
            self.context,
            params=LLMUserAggregatorParams(
                user_turn_strategies=UserTurnStrategies(
                    start=[
                        VADUserTurnStartStrategy(),
                        TranscriptionUserTurnStartStrategy(use_interim=False),
                    ],
                    stop=[
                        SpokenTurnStop(
                            judge,
                            policy.turns,
                            self._probe,
                            services.completes,
                            expects=services.expects,
                            suffices=services.suffices,
                            busy=models.busy,
                            hasten=self._listener.hasten,
                            on_cut_short=record.turn_taking.was_cut_short,
                            believe=services.believe,
                            answering=anticipation(
                                record.turn_taking,
                                services.llm,
                                services.tts,
                                services.before_tts,
                            ),
                            awaiting=None if services.keeper is None else services.keeper.awaiting,
                        )
                    ],
                ),
                audio_idle_timeout=0,
                empty_user_turn=EmptyUserTurnConfig(
                    idle_prompt=UNHEARD_PROMPT, max_consecutive_recoveries=2
                ),
            ),
        )
        tts, provenance = [services.tts], self.session.gate.provenance
        if isinstance(services.tts, SpareVoice):
            tts = services.tts.chain(provenance)
        elif isinstance(services.tts, SealsSpeech):
            services.tts.seal_with(provenance)
        else:
            tts.append(SealingTap(provenance))
        self._dtmf = DTMFAggregator(timeout=DTMF_SECONDS)
        # In direct mode the words released by playout reach the context before an interruption
        # that follows them can commit it.
        assistant = LLMAssistantAggregator(self.context, enable_direct_mode=True)
        self._worker = PipelineWorker(
            Pipeline(
                [
                    self._listener,
                    services.stt,
                    *self._floor(services),
                    self._dtmf,
                    *self._idle(services.idle),
                    *([] if on_caption is None else [CaptionTap(on_caption)]),
                    self._user,
                    services.llm,
                    *services.before_tts,
                    *([] if services.keeper is None else [services.keeper]),
                    *tts,
                    self.session.output,
                    assistant,
                ]
            ),
            params=PipelineParams(audio_in_sample_rate=rate, audio_out_sample_rate=rate),
            cancel_on_idle_timeout=False,
            idle_timeout_secs=None,
            enable_turn_tracking=False,
            enable_rtvi=False,
            check_dangling_tasks=False,
        )
        self._runner = WorkerRunner(handle_sigint=False)
        self._started = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._on_end = on_end
        self._ending = self._finishing = self._in_order = False
        self._worker.add_event_handler("on_pipeline_started", self._on_started)
        self._worker.add_event_handler("on_pipeline_error", self._on_error)
        self._worker.add_event_handler("on_pipeline_finished", self._on_finished)
        self._user.add_event_handler("on_user_turn_stopped", self._on_turn_stopped)

    def _floor(self, services: Services) -> list[FrameProcessor]:
        """Who keeps the floor, where anybody does."""
        if services.backchannels is None:
            return []

        def ignored() -> None:
            self._listener.turn_ended()
            self.session.turns.ignored()

        session = self.session
        keeper = FloorKeeper(
            session.playout,
            services.backchannels,
            session.record.turn_taking,
            expects=services.expects,
            on_ignored=ignored,
        )
        session.output.on_interrupted = keeper.committed
        return [keeper]

    def _idle(self, policy: IdlePolicy | None) -> list[FrameProcessor]:
        """Who speaks to silent callers, where anybody does."""
        if policy is None:
            return []
        record = self.session.record.turn_taking
        return [IdleKeeper(policy, record, rests=lambda: self.session.held or self.session.bridged)]

    async def start(self) -> None:
        """Run the graph; returns once every processor has started.

        Raises :class:`GraphError` when it ends instead, or takes longer than
        :data:`START_SECONDS`.
        """
        await self._runner.add_workers(self._worker)
        running = self._spawn(self._run(), "graph")
        started = asyncio.ensure_future(self._started.wait())
        try:
            await asyncio.wait(
                [running, started], timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            started.cancel()
        if not self._started.is_set():
            ended = running.done()
            await self.stop()
            raise GraphError(
                "the graph ended while starting"
                if ended
                else f"the graph did not start within {START_SECONDS:.0f} s"
            )
        self._spawn(self.session.feed(), "graph-feed")

    async def respond(self) -> None:
        """Let the LLM speak without waiting for the caller (greetings)."""
        await self._worker.queue_frame(LLMRunFrame())

    async def say(self, text: str) -> None:
        """Let the agent say ``text`` of its own accord, next; it is in the context from then on."""
        await self._worker.queue_frame(TTSSpeakFrame(text, append_to_context=True))

    async def interrupt(self) -> None:
        """Stop what is being said, and whatever was to be said after it."""
        await self._worker.queue_frame(InterruptionFrame())

    async def hush(self) -> None:
        """:meth:`interrupt`, and let the call rest: nothing is said, and nothing heard is meant."""
        await self.interrupt()
        self.session.hold(True, music=False)

    async def announce(self, text: str) -> None:
        """Say ``text``, and nothing of before, to somebody who has heard nothing yet."""
        await self.interrupt()
        if self._disclosure is not None:
            self._disclosure.anew()
        self.session.hold(False)
        await self.say(text)

    async def finish(self) -> None:
        """Say what was queued, then end the graph. May be cancelled, for :meth:`stop`."""
        self._ending = self._finishing = True
        await self._worker.queue_frame(EndFrame())
        await self._join()

    async def stop(self) -> None:
        """End the graph now; what doesn't end within :data:`STOP_SECONDS` is abandoned."""
        self._ending = True
        self.session.ending = True
        await self._worker.cancel()
        if self._finishing and self._tasks:
            # The worker passes no frame on while it waits for its EndFrame.
            await self._listener.queue_frame(CancelFrame())
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._join()
        except TimeoutError:
            log.error("graph.stuck", call=self.session.record.call_id)
            for task in self._tasks:
                task.cancel()

    def release(self) -> None:
        """Let go of everything, so that it is freed at once; after :meth:`stop`.

        Nothing of the graph or its session can be used any more. A graph that is stuck is kept.
        """
        if self._tasks:
            return
        take_apart([self._worker, self._runner])
        self.session.release()
        vars(self).clear()

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("graph.failed", task=task.get_name(), exc_info=error)
        if self._ending or self._on_end is None:
            return
        if error is None and not self._in_order:
            error = GraphError("the graph was cancelled from inside")
        self._on_end(error)

    async def _join(self) -> None:
        for task in self._tasks:
            if task.get_name() == "graph-feed":
                task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._tasks.clear()

    async def _run(self) -> None:
        await self._runner.run()

    async def _digit(self, digit: str) -> None:
        if self.on_key is not None:
            self.on_key()
        try:
            entry = KeypadEntry(digit)
        except ValueError:  # A–D exist in RFC 4733 but on no keypad
            return
        await self._dtmf.queue_frame(InputDTMFFrame(button=entry))

    def _probe(self, stage: Stage, at: float | None = None) -> None:
        self.session.probe(stage, at)

    async def _on_started(self, _worker: object, _frame: Frame) -> None:
        self._started.set()

    async def _on_error(self, _worker: object, frame: ErrorFrame) -> None:
        source = type(frame.processor).__name__ if frame.processor else "graph"
        self.session.record.errors[source] += 1
        log.warning("graph.error", processor=source, category=str(frame.category))

    async def _on_finished(self, _worker: object, frame: Frame) -> None:
        self._in_order = isinstance(frame, EndFrame)

    async def _on_turn_stopped(
        self, _user: object, _strategy: object, message: UserTurnStoppedMessage
    ) -> None:
        self._listener.turn_ended()
        if self._keeper is not None and message.content:
            self._keeper.asked()
