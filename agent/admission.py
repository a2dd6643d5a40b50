"""The door: who is let in, who waits for a moment, and who is told to come back later."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Final

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ringtrue.agent.capacity import Capacity, Load, Verdict
from ringtrue.config.admission_settings import AdmissionSettings
from ringtrue.streaming.ports import Direction
from ringtrue.streaming.record import TurnRecord
from ringtrue.streaming.stages import Stage

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 0.5

PATIENCE: Final = 0.25
"""Seconds that the end of a plain turn is waited for once its words are there."""


class Admission(StrEnum):
    """Why a call is not taken."""

    FULL = "full"
    DRAINING = "draining"
    BUSY = "busy"
    """What was measured leaves no room for it."""


def hurried_latency(turn: TurnRecord) -> float | None:
    """Seconds of turn latency, had the caller not been waited for; None where it isn't known.

    The silence that a caller is given to go on is meant, and says nothing of the load: of it no
    more than :data:`PATIENCE` counts.
    """
    latency, stages = turn.interval("turn_latency"), turn.stages
    known = [stages[stage] for stage in (Stage.VAD_STOPPED, Stage.TRANSCRIPT) if stage in stages]
    if latency is None or not known or Stage.TURN_ENDED not in stages:
        return latency
    waited = stages[Stage.TURN_ENDED] - max(known)
    return latency - max(0.0, waited - PATIENCE)


class Door:
    """One process's. Calls are asked for by number of those up; serves one event loop."""

    def __init__(self, settings: AdmissionSettings) -> None:
        """Nothing is measured before :meth:`watch`."""
        self.settings = settings
        self.capacity = Capacity(settings)
        self.refused: Counter[tuple[str, str]] = Counter()
        """Calls refused for what was measured, by signal and direction."""

        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._next_start = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._shown: str | None = None

    @property
    def shut_by(self) -> str | None:
        """The signal for which new calls are refused; None where they are taken."""
        return self.capacity.shut_by

    @property
    def waiting(self) -> int:
        """Calls that wait for their turn to begin."""
        return len(self._waiting)

    def ask(self, calls: int, direction: Direction, now: float) -> Admission | None:
        """Whether one more may come while ``calls`` are up; None: it may, and counts from now."""
        verdict = self.capacity.refuses(calls, direction, now)
        if verdict is None and self._queue_is_full(calls):
            queued = len(self._waiting) / self.settings.starts_per_second
            verdict = Verdict("starts", queued / self.settings.wait_seconds)
        self._show(calls)
        if verdict is None:
            self.capacity.taken(now)
            return None
        self.refused[verdict.signal, direction.value] += 1
        return Admission.BUSY

    def full(self, calls: int, now: float) -> bool:
        """Whether :meth:`ask` would refuse an inbound call; counts nothing."""
        refused = self.capacity.refuses(calls, Direction.INBOUND, now) is not None
        return refused or self._queue_is_full(calls)

    def given_back(self) -> None:
        """The call that was let in last didn't come about."""
        self.capacity.given_back()

    def turn(self, turn: TurnRecord, now: float) -> None:
        """A running call's turn got its first packet."""
        self.capacity.turn(turn.interval("ttfa"), hurried_latency(turn), now)

    async def begin(self, direction: Direction = Direction.INBOUND) -> None:
        """Return when it is the call's turn to begin, inbound calls before outbound ones.

        Beginning many at once would keep the loop from those that are up.
        """
        if not self.settings.enabled:
            return
        loop = asyncio.get_running_loop()
        if not self._waiting and loop.time() >= self._next_start:
            self._next_start = loop.time() + 1 / self.settings.starts_per_second
            return
        turn: asyncio.Future[None] = loop.create_future()
        entry = (int(direction is Direction.OUTBOUND), next(self._order), turn)
        heapq.heappush(self._waiting, entry)
        self._arm(loop)
        try:
            await turn
        except asyncio.CancelledError:
            if entry in self._waiting:
                self._waiting.remove(entry)
                heapq.heapify(self._waiting)
            raise

    async def watch(self, read: Callable[[], Load], calls: Callable[[], int]) -> None:
        """Measure until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self.capacity.look(read(), calls(), loop.time())
            self._show(calls())
            await asyncio.sleep(LOOK_SECONDS)

    def close(self) -> None:
        """Let those that wait begin: they are refused elsewhere now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for _, _, turn in self._waiting:
            if not turn.done():
                turn.set_result(None)
        self._waiting.clear()

    def _queue_is_full(self, calls: int) -> bool:
        settings = self.settings
        if not settings.enabled or calls < settings.min_calls:
            return False
        return len(self._waiting) >= settings.wait_seconds * settings.starts_per_second

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is None and self._waiting:
            self._timer = loop.call_at(max(loop.time(), self._next_start), self._let_begin)

    def _let_begin(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                self._next_start = loop.time() + 1 / self.settings.starts_per_second
                break
        self._arm(loop)

    def _show(self, calls: int) -> None:
        """Log that the door opened or shut, and by what."""
        shut_by = self.capacity.shut_by
        if (shut_by is None) == (self._shown is None):
            return
        self._shown = shut_by
        load = self.capacity.load
        (log.info if shut_by is None else log.warning)(
            "admission.open" if shut_by is None else "admission.shut",
            signal=shut_by,
            calls=calls,
            loop=round(load.loop, 2),
            cpu=round(load.cpu, 2),
            cores=load.cores,
            tick_lateness_ms=round(1000 * load.tick_lateness, 1),
            costs={name: round(cost, 4) for name, cost in self.capacity.costs.items()},
        )


class DoorCollector(Collector):
    """Decisions and what they were made from, for ``/metrics``."""

    def __init__(self, door: Door, now: Callable[[], float]) -> None:
        """``now`` is the clock that the door is asked by."""
        self._door = door
        self._now = now

    def collect(self) -> Iterable[Metric]:
        """Gauges of the moment; refusals since the start."""
        door, now = self._door, self._now()
        yield GaugeMetricFamily(
            "ringtrue_admission_open",
            "1 while new calls are taken, as far as load is concerned",
            value=float(door.shut_by is None),
        )
        yield GaugeMetricFamily(
            "ringtrue_admission_waiting", "Calls that wait to begin", value=door.waiting
        )
        pressure = GaugeMetricFamily(
            "ringtrue_admission_pressure",
            "What is measured, or forecast with one call more, against where new calls are refused",
            labels=["signal"],
        )
        capacity = door.capacity
        for name, value in {**capacity.forecasts(1, now), **capacity.waits(now)}.items():
            pressure.add_metric([name], value)
        yield pressure
        cost = GaugeMetricFamily(
            "ringtrue_admission_call_cores", "Cores one call takes, as learned", labels=["part"]
        )
        for name, value in capacity.costs.items():
            cost.add_metric([name], value)
        yield cost
        refused = CounterMetricFamily(
            "ringtrue_admission_refused",
            "Calls refused for the load, by what would not have held",
            labels=["signal", "direction"],
        )
        for (signal, direction), count in sorted(door.refused.items()):
            refused.add_metric([signal, direction], count)
        yield refused
