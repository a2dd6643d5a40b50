"""A circuit breaker: stops asking a server that doesn't answer, and tries again by itself.

Nygard, *Release It!* (2nd ed. 2018), chapter 5. Closed until :data:`FAILURES` calls in a row
failed; then open, so that nobody waits for a timeout; after a pause one call is let through, and
its outcome closes the circuit or doubles the pause.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

FAILURES: Final = 3
FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 2.0


class BreakerState(StrEnum):
    """What happens to the next call."""

    CLOSED = "closed"
    """It is made."""

    OPEN = "open"
    """It is not made, until the pause is over."""

    PROBING = "probing"
    """It is not made: one call is out to see whether the server is back."""


class Breaker:
    """Decides call by call; ``now`` is in seconds on any monotonic clock."""

    def __init__(
        self,
        *,
        failures: int = FAILURES,
        first_pause: float = FIRST_PAUSE,
        longest_pause: float = LONGEST_PAUSE,
    ) -> None:
        """``failures`` in a row open the circuit; pauses are in seconds."""
        if failures < 1 or not 0 < first_pause <= longest_pause:
            raise ValueError(
                f"{failures} failures and pauses from {first_pause} to {longest_pause} s; "
                "allowed: at least 1 failure, and pauses above 0 that don't shrink"
            )
        self._failures = failures
        self._first_pause = first_pause
        self._longest_pause = longest_pause
        self._in_a_row = 0
        self._pause = first_pause
        self._until = 0.0
        self.state = BreakerState.CLOSED
        self.openings = 0
        """How often it opened."""

    def allow(self, now: float) -> bool:
        """Whether to make a call. If so, tell its outcome by one of the three methods below."""
        if self.state is BreakerState.OPEN and now >= self._until:
            self.state = BreakerState.PROBING
            return True
        return self.state is BreakerState.CLOSED

    def succeeded(self) -> None:
        """The call was answered."""
        self._in_a_row = 0
        self._pause = self._first_pause
        self.state = BreakerState.CLOSED

    def failed(self, now: float) -> None:
        """The call was not answered."""
        self._in_a_row += 1
        if self.state is BreakerState.PROBING:
            self._pause = min(2 * self._pause, self._longest_pause)
        elif self.state is BreakerState.OPEN or self._in_a_row < self._failures:
            return
        self.state = BreakerState.OPEN
        self._until = now + self._pause
        self.openings += 1

    def given_up(self) -> None:
        """The call was broken off before its outcome was known."""
        if self.state is BreakerState.PROBING:
            self.state = BreakerState.OPEN
