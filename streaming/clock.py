"""The media clock: a tick of every call each 20 ms, driven by one timer.

Many calls are spread over :data:`PHASES` of the 20 ms, so that the last one's frame does not wait
for all the others'. Ticks lie on a fixed grid from the start, so lateness never accumulates. A
tick that comes late is followed at once by the ones it delayed, up to :data:`MAX_CATCH_UP`; beyond
that the grid is moved and the loss counted, because a burst longer than a far end's jitter buffer
only adds delay.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

from ringtrue.streaming.ports import FRAME_MS

TICK: Final = FRAME_MS / 1000
MAX_CATCH_UP: Final = 10
"""Ticks run back to back after a stall (200 ms); later ones are skipped and counted."""

PHASES: Final = 4
"""Parts of a tick, in which calls have their turn: 5 ms apart."""

PHASE_CALLS: Final = 32
"""Calls of one phase before the next one is used: each wakes the process 50 times a second."""

EARLY: Final = 0.001
"""Seconds that a timer may come too early: event loops round to milliseconds."""

LATE: Final = 0.010
"""A tick later than this counts as late: half a frame."""


class Ticked(Protocol):
    """A call, as the clock sees it: in two steps, so that all of a phase hear before any speaks."""

    def tick_in(self, now: float) -> None:
        """Take this tick's 20 ms from the far end."""
        ...

    def tick_out(self, now: float) -> None:
        """Send this tick's 20 ms to the far end."""
        ...


class Lately:
    """The last so many values, oldest first, in memory that is taken once.

    Numbers that live for a minute each, made among others that live for a moment, would leave
    holes all over the interpreter's small objects.
    """

    __slots__ = ("_at", "_full", "_values")

    def __init__(self, most: int) -> None:
        """Keep ``most``."""
        self._values = array("d", bytes(8 * most))
        self._at = 0
        self._full = False

    def __len__(self) -> int:
        """How many there are."""
        return len(self._values) if self._full else self._at

    def append(self, value: float) -> None:
        """Keep ``value``, in place of the oldest where there are enough."""
        self._values[self._at] = value
        self._at += 1
        if self._at == len(self._values):
            self._at, self._full = 0, True

    def last(self, count: int) -> array[float]:
        """The newest ``count``, or as many as there are."""
        count = min(count, len(self))
        early = max(0, count - self._at)
        kept = self._values
        return kept[len(kept) - early :] + kept[self._at - (count - early) : self._at]

    def __iter__(self) -> Iterator[float]:
        """Over all of them."""
        return iter(self.last(len(self)))


@dataclass(slots=True)
class ClockStats:
    """Counters since the clock started, in ticks of a phase and seconds."""

    ticks: int = 0
    late: int = 0
    skipped: int = 0
    faults: int = 0
    busy: float = 0.0
    """CPU seconds of the loop's thread spent inside ticks."""

    lateness: Lately = field(default_factory=lambda: Lately(3000 * PHASES))
    """Lateness of the last minute's ticks in seconds; where several are late at once, of one."""


@dataclass(slots=True, eq=False)
class _Phase:
    """Calls that tick together."""

    offset: float
    """Seconds after the grid."""

    calls: dict[Ticked, None] = field(default_factory=dict)
    due: float = 0.0


class MediaClock:
    """Drives every registered call from one timer."""

    def __init__(
        self,
        *,
        on_fault: Callable[[Ticked, BaseException], None] | None = None,
        on_tick: Callable[[float, float], None] | None = None,
        tick: float = TICK,
    ) -> None:
        """``on_fault`` is told of a call whose tick raised; that call is dropped from the clock.

        ``on_tick`` is told how many seconds late each tick came, before it runs, and how many
        are left until the next.
        ``tick`` is the seconds from one to the next: a load test's callers have clocks that drift.
        """
        self.tick = tick
        self._phases = tuple(_Phase(number * tick / PHASES) for number in range(PHASES))
        self._on_fault = on_fault
        self._on_tick = on_tick
        self._timer: asyncio.TimerHandle | None = None
        self._origin = 0.0
        self.stats = ClockStats()

    def __len__(self) -> int:
        """How many calls it drives."""
        return sum(len(phase.calls) for phase in self._phases)

    def add(self, call: Ticked) -> None:
        """Tick ``call`` from its phase's next tick on: the first with room, else the emptiest."""
        phase = next(
            (each for each in self._phases if call in each.calls or len(each.calls) < PHASE_CALLS),
            None,
        )
        if phase is None:
            phase = min(self._phases, key=lambda each: len(each.calls))
        idle = not phase.calls
        phase.calls[call] = None
        if self._timer is None:
            self._origin = asyncio.get_running_loop().time()
            for each in self._phases:
                each.due = self._origin + self.tick + each.offset
            self._schedule()
        elif idle:
            passed = asyncio.get_running_loop().time() - self._origin - phase.offset
            phase.due = self._origin + phase.offset + (passed // self.tick + 1) * self.tick
            self._schedule()

    def remove(self, call: Ticked) -> None:
        """Stop ticking ``call``; the timer stops with the last one."""
        for phase in self._phases:
            phase.calls.pop(call, None)
        if not len(self):
            self.stop()

    def stop(self) -> None:
        """Cancel the timer; calls stay registered until removed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _next(self) -> _Phase | None:
        """The phase that is due next, of those that have calls."""
        return min((phase for phase in self._phases if phase.calls), key=_due, default=None)

    def _schedule(self) -> None:
        """Set the timer to the phase that is due next, if there is one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        phase = self._next()
        if phase is not None:
            self._timer = asyncio.get_running_loop().call_at(phase.due, self._fire)

    def _fire(self) -> None:
        loop = asyncio.get_running_loop()
        started, now = time.thread_time(), loop.time()
        for each in self._phases:
            behind = int((now - each.due) / self.tick)
            if each.calls and behind > MAX_CATCH_UP:
                self.stats.skipped += behind - MAX_CATCH_UP
                each.due += (behind - MAX_CATCH_UP) * self.tick
        noted: list[_Phase] = []
        # In the order in which they were due: bridged calls hear each other's frames one by one.
        while self._timer is not None and (phase := self._next()) is not None:
            due = phase.due
            if due > now + EARLY:
                break
            phase.due += self.tick
            if phase not in noted:
                noted.append(phase)
                self._note(loop.time(), due)
            self._tick(phase, due)
        self.stats.busy += time.thread_time() - started
        if self._timer is not None:
            self._schedule()

    def _note(self, now: float, due: float) -> None:
        """A tick that was ``due`` runs at ``now``."""
        lateness = max(0.0, now - due)
        self.stats.lateness.append(lateness)
        following = self._next()
        if self._on_tick is not None and following is not None:
            self._on_tick(lateness, max(0.0, following.due - now))
        if lateness > LATE:
            self.stats.late += 1

    def _tick(self, phase: _Phase, now: float) -> None:
        self.stats.ticks += 1
        for call in tuple(phase.calls):
            try:
                call.tick_in(now)
            except Exception as error:  # one call's fault must not stop the others' clock
                self._failed(phase, call, error)
        for call in tuple(phase.calls):
            try:
                call.tick_out(now)
            except Exception as error:
                self._failed(phase, call, error)

    def _failed(self, phase: _Phase, call: Ticked, error: Exception) -> None:
        self.stats.faults += 1
        phase.calls.pop(call, None)
        if self._on_fault is not None:
            self._on_fault(call, error)


def _due(phase: _Phase) -> float:
    return phase.due
