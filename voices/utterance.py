"""An utterance of a rendered voice as a stream: the asynchronous side of the renderer.

Stock and cloned voices share it, and with it the threads that do the work.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from functools import partial
from typing import Any, Final, TypeVar

from ringtrue.streaming.errors import SynthesisError
from ringtrue.streaming.ports import SpeechChunk
from ringtrue.voices.renderer import RATES, RenderedVoice, Renderer
from ringtrue.voices.said import History
from ringtrue.voices.workers import Urgency, Workers

ResultT = TypeVar("ResultT")

FIRST_FRAMES: Final = (8, 16)
"""Sizes of an utterance's first slices in 5 ms frames: 40 and 80 ms. The first is heard as soon as
it is there, so the second has that long to come, through an event loop that may be busy."""

SLICE_FRAMES: Final = 20
"""Size of the following slices: 100 ms, about 0.3 ms of work."""

WHOLE_SECONDS: Final = 0.01
"""Of work in one go, after its first slice, where a phrase is made whole: a slice at a time through
a busy event loop, it would take longer than what is heard before it lasts. A thread serves nobody
else meanwhile."""

MAX_QUEUED: Final = 20_000
"""Characters that may wait in one utterance (some 20 minutes of speech)."""

AHEAD_SECONDS: Final = SLICE_FRAMES * 0.005
"""Audio a stream makes ahead of its consumer: one slice, the one being asked for."""


class RenderedStream:
    """One utterance being spoken; see :class:`~ringtrue.streaming.ports.SynthesisStream`.

    Phrases that the voice said before in the same order are not rendered again, see
    :mod:`ringtrue.voices.said`.

    Overflow policy: audio is made on demand, one slice at a time. Text beyond
    :data:`MAX_QUEUED` characters ends :meth:`frames` with an error after what was accepted.
    """

    def __init__(
        self,
        voice: Callable[[], Awaitable[RenderedVoice]],
        rate: int,
        workers: Workers,
        on_end: Callable[[RenderedStream], None],
    ) -> None:
        """Speak at ``rate`` Hz in what ``voice`` gives once the first phrase is there.

        ``on_end`` is told when the stream is cut or read to its end. Raises ``ValueError`` for
        a rate not in :data:`~ringtrue.voices.renderer.RATES`.
        """
        if rate not in RATES:
            raise ValueError(f"rate must be one of {', '.join(map(str, RATES))} Hz, got {rate}")
        self._voice = voice
        self._workers = workers
        self._rate = rate
        self._on_end = on_end
        self._phrases: deque[str] = deque()
        self._queued = 0
        self._overflow = False
        self._finished = False
        self._cut = False
        self._consumed = False
        self._changed = asyncio.Event()
        self._work: asyncio.Future[Any] | None = None

    @property
    def alive(self) -> bool:
        """Whether the threads that make it serve anybody: what it owes is late, not lost."""
        return self._workers.alive

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
        """Chunks as they are made, from 40 up to 100 ms, in order. For one consumer, once.

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
        """What was said before as it is kept, the rest as it is made."""
        voice: RenderedVoice | None = None
        renderer: Renderer | None = None
        history, behind = History.of(self._rate), deque[str]()
        sizes: Iterator[int] | None = iter(FIRST_FRAMES)  # None: something is being heard
        while (phrase := await self._next_phrase()) is not None:
            if voice is None:
                voice = await self._voice()
            history = history.then(phrase)
            kept = voice.said.recall(history)
            if kept is not None:
                behind.append(phrase)
            else:
                wanted = voice.said.asked(history)
                renderer = renderer or Renderer(voice, self._rate)
                if await self._whole(renderer, behind) is None:
                    return
                if wanted and sizes is None:
                    # Others wait for it too: made at once, and not as this utterance is heard.
                    made = await self._whole(renderer, deque([phrase]))
                    if made is None:
                        return
                    kept = tuple(made)
                    voice.said.keep(history, kept)
            if kept is not None:
                for chunk in kept:
                    if self._cut:
                        return
                    yield chunk
                    await asyncio.sleep(0)  # the loop's other work between
            else:
                assert renderer is not None
                made = []
                async with aclosing(self._slices(renderer, phrase, sizes or iter(()))) as slices:
                    async for chunk in slices:
                        made.append(chunk)
                        yield chunk
                if self._cut:
                    return
                if wanted:
                    voice.said.keep(history, made)
            sizes = None
        if voice is None or self._cut:
            return
        history = history.end()
        kept = voice.said.recall(history)
        if kept is None:
            wanted = voice.said.asked(history)
            renderer = renderer or Renderer(voice, self._rate)
            if await self._whole(renderer, behind) is None:
                return
            kept = (renderer.finish(),)
            if wanted:
                voice.said.keep(history, kept)
        for chunk in kept:
            yield chunk

    async def _slices(
        self, renderer: Renderer, phrase: str, sizes: Iterator[int]
    ) -> AsyncGenerator[SpeechChunk, None]:
        """``phrase`` as it is asked for, its first slices of ``sizes`` frames; ends with a cut."""
        pending: str | None = phrase
        while pending is not None or not renderer.idle:
            size = next(sizes, SLICE_FRAMES)
            urgency = Urgency.FIRST_AUDIO if size < SLICE_FRAMES else Urgency.AHEAD
            chunk = await self._done(urgency, partial(_slice_of, renderer, pending, size))
            if chunk is None:
                return
            pending = None
            yield chunk

    async def _whole(self, renderer: Renderer, phrases: deque[str]) -> list[SpeechChunk] | None:
        """All of ``phrases``, which are taken; None once the stream is cut."""
        made: list[SpeechChunk] = []
        while phrases or not renderer.idle:
            phrase = phrases.popleft() if renderer.idle else None
            slices = await self._done(Urgency.AHEAD, partial(_slices_of, renderer, phrase))
            if slices is None:
                return None
            made += slices
        return made

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

    async def _done(self, urgency: Urgency, job: Callable[[], ResultT]) -> ResultT | None:
        """What ``job`` makes, or None as soon as the stream is cut; one under way is abandoned."""
        if self._cut:
            return None
        self._work = work = self._workers.submit(urgency, job)
        try:
            made = await work
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._cut and (task is None or not task.cancelling()):
                return None
            raise
        return None if self._cut else made


def _slice_of(renderer: Renderer, phrase: str | None, frames: int) -> SpeechChunk:
    """The next slice, of ``phrase`` where it is to be begun."""
    if phrase is not None:
        renderer.begin(phrase)
    return renderer.next_slice(frames)


def _slices_of(renderer: Renderer, phrase: str | None) -> list[SpeechChunk]:
    """The next slices, until the phrase ends or :data:`WHOLE_SECONDS` are over."""
    slices = [_slice_of(renderer, phrase, SLICE_FRAMES)]
    until = time.monotonic() + WHOLE_SECONDS
    while not renderer.idle and time.monotonic() < until:
        slices.append(renderer.next_slice(SLICE_FRAMES))
    return slices
