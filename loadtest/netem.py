"""A network that misbehaves on purpose: seeded, sans-IO, the same again for the same seed.

Loss is Gilbert–Elliott's two-state chain (Gilbert 1960, Elliott 1963): losses come in bursts as
they do on real links. Delay, jitter, reordering and duplication act on what is left. Clock
drift is the sender's, not the network's: :func:`drifted` gives the time it thinks it is.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, fields
from typing import Final, Generic, TypeVar

T = TypeVar("T")

CAPACITY: Final = 10_000
"""Items in flight at most; further ones are lost, as in a full queue."""


@dataclass(frozen=True, slots=True)
class Impairments:
    """What the network does. Shares are 0–1, times are seconds."""

    loss_good: float = 0.0
    """Share lost in the good state."""

    loss_bad: float = 1.0
    """Share lost in the bad state."""

    to_bad: float = 0.0
    """Chance per packet to fall into the bad state."""

    to_good: float = 1.0
    """Chance per packet to leave it: bursts last 1/to_good packets on average."""

    delay: float = 0.0
    """Of every packet, one way."""

    jitter: float = 0.0
    """Mean of the exponential delay added to each packet."""

    spike: float = 0.0
    """Chance per packet that the path stalls; what follows queues up behind it."""

    spike_delay: float = 0.0
    """How long it stalls."""

    reorder: float = 0.0
    """Share that may overtake those before it; without it a jittered packet holds up the rest."""

    duplicate: float = 0.0
    """Share that arrives twice."""

    def __post_init__(self) -> None:
        """Raise ``ValueError`` naming the field that is out of range."""
        times = {"delay", "jitter", "spike_delay"}
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name in times:
                if value < 0:
                    raise ValueError(f"{item.name} must be at least 0 s, got {value}")
            elif not 0 <= value <= 1:
                raise ValueError(f"{item.name} must be 0-1, got {value}")

    @staticmethod
    def bursty(loss: float, burst: float) -> Impairments:
        """Only loss: ``loss`` of all packets, in bursts of ``burst`` packets on average (≥ 1)."""
        if not 0 <= loss < 1 or burst < 1:
            raise ValueError(f"need loss 0-1 and burst of 1 or more, got {loss}, {burst}")
        to_good = 1 / burst
        return Impairments(to_bad=min(1.0, to_good * loss / (1 - loss)), to_good=to_good)


@dataclass(slots=True)
class NetemStats:
    """What became of what was sent."""

    sent: int = 0
    lost: int = 0
    delivered: int = 0
    duplicated: int = 0


class Netem(Generic[T]):
    """One direction of a path, for datagrams or anything else."""

    def __init__(self, impairments: Impairments, seed: int) -> None:
        """The same ``seed`` and the same sends give the same deliveries."""
        self._how = impairments
        self._random = random.Random(seed)
        self._bad = False
        self._queue: list[tuple[float, int, T]] = []
        self._order = 0
        self._last_due = 0.0
        self._stalled_until = 0.0
        self.stats = NetemStats()

    def send(self, data: T, now: float) -> None:
        """Put ``data`` on the path at ``now``."""
        how, roll = self._how, self._random.random
        self.stats.sent += 1
        if roll() < (how.to_good if self._bad else how.to_bad):
            self._bad = not self._bad
        lost = roll() < (how.loss_bad if self._bad else how.loss_good)
        if roll() < how.spike:
            self._stalled_until = max(self._stalled_until, now + how.spike_delay)
        due = max(now, self._stalled_until) + how.delay
        if how.jitter:
            due += self._random.expovariate(1 / how.jitter)
        overtakes = roll() < how.reorder
        twice = roll() < how.duplicate
        if lost or len(self._queue) >= CAPACITY:
            self.stats.lost += 1
            return
        if not overtakes:
            due = self._last_due = max(due, self._last_due)
        self._push(due, data)
        if twice:
            self.stats.duplicated += 1
            self._push(due + roll() * 0.010, data)

    def _push(self, due: float, data: T) -> None:
        heapq.heappush(self._queue, (due, self._order, data))
        self._order += 1

    def deliver(self, now: float) -> list[tuple[float, T]]:
        """What has arrived by ``now``, each with its time of arrival, in that order."""
        arrived: list[tuple[float, T]] = []
        while self._queue and self._queue[0][0] <= now:
            due, _, data = heapq.heappop(self._queue)
            arrived.append((due, data))
        self.stats.delivered += len(arrived)
        return arrived

    def next_arrival(self) -> float | None:
        """When the next item arrives; None while nothing is in flight."""
        return self._queue[0][0] if self._queue else None


def drifted(now: float, ppm: float) -> float:
    """The time by a clock that runs ``ppm`` parts per million fast."""
    return now * (1 + ppm * 1e-6)
