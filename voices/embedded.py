"""The embedded engine's cloned voices: Flite's parameters made over to a speaker's, our vocoder.

No network and no accelerator. A voice's state is a :class:`~.cloning.model.CloneModel`; speaking
with it costs little more than with the stock voice it builds on, on the same threads.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Final

from ringtrue.streaming.errors import UnknownVoiceError
from ringtrue.voices.cloning.model import CloneModel
from ringtrue.voices.embedded_job import Request
from ringtrue.voices.engine import OnProgress, Speech
from ringtrue.voices.errors import EngineStateError
from ringtrue.voices.fargan.vocoder import warm_up
from ringtrue.voices.pool import JobLimits, JobPool
from ringtrue.voices.renderer import RenderedVoice
from ringtrue.voices.stock import FliteEngine
from ringtrue.voices.utterance import RenderedStream

ENGINE_ID: Final = "embedded-1"

MAX_STATE: Final = 8 << 20
"""Bytes of the largest state looked at."""

_JOB: Final = "ringtrue.voices.embedded_job:clone"
_GAINS: Final = (1e-3, 1e3)
"""What a voice may need to come to the common level; beyond, its parameters are no speech."""


class EmbeddedVoice:
    """A cloned voice, ready; see :class:`~ringtrue.voices.engine.PreparedVoice`."""

    def __init__(self, stock: FliteEngine, voice: RenderedVoice) -> None:
        """Made by :meth:`EmbeddedEngine.prepare`."""
        self._stock = stock
        self._voice = voice

    @property
    def speaks_markup(self) -> bool:
        """True: rate, pitch, volume, emphasis, breaks and readings are rendered."""
        return True

    def open(self, rate: int) -> RenderedStream:
        """Start an utterance; raises ``ValueError`` for a rate that isn't 8000 or 16000 Hz."""
        return self._stock.speak(self._ready, rate)

    def forget(self) -> None:
        """Keep nothing that was said."""
        self._voice.said.forget()

    async def _ready(self) -> RenderedVoice:
        return self._voice


class EmbeddedEngine:
    """Clones voices and speaks them; see :class:`~ringtrue.voices.engine.VoiceEngine`.

    It lives on a stock engine: the libraries it loaded, its threads and its streams, which the
    stock engine's ``close`` ends.
    """

    def __init__(self, stock: FliteEngine, limits: JobLimits | None = None) -> None:
        """Speak with ``stock``; make voices in processes within ``limits``."""
        self._stock = stock
        self._pool = JobPool(limits)

    @property
    def id(self) -> str:
        """``embedded-1``."""
        return ENGINE_ID

    async def warm(self) -> None:
        """Load the stock voices and compile their kernels. Idempotent.

        The neural vocoder costs memory, so it is loaded with the first voice that speaks by it.

        Raises :class:`~ringtrue.voices.errors.EngineUnavailableError` if Flite can't be used.
        """
        await self._stock.warm()

    async def clone(self, speech: Speech, on_progress: OnProgress) -> bytes:
        """Make a voice's state in another process; tens of seconds. Cancelling ends it.

        Raises :class:`~ringtrue.voices.errors.CloningError` where the speech won't do,
        :class:`~ringtrue.voices.errors.EngineBusyError` where too many voices are being made and
        :class:`~ringtrue.voices.errors.CloningAbortedError` where the process fails.
        """
        request = Request(speech, self._stock.library_dir, self._stock.search)
        return await self._pool.run(_JOB, request.encode(), on_progress)

    async def prepare(self, state: bytes) -> EmbeddedVoice:
        """Make a state ready: read it, load its base, measure its level.

        Raises :class:`~ringtrue.voices.errors.EngineStateError` for bytes that are no state of
        this engine, :class:`~ringtrue.voices.errors.EngineUnavailableError` without Flite or, for
        a neural voice, without the network's weights.
        """
        if len(state) > MAX_STATE:
            raise EngineStateError(f"a state has at most {MAX_STATE} bytes, got {len(state)}")
        model = await self._stock.work(partial(CloneModel.from_bytes, state))
        try:
            base = await self._stock.base(model.base)
        except UnknownVoiceError as error:
            raise EngineStateError(f"the state's base: {error}") from None
        if model.neural:
            await self._stock.work(warm_up)
        voice = await self._stock.work(partial(model.rendered, base))
        if not (math.isfinite(voice.gain) and _GAINS[0] < voice.gain < _GAINS[1]):
            raise EngineStateError("the state's parameters are no speech")
        return EmbeddedVoice(self._stock, voice)

    async def close(self) -> None:
        """End the processes. Idempotent; streams end with the stock engine."""
        await self._pool.close()
