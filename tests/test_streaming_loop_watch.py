"""How late the loop ran: counted always, with whoever held it up."""

from __future__ import annotations

import asyncio
import sys
import threading
import time

import pytest
import structlog
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from ringtrue.agent.metrics_loop import LoopCollector
from ringtrue.streaming.clock import MediaClock
from ringtrue.streaming.loop_watch import (
    BOUNDS,
    DEPTH,
    MAX_CULPRITS,
    STALL,
    SYSTEM,
    UNSEEN,
    LagMeter,
    LoopWatch,
    Stall,
    culprit_of,
    stack_of,
)

OURS = "streaming/playout.py:12:take"


def test_a_beat_in_time_is_counted_and_no_stall() -> None:
    meter = LagMeter()
    for lateness in (0.0, BOUNDS[0], 0.0011, STALL):
        assert meter.beat(lateness, stack=(OURS,)) is None
    assert meter.beats == sum(meter.counts) == 4
    assert meter.counts[:2] == [2, 1]
    assert not meter.stalls
    assert meter.total == pytest.approx(0.0221)


def test_a_late_beat_names_the_innermost_frame_of_ours() -> None:
    meter = LagMeter()
    stack = ("json/decoder.py:337:decode", OURS, "agent/calls.py:3:run")
    stall = meter.beat(0.5, 0.4, stack)
    assert stall == Stall(0.5, 0.4, "streaming/playout.py:take", stack)
    assert meter.stalls == {"streaming/playout.py:take": 1}
    assert meter.stalled == 0.5


@pytest.mark.parametrize(
    ("stack", "culprit"),
    [
        (None, UNSEEN),
        ((), SYSTEM),
        (("asyncio/runners.py:118:run", "agent/cli.py:9:serve"), SYSTEM),
        (
            ("pipecat/frames/frames.py:1:f", "asyncio/events.py:84:_run"),
            "pipecat/frames/frames.py:f",
        ),
    ],
)
def test_whoever_is_to_blame(stack: tuple[str, ...] | None, culprit: str) -> None:
    assert culprit_of(stack) == culprit


def test_names_are_bounded() -> None:
    meter = LagMeter()
    for number in range(3 * MAX_CULPRITS):
        meter.beat(1.0, stack=(f"agent/x.py:1:f{number}",))
    assert len(meter.stalls) == MAX_CULPRITS + 1
    assert meter.stalls["other"] == 2 * MAX_CULPRITS


def test_percentiles_are_of_what_is_recent() -> None:
    meter = LagMeter(recent=10)
    assert meter.quantile(0.99) == 0.0
    for lateness in [1.0] * 10 + [0.001] * 9 + [0.004]:
        meter.beat(lateness)
    assert meter.quantile(0.5) == 0.001
    assert meter.quantile(1.0) == 0.004


def test_a_stack_tells_no_values_and_no_home() -> None:
    def down(secret: str, depth: int) -> tuple[str, ...]:
        return down(secret, depth - 1) if depth else stack_of(sys._getframe())

    stack = down("4111111111111111", 2 * DEPTH)
    assert len(stack) == DEPTH
    assert stack[0].startswith("tests/test_streaming_loop_watch.py:")
    assert stack[0].endswith(":down")
    assert not any("4111" in frame or frame.startswith("/") for frame in stack)


def hold_up(seconds: float) -> None:
    """Keep the loop busy, not asleep."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


class Quiet:
    """A call that does nothing."""

    def tick_in(self, now: float) -> None:
        """Nothing."""

    def tick_out(self, now: float) -> None:
        """Nothing."""


@pytest.mark.parametrize("calls", [False, True])
async def test_what_holds_up_the_loop_is_seen(calls: bool) -> None:
    """With the ticks of a call for its beat, and with its own."""
    stalls: list[Stall] = []
    watch = LoopWatch(on_stall=stalls.append)
    clock, call = MediaClock(on_tick=watch.tick), Quiet()
    watch.start()
    watch.start()
    try:
        if calls:
            clock.add(call)
        with capture_logs() as logs:
            for _ in range(20):  # the machine may keep the looker away, but not every time
                await asyncio.sleep(0.05)
                hold_up(0.3)
                await asyncio.sleep(0.15)
                if any(stall.culprit.endswith(":hold_up") for stall in stalls):
                    break
    finally:
        clock.remove(call)
        watch.stop()
        watch.stop()
    seen = next(stall for stall in stalls if stall.culprit.endswith(":hold_up"))
    assert seen.seconds > 0.1
    assert "test_what_holds_up_the_loop_is_seen" in " ".join(seen.stack)
    assert logs[0]["event"] == "loop.stalled"
    assert watch.meter.beats > len(stalls)
    assert "loop-watch" not in {thread.name for thread in threading.enumerate()}


async def test_a_log_that_fails_stops_no_clock() -> None:
    def broken(_: Stall) -> None:
        raise OSError("no space left")

    now = 0.0
    watch = LoopWatch(clock=lambda: now, on_stall=broken)
    watch._thread = threading.current_thread()
    failures: list[dict[str, object]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: failures.append(context))
    watch.tick(0.05)
    assert watch.meter.stalls
    await asyncio.sleep(0)
    assert len(failures) == 1


def test_an_entry_can_be_rendered() -> None:
    """Renderers give some fields, ``stack`` for one, a meaning of their own."""
    with capture_logs() as logs:
        LoopWatch()._tell(Stall(0.1, 0.1, "a.py:f", ("a.py:1:f", "b.py:2:g")))
    shown = structlog.dev.ConsoleRenderer(colors=False)(None, "warning", dict(logs[0]))
    assert "a.py:1:f" in shown


async def test_many_stalls_are_few_log_entries() -> None:
    now = 0.0
    stalls: list[Stall] = []
    watch = LoopWatch(clock=lambda: now, on_stall=stalls.append)
    watch._thread = threading.current_thread()  # begun, with nobody looking
    with capture_logs() as logs:
        for _ in range(1000):
            now += 0.02
            watch.tick(0.05)
            await asyncio.sleep(0)
    assert len(stalls) == 1000
    assert len(logs) == 4
    assert sum(entry["unlogged"] for entry in logs) + len(logs) <= 1000


def test_all_of_it_is_in_the_metrics() -> None:
    meter = LagMeter()
    for lateness in (0.0005, 0.004, 3.0):
        meter.beat(lateness, stack=(OURS,))
    registry = CollectorRegistry()
    registry.register(LoopCollector(meter))

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    assert value("ringtrue_loop_lag_seconds_bucket", le="0.001") == 1
    assert value("ringtrue_loop_lag_seconds_bucket", le="0.005") == 2
    assert value("ringtrue_loop_lag_seconds_bucket", le="+Inf") == 3
    assert value("ringtrue_loop_lag_seconds_count") == 3
    assert value("ringtrue_loop_lag_seconds_sum") == pytest.approx(3.0045)
    assert value("ringtrue_loop_stalls_total", culprit="streaming/playout.py:take") == 1
    assert value("ringtrue_loop_stalled_seconds_total") == 3.0
