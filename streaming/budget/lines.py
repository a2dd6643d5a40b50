"""Lines a voice has said before and may say again at once, kept in memory only.

What is kept is PCM without a seal and without a licence: who plays it gives it those of its own
call, so a line is gated, marked and recorded like any speech, and is of no use to a voice whose
consent is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Final, Protocol, runtime_checkable

import structlog

from ringtrue.streaming.ports import SpeechChunk, SynthesisStream

log = structlog.get_logger(__name__)

MAX_LINES: Final = 64
"""Kept of one voice; more are not learnt."""

MAX_SECONDS: Final = 12.0
"""Longest line that is kept."""

LEARN_SECONDS: Final = 30.0
"""How long an engine may take over one line."""

Recorded = tuple[SpeechChunk, ...]


@runtime_checkable
class Recalling(Protocol):
    """A voice that remembers lines, a cloned one under its own licence."""

    def knows(self, text: str, rate: int) -> bool:
        """Whether :meth:`recall` would give the line ``text`` at ``rate`` Hz."""
        ...

    def recall(self, text: str, rate: int) -> SynthesisStream | None:
        """The line as a stream of its own; None where it isn't known.

        Raises :class:`~ringtrue.streaming.errors.SynthesisError` once the voice may not speak.
        """
        ...


class Lines:
    """What one voice remembers."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._kept: dict[tuple[str, int], Recorded] = {}
        self._learning: set[tuple[str, int]] = set()
        self._forgotten = 0

    def knows(self, text: str, rate: int) -> bool:
        """Whether the line ``text`` is kept at ``rate`` Hz."""
        return (text, rate) in self._kept

    def recall(self, text: str, rate: int) -> ReplayedLine | None:
        """The line as a stream of its own, without a licence; None where it isn't known."""
        chunks = self._kept.get((text, rate))
        return None if chunks is None else ReplayedLine(chunks)

    def forget(self) -> None:
        """Keep nothing, also of what is being learnt."""
        self._forgotten += 1
        self._kept.clear()

    async def learn(
        self, open_stream: Callable[[int], SynthesisStream], texts: Sequence[str], rate: int
    ) -> None:
        """Let ``open_stream`` speak the ``texts`` that aren't known at ``rate`` Hz, one by one.

        Never raises: a line that can't be made is only not known.
        """
        for text in texts:
            key = (text, rate)
            if key in self._kept or key in self._learning or len(self._kept) >= MAX_LINES:
                continue
            before = self._forgotten
            self._learning.add(key)
            try:
                async with asyncio.timeout(LEARN_SECONDS):
                    made = await _spoken(open_stream(rate), text, rate)
            except Exception as error:  # whatever an engine raises
                log.warning("lines.not_learnt", error=type(error).__name__)
                return
            finally:
                self._learning.discard(key)
            if made and before == self._forgotten:
                self._kept[key] = made


async def _spoken(stream: SynthesisStream, text: str, rate: int) -> Recorded:
    """All of ``text``, without licence; nothing where it is too long."""
    stream.feed(text)
    stream.finish()
    chunks: list[SpeechChunk] = []
    size = 0
    try:
        async for chunk in stream.frames():
            size += len(chunk.pcm)
            if size > 2 * rate * MAX_SECONDS:
                return ()
            chunks.append(replace(chunk, licence=None))
    finally:
        stream.cut()
    return tuple(chunks)


class ReplayedLine:
    """A line as a synthesis stream: what is fed is known to be its text."""

    def __init__(self, chunks: Recorded) -> None:
        """Give ``chunks`` out again."""
        self._chunks = chunks
        self._cut = False

    def feed(self, phrase: str) -> None:
        """Nothing: the line is what it is."""

    def finish(self) -> None:
        """Nothing: it ends where it ends."""

    def cut(self) -> None:
        """Give no more."""
        self._cut = True

    async def frames(self) -> AsyncIterator[SpeechChunk]:
        """The chunks, at once."""
        for chunk in self._chunks:
            if self._cut:
                return
            yield chunk
