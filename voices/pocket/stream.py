"""An utterance of a pocket voice on the event loop's side."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final

from ringtrue.streaming.errors import SynthesisError
from ringtrue.streaming.ports import SpeechChunk
from ringtrue.voices.pocket.service import CloneVoice, PocketThread, Utterance

MAX_QUEUED: Final = 20_000
"""Characters one utterance may hold (some 20 minutes of speech)."""


class PocketStream:
    """One utterance being spoken; see :class:`~ringtrue.streaming.ports.SynthesisStream`.

    Overflow policy: audio is made up to
    :data:`~ringtrue.voices.pocket.service.AHEAD_SECONDS` ahead of its consumer. Text beyond
    :data:`MAX_QUEUED` characters ends :meth:`frames` with an error after what was accepted.
    """

    def __init__(
        self,
        thread: PocketThread,
        voice: CloneVoice,
        source: int,
        rate: int,
        on_end: Callable[[PocketStream], None],
    ) -> None:
        """Speak in ``voice`` from a model at ``source`` Hz, at ``rate`` Hz."""
        self._loop = asyncio.get_running_loop()
        self._thread = thread
        self._on_end = on_end
        self._chunks: deque[SpeechChunk | SynthesisError | None] = deque()
        self._changed = asyncio.Event()
        self._characters = 0
        self._overflow = False
        self._finished = False
        self._cut = False
        self._consumed = False
        self._utterance = Utterance(voice, source, rate, self)
        thread.open(self._utterance)

    def put(self, item: SpeechChunk | SynthesisError | None) -> None:
        """Take what the thread made; called there."""
        try:
            self._loop.call_soon_threadsafe(self._take, item)
        except RuntimeError:  # the loop closed: nobody listens
            return

    def _take(self, item: SpeechChunk | SynthesisError | None) -> None:
        if not self._cut:
            self._chunks.append(item)
            self._changed.set()

    def feed(self, phrase: str) -> None:
        """Queue one phrase. After :meth:`finish` or :meth:`cut` it is dropped."""
        if self._finished or self._cut or self._overflow:
            return
        if self._characters + len(phrase) > MAX_QUEUED:
            self._overflow = True
            self._thread.finish(self._utterance)
            return
        self._characters += len(phrase)
        self._thread.feed(self._utterance, phrase)

    def finish(self) -> None:
        """No more phrases: :meth:`frames` ends once everything fed has been spoken."""
        if not self._finished:
            self._finished = True
            self._thread.finish(self._utterance)

    def cut(self) -> None:
        """Stop now: queued text and audio are dropped and :meth:`frames` ends. Idempotent."""
        if not self._cut:
            self._cut = True
            self._chunks.clear()
            self._thread.cut(self._utterance)
            self._changed.set()
            self._on_end(self)

    async def frames(self) -> AsyncIterator[SpeechChunk]:
        """Chunks of up to 80 ms as they are made, in order. For one consumer, once.

        Word marks are estimates; see :mod:`ringtrue.voices.pocket.marks`. Raises
        :class:`~ringtrue.streaming.errors.SynthesisError` if the model fails, if too much text
        was queued, or if the stream is read twice.
        """
        if self._consumed:
            raise SynthesisError("a synthesis stream can be read only once")
        self._consumed = True
        try:
            while True:
                while not self._chunks and not self._cut:
                    self._changed.clear()
                    await self._changed.wait()
                if self._cut:
                    return
                item = self._chunks.popleft()
                if isinstance(item, SynthesisError):
                    raise item
                if item is None:
                    break
                self._thread.taken(self._utterance, len(item.pcm) // 2)
                yield item
            if self._overflow:
                raise SynthesisError(f"more than {MAX_QUEUED} characters were queued to be spoken")
        finally:
            self.cut()
