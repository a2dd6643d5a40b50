"""Which connections handed to a worker may still become calls that it hasn't told of."""

from __future__ import annotations

from collections import deque
from typing import Final

UNTOLD_SECONDS: Final = 1.0
"""So long a connection may take to become a call that the worker's reports count."""

MAX_UNTOLD: Final = 256
"""Remembered; the oldest are forgotten first."""


class Handings:
    """Connections handed over lately. ``now`` is seconds on the event loop's clock.

    A report that was on its way when a connection was handed over doesn't count its call; so a
    connection counts until a report has a call more, or for :data:`UNTOLD_SECONDS`.
    """

    __slots__ = ("_at",)

    def __init__(self) -> None:
        """None so far."""
        self._at: deque[float] = deque(maxlen=MAX_UNTOLD)

    def handed(self, now: float) -> None:
        """One was handed over."""
        self._at.append(now)

    def reported(self, before: int, calls: int) -> None:
        """The worker has so many calls, and had so many at its last report."""
        for _ in range(min(len(self._at), max(0, calls - before))):
            self._at.popleft()

    def untold(self, now: float) -> int:
        """How many may be calls that no report counts."""
        while self._at and now - self._at[0] >= UNTOLD_SECONDS:
            self._at.popleft()
        return len(self._at)
