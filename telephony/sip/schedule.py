"""Timers without a clock: who is due at ``now``, and when the next one is."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Protocol


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


class Schedule:
    """A heap of :class:`Timed`; entries that moved are found stale when they surface."""

    def __init__(self) -> None:
        """Start empty."""
        self._heap: list[tuple[float, int, Timed]] = []
        self._entered: dict[int, float] = {}
        self._order = count()

    def track(self, item: Timed) -> None:
        """Look at ``item``'s timers again; call after every change to it."""
        when = item.next_timer()
        entered = self._entered.get(id(item))
        if when is not None and (entered is None or when < entered):
            self._entered[id(item)] = when
            heapq.heappush(self._heap, (when, next(self._order), item))

    def next(self) -> float | None:
        """When something may be due, or None. Never later than the earliest timer."""
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> Iterator[Timed]:
        """Items with a timer at or before ``now``, each once; fire it while iterating."""
        while self._heap and self._heap[0][0] <= now:
            when, _, item = heapq.heappop(self._heap)
            if self._entered.get(id(item)) != when:
                continue
            del self._entered[id(item)]
            actual = item.next_timer()
            if actual is not None and actual <= now:
                yield item
            self.track(item)
