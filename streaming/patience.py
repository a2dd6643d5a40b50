"""Waiting for a synthesizer: not for ever, and not in the way of what can't wait.

:class:`Patient` stands between an engine's stream and whoever pushes its chunks; :class:`Pacer`
keeps that from running too far ahead of real time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any, Final

from ringtrue.streaming.errors import SynthesisError
from ringtrue.streaming.ports import SpeechChunk, SynthesisStream
from ringtrue.streaming.recognizers.port import Pulsed

BEATS: Final = 4
"""Into so many parts the waiting is divided: a process that was held up itself, whose timers are
all due at once, has only waited for one of them."""


PATIENCE: Final = 4
"""So many times as long an engine is waited for that is known to work, and has much to do."""


class StalledError(SynthesisError):
    """An engine made nothing of what it was given."""


class Patient:
    """One utterance's chunks.

    While nothing of it was made yet, lines known beforehand may be put in front of it.
    """

    def __init__(
        self,
        chunks: AsyncIterator[SpeechChunk],
        owed: Callable[[], bool],
        stall: float,
        joined: Callable[[int], Awaitable[None]] | None = None,
        *,
        works: Callable[[], bool] = lambda: False,
    ) -> None:
        """``owed`` says whether something was fed and not spoken; ``stall`` is in seconds.

        Where ``works`` says that the engine serves others meanwhile, it is waited for
        :data:`PATIENCE` times as long: giving it up would lose speech that is only late.

        ``joined`` is told how many lines were put in front, once audio follows them.
        """
        self._chunks = chunks
        self._owed = owed
        self._stall = stall
        self._joined = joined
        self._works = works
        self._in_front = 0
        self._lines: deque[SynthesisStream] = deque()
        self._begun = self._over = False
        self._limit: asyncio.Timeout | None = None
        self._beating: asyncio.TimerHandle | None = None
        self._nudged: asyncio.Future[None] | None = None
        self._offset = 0

    def interject(self, line: SynthesisStream) -> bool:
        """Speak ``line`` first; False where it is too late for that."""
        if self._begun or self._over:
            return False
        self._lines.append(line)
        self._nudge()
        return True

    def fed(self) -> None:
        """Something more was fed: from now on it is owed."""
        if self._limit is not None and self._beating is None:
            self._beat(self._limit, 0)
        self._nudge()

    async def frames(self) -> AsyncGenerator[SpeechChunk, None]:
        """The chunks, with their words' places counted from what was put in front.

        Raises :class:`StalledError` when the engine makes nothing of what it owes in time.
        """
        try:
            while not self._begun:
                first = asyncio.ensure_future(self._next())
                try:
                    async for chunk in self._until(first):
                        yield chunk
                finally:
                    first.cancel()
                    await asyncio.gather(first, return_exceptions=True)
                chunk_or_none = first.result()
                if chunk_or_none is None:
                    return
                self._begun = bool(chunk_or_none.pcm)
                if self._begun and self._in_front and self._joined is not None:
                    await self._joined(self._in_front)
                yield self._shifted(chunk_or_none)
            while (chunk_or_none := await self._in_time()) is not None:
                yield self._shifted(chunk_or_none)
        finally:
            self._over = True
            close = getattr(self._chunks, "aclose", None)
            if close is not None:
                await close()

    async def _until(self, first: asyncio.Future[SpeechChunk | None]) -> AsyncIterator[SpeechChunk]:
        """Lines put in front, until ``first`` is there."""
        beats = 0
        while not first.done() or self._lines:
            while self._lines:
                self._in_front += 1
                async for chunk in self._lines.popleft().frames():
                    self._offset += len(chunk.pcm) // 2
                    yield chunk
            if first.done():
                return
            self._nudged = asyncio.get_running_loop().create_future()
            either: set[asyncio.Future[Any]] = {first, self._nudged}
            part = self._stall / BEATS if self._owed() else None
            done, _ = await asyncio.wait(either, timeout=part, return_when=asyncio.FIRST_COMPLETED)
            beats += not done
            if self._is_up(beats) and not first.done():
                raise self._stalled()

    async def _in_time(self) -> SpeechChunk | None:
        try:
            async with asyncio.timeout(None) as self._limit:
                if self._owed():
                    self._beat(self._limit, 0)
                return await self._next()
        except TimeoutError:
            raise self._stalled() from None
        finally:
            self._limit = None
            if self._beating is not None:
                self._beating.cancel()
                self._beating = None

    def _beat(self, limit: asyncio.Timeout, count: int) -> None:
        loop = asyncio.get_running_loop()
        if self._is_up(count):
            limit.reschedule(loop.time())
        else:
            self._beating = loop.call_later(self._stall / BEATS, self._beat, limit, count + 1)

    def _is_up(self, beats: int) -> bool:
        return beats >= BEATS and (beats >= PATIENCE * BEATS or not self._works())

    def _stalled(self) -> StalledError:
        return StalledError(f"the engine made nothing for {self._stall:g} s")

    async def _next(self) -> SpeechChunk | None:
        return await anext(self._chunks, None)

    def _shifted(self, chunk: SpeechChunk) -> SpeechChunk:
        if not self._offset or not chunk.words:
            return chunk
        words = tuple(replace(word, end=word.end + self._offset) for word in chunk.words)
        return replace(chunk, words=words)

    def _nudge(self) -> None:
        if self._nudged is not None and not self._nudged.done():
            self._nudged.set_result(None)


def at_work(stream: SynthesisStream) -> Callable[[], bool]:
    """Whether the engine of ``stream`` is known to work, asked anew each time."""
    return lambda: isinstance(stream, Pulsed) and stream.alive


class Pacer:
    """Lets audio go at most so many seconds ahead of real time, unless it is in a hurry."""

    def __init__(self, max_ahead: float) -> None:
        """``max_ahead`` is in seconds."""
        self._max_ahead = max_ahead
        self._horizon = 0.0
        self.hurry = asyncio.Event()
        """While set, nothing waits."""

    def reset(self) -> None:
        """What went ahead was dropped."""
        self._horizon = 0.0

    async def went(self, seconds: float) -> None:
        """``seconds`` of audio went; wait where that is too far ahead."""
        now = asyncio.get_running_loop().time()
        self._horizon = max(self._horizon, now) + seconds
        wait = self._horizon - now - self._max_ahead
        if wait <= 0 or self.hurry.is_set():
            return
        try:
            async with asyncio.timeout(wait):
                await self.hurry.wait()
        except TimeoutError:
            return
