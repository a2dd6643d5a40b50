"""The first level: a bounded number of bytes in this process, least recently used out first."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

ENTRY_COST: Final = 256
"""Bytes counted for an entry besides its data, so that tiny entries are bounded as well."""


@dataclass(frozen=True, slots=True)
class _Entry:
    voice: str
    data: bytes = field(repr=False)
    until: float

    @property
    def cost(self) -> int:
        return len(self.data) + ENTRY_COST


class MemoryCache:
    """Bytes by name, each belonging to a voice; ``now`` is in seconds on any monotonic clock."""

    def __init__(self, *, limit: int, ttl: float) -> None:
        """At most ``limit`` bytes in all, each for ``ttl`` seconds; a limit of 0 keeps nothing."""
        if limit < 0 or not ttl > 0:
            raise ValueError(f"limit {limit} bytes, ttl {ttl} s; allowed: 0 or more, above 0")
        self._limit = limit
        self._ttl = ttl
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        """How many entries there are."""
        return len(self._entries)

    @property
    def size(self) -> int:
        """Bytes they take, with :data:`ENTRY_COST` each."""
        return self._bytes

    def get(self, name: str, now: float) -> bytes | None:
        """What ``name`` holds, if it is there and not too old."""
        entry = self._entries.get(name)
        if entry is None:
            return None
        if now >= entry.until:
            self.remove(name)
            return None
        self._entries.move_to_end(name)
        return entry.data

    def put(self, name: str, voice: str, data: bytes, now: float) -> None:
        """Keep ``data``, at the cost of others; what is above the limit by itself is not kept."""
        self.remove(name)
        entry = _Entry(voice, data, now + self._ttl)
        if entry.cost > self._limit:
            return
        self._entries[name] = entry
        self._bytes += entry.cost
        while self._bytes > self._limit:
            self.remove(next(iter(self._entries)))

    def remove(self, name: str) -> None:
        """Forget one entry, if it is there."""
        entry = self._entries.pop(name, None)
        if entry is not None:
            self._bytes -= entry.cost

    def drop(self, voice: str) -> None:
        """Forget everything of one voice."""
        for name in [name for name, entry in self._entries.items() if entry.voice == voice]:
            self.remove(name)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._bytes = 0
