"""The embedded engine's stock voices: Flite's parameters, our vocoder, no network.

It holds what the voices cloned on top of them need too: the libraries and the threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from ringtrue.streaming.errors import UnknownVoiceError
from ringtrue.voices.flite import VOICES, Flite, FliteVoice
from ringtrue.voices.renderer import RATES, RenderedVoice, Renderer
from ringtrue.voices.utterance import FIRST_FRAMES, RenderedStream
from ringtrue.voices.workers import Urgency, Workers

ResultT = TypeVar("ResultT")


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
        self._flite: Flite | None = None
        self._bases: dict[str, FliteVoice] = {}
        self._loaded: dict[str, RenderedVoice] = {}
        self._streams: set[RenderedStream] = set()

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

    @property
    def library_dir(self) -> Path | None:
        """The directory that was named for Flite's libraries."""
        return self._library_dir

    @property
    def search(self) -> tuple[Path, ...]:
        """Directories looked into before the system's."""
        return self._search

    @property
    def pending(self) -> int:
        """Pieces of speech being made or waiting to be."""
        return self._workers.pending

    @property
    def waiting(self) -> float:
        """Pieces of speech that wait to be made, for each thread."""
        return self._workers.waiting

    async def warm(self) -> None:
        """Load the libraries, compile the kernels and measure the voices. Idempotent.

        Raises :class:`~ringtrue.voices.errors.EngineUnavailableError` if Flite can't be used.
        """
        async with self._loading:
            if len(self._loaded) < len(self._names):
                self._loaded = await self.work(self._load)

    def _load(self) -> dict[str, RenderedVoice]:
        loaded = {name: RenderedVoice(self._base(name)) for name in self._names}
        for rate in RATES:
            renderer = Renderer(next(iter(loaded.values())), rate)
            renderer.begin("On 1/2/2030 at 3:04 pm, $5.")
            renderer.next_slice(FIRST_FRAMES[0])
        return loaded

    def _base(self, name: str) -> FliteVoice:
        if self._flite is None:
            self._flite = Flite(self._library_dir, self._search)
        if name not in self._bases:
            self._bases[name] = FliteVoice(self._flite, name)
        return self._bases[name]

    async def base(self, name: str) -> FliteVoice:
        """Flite's voice ``name``, for a cloned voice to build on, also where it isn't offered.

        Raises :class:`~ringtrue.streaming.errors.UnknownVoiceError` for one Flite hasn't.
        """
        if name not in VOICES:
            raise UnknownVoiceError(name, VOICES)
        async with self._loading:
            if name not in self._bases:
                await self.work(partial(self._base, name))
            return self._bases[name]

    async def voice(self, name: str) -> RenderedVoice:
        """The loaded voice ``name``; loads the engine on first use."""
        if name not in self._loaded:
            await self.warm()
        return self._loaded[name]

    async def work(self, job: Callable[[], ResultT]) -> ResultT:
        """The result of ``job``, run in a worker thread behind the audio a caller waits for.

        Jobs are short (some 20 ms): while one runs, its thread serves no stream.
        """
        return await self._workers.submit(Urgency.AHEAD, job)

    def open(self, voice: str, rate: int) -> RenderedStream:
        """Start an utterance in ``voice`` at ``rate`` Hz (8000 or 16000).

        Raises :class:`~ringtrue.streaming.errors.UnknownVoiceError` naming the choices and
        ``ValueError`` for another rate.
        """
        if voice not in self._names:
            raise UnknownVoiceError(voice, self._names)
        return self.speak(partial(self.voice, voice), rate)

    def speak(self, voice: Callable[[], Awaitable[RenderedVoice]], rate: int) -> RenderedStream:
        """Start an utterance of any rendered voice on this engine's threads.

        Raises ``ValueError`` for a rate that isn't 8000 or 16000 Hz.
        """
        stream = RenderedStream(voice, rate, self._workers, self._streams.discard)
        self._streams.add(stream)
        return stream

    async def close(self) -> None:
        """Cut every open stream and end the threads."""
        for stream in tuple(self._streams):
            stream.cut()
        self._streams.clear()
        await asyncio.to_thread(self._workers.close)
