"""What calls take of a processor, learned while they run: on average, and when they come together.

Sans-IO: measurements and the time between them come from the caller. All values are in cores.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import sqrt
from typing import Final

RISING: Final = 20.0
"""Seconds over which calls are found to be dearer than they were."""

FALLING: Final = 30.0
"""Seconds over which they are found to be cheaper, where nearly all of them are under way."""

UNSETTLED: Final = 4.0
"""By how much longer where some are not: those that have just been answered use less than they
will. Where calls come and go all the time, that mixture is what a call costs."""

LEARNABLE: Final = 3.0
"""Settled calls from which their cost can be told from the idle process's."""

ALL_SETTLED: Final = 0.85
"""Share of the calls that must be under way to be nearly all of them."""

COST_RANGE: Final = 10.0
"""A learned cost stays within this factor of the one it began with."""

BURST_SECONDS: Final = 1.0
"""Work that comes together is looked at over so long: turns that wait longer are late."""

TREND: Final = 10.0
"""Seconds of the average that bursts are told from."""

BURST_LEARNING: Final = 60.0
"""Seconds over which their size is learned."""


@dataclass(slots=True)
class Smooth:
    """An average that forgets."""

    seconds: float
    value: float = 0.0
    known: bool = False

    def take(self, value: float, seconds: float) -> None:
        """``value`` held for ``seconds``."""
        weight = min(1.0, seconds / self.seconds) if self.known else 1.0
        self.value += (value - self.value) * weight
        self.known = True


@dataclass(slots=True)
class CallCost:
    """What one call takes on average, once it is under way."""

    value: float
    """At first what is assumed."""

    idle: float = 0.0
    """What the process takes without calls."""

    least: float = field(init=False)
    most: float = field(init=False)

    def __post_init__(self) -> None:
        """Remember what was assumed."""
        self.least, self.most = self.value / COST_RANGE, self.value * COST_RANGE

    def learn(self, used: float, calls: float, settled: float, seconds: float) -> None:
        """``used`` by ``calls``, of which a share of ``settled`` is under way."""
        if calls < 0.5:
            self.idle += (used - self.idle) * min(1.0, seconds / RISING)
        elif calls * settled >= LEARNABLE:
            seen = min(self.most, max(self.least, (used - self.idle) / calls))
            if seen > self.value:
                within = RISING
            else:
                within = FALLING * (1.0 if settled >= ALL_SETTLED else UNSETTLED)
            self.value += (seen - self.value) * min(1.0, settled * seconds / within)


@dataclass(slots=True)
class Bursts:
    """How far one second's work departs from the average.

    Turns end when callers like, so several may at once; calls that don't know of each other add
    up by the square of that departure. With more calls, or more cores, it weighs less.
    """

    deviation: float
    """Of one call: the square root of the variance that a call adds. At first what is assumed."""

    least: float = field(init=False)
    most: float = field(init=False)
    _recent: deque[tuple[float, float]] = field(default_factory=deque, init=False)
    _trend: Smooth = field(default_factory=lambda: Smooth(TREND), init=False)

    def __post_init__(self) -> None:
        """Remember what was assumed."""
        self.least, self.most = self.deviation / COST_RANGE, self.deviation * COST_RANGE

    def learn(self, used: float, calls: float, settled: float, seconds: float) -> None:
        """As :meth:`CallCost.learn`; ``used`` includes what had to wait for a processor."""
        recent = self._recent
        recent.append((used, seconds))
        while len(recent) > 1 and sum(lasted for _, lasted in recent) > BURST_SECONDS + 1e-6:
            recent.popleft()
        lasted = sum(each for _, each in recent)
        now = sum(value * each for value, each in recent) / lasted if lasted else used
        self._trend.take(now, seconds)
        if calls * settled < LEARNABLE:
            return
        seen = (now - self._trend.value) ** 2 / calls
        variance = self.deviation**2
        variance += (seen - variance) * min(1.0, settled * seconds / BURST_LEARNING)
        self.deviation = min(self.most, max(self.least, sqrt(variance)))

    def of(self, calls: float) -> float:
        """Standard deviation of one second's work of ``calls``."""
        return self.deviation * sqrt(max(0.0, calls))


__all__ = ["Bursts", "CallCost", "Smooth"]
