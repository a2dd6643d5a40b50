"""A synthesis stream without an engine: phrases in, whatever a test says they sound like out."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Iterator

from ringtrue.streaming.ports import SpeechChunk


class ScriptedStream(ABC):
    """Implements :class:`~ringtrue.streaming.ports.SynthesisStream`; ``work`` seconds a chunk."""

    def __init__(self, work: float) -> None:
        self._work = work
        self._phrases: deque[str] = deque()
        self._changed = asyncio.Event()
        self.finished = self.was_cut = False
        self.fed: list[str] = []

    @abstractmethod
    def say(self, phrase: str, said: int) -> Iterator[SpeechChunk]:
        """The chunks of one phrase; ``said`` samples came before it."""

    def feed(self, phrase: str) -> None:
        self.fed.append(phrase)
        self._phrases.append(phrase)
        self._changed.set()

    def finish(self) -> None:
        self.finished = True
        self._changed.set()

    def cut(self) -> None:
        self.was_cut = True
        self._changed.set()

    async def frames(self) -> AsyncIterator[SpeechChunk]:
        said = 0
        while not self.was_cut:
            if self._phrases:
                for chunk in self.say(self._phrases.popleft(), said):
                    said += len(chunk.pcm) // 2
                    await asyncio.sleep(self._work)
                    if self.was_cut:
                        return
                    yield chunk
            elif self.finished:
                return
            else:
                self._changed.clear()
                await self._changed.wait()
