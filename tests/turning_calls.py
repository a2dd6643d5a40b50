"""Calls whose turns share processors, in virtual time: what they use, and how late they get.

Every call has its media, which goes first; a caller who speaks keeps a recognizer busy; and where
one stops, a piece of work has to be done before the answer begins. Those pieces share what is
left, so turns that end together wait for each other, which no average shows.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from ringtrue.agent.capacity import Capacity, Load
from ringtrue.streaming.ports import Direction

STEP = 0.02
LOOK = 0.5
MEDIA, RECOGNIZING, ANSWERING = 0.0135, 0.05, 0.1
"""Cores of a call and of one who speaks, and seconds of a core's work to answer."""

LEAST = 0.33
"""Turn latency with nothing to wait for but silence and the line."""


@dataclass(slots=True)
class Caller:
    does: str = "listens"
    left: float = 7.0
    work: float = 0.0
    asked: float = 0.0
    turns: int = 0


@dataclass
class TurningCalls:
    """A process with ``cores``; a call costs ``dearer`` times what is assumed above."""

    capacity: Capacity
    cores: float = 1.0
    dearer: float = 1.0
    turns: int = 10
    seed: int = 1
    now: float = 100.0
    up: list[Caller] = field(default_factory=list)
    most: int = 0
    refused: list[tuple[float, str]] = field(default_factory=list)
    latencies: list[tuple[float, float]] = field(default_factory=list)
    """When each turn was answered, and after how many seconds."""

    _used: float = 0.0
    _waited: float = 0.0
    _next_look: float = 0.0

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)
        self._next_look = self.now

    def ring(self) -> None:
        verdict = self.capacity.refuses(len(self.up), Direction.INBOUND, self.now)
        if verdict is not None:
            self.refused.append((self.now, verdict.signal))
            return
        self.capacity.taken(self.now)
        self.up.append(Caller(left=7.0 * self._chance.uniform(0.9, 1.1)))
        self.most = max(self.most, len(self.up))

    def offer(self, calls: int, per_second: float) -> None:
        """So many ring one after the other; then let those that are up come to their ends."""
        began, rung = self.now, 0
        while rung < calls or self.up:
            if rung < calls and self.now - began >= rung / per_second:
                self.ring()
                rung += 1
            self.step()

    def p95_since(self, at: float) -> float:
        known = sorted(latency for then, latency in self.latencies if then >= at)
        return known[int(0.95 * len(known))]

    def step(self) -> None:
        for caller in self.up:
            if caller.does != "waits":
                caller.left -= STEP
                if caller.left <= 0:
                    self._next(caller)
        speaking = sum(caller.does == "speaks" for caller in self.up)
        first = self.dearer * (MEDIA * len(self.up) + RECOGNIZING * speaking)
        waiting = [caller for caller in self.up if caller.does == "waits"]
        share = max(0.02, self.cores - first) / max(1, len(waiting))
        for caller in waiting:
            done = min(caller.work, min(1.0, share) * STEP)
            caller.work -= done
            self._used += done
            if caller.work <= 1e-9:
                self._answered(caller)
        self._used += min(self.cores, first) * STEP
        if first + len(waiting) > self.cores:
            self._waited += 0.3 * STEP
        self.now += STEP
        self._look()

    def _next(self, caller: Caller) -> None:
        chance = self._chance
        if caller.does == "listens":
            caller.does, caller.left = "pauses", 0.8 + chance.uniform(0.1, 0.8)
        elif caller.does == "pauses":
            caller.does, caller.left = "speaks", chance.uniform(1.2, 2.2)
        else:
            caller.does, caller.asked = "waits", self.now
            caller.work = self.dearer * ANSWERING * chance.uniform(0.7, 1.3)

    def _answered(self, caller: Caller) -> None:
        latency = LEAST + self.now + STEP - caller.asked
        self.latencies.append((self.now, latency))
        self.capacity.turn(0.03, latency, self.now)
        caller.turns += 1
        if caller.turns == self.turns:
            self.up.remove(caller)
        else:
            caller.does, caller.left = "listens", self._chance.uniform(3.0, 5.0)

    def _look(self) -> None:
        if self.now < self._next_look:
            return
        loop = min(1.0, 0.01 + self.dearer * MEDIA * len(self.up))
        load = Load(
            loop=loop, loop_wait=self._waited / LOOK, cpu=self._used / LOOK, cores=self.cores
        )
        self.capacity.look(load, len(self.up), self.now)
        self._used = self._waited = 0.0
        self._next_look += LOOK
