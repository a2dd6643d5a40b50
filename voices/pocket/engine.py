"""The pocket engine: cloned voices on Kyutai's pocket-tts, many calls on one model."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from ringtrue.streaming.errors import SynthesisError
from ringtrue.voices.engine import OnProgress, Speech
from ringtrue.voices.errors import EngineUnavailableError
from ringtrue.voices.pocket.backend import Backend, load
from ringtrue.voices.pocket.cloning import ENTRY, request_of
from ringtrue.voices.pocket.files import ModelFiles, open_directory
from ringtrue.voices.pocket.generation import Generator
from ringtrue.voices.pocket.marks import Pace
from ringtrue.voices.pocket.service import CloneVoice, PocketThread
from ringtrue.voices.pocket.state import load as load_state
from ringtrue.voices.pocket.stream import PocketStream
from ringtrue.voices.pool import JobPool
from ringtrue.voices.renderer import RATES

ENGINE_ID: Final = "pocket-1"

WARM_TEXT: Final = "Good morning to you."


class PocketEngine:
    """A :class:`~ringtrue.voices.engine.VoiceEngine` on one model.

    The model is loaded on the first :meth:`warm` or :meth:`prepare`, on the one thread that
    uses it; voices are made in processes of their own. One engine serves one event loop.
    """

    def __init__(
        self,
        directory: Path,
        *,
        batch: int = 16,
        threads: int = 1,
        temperature: float | None = None,
        pool: JobPool | None = None,
    ) -> None:
        """Use the model in ``directory``; nothing is read yet.

        At most ``batch`` utterances are spoken in a step. ``threads`` are torch's. ``pool``
        runs the cloning; without one the engine has its own.
        """
        self._directory = directory
        self._options = (threads, temperature)
        self._thread = PocketThread(self._load, batch=batch)
        self._pool = pool
        self._own_pool: JobPool | None = None
        self._files: ModelFiles | None = None
        self._warmed = False
        self._warming = asyncio.Lock()
        self._streams: set[PocketStream] = set()

    @property
    def id(self) -> str:
        """``pocket-1``. Which model a state belongs to stands in the state."""
        return ENGINE_ID

    @property
    def name(self) -> str:
        """Engine and model, as the audit log shows it."""
        known = f"{self._files.name}/{self._files.digest:.12}" if self._files else "not loaded"
        return f"pocket-tts/{known}"

    def _load(self) -> Backend:
        threads, temperature = self._options
        self._files = open_directory(self._directory)
        return load(self._files, threads=threads, temperature=temperature)

    async def warm(self) -> None:
        """Load the model. Idempotent.

        Raises :class:`~ringtrue.voices.errors.EngineUnavailableError` naming what is missing.
        """
        async with self._warming:
            if not self._warmed:
                await self._thread.submit(_run_once)
                self._warmed = True

    async def clone(self, speech: Speech, on_progress: OnProgress) -> bytes:
        """Make a voice's state of 3 s of ``speech`` or more; some seconds in another process.

        Raises :class:`~ringtrue.voices.errors.CloningError`.
        """
        files = await asyncio.to_thread(open_directory, self._directory)
        request = await asyncio.to_thread(request_of, files, speech)
        pool = self._pool
        if pool is None:
            pool = self._own_pool = self._own_pool or JobPool()
        return await pool.run(ENTRY, request, on_progress)

    async def prepare(self, state: bytes) -> PocketVoice:
        """Make ``state`` ready to speak; loads the model where :meth:`warm` didn't.

        Raises :class:`~ringtrue.voices.errors.EngineStateError`.
        """

        def ready(backend: Backend) -> tuple[CloneVoice, int]:
            return CloneVoice(load_state(backend, state), Pace()), backend.rate

        voice, source = await self._thread.submit(ready)
        return PocketVoice(self._thread, voice, source, self._streams)

    async def close(self) -> None:
        """Cut every open stream, end the thread and what is being cloned."""
        for stream in tuple(self._streams):
            stream.cut()
        if self._own_pool is not None:
            await self._own_pool.close()
        await asyncio.to_thread(self._thread.close)


class PocketVoice:
    """A :class:`~ringtrue.voices.engine.PreparedVoice`."""

    speaks_markup: Final = False

    def __init__(
        self, thread: PocketThread, voice: CloneVoice, source: int, streams: set[PocketStream]
    ) -> None:
        """Use :meth:`PocketEngine.prepare`."""
        self._thread = thread
        self._voice = voice
        self._source = source
        self._streams = streams

    def open(self, rate: int) -> PocketStream:
        """Start an utterance at ``rate`` Hz (8000 or 16000).

        Raises ``ValueError`` for another rate,
        :class:`~ringtrue.streaming.errors.SynthesisError` once the engine is closed.
        """
        if rate not in RATES:
            raise ValueError(f"rate must be one of {', '.join(map(str, RATES))} Hz, got {rate}")
        try:
            stream = PocketStream(
                self._thread, self._voice, self._source, rate, self._streams.discard
            )
        except RuntimeError as error:
            raise SynthesisError(str(error)) from None
        self._streams.add(stream)
        return stream


def _run_once(backend: Backend) -> None:
    """Let every kernel run once."""
    generator = Generator(backend)
    empty = backend.init_states(backend.model.flow_lm, batch_size=1, sequence_length=1)
    texts = generator.texts(WARM_TEXT)
    if not texts:
        raise EngineUnavailableError("the model's tokenizer makes nothing of plain English")
    lane = generator.begin(empty, texts[0])
    for _ in range(2):
        generator.step([lane])
