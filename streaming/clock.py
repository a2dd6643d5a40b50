"""The media clock: one 20 ms tick per process drives every call.

Ticks lie on a fixed grid from the start, so lateness never accumulates. A tick that comes late
is followed at once by the ones it delayed, up to :data:`MAX_CATCH_UP`; beyond that the grid is
moved and the loss counted, because a burst longer than a far end's jitter buffer only adds
delay.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from ringtrue.streaming.ports import FRAME_MS

TICK: Final = FRAME_MS / 1000
MAX_CATCH_UP: Final = 10
"""Ticks run back to back after a stall (200 ms); later ones are skipped and counted."""

LATE: Final = 0.010
"""A tick later than this counts as late: half a frame."""


class Ticked(Protocol):
    """A call, as the clock sees it: two phases, so that all hear before any speaks."""

    def tick_in(self, now: float) -> None:
        """Take this tick's 20 ms from the far end."""
        ...

    def tick_out(self, now: float) -> None:
        """Send this tick's 20 ms to the far end."""
        ...


@dataclass(slots=True)
class ClockStats:
    """Counters since the clock started, in ticks and seconds."""

    ticks: int = 0
    late: int = 0
    skipped: int = 0
    faults: int = 0
    busy: float = 0.0
    """CPU seconds of the loop's thread spent inside ticks."""

    lateness: deque[float] = field(default_factory=lambda: deque(maxlen=3000))
    """Lateness of the last minute's ticks in seconds."""


class MediaClock:
    """Drives every registered call from one timer."""

    def __init__(
        self,
        *,
        on_fault: Callable[[Ticked, BaseException], None] | None = None,
        on_tick: Callable[[float], None] | None = None,
        tick: float = TICK,
    ) -> None:
        """``on_fault`` is told of a call whose tick raised; that call is dropped from the clock.

        ``on_tick`` is told how many seconds late each tick came, before it runs.
        ``tick`` is the seconds from one to the next: a load test's callers have clocks that drift.
        """
        self.tick = tick
        self._calls: dict[Ticked, None] = {}
        self._on_fault = on_fault
        self._on_tick = on_tick
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self.stats = ClockStats()

    def __len__(self) -> int:
        """How many calls it drives."""
        return len(self._calls)

    def add(self, call: Ticked) -> None:
        """Tick ``call`` from the next tick on."""
        self._calls[call] = None
        if self._timer is None:
            self._start()

    def remove(self, call: Ticked) -> None:
        """Stop ticking ``call``; the timer stops with the last one."""
        self._calls.pop(call, None)
        if not self._calls:
            self.stop()

    def stop(self) -> None:
        """Cancel the timer; calls stay registered until removed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        self._due = loop.time() + self.tick
        self._timer = loop.call_at(self._due, self._fire)

    def _fire(self) -> None:
        loop = asyncio.get_running_loop()
        started = time.thread_time()
        lateness = max(0.0, loop.time() - self._due)
        self.stats.lateness.append(lateness)
        if self._on_tick is not None:
            self._on_tick(lateness)
        if lateness > LATE:
            self.stats.late += 1
        behind = int(lateness / self.tick)
        if behind > MAX_CATCH_UP:
            self.stats.skipped += behind - MAX_CATCH_UP
            self._due += (behind - MAX_CATCH_UP) * self.tick
            behind = MAX_CATCH_UP
        for _ in range(behind + 1):
            self._tick(self._due)
            self._due += self.tick
        self.stats.busy += time.thread_time() - started
        self._timer = loop.call_at(self._due, self._fire) if self._calls else None

    def _tick(self, now: float) -> None:
        self.stats.ticks += 1
        for call in tuple(self._calls):
            try:
                call.tick_in(now)
            except Exception as error:  # one call's fault must not stop the others' clock
                self._failed(call, error)
        for call in tuple(self._calls):
            try:
                call.tick_out(now)
            except Exception as error:
                self._failed(call, error)

    def _failed(self, call: Ticked, error: Exception) -> None:
        self.stats.faults += 1
        self._calls.pop(call, None)
        if self._on_fault is not None:
            self._on_fault(call, error)
