"""Voices that are ready to speak, kept in this process while they are used."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from ringtrue.streaming.budget.lines import Lines
from ringtrue.voices.engine import PreparedVoice

T = TypeVar("T")

MAX_PREPARED: Final = 64
"""Voices kept ready; the one not used for longest goes first."""


@dataclass(frozen=True, slots=True)
class ReadyVoice:
    """A voice that can speak, and whose it is."""

    prepared: PreparedVoice
    speaker: bytes = field(repr=False)
    """Embedding of who consented, as it is stored."""

    sound: bytes = field(repr=False)
    """How the voice sounded when it was enrolled; empty where that was not kept."""

    lines: Lines = field(default_factory=Lines, repr=False)
    """What it said before and may say again; goes where the voice goes."""


class Shelf(Generic[T]):
    """Prepared voices by id and version; each is made once, however many ask at the same time."""

    def __init__(self, size: int = MAX_PREPARED) -> None:
        """Keep at most ``size``."""
        self._size = size
        self._ready: OrderedDict[str, tuple[int, T]] = OrderedDict()
        self._locks: dict[str, asyncio.Lock] = {}
        self._asking: Counter[str] = Counter()
        self._dropped = 0

    async def get(self, voice: str, version: int, make: Callable[[], Awaitable[T]]) -> T:
        """The voice at ``version``; ``make`` makes it where it isn't here."""
        lock = self._locks.setdefault(voice, asyncio.Lock())
        self._asking[voice] += 1
        try:
            async with lock:
                held = self._ready.get(voice)
                if held is not None and held[0] == version:
                    self._ready.move_to_end(voice)
                    return held[1]
                drops = self._dropped
                made = await make()
                if drops == self._dropped:  # else it may be of what was just dropped
                    self._ready[voice] = (version, made)
                    self._ready.move_to_end(voice)
                    while len(self._ready) > self._size:
                        self._ready.popitem(last=False)
                return made
        finally:
            self._asking[voice] -= 1
            if not self._asking[voice]:
                del self._asking[voice], self._locks[voice]

    def drop(self, voice: str) -> None:
        """Forget a voice, also one that is being made."""
        self._dropped += 1
        self._ready.pop(voice, None)

    def clear(self) -> None:
        """Forget them all."""
        self._dropped += 1
        self._ready.clear()
