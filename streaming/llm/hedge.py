"""Two requests for one answer: the first to give a token is heard, the other is cancelled.

The second is made when the first gives nothing for a while, or fails before it gave anything. What
the losing stream says, tool calls included, goes nowhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

T = TypeVar("T")

SLOW: Final = "slow_model"
"""Why the second request was made: the first had given nothing for too long."""

FAILED: Final = "model_failed"
"""Or it had failed."""

MAX_EARLY: Final = 64
"""Chunks without a token that are kept of one stream; more are passed over."""


class Source(Generic[T]):
    """One request. Opened by :meth:`run`, which ends at its first token."""

    def __init__(self, open_stream: Callable[[], Awaitable[AsyncIterator[T]]]) -> None:
        """``open_stream`` makes the request."""
        self._open = open_stream
        self._stream: AsyncIterator[T] | None = None
        self.chunks: AsyncIterator[T] | None = None
        self.early: list[T] = []
        self.ended = False

    async def run(self, gives: Callable[[T], bool]) -> None:
        """Make the request and read up to the first chunk that ``gives`` a token.

        Raises what the request raises.
        """
        self._stream = await self._open()
        self.chunks = aiter(self._stream)
        async for chunk in self.chunks:
            if len(self.early) < MAX_EARLY or gives(chunk):
                self.early.append(chunk)
            if gives(chunk):
                return
        self.ended = True

    async def close(self) -> None:
        """Give the connection back. Idempotent, never raises."""
        for held, names in ((self.chunks, ("aclose",)), (self._stream, ("close", "aclose"))):
            close = next((getattr(held, name) for name in names if hasattr(held, name)), None)
            if close is not None:
                with suppress(Exception):  # whatever a client raises for a stream it lost
                    await close()
        self.chunks = self._stream = None


@dataclass(frozen=True, slots=True)
class Hedged:
    """A second request was made."""

    reason: str
    """:data:`SLOW` or :data:`FAILED`."""


async def first_to_answer(
    requests: Sequence[Callable[[], Awaitable[AsyncIterator[T]]]],
    gives: Callable[[T], bool],
    delay: float | None,
    on_hedge: Callable[[Hedged], None],
) -> Source[T]:
    """The request that gave a token first; the other one is over, its connection closed.

    The second of ``requests`` is made once the first has given nothing for ``delay`` seconds
    (None: however long that takes), or has failed. A
    stream that ends without a token wins only where none gives any. Raises what the first request
    raised where all fail.
    """
    sources = [Source(request) for request in requests]
    running: dict[asyncio.Task[None], Source[T]] = {}
    empty: Source[T] | None = None
    error: BaseException | None = None
    winner: Source[T] | None = None

    def start(source: Source[T]) -> None:
        running[asyncio.ensure_future(source.run(gives))] = source

    try:
        start(sources[0])
        waiting = sources[1:]
        while running:
            done, _ = await asyncio.wait(
                running,
                timeout=delay if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                source = running.pop(task)
                failed = task.exception()
                if failed is not None:
                    error = error or failed
                elif not source.ended:
                    winner = source
                    return source
                else:
                    empty = empty or source
            if waiting and (not done or not running):
                if done and empty is not None:
                    break  # it answered, with nothing to say
                on_hedge(Hedged(FAILED if done else SLOW))
                start(waiting.pop(0))
        if empty is not None:
            winner = empty
            return empty
        assert error is not None
        raise error
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for source in sources:
            if source is not winner:
                await source.close()


class HedgedStream(Generic[T]):
    """What a client gives for one request, made of several; close it like one."""

    def __init__(self, source: Source[T]) -> None:
        """Go on with ``source``, which gave a token."""
        self._source = source
        self._iterator: AsyncIterator[T] | None = None

    def __aiter__(self) -> AsyncIterator[T]:
        """The chunks, from the first."""
        if self._iterator is None:
            self._iterator = self._chunks()
        return self._iterator

    async def close(self) -> None:
        """Release the connection."""
        await self._source.close()

    async def _chunks(self) -> AsyncIterator[T]:
        for chunk in self._source.early:
            yield chunk
        if self._source.ended or self._source.chunks is None:
            return
        async for chunk in self._source.chunks:
            yield chunk
