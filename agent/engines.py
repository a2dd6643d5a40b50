"""What all calls of a process share, and the three services made for each of them."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import structlog
from pipecat.processors.frame_processor import FrameProcessor

from ringtrue.agent.audit.log import Recorder
from ringtrue.agent.casting import Cast, Casting
from ringtrue.agent.gauges import Queues
from ringtrue.agent.voice_library import stock_engine
from ringtrue.config.agent_schema import Agent
from ringtrue.config.settings import (
    DialogueSettings,
    FliteSettings,
    OpenAiSettings,
    PipecatService,
    PocketsphinxSettings,
    Settings,
    WhisperSettings,
)
from ringtrue.streaming.budget.lines import Lines
from ringtrue.streaming.gate import FrameKind
from ringtrue.streaming.graph import Services, SharedModels
from ringtrue.streaming.llm.deadline import StallReport
from ringtrue.streaming.llm.dialogue import Dialogue
from ringtrue.streaming.llm.factory import build_language
from ringtrue.streaming.ports import frame_bytes
from ringtrue.streaming.recognizers.grammar import Grammar
from ringtrue.streaming.recognizers.pool import PoolPolicy, WorkerPool
from ringtrue.streaming.recognizers.port import Recognizer
from ringtrue.streaming.recognizers.service import StreamingRecognizer
from ringtrue.streaming.recognizers.sphinx import SphinxRecognizer
from ringtrue.streaming.recognizers.vocabulary import Vocabulary
from ringtrue.streaming.recognizers.whisper import WhisperPolicy, WhisperRecognizer
from ringtrue.streaming.record import Stage
from ringtrue.streaming.services import build_stt, build_tts
from ringtrue.streaming.spare import SpareVoice
from ringtrue.streaming.synthesizer import SpeechSynthesizer
from ringtrue.streaming.turns.of_agent import backchannels_of, idle_of
from ringtrue.voices.lease import Lease
from ringtrue.voices.library import VoiceLibrary
from ringtrue.voices.library_config import mark_keys
from ringtrue.voices.rolling_likeness import LikenessJudge, LikenessWatch
from ringtrue.voices.stock import FliteEngine
from ringtrue.voices.watermark.embedder import RATES
from ringtrue.voices.watermark.keyring import MarkKeys
from ringtrue.voices.watermark.marker import Marker

log = structlog.get_logger(__name__)

Probe = Callable[[Stage], None]


class Engines:
    """Models, recognizers, dialogues and voices, loaded once."""

    def __init__(
        self, settings: Settings, agents: Sequence[Agent], recorder: Recorder | None = None
    ) -> None:
        """For ``agents``; loads nothing yet. What is done with voices goes to ``recorder``.

        Raises :class:`~ringtrue.streaming.errors.LanguageError` for an agent without what the
        configured LLM needs, :class:`~ringtrue.config.errors.ConfigError` for a voice that can
        be none.
        """
        self._settings = settings
        self._agents = tuple(agents)
        self._pool: WorkerPool | None = None
        self._recognizers: dict[str, Recognizer] = {}
        self._dialogues: dict[str, Dialogue] = {}
        self._files = {agent.name: agent.dialogue for agent in self._agents}
        self._engine: FliteEngine | None = None
        self._lines: defaultdict[str, Lines] = defaultdict(Lines)
        """What the stock voices said before, by their names."""

        self._models: SharedModels | None = None
        self._marks: MarkKeys | None = None
        self.likeness = LikenessJudge()
        """Listens to the cloned voices of all calls."""

        self._seeds = random.Random()
        if isinstance(settings.llm, DialogueSettings):
            self._dialogues = {agent.name: Dialogue(agent) for agent in self._agents}
        tts = settings.tts
        own = isinstance(tts, FliteSettings)
        if isinstance(tts, FliteSettings) or isinstance(tts.fallback, FliteSettings):
            self._engine = stock_engine(settings)
        self._cast = Cast(settings, self._agents, self._engine if own else None, recorder)

    @property
    def models(self) -> SharedModels:
        """Voice activity and turn detection; loaded by :meth:`warm`."""
        if self._models is None:
            self._models = SharedModels(smart_turn=self._settings.turns.smart_turn)
        return self._models

    @property
    def synthesis(self) -> FliteEngine | None:
        """The embedded synthesizer, where it is used."""
        return self._engine

    @property
    def library(self) -> VoiceLibrary | None:
        """The cloned voices; None where there are none, or they can't be had at present."""
        return self._cast.library

    async def cast(self, agent: Agent) -> Casting:
        """Who speaks in a call that ``agent`` answers; to be closed with the call."""
        return await self._cast.cast(agent)

    def watermarker(self, rate: int) -> Marker:
        """What marks all that one call sends, at ``rate`` Hz; :meth:`warm` has read its key."""
        if self._marks is None:
            self._marks = mark_keys(self._settings.voices)
        return Marker(self._marks, rate, datetime.now(UTC))

    def watch(self, lease: Lease, rate: int) -> LikenessWatch:
        """Listens to a call's cloned voice at ``rate`` Hz, and takes it away from a stranger.

        Raises :class:`~ringtrue.voices.encoder.errors.EncoderError` where it isn't known whose
        voice it should be.
        """

        def unlike(cosine: float) -> None:
            log.error("voices.unlike_speaker", voice=lease.voice, cosine=round(cosine, 2))
            lease.distrust()

        return self.likeness.watch(lease.speaker, lease.sound, rate, unlike)

    @property
    def speaker(self) -> str:
        """What speaks stock voices: engine and version, or the service's name."""
        tts, own = self._settings.tts, "" if self._engine is None else self._engine.name
        if isinstance(tts, FliteSettings):
            return own
        spare = tts.fallback
        if spare is None:
            return tts.service
        second = spare.service if isinstance(spare, PipecatService) else own
        return f"{tts.service}, or {second} where it failed"

    def recognizer_pids(self) -> tuple[int, ...]:
        """Process ids of the recognizer's workers."""
        return self._pool.pids if self._pool is not None else ()

    def queues(self) -> Queues:
        """What waits for the engines of this process."""
        return Queues(
            recognizer_seconds=self._pool.waiting if self._pool is not None else 0.0,
            synthesis_jobs=self._engine.waiting if self._engine is not None else 0.0,
        )

    def vad_seconds(self) -> float:
        """CPU seconds that the voice-activity network took."""
        return self._models.silero.busy if self._models is not None else 0.0

    async def warm(self) -> None:
        """Load everything, so that the first call waits for nothing."""
        started = time.monotonic()
        # Its processes load while this one does.
        recognizers = asyncio.create_task(self._load_recognizers(), name="recognizers")
        try:
            await self._warm_own()
            await recognizers
        finally:
            recognizers.cancel()
            await asyncio.gather(recognizers, return_exceptions=True)
        log.info("engines.warm", seconds=round(time.monotonic() - started, 2))

    async def _load_recognizers(self) -> None:
        for agent in self._agents:
            recognizer = self._recognizer(agent)
            if recognizer is not None:
                await recognizer.load()

    async def _warm_own(self) -> None:
        """What is loaded into this process."""
        await asyncio.sleep(0)  # recognizers first: they are waited for last
        _ = self.models
        await asyncio.to_thread(self._warm_watermark)
        if isinstance(self._settings.llm, OpenAiSettings):
            # Its client reads this on the first request, and the loop would wait for it.
            await asyncio.to_thread(importlib.import_module, "openai.resources.chat.completions")
        if self._engine is not None:
            await self._engine.warm()
        await self._cast.open()

    def _warm_watermark(self) -> None:
        for rate in RATES:
            marker = self.watermarker(rate)
            marker.mark(bytes(frame_bytes(rate)), FrameKind.SILENCE)

    async def close(self) -> None:
        """Release everything; what fails to close keeps nothing else open."""
        async with contextlib.AsyncExitStack() as stack:
            if self._models is not None:
                stack.callback(self._models.close)
            if self._engine is not None:
                stack.push_async_callback(self._engine.close)
            stack.push_async_callback(asyncio.to_thread, self.likeness.close)
            stack.push_async_callback(self._cast.close)
            if self._pool is not None:
                stack.push_async_callback(self._pool.close)
            for recognizer in self._recognizers.values():
                stack.push_async_callback(recognizer.close)

    def services(
        self,
        agent: Agent,
        *,
        casting: Casting,
        probe: Probe,
        on_stall: Callable[[StallReport], None],
        on_fallback: Callable[[str], None],
    ) -> Services:
        """Recognizer, LLM and synthesizer for one call of ``agent``.

        An agent that brings another dialogue than its file's follows that, whatever the LLM.
        ``on_fallback`` is told why the cloned voice of ``casting`` gave way to the stock voice.
        """
        own = self._files.get(agent.name)
        tts = self._tts(agent, casting, on_fallback)
        scripted = agent.dialogue is not None and agent.dialogue is not own
        language = build_language(
            DialogueSettings(engine="dialogue") if scripted else self._settings.llm,
            agent,
            self._settings.deadlines,
            dialogue=None if scripted else self._dialogues.get(agent.name),
            variables=agent.variables,
            seed=self._seeds.getrandbits(32),
            on_stall=on_stall,
            probe=probe,
            budget=self._settings.budget,
            faster=tts.switch if isinstance(tts, SpareVoice) else None,
        )
        if isinstance(tts, SpeechSynthesizer):
            language.keeper.voice = tts
            language.keeper.learn = self._learner(casting)
        return Services(
            stt=self._stt(agent),
            llm=language.llm,
            tts=tts,
            keeper=language.keeper,
            before_tts=language.before_tts,
            context=language.context,
            completes=language.llm.completes,
            expects=lambda: language.llm.expects(language.context),
            suffices=language.llm.suffices,
            believe=language.llm.believe,
            backchannels=backchannels_of(agent) if self._settings.turns.backchannels else None,
            idle=idle_of(agent),
            sensitive=language.llm.sensitive,
            disclosure=language.disclosure,
        )

    def _recognizer(self, agent: Agent) -> Recognizer | None:
        """The recognizer that ``agent`` shares with all calls like it; None for a service."""
        stt = self._settings.stt
        if isinstance(stt, PipecatService):
            return None
        if isinstance(stt, WhisperSettings):
            key = "whisper"
        else:
            key = agent.name if stt.model == "agent" else stt.model
        if key not in self._recognizers:
            if isinstance(stt, WhisperSettings):
                self._recognizers[key] = _whisper(stt, self._settings.paths.cache)
            else:
                self._recognizers[key] = self._sphinx(stt, agent)
        return self._recognizers[key]

    def _sphinx(self, stt: PocketsphinxSettings, agent: Agent) -> Recognizer:
        if self._pool is None:
            self._pool = WorkerPool(PoolPolicy(processes=stt.processes))
        grammar = Grammar()
        if stt.model == "agent":
            grammar = Grammar(vocabulary=Vocabulary(phrases=agent.vocabulary()))
        elif stt.model == "jsgf":
            grammar = Grammar(jsgf=stt.file)
        elif stt.model == "lm":
            grammar = Grammar(lm=stt.file)
        return SphinxRecognizer(grammar, self._pool, mirror_gain=stt.mirror_gain)

    def _stt(self, agent: Agent) -> FrameProcessor:
        stt = self._settings.stt
        if isinstance(stt, PipecatService):
            service = build_stt(stt.service, stt.revealed())
            service._audio_passthrough = False  # caller audio ends at the recognizer
            return service
        recognizer = self._recognizer(agent)
        assert recognizer is not None
        return StreamingRecognizer(
            recognizer,
            vad_stop_seconds=self._settings.vad.stop_seconds,
            stall_seconds=self._settings.budget.recognizer_stall_seconds,
        )

    def _tts(
        self, agent: Agent, casting: Casting, on_fallback: Callable[[str], None]
    ) -> FrameProcessor:
        tts = self._settings.tts
        if isinstance(tts, PipecatService):
            service = build_tts(tts.service, tts.revealed())
            spare = self._spare(tts.fallback, agent)
            return service if spare is None else SpareVoice(service, spare)
        assert self._engine is not None
        return SpeechSynthesizer(
            self._engine,
            casting.stock,
            cloned=casting.lease,
            on_fallback=on_fallback,
            lines=self._lines[casting.stock],
            stall=self._settings.budget.voice_stall_seconds,
        )

    def _spare(
        self, tts: FliteSettings | PipecatService | None, agent: Agent
    ) -> FrameProcessor | None:
        """What speaks where the hosted service fails."""
        if tts is None:
            return None
        if isinstance(tts, PipecatService):
            return build_tts(tts.service, tts.revealed())
        assert self._engine is not None
        return SpeechSynthesizer(self._engine, tts.voice or agent.fallback_voice)

    def _learner(self, casting: Casting) -> Callable[[Sequence[str], int], Awaitable[None]]:
        """Lets the voice of ``casting`` make lines beforehand."""
        if casting.lease is not None:
            return casting.lease.learn
        assert self._engine is not None
        return partial(self._lines[casting.stock].learn, partial(self._engine.open, casting.stock))


def _whisper(settings: WhisperSettings, cache: Path | None) -> Recognizer:
    return WhisperRecognizer(
        settings.model,
        language=settings.language,
        device=settings.device,
        compute_type=settings.compute_type,
        cache=cache,
        policy=WhisperPolicy(
            step=settings.step_seconds,
            window=settings.window_seconds,
            beam_size=settings.beam_size,
            threads=settings.threads,
        ),
    )
