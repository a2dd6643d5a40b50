"""What a process can carry, from what it is measured to carry now: whether one call more fits.

Two kinds of signals decide. What adds up with calls (CPU of the event loop, CPU of all parts) is
*forecast*, twice: what is in use, plus calls that are not in that measurement yet, plus one more;
and what so many calls came to cost once they were under way. The larger one counts: a call that
was answered a moment ago uses less than it is going to, and one that is measured is not to be
counted again. CPU that suffices on average does not where several turns end together, so what one
second's work may be above the average is kept free. What shows that something already waits (ticks,
queues, the latencies of running calls, sooner where they grow) shuts the door before its budget is
reached, and opens it again once it was well below for a while. Sans-IO: times and measurements come
from the caller.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from ringtrue.agent.call_cost import Bursts, CallCost, Smooth
from ringtrue.config.admission_settings import AdmissionSettings
from ringtrue.streaming.ports import Direction

SMOOTHING: Final = 2.0
"""Seconds over which measured CPU is averaged."""

BURST_PART: Final = 1.5
"""How far one second's work of a call departs from its average, by that, until it was measured."""

LOOP_PART: Final = 0.5
"""Of a call's cost, what the loop is taken to have until it was measured."""

LATENCIES: Final = frozenset(("ttfa", "turn_latency"))
"""Signals that are slow by themselves: half a minute's turns. Where nothing is wrong they may be
not far below what shuts the door, and it opens once they are below that."""

ROOM_TO_OPEN: Final = 3
"""Calls that must fit before a door shut by a forecast opens."""

TURNS: Final = 200
TURN_SECONDS: Final = 30.0
"""Turns that latencies are taken from: the last ones, and none older."""

ENOUGH_TURNS: Final = 10
"""Fewer say nothing of a p95."""

MOST_GROWTH: Final = 1.2
"""Turns that grow count as if they had gone on growing, to this factor."""

BUSY: Final = 0.5
"""Pressure on CPU or clock from which slow turns are taken to come from load, and not from a slow
model or a caller's way of speaking."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One look at the process."""

    loop: float = 0.0
    """Share of the time since the last look in which the event loop's thread ran, 0–1."""

    loop_wait: float = 0.0
    """And in which it could have run, and waited for a processor."""

    cpu: float = 0.0
    """Cores that all parts used."""

    cores: float = 1.0
    """Cores that they may use."""

    tick_lateness: float = 0.0
    """Seconds, p95 of the media clock's recent ticks."""

    graph_wait: float = 0.0
    """Seconds of callers' audio waiting for its graph, in the worst call."""

    recognizer_wait: float = 0.0
    """Seconds of audio waiting for the recognizer, in the worst utterance."""

    synthesis_jobs: float = 0.0
    """Pieces of speech waiting, for each synthesis thread."""


@dataclass(slots=True)
class _Turn:
    at: float
    ttfa: float | None
    latency: float | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a call is refused."""

    signal: str
    pressure: float
    """What was measured or forecast, against its limit; above 1."""


def _smooth() -> Smooth:
    return Smooth(SMOOTHING)


@dataclass(slots=True)
class Capacity:
    """Decides for one process. ``now`` is seconds on a monotonic clock."""

    settings: AdmissionSettings
    shut_by: str | None = field(default=None, init=False)
    """The signal that keeps new calls out; None: they are taken."""

    load: Load = field(default_factory=Load, init=False)
    """The last look."""

    _loop: Smooth = field(default_factory=_smooth, init=False)
    _loop_wait: Smooth = field(default_factory=_smooth, init=False)
    _cpu: Smooth = field(default_factory=_smooth, init=False)
    _measured: Smooth = field(default_factory=_smooth, init=False)
    """Calls that are in the measurements: as late as those."""

    _up: int = field(default=0, init=False)
    """Calls at the last look, and those taken since."""

    _loop_cost: CallCost = field(init=False)
    _cpu_cost: CallCost = field(init=False)
    _bursts: Bursts = field(init=False)
    _young: deque[float] = field(default_factory=deque, init=False)
    _turns: deque[_Turn] = field(default_factory=lambda: deque(maxlen=TURNS), init=False)
    _looked: float | None = field(default=None, init=False)
    _calm_since: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Begin with the configured costs."""
        cost = self.settings.call_cost
        self._cpu_cost, self._loop_cost = CallCost(cost), CallCost(cost * LOOP_PART)
        self._bursts = Bursts(cost * BURST_PART)

    @property
    def costs(self) -> dict[str, float]:
        """Cores a call takes, of the ``loop`` and of ``cpu`` in all, and how far one second's
        work of it departs from that (``burst``)."""
        return {
            "loop": self._loop_cost.value,
            "cpu": self._cpu_cost.value,
            "burst": self._bursts.deviation,
        }

    def turn(self, ttfa: float | None, latency: float | None, now: float) -> None:
        """A running call's turn took so many seconds."""
        self._turns.append(_Turn(now, ttfa, latency))

    def look(self, load: Load, calls: int, now: float) -> None:
        """Take in what was measured while ``calls`` were up, about twice a second."""
        seconds = SMOOTHING if self._looked is None else max(0.0, now - self._looked)
        self._looked, self.load = now, load
        self._up = calls
        for smooth, value in (
            (self._loop, load.loop),
            (self._loop_wait, load.loop_wait),
            (self._cpu, load.cpu),
            (self._measured, calls),
        ):
            smooth.take(value, seconds)
        measured, settled = self._measured.value, self._settled(calls, now)
        self._loop_cost.learn(self._loop.value, measured, settled, seconds)
        self._cpu_cost.learn(self._cpu.value, measured, settled, seconds)
        self._bursts.learn(load.cpu + load.loop_wait, measured, settled, seconds)
        self._review(now)

    def refuses(self, calls: int, direction: Direction, now: float) -> Verdict | None:
        """Why a call more can't be taken while ``calls`` are up; None: it can.

        One that is taken is to be told of by :meth:`taken`.
        """
        settings = self.settings
        if not settings.enabled or calls < settings.min_calls:
            return None
        outbound = direction is Direction.OUTBOUND
        share = 1 - settings.inbound_reserve if outbound else 1.0
        name, pressure = _worst({k: v / share for k, v in self.forecasts(1, now).items()})
        if pressure > 1:
            if not outbound and self.shut_by is None:
                self.shut_by, self._calm_since = name, None
            return Verdict(name, pressure)
        waiting = self.waits(now)
        if self.shut_by is not None:
            now_at = {**self.forecasts(1, now), **waiting}
            return Verdict(self.shut_by, now_at.get(self.shut_by, 1.0))
        name, pressure = _worst(waiting)
        if outbound and not self._calm(waiting):  # what inbound calls may still take
            return Verdict(name, pressure)
        return None

    def taken(self, now: float) -> None:
        """A call was taken: it counts for its expected cost until it was measured."""
        self._up += 1
        self._young.append(now)

    def given_back(self) -> None:
        """The call that was taken last didn't come about."""
        if self._young:
            self._up -= 1
            self._young.pop()

    def forecasts(self, more: int, now: float) -> dict[str, float]:
        """CPU with ``more`` calls, against its limits: above 1 they don't fit."""
        settings = self.settings
        loop = self._expected(self._loop, self._loop_cost, more) + self._loop_wait.value
        cpu = self._expected(self._cpu, self._cpu_cost, more)
        together = settings.burst_deviations * self._bursts.of(self._up + more)
        cores = max(self.load.cores, 0.1)
        return {
            "loop": loop / settings.loop_share,
            "cpu": cpu / (settings.cpu_share * cores),
            "bursts": (cpu + together) / cores,
        }

    def _expected(self, used: Smooth, cost: CallCost, more: int) -> float:
        """Cores with ``more`` calls than there are."""
        unmeasured = self._up - self._measured.value + more
        return max(used.value + unmeasured * cost.value, cost.idle + (self._up + more) * cost.value)

    def waits(self, now: float) -> dict[str, float]:
        """What waits, and how slow turns are, against the share of its limit that shuts."""
        settings, load = self.settings, self.load
        queue = settings.queue_seconds
        found = {
            "ticks": load.tick_lateness * 1000 / settings.tick_lateness_ms,
            "graph": load.graph_wait / queue,
            "recognizer": load.recognizer_wait / queue,
            "synthesis": load.synthesis_jobs / settings.synthesis_jobs,
        }
        if max(*self.forecasts(0, now).values(), found["ticks"]) >= BUSY:
            while self._turns and now - self._turns[0].at > TURN_SECONDS:
                self._turns.popleft()
            ttfa = _p95([turn.ttfa for turn in self._turns])
            latency = _p95([turn.latency for turn in self._turns])
            if ttfa is not None:
                found["ttfa"] = ttfa * 1000 / settings.ttfa_ms
            if latency is not None:
                grows = self._growth()
                found["turn_latency"] = grows * latency * 1000 / settings.turn_latency_ms
        return {name: value / settings.margin for name, value in found.items()}

    def _review(self, now: float) -> None:
        """Shut the door, or open it."""
        waiting = self.waits(now)
        name, pressure = _worst(waiting)
        if self.shut_by is None:
            if pressure >= 1:
                self.shut_by, self._calm_since = name, None
            return
        if pressure >= 1:
            self.shut_by = name
        fits = max(self.forecasts(ROOM_TO_OPEN, now).values()) <= 1
        if not self._calm(waiting) or not fits:
            self._calm_since = None
        elif self._calm_since is None:
            self._calm_since = now
        elif now - self._calm_since >= self.settings.calm_seconds:
            self.shut_by, self._calm_since = None, None

    def _calm(self, waiting: dict[str, float]) -> bool:
        """Whether what waits is well below what shuts the door."""
        resume = self.settings.resume
        return all(at <= (1.0 if name in LATENCIES else resume) for name, at in waiting.items())

    def _growth(self) -> float:
        """What the later half of the turns took by what the earlier took, as far as it grew."""
        known = [turn.latency for turn in self._turns if turn.latency is not None]
        half = len(known) // 2
        if half < ENOUGH_TURNS:
            return 1.0
        ratio = sum(known[-half:]) / max(1e-3, sum(known[:half]))
        return min(MOST_GROWTH, max(1.0, ratio))

    def _settled(self, calls: int, now: float) -> float:
        """Share of the calls that are under way."""
        while self._young and now - self._young[0] >= self.settings.settle_seconds:
            self._young.popleft()
        return max(0.0, 1 - len(self._young) / calls) if calls else 1.0


def _worst(pressures: dict[str, float]) -> tuple[str, float]:
    return max(pressures.items(), key=lambda item: item[1])


def _p95(values: list[float | None]) -> float | None:
    known = sorted(value for value in values if value is not None)
    return known[int(0.95 * len(known))] if len(known) >= ENOUGH_TURNS else None


__all__ = ["Capacity", "Load", "Verdict"]
