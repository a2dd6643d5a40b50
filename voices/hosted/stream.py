"""An utterance of a hosted voice, and the voice it is of."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final

import numpy as np

from ringtrue.streaming.errors import SynthesisError
from ringtrue.streaming.ports import SpeechChunk, WordMark
from ringtrue.voices.hosted.line import Line, Lines
from ringtrue.voices.pocket.marks import Pace, PhraseMarks
from ringtrue.voices.renderer import RATES
from ringtrue.voices.rerate import RealArray, Rerate

MAX_QUEUED: Final = 20_000
"""Characters one utterance may hold."""

IN_FLIGHT: Final = 2
"""Phrases asked for at once: the next is being made while one is being sent."""

AHEAD_SECONDS: Final = 8.0
"""Audio held at most before another phrase is asked for."""


class HostedVoice:
    """A :class:`~ringtrue.voices.engine.PreparedVoice`."""

    speaks_markup: Final = False

    def __init__(self, lines: Lines, streams: set[HostedStream]) -> None:
        """Use ``HostedEngine.prepare``."""
        self.lines = lines
        self._streams = streams
        self._pace = Pace()

    def open(self, rate: int) -> HostedStream:
        """Start an utterance at ``rate`` Hz (8000 or 16000); raises ``ValueError`` for another."""
        if rate not in RATES:
            raise ValueError(f"rate must be one of {', '.join(map(str, RATES))} Hz, got {rate}")
        stream = HostedStream(self.lines, rate, self._pace, self._streams.discard)
        self._streams.add(stream)
        return stream


class HostedStream:
    """One utterance being spoken; see :class:`~ringtrue.streaming.ports.SynthesisStream`.

    Overflow policy: no phrase is asked for while :data:`AHEAD_SECONDS` of audio wait to be
    read. Text beyond :data:`MAX_QUEUED` characters ends :meth:`frames` with an error after what
    was accepted.
    """

    def __init__(
        self, lines: Lines, rate: int, pace: Pace, on_end: Callable[[HostedStream], None]
    ) -> None:
        """Use :meth:`HostedVoice.open`."""
        self._lines = lines
        self._rate = rate
        self._pace = pace
        self._on_end = on_end
        self._line: Line | None = None
        self._phrases: deque[str] = deque()
        self._asked: deque[str] = deque()
        """Phrases of which not everything has come."""

        self._characters = 0
        self._overflow = False
        self._finished = False
        self._cut = False
        self._consumed = False
        self._changed = asyncio.Event()
        self._error: SynthesisError | None = None
        self._chunks: deque[SpeechChunk] = deque()
        self._held = 0
        """Samples in ``_chunks``."""

        self._made = 0
        self._began = 0
        """Where the phrase being received begins."""

        self._rerate: Rerate | None = None
        self._marks: PhraseMarks | None = None
        self._word: tuple[str, int] | None = None
        """The last word that began, and where; it ends where the next one begins."""

        self._ended: deque[WordMark] = deque()
        """Words whose ends are known and not told yet."""

    def feed(self, phrase: str) -> None:
        """Queue one phrase. After :meth:`finish` or :meth:`cut` it is dropped."""
        if self._finished or self._cut or self._overflow:
            return
        if self._characters + len(phrase) > MAX_QUEUED:
            self._overflow = self._finished = True
        else:
            self._characters += len(phrase)
            self._phrases.append(phrase)
        self._changed.set()

    def finish(self) -> None:
        """No more phrases: :meth:`frames` ends once everything fed has been spoken."""
        self._finished = True
        self._changed.set()

    def cut(self) -> None:
        """Stop now: queued text and audio are dropped and :meth:`frames` ends. Idempotent."""
        if self._cut:
            return
        self._cut = True
        self._phrases.clear()
        self._chunks.clear()
        self._changed.set()
        line, self._line = self._line, None
        if line is not None:
            self._lines.give_back(line, speaking=bool(self._asked))
        self._on_end(self)

    async def frames(self) -> AsyncIterator[SpeechChunk]:
        """Chunks as the service sends them, in order. For one consumer, once.

        Words are marked by the service's times where it gives any, else estimated. Raises
        :class:`~ringtrue.streaming.errors.SynthesisError` if the service fails, if too much text
        was queued, or if the stream is read twice.
        """
        if self._consumed:
            raise SynthesisError("a synthesis stream can be read only once")
        self._consumed = True
        try:
            while not self._cut:
                self._changed.clear()
                await self._ask()
                if self._chunks:
                    chunk = self._chunks.popleft()
                    self._held -= len(chunk.pcm) // 2
                    yield chunk
                elif self._cut:
                    return
                elif self._error is not None:
                    raise self._error
                elif self._finished and not self._phrases and not self._asked:
                    break
                else:
                    await self._changed.wait()
            if self._overflow and not self._cut:
                raise SynthesisError(f"more than {MAX_QUEUED} characters were queued to be spoken")
        finally:
            self.cut()

    async def _ask(self) -> None:
        """Ask for as many of the phrases that wait as may be under way."""
        while (
            self._phrases
            and self._error is None
            and len(self._asked) < IN_FLIGHT
            and self._held < AHEAD_SECONDS * self._rate
        ):
            if self._line is None and not await self._connected():
                return
            assert self._line is not None
            phrase = self._phrases.popleft()
            self._asked.append(phrase)
            await self._line.say(phrase, spoken=any(letter.isalnum() for letter in phrase))

    async def _connected(self) -> bool:
        line = await self._lines.take()
        if self._cut:
            self._lines.give_back(line, speaking=False)
            return False
        line.hearer = self
        self._line = line
        return True

    def audio(self, pcm: bytes, rate: int) -> None:
        """Take audio from the line."""
        if self._cut or not self._asked:
            return
        if self._rerate is None or self._rerate.source != rate:
            self._rerate = Rerate(rate, self._rate)
        samples = np.frombuffer(pcm[: len(pcm) // 2 * 2], "<i2")
        self._put(self._rerate.feed(samples.astype(np.float64)), phrase_end=False)

    def word(self, text: str, start: float | None) -> None:
        """Take a word from the line."""
        if self._cut or start is None or self._line is None or not self._line.times_words:
            return
        at = self._began + int(start * self._rate)
        before, self._word = self._word, (text.strip(), at)
        if before is not None:
            self._ended.append(WordMark(before[0], at))
            self._add(SpeechChunk(b"", self._reached()))

    def phrase_over(self) -> None:
        """Take the end of a phrase from the line."""
        if self._cut or not self._asked:
            return
        rest = self._rerate.finish() if self._rerate is not None else np.zeros(0)
        self._rerate = None
        self._put(rest, phrase_end=True)
        self._asked.popleft()
        self._began = self._made
        self._changed.set()

    def failed(self, error: SynthesisError) -> None:
        """Take an error from the line."""
        self._error = error
        self._changed.set()

    def _put(self, samples: RealArray, *, phrase_end: bool) -> None:
        self._made += len(samples)
        words: tuple[WordMark, ...] = ()
        timed = self._line is not None and self._line.times_words
        if not timed:
            if self._marks is None:
                self._marks = PhraseMarks(self._asked[0], self._began, self._rate, self._pace)
            words = self._marks.reached(self._made)
        if phrase_end:
            if self._marks is not None:
                words += self._marks.finish(self._made)
                self._marks = None
            if self._word is not None:
                self._ended.append(WordMark(self._word[0], self._made))
                self._word = None
        words += self._reached(everything=phrase_end)
        pcm = np.clip(np.rint(samples), -32768, 32767).astype("<i2").tobytes()
        self._add(SpeechChunk(pcm, words, phrase_end))

    def _reached(self, *, everything: bool = False) -> tuple[WordMark, ...]:
        """Words whose ends have come; times may be told before the audio or after it."""
        found = []
        while self._ended and (everything or self._ended[0].end <= self._made):
            mark = self._ended.popleft()
            found.append(WordMark(mark.text, min(mark.end, self._made)))
        return tuple(found)

    def _add(self, chunk: SpeechChunk) -> None:
        if chunk.pcm or chunk.words or chunk.phrase_end:
            self._chunks.append(chunk)
            self._held += len(chunk.pcm) // 2
            self._changed.set()
