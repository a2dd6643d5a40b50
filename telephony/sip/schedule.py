"""Timers without a clock: who is due at ``now``, and when the next one is."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Final, Protocol

MAX_DEAD: Final = 256
"""Superseded entries that may lie about; beyond, and if they are most, they are swept out."""


@dataclass(frozen=True, slots=True)
class Timers:
    """RFC 3261 Table 4, in seconds."""

    t1: float = 0.5
    """Round-trip estimate: the first retransmission interval."""

    t2: float = 4.0
    """Longest retransmission interval of non-INVITE requests and INVITE responses."""

    t4: float = 5.0
    """Longest time a message stays in the network."""

    @property
    def timeout(self) -> float:
        """64*T1: Timers B, F, H, J, L and M, and how long a 2xx is sent again."""
        return 64 * self.t1

    @property
    def d(self) -> float:
        """Timer D over UDP: at least 32 s."""
        return max(32.0, self.timeout)


class Timed(Protocol):
    """Something with timers of its own."""

    def next_timer(self) -> float | None:
        """When the earliest timer fires, or None."""
        ...

    def handle_timer(self, now: float) -> None:
        """Fire every timer due at ``now``."""
        ...


@dataclass(order=True, slots=True)
class _Entry:
    when: float
    order: int
    item: Timed | None = field(compare=False)
    """None once it is superseded or its item has no timer left."""


class Schedule:
    """A heap of :class:`Timed`. Items that are done are let go at once."""

    def __init__(self) -> None:
        """Start empty."""
        self._heap: list[_Entry] = []
        self._entries: dict[int, _Entry] = {}
        self._order = count()
        self._dead = 0

    def __len__(self) -> int:
        """Entries held, superseded ones included."""
        return len(self._heap)

    def track(self, item: Timed) -> None:
        """Look at ``item``'s timers again; call after every change to them.

        A timer that moved later keeps its early entry, which is corrected when it surfaces.
        """
        when = item.next_timer()
        entry = self._entries.get(id(item))
        if entry is not None:
            if when is not None and when >= entry.when:
                return
            entry.item = None
            del self._entries[id(item)]
            self._dead += 1
            if self._dead > max(MAX_DEAD, len(self._heap) // 2):
                self._sweep()
        if when is not None:
            entry = _Entry(when, next(self._order), item)
            self._entries[id(item)] = entry
            heapq.heappush(self._heap, entry)

    def next(self) -> float | None:
        """When something may be due, or None. Never later than the earliest timer."""
        while self._heap and self._heap[0].item is None:
            heapq.heappop(self._heap)
            self._dead -= 1
        return self._heap[0].when if self._heap else None

    def due(self, now: float) -> Iterator[Timed]:
        """Items with a timer at or before ``now``; fire each while iterating."""
        while (when := self.next()) is not None and when <= now:
            item = heapq.heappop(self._heap).item
            if item is None:
                continue
            del self._entries[id(item)]
            actual = item.next_timer()
            if actual is not None and actual <= now:
                yield item
            self.track(item)

    def _sweep(self) -> None:
        """Keep live entries only: a session's timer would lie there for half an hour after it."""
        self._heap = [entry for entry in self._heap if entry.item is not None]
        heapq.heapify(self._heap)
        self._dead = 0
