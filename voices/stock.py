"""The embedded engine with its stock voices: Flite's parameters, our vocoder, no network."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Final

from ringtrue.streaming.errors import SynthesisError, UnknownVoiceError
from ringtrue.streaming.ports import SpeechChunk
from ringtrue.voices.flite import VOICES, Flite, FliteVoice
from ringtrue.voices.renderer import RATES, RenderedVoice, Renderer
from ringtrue.voices.workers import Urgency, Workers

FIRST_FRAMES: Final = (4, 8, 16)
"""Sizes of an utterance's first slices in 5 ms frames: 20, 40 and 80 ms."""

SLICE_FRAMES: Final = 20
"""Size of the following slices: 100 ms, about 0.3 ms of work."""

MAX_QUEUED: Final = 20_000
"""Characters that may wait in one utterance (some 20 minutes of speech)."""

AHEAD_SECONDS: Final = SLICE_FRAMES * 0.005
"""Audio a stream makes ahead of its consumer: one slice, the one being asked for."""


class FliteEngine:
    """Flite's ``slt``, ``awb`` and ``rms``, for many calls at once, off the event loop.

    Libraries load on the first :meth:`warm`; one engine serves one event loop.
    """

    def __init__(
        self,
        *,
        library_dir: Path | None = None,
        search: Sequence[Path] = (),
        voices: Sequence[str] = VOICES,
        threads: int | None = None,
    ) -> None:
        """Offer ``voices`` from the libraries in ``library_dir``, ``search`` or the system.

        ``library_dir`` holds ``libflite.so.1`` and, where the system has none,
        ``libasound.so.2``. ``threads`` bounds the pool. Raises
        :class:`~ringtrue.streaming.errors.UnknownVoiceError` for a voice Flite hasn't.
        """
        for voice in voices:
            if voice not in VOICES:
                raise UnknownVoiceError(voice, VOICES)
        self._names = tuple(voices)
        self._library_dir = library_dir
        self._search = tuple(search)
        self._workers = Workers(threads, name="flite")
        self._loading = asyncio.Lock()
        self._loaded: dict[str, RenderedVoice] = {}
        self._streams: set[FliteStream] = set()

    @property
    def name(self) -> str:
        """Engine and version, as the audit log shows it."""
        return "flite-2.2/ringtrue-vocoder-1"

    @property
    def voices(self) -> tuple[str, ...]:
        """Names :meth:`open` accepts."""
        return self._names

    @property
    def speaks_markup(self) -> bool:
        """True: rate, pitch, volume, emphasis, breaks and readings are rendered."""
        return True

    async def warm(self) -> None:
        """Load the libraries, compile the kernels and measure the voices. Idempotent.

        Raises :class:`~ringtrue.voices.errors.EngineUnavailableError` if Flite can't be used.
        """
        async with self._loading:
            if len(self._loaded) < len(self._names):
                self._loaded = await self._workers.submit(Urgency.FIRST_AUDIO, self._load)

    def _load(self) -> dict[str, RenderedVoice]:
        flite = Flite(self._library_dir, self._search)
        loaded = {name: RenderedVoice(FliteVoice(flite, name)) for name in self._names}
        for rate in RATES:
            renderer = Renderer(next(iter(loaded.values())), rate)
            renderer.begin("On 1/2/2030 at 3:04 pm, $5.")
            renderer.next_slice(FIRST_FRAMES[0])
        return loaded

    async def voice(self, name: str) -> RenderedVoice:
        """The loaded voice ``name``; loads the engine on first use."""
        if name not in self._loaded:
            await self.warm()
        return self._loaded[name]

    def open(self, voice: str, rate: int) -> FliteStream:
        """Start an utterance in ``voice`` at ``rate`` Hz (8000 or 16000).

        Raises :class:`~ringtrue.streaming.errors.UnknownVoiceError` naming the choices and
        ``ValueError`` for another rate.
        """
        if voice not in self._names:
            raise UnknownVoiceError(voice, self._names)
        if rate not in RATES:
            raise ValueError(f"rate must be one of {', '.join(map(str, RATES))} Hz, got {rate}")
        stream = FliteStream(self, self._workers, voice, rate, self._streams.discard)
        self._streams.add(stream)
        return stream

    async def close(self) -> None:
        """Cut every open stream and end the threads."""
        for stream in tuple(self._streams):
            stream.cut()
        self._streams.clear()
        await asyncio.to_thread(self._workers.close)


class FliteStream:
    """One utterance being spoken; see :class:`~ringtrue.streaming.ports.SynthesisStream`.

    Overflow policy: audio is made on demand, one slice at a time. Text beyond
    :data:`MAX_QUEUED` characters ends :meth:`frames` with an error after what was accepted.
    """

    def __init__(
        self,
        engine: FliteEngine,
        workers: Workers,
        voice: str,
        rate: int,
        on_end: Callable[[FliteStream], None],
    ) -> None:
        """Use :meth:`FliteEngine.open`."""
        self._engine = engine
        self._workers = workers
        self._voice = voice
        self._rate = rate
        self._on_end = on_end
        self._phrases: deque[str] = deque()
        self._queued = 0
        self._overflow = False
        self._finished = False
        self._cut = False
        self._consumed = False
        self._changed = asyncio.Event()
        self._work: asyncio.Future[SpeechChunk] | None = None

    def feed(self, phrase: str) -> None:
        """Queue one phrase. After :meth:`finish` or :meth:`cut` it is dropped."""
        if self._finished or self._cut or self._overflow:
            return
        if self._queued + len(phrase) > MAX_QUEUED:
            self._overflow = True
        else:
            self._phrases.append(phrase)
            self._queued += len(phrase)
        self._changed.set()

    def finish(self) -> None:
        """No more phrases: :meth:`frames` ends once everything fed has been spoken."""
        self._finished = True
        self._changed.set()

    def cut(self) -> None:
        """Stop now: queued text and audio are dropped and :meth:`frames` ends. Idempotent."""
        self._cut = True
        self._phrases.clear()
        self._changed.set()
        if self._work is not None:
            self._work.cancel()
        self._on_end(self)

    async def frames(self) -> AsyncIterator[SpeechChunk]:
        """Chunks as they are made, from 20 up to 100 ms, in order. For one consumer, once.

        Raises :class:`~ringtrue.streaming.errors.SynthesisError` if Flite fails, if too much text
        was queued, or if the stream is read twice.
        """
        if self._consumed:
            raise SynthesisError("a synthesis stream can be read only once")
        self._consumed = True
        try:
            async for chunk in self._chunks():
                yield chunk
        finally:
            self._cut = True
            self._phrases.clear()
            self._on_end(self)

    async def _chunks(self) -> AsyncIterator[SpeechChunk]:
        renderer: Renderer | None = None
        sizes = iter(FIRST_FRAMES)
        while (phrase := await self._next_phrase()) is not None:
            if renderer is None:
                renderer = Renderer(await self._engine.voice(self._voice), self._rate)
            pending: str | None = phrase
            while pending is not None or not renderer.idle:
                size = next(sizes, SLICE_FRAMES)
                urgency = Urgency.FIRST_AUDIO if size < SLICE_FRAMES else Urgency.AHEAD
                chunk = await self._render(renderer, pending, size, urgency)
                if chunk is None:
                    return
                pending = None
                yield chunk
        if renderer is not None and not self._cut:
            tail = renderer.finish()
            yield tail

    async def _next_phrase(self) -> str | None:
        while not self._phrases:
            if self._overflow and not self._cut:
                raise SynthesisError(f"more than {MAX_QUEUED} characters were queued to be spoken")
            if self._finished or self._cut:
                return None
            self._changed.clear()
            await self._changed.wait()
        phrase = self._phrases.popleft()
        self._queued -= len(phrase)
        return phrase

    async def _render(
        self, renderer: Renderer, phrase: str | None, frames: int, urgency: Urgency
    ) -> SpeechChunk | None:
        """One slice, or None as soon as the stream is cut; a slice under way is abandoned."""

        def job() -> SpeechChunk:
            if phrase is not None:
                renderer.begin(phrase)
            return renderer.next_slice(frames)

        if self._cut:
            return None
        self._work = self._workers.submit(urgency, job)
        try:
            chunk = await self._work
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._cut and (task is None or not task.cancelling()):
                return None
            raise
        return None if self._cut else chunk
