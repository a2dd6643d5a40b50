"""The media clock on virtual time: a fixed grid, bounded catch-up, isolated faults."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from ringtrue.streaming.clock import (
    MAX_CATCH_UP,
    PHASE_CALLS,
    PHASES,
    TICK,
    Lately,
    MediaClock,
    Ticked,
)
from virtual_time import VirtualTimeLoop

pytestmark = pytest.mark.virtual_time


class Call:
    """Notes its ticks."""

    def __init__(self, log: list[tuple[str, str]] | None = None, name: str = "") -> None:
        self.ins: list[float] = []
        self.outs: list[float] = []
        self.log = log
        self.name = name

    def tick_in(self, now: float) -> None:
        self.ins.append(now)
        if self.log is not None:
            self.log.append((self.name, "in"))

    def tick_out(self, now: float) -> None:
        self.outs.append(now)
        if self.log is not None:
            self.log.append((self.name, "out"))


class Faulty(Call):
    """Raises in its third tick."""

    def tick_out(self, now: float) -> None:
        super().tick_out(now)
        if len(self.outs) == 3:
            raise ValueError("boom")


async def test_ticks_lie_on_a_fixed_grid_without_drift() -> None:
    clock, call = MediaClock(), Call()
    start = asyncio.get_running_loop().time()
    clock.add(call)
    await asyncio.sleep(60.01)
    clock.remove(call)
    assert len(call.ins) == len(call.outs) == 3000
    for index in (0, 1, 1499, 2999):
        assert call.ins[index] == pytest.approx(start + (index + 1) * TICK, abs=1e-6)


async def test_all_hear_before_any_speaks() -> None:
    log: list[tuple[str, str]] = []
    clock = MediaClock()
    calls = [Call(log, "a"), Call(log, "b")]
    for call in calls:
        clock.add(call)
    await asyncio.sleep(TICK * 1.5)
    clock.stop()
    assert log == [("a", "in"), ("b", "in"), ("a", "out"), ("b", "out")]


async def test_a_fault_drops_that_call_and_no_other() -> None:
    faults: list[tuple[Ticked, BaseException]] = []
    clock = MediaClock(on_fault=lambda call, error: faults.append((call, error)))
    good, bad = Call(), Faulty()
    clock.add(good)
    clock.add(bad)
    await asyncio.sleep(TICK * 10.5)
    clock.remove(good)
    assert len(good.outs) == 10
    assert len(bad.outs) == 3
    assert faults[0][0] is bad
    assert clock.stats.faults == 1


def stall(seconds: float) -> None:
    """Hold the loop up: time passes and nothing runs."""
    cast(VirtualTimeLoop, asyncio.get_running_loop()).skip(seconds)


async def test_a_short_stall_is_caught_up_at_once() -> None:
    clock, call = MediaClock(), Call()
    clock.add(call)
    await asyncio.sleep(TICK * 1.5)
    stall(TICK * 5)
    await asyncio.sleep(TICK * 4)
    clock.remove(call)
    assert len(call.ins) == 10
    assert clock.stats.skipped == 0
    assert clock.stats.late == 1
    steps = [b - a for a, b in zip(call.ins, call.ins[1:], strict=False)]
    assert steps == pytest.approx([TICK] * 9, abs=1e-6)


async def test_a_long_stall_moves_the_grid_and_is_counted() -> None:
    clock, call = MediaClock(), Call()
    clock.add(call)
    await asyncio.sleep(TICK * 1.5)
    stall(5.0)
    await asyncio.sleep(TICK * 0.1)
    clock.remove(call)
    assert len(call.ins) == 1 + MAX_CATCH_UP + 1
    assert clock.stats.skipped == pytest.approx(250 - MAX_CATCH_UP, abs=2)


async def test_the_timer_stops_with_the_last_call_and_starts_again() -> None:
    clock, call = MediaClock(), Call()
    clock.add(call)
    await asyncio.sleep(TICK * 2.5)
    clock.remove(call)
    clock.remove(call)
    await asyncio.sleep(1)
    assert len(call.ins) == 2
    clock.add(call)
    await asyncio.sleep(TICK * 2.5)
    clock.remove(call)
    assert len(call.ins) == 4


async def test_many_calls_are_spread_over_the_tick() -> None:
    clock, start = MediaClock(), asyncio.get_running_loop().time()
    calls = [Call() for _ in range(PHASES * PHASE_CALLS + 6)]
    for call in calls:
        clock.add(call)
    assert len(clock) == len(calls)
    await asyncio.sleep(10.01)
    for call in calls:
        clock.remove(call)
    shares = [0] * PHASES
    for call in calls:
        parts = (call.outs[0] - start) / TICK * PHASES
        assert parts == pytest.approx(round(parts), abs=1e-4)
        shares[round(parts) % PHASES] += 1
        steps = [b - a for a, b in zip(call.outs, call.outs[1:], strict=False)]
        assert steps == pytest.approx([TICK] * len(steps), abs=1e-6)
        assert len(call.outs) >= 499
    assert sorted(shares) == [PHASE_CALLS + 1, PHASE_CALLS + 1, PHASE_CALLS + 2, PHASE_CALLS + 2]


async def test_few_calls_wake_the_process_once_a_tick() -> None:
    late: list[tuple[float, float]] = []
    clock = MediaClock(on_tick=lambda lateness, wait: late.append((lateness, wait)))
    calls = [Call() for _ in range(PHASE_CALLS)]
    for call in calls:
        clock.add(call)
    await asyncio.sleep(TICK * 10.5)
    clock.stop()
    assert clock.stats.ticks == len(late) == 10
    assert [wait for _, wait in late] == pytest.approx([TICK] * 10, abs=1e-6)


async def test_a_place_that_became_free_is_taken_first() -> None:
    clock = MediaClock()
    calls = [Call() for _ in range(PHASE_CALLS + 1)]
    for call in calls:
        clock.add(call)
    await asyncio.sleep(TICK * 3.1)
    clock.remove(calls[-1])
    clock.remove(calls[0])
    late = Call()
    clock.add(late)
    await asyncio.sleep(TICK * 3)
    clock.stop()
    assert late.ins == pytest.approx(calls[1].ins[-3:], abs=1e-6)
    assert len(calls[-1].ins) == 3
    assert clock.stats.ticks == 6 + 3


async def test_after_a_stall_phases_catch_up_in_the_order_they_were_due() -> None:
    clock, order = MediaClock(), []

    class Noting(Call):
        def tick_in(self, now: float) -> None:
            order.append(now)

    for _ in range(2 * PHASE_CALLS):
        clock.add(Noting())
    await asyncio.sleep(TICK * 1.5)
    stall(TICK * 5)
    await asyncio.sleep(TICK * 2)
    clock.stop()
    assert order == sorted(order)
    assert len(set(order)) == pytest.approx(2 * 8, abs=1)
    assert clock.stats.skipped == 0


def test_the_newest_values_are_kept_in_order() -> None:
    lately, every = Lately(5), [float(n) for n in range(13)]
    assert (len(lately), list(lately), list(lately.last(3))) == (0, [], [])
    for n, value in enumerate(every, 1):
        lately.append(value)
        assert len(lately) == min(n, 5)
        assert list(lately) == every[:n][-5:]
        for count in range(1, 7):
            assert list(lately.last(count)) == every[:n][-5:][-count:]
