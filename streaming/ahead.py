"""The first phrase of an answer, synthesized before it may be said.

What is made waits here as plain PCM, bounded, in nobody's seal: the gate takes only what was
sealed when it began to sound.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final

from ringtrue.streaming.ports import SpeechChunk, SynthesisStream
from ringtrue.streaming.recognizers.port import Pulsed
from ringtrue.streaming.ssml import parse

MAX_AHEAD_SECONDS: Final = 2.0
"""Audio made before it may be said; the rest of the phrase is made once it may."""


class AheadStream:
    """A stream that was begun with one phrase, and is a stream like any other from then on.

    Overflow policy: at :data:`MAX_AHEAD_SECONDS` it stops asking the engine for more.
    """

    def __init__(
        self, stream: SynthesisStream, phrase: str, rate: int, on_wasted: Callable[[float], None]
    ) -> None:
        """Synthesize ``phrase`` on ``stream``, opened at ``rate`` Hz, from now on.

        ``on_wasted`` is told of the seconds that were made where none of it is used.
        """
        self.phrase = phrase
        self.ready_at: float | None = None
        """Loop time at which the first audio was there."""

        self._stream = stream
        self._rate = rate
        self._on_wasted = on_wasted
        self._chunks = stream.frames()
        self._made: deque[SpeechChunk] = deque()
        self._seconds = 0.0
        self._taken = self._cut = self._fed = False
        self._error: Exception | None = None
        self._ended = False
        self._changed = asyncio.Event()
        stream.feed(phrase)
        self._task = asyncio.get_running_loop().create_task(self._make(), name="ahead")

    async def _make(self) -> None:
        try:
            while not self._taken and self._seconds < MAX_AHEAD_SECONDS:
                chunk = await anext(self._chunks, None)
                if chunk is None:
                    self._ended = True
                    break
                self._made.append(chunk)
                self._seconds += len(chunk.pcm) / (2 * self._rate)
                if chunk.pcm and self.ready_at is None:
                    self.ready_at = asyncio.get_running_loop().time()
                self._changed.set()
                if chunk.phrase_end:
                    break
        except Exception as error:  # told to whoever speaks it, if anybody does
            self._error = error
        finally:
            self._changed.set()

    @property
    def alive(self) -> bool:
        """Whether the engine is known to work on it."""
        return isinstance(self._stream, Pulsed) and self._stream.alive

    def feed(self, phrase: str) -> None:
        """Queue one phrase; the first is the one that it was begun with."""
        if self._fed:
            self._stream.feed(phrase)
        self._fed = True

    def finish(self) -> None:
        """No more phrases."""
        self._stream.finish()

    async def frames(self) -> AsyncIterator[SpeechChunk]:
        """What was made ahead, then the rest as it is made."""
        self._taken = True
        try:
            while self._made or not self._task.done():
                if self._made:
                    yield self._made.popleft()
                else:
                    self._changed.clear()
                    await self._changed.wait()
            if self._error is not None:
                raise self._error
            if self._ended or self._cut:
                return
            async for chunk in self._chunks:
                yield chunk
        finally:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            close = getattr(self._chunks, "aclose", None)
            if close is not None:
                await close()

    def cut(self) -> None:
        """Stop; what nobody took is told of as wasted. Idempotent."""
        if self._cut:
            return
        self._cut = True
        self._stream.cut()
        self._changed.set()
        if not self._taken:
            self._task.cancel()
            self._made.clear()
            self._on_wasted(self._seconds)


class Prepared:
    """What a synthesizer has begun ahead of time: one phrase at most."""

    def __init__(self) -> None:
        """Nothing is."""
        self._held: tuple[AheadStream, str, bool, bool] | None = None

    def begin(
        self,
        speaker: Callable[[int], SynthesisStream],
        markup: str,
        rate: int,
        *,
        speaks_markup: bool,
        licensed: bool,
        on_wasted: Callable[[float], None],
    ) -> AheadStream | None:
        """Begin with ``markup`` on a stream that ``speaker`` opens at ``rate`` Hz.

        ``licensed``: it is in a cloned voice. ``on_wasted`` as in :class:`AheadStream`. None where
        the stream can't be opened: that is told of when the phrase is really to be said.
        """
        self.discard()
        try:
            stream = speaker(rate)
        except Exception:
            return None
        phrase = markup if speaks_markup else parse(markup).text
        ahead = AheadStream(stream, phrase, rate, on_wasted)
        self._held = ahead, markup, speaks_markup, licensed
        return ahead

    def take(self, markup: str, *, licensed: bool) -> tuple[AheadStream, bool] | None:
        """The stream for an utterance that begins so, and whether markup is spoken on it.

        ``licensed``: it is to be in a cloned voice. What was kept for another is discarded.
        """
        if self._held is None:
            return None
        ahead, prepared, speaks_markup, in_cloned = self._held
        if prepared != markup or in_cloned is not licensed:
            self.discard()
            return None
        self._held = None
        return ahead, speaks_markup

    def discard(self) -> None:
        """It will not be said."""
        if self._held is not None:
            self._held[0].cut()
            self._held = None
