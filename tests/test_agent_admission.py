"""The door: who begins when, what is told of it, and what it is decided from."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from ringtrue.agent.admission import (
    LOOK_SECONDS,
    PATIENCE,
    Admission,
    Door,
    DoorCollector,
    hurried_latency,
)
from ringtrue.agent.capacity import Load
from ringtrue.agent.gauges import CLOCK_SECONDS, CpuQuota, Gauges, Queues, cpu_quota, thread_seconds
from ringtrue.agent.loopback import on_loopback
from ringtrue.agent.server import Server
from ringtrue.config.admission_settings import AdmissionSettings
from ringtrue.config.settings import load_settings
from ringtrue.loadtest.caller import Failure, VirtualCaller
from ringtrue.loadtest.phone import Phone
from ringtrue.streaming.clock import ClockStats
from ringtrue.streaming.ports import Direction
from ringtrue.streaming.record import Stage, TurnRecord

SETTINGS = AdmissionSettings()
GAP = 1 / SETTINGS.starts_per_second
FULL = Load(loop=1.0)

virtual_time = pytest.mark.virtual_time


def now() -> float:
    return asyncio.get_running_loop().time()


@virtual_time
async def test_a_burst_begins_one_after_the_other() -> None:
    door, begun = Door(SETTINGS), []
    start = now()

    async def one() -> None:
        await door.begin()
        begun.append(now() - start)

    await asyncio.gather(*(one() for _ in range(20)))
    assert begun == pytest.approx([GAP * number for number in range(20)], abs=1e-6)
    await asyncio.sleep(1)
    await one()
    assert begun[-1] - begun[-2] == pytest.approx(1.0)


@virtual_time
async def test_inbound_calls_begin_before_outbound_ones() -> None:
    door, begun = Door(SETTINGS), []

    async def one(name: str, direction: Direction) -> None:
        await door.begin(direction)
        begun.append(name)

    await door.begin()
    order = [("a", Direction.OUTBOUND), ("b", Direction.INBOUND), ("c", Direction.OUTBOUND)]
    await asyncio.gather(*(one(*item) for item in [*order, ("d", Direction.INBOUND)]))
    assert begun == ["b", "d", "a", "c"]
    assert door.waiting == 0


@virtual_time
async def test_who_hangs_up_while_waiting_keeps_nobody_up() -> None:
    door = Door(SETTINGS)
    await door.begin()
    gone = [asyncio.ensure_future(door.begin()) for _ in range(10)]
    stays = asyncio.ensure_future(door.begin())
    await asyncio.sleep(0)
    assert door.waiting == 11
    for task in gone:
        task.cancel()
    start = now()
    await stays
    assert now() - start == pytest.approx(GAP)
    assert door.waiting == 0


@virtual_time
async def test_more_than_can_begin_in_time_are_refused() -> None:
    door = Door(SETTINGS)
    await door.begin()
    room = int(SETTINGS.starts_per_second * SETTINGS.wait_seconds)
    waiting = [asyncio.ensure_future(door.begin()) for _ in range(room)]
    await asyncio.sleep(0)
    assert door.full(room, now())
    assert door.ask(room, Direction.INBOUND, now()) is Admission.BUSY
    assert door.refused == {("starts", "inbound"): 1}
    start = now()
    await asyncio.gather(*waiting)
    assert now() - start == pytest.approx(SETTINGS.wait_seconds)
    assert door.ask(SETTINGS.min_calls, Direction.INBOUND, now()) is None


@virtual_time
async def test_a_closing_door_keeps_nobody_waiting() -> None:
    door = Door(SETTINGS)
    await door.begin()
    waiting = [asyncio.ensure_future(door.begin()) for _ in range(30)]
    await asyncio.sleep(0)
    door.close()
    start = now()
    await asyncio.gather(*waiting)
    assert now() == start


@virtual_time
async def test_the_door_shuts_and_opens_by_what_is_read_and_tells_so_once() -> None:
    door, load = Door(SETTINGS), FULL
    registry = CollectorRegistry()
    registry.register(DoorCollector(door, now))

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"ringtrue_admission_{name}", labels)

    watch = asyncio.ensure_future(door.watch(lambda: load, lambda: 10))
    with capture_logs() as logs:
        await asyncio.sleep(2 * LOOK_SECONDS)
        assert value("open") == 1.0
        for _ in range(3):
            assert door.ask(10, Direction.INBOUND, now()) is Admission.BUSY
        assert value("open") == 0.0
        assert value("refused_total", signal="loop", direction="inbound") == 3
        assert (value("pressure", signal="loop") or 0) > 1
        load = Load(loop=0.1)
        await asyncio.sleep(SETTINGS.calm_seconds + 10)
        assert door.shut_by is None
        assert door.ask(10, Direction.INBOUND, now()) is None
    watch.cancel()
    assert [entry["event"] for entry in logs] == ["admission.shut", "admission.open"]
    assert logs[0]["signal"] == "loop"
    assert logs[0]["calls"] == 10
    assert value("pressure", signal="ticks") == 0.0
    assert value("call_cores", part="cpu") is not None
    assert value("waiting") == 0.0


@virtual_time
async def test_turns_reach_the_decision() -> None:
    door = Door(SETTINGS)
    busy = Load(loop=0.5)
    for _ in range(20):
        at = now()
        stages = {Stage.FIRST_PHRASE: at, Stage.FIRST_PACKET: at + 0.3}
        door.turn(TurnRecord(0, stages), at)
        door.capacity.look(busy, 10, at)
        await asyncio.sleep(0.1)
    assert door.shut_by == "ttfa"


def test_a_caller_who_is_waited_for_makes_no_turn_slow() -> None:
    """What the silence after "and then ..." takes is meant; the rest is the machine's."""

    def turn(words: float, ended: float) -> float | None:
        return hurried_latency(
            TurnRecord(
                0,
                {
                    Stage.SPEECH_ENDED: 10.0,
                    Stage.VAD_STOPPED: 10.2,
                    Stage.TRANSCRIPT: words,
                    Stage.TURN_ENDED: ended,
                    Stage.FIRST_PACKET: ended + 0.05,
                },
            )
        )

    assert turn(10.25, 10.45) == pytest.approx(0.5)
    assert turn(10.25, 11.4) == pytest.approx(0.3 + PATIENCE)
    assert turn(11.35, 11.4) == pytest.approx(1.45)  # the recognizer took so long
    assert hurried_latency(TurnRecord(0, {Stage.SPEECH_ENDED: 1.0})) is None


class Engines:
    """Engines whose workers and queues are what they are set to."""

    pids: tuple[int, ...] = ()
    waiting = Queues()

    def recognizer_pids(self) -> tuple[int, ...]:
        return self.pids

    def queues(self) -> Queues:
        return self.waiting


@pytest.fixture
def engines() -> Engines:
    return Engines()


def test_gauges_read_what_was_used_since(engines: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    at = iter((10.0, 10.5))
    monkeypatch.setattr("ringtrue.agent.gauges.time.monotonic", lambda: next(at))
    loop, process, pid = [1.0], [5.0], {7: 2.0}
    monkeypatch.setattr("ringtrue.agent.gauges.thread_seconds", lambda: (loop[0], loop[0] / 2))
    monkeypatch.setattr("ringtrue.agent.gauges.time.process_time", lambda: process[0])
    monkeypatch.setattr("ringtrue.agent.gauges.cpu_seconds", lambda number: pid.get(number, 0.0))
    engines.pids, engines.waiting = (7,), Queues(0.3, 2.0)
    gauges = Gauges(engines, ClockStats(), lambda: 0.12, quota=CpuQuota(2.0))
    first = gauges.read()
    assert (first.loop, first.cpu, first.cores) == (0.0, 0.0, 2.0)
    loop[0], process[0] = 1.2, 5.4
    del pid[7]  # a worker that died is no gain
    second = gauges.read()
    assert second.loop == pytest.approx(0.4)
    assert second.loop_wait == pytest.approx(0.2)
    assert second.cpu == pytest.approx(0.8)
    assert (second.graph_wait, second.recognizer_wait, second.synthesis_jobs) == (0.12, 0.3, 2.0)


def test_what_a_thread_waits_for_a_processor_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = tmp_path / "schedstat"
    monkeypatch.setattr("ringtrue.agent.gauges.SCHEDSTAT", stat)
    stat.write_text("1500000000 2500000000 17\n")
    assert thread_seconds() == (1.5, 2.5)
    stat.write_text("nonsense")
    assert thread_seconds() == (pytest.approx(time.thread_time(), abs=1.0), 0.0)


def test_only_recent_ticks_are_late(engines: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    at = [10.0]
    monkeypatch.setattr("ringtrue.agent.gauges.time.monotonic", lambda: at[0])
    stats = ClockStats()
    gauges = Gauges(engines, stats, lambda: 0.0, quota=CpuQuota(2.0))
    assert gauges.read().tick_lateness == 0.0

    def ticks(count: int, lateness: float) -> float:
        at[0] += count * 0.02
        stats.ticks += count
        for _ in range(count):
            stats.lateness.append(lateness)
        return gauges.read().tick_lateness

    assert ticks(25, 0.001) == 0.001
    assert ticks(25, 0.030) == 0.030
    for _ in range(int(CLOCK_SECONDS / 0.5) + 2):
        latest = ticks(25, 0.002)
    assert latest == 0.002
    at[0] += 2 * CLOCK_SECONDS  # no calls, no ticks
    gauges.read()
    assert gauges.read().tick_lateness == 0.0


def test_limits_of_control_groups_are_known(tmp_path: Path) -> None:
    own = float(len(os.sched_getaffinity(0)))
    assert cpu_quota(tmp_path) == CpuQuota(own)
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert cpu_quota(tmp_path) == CpuQuota(own)
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "cpu.stat").write_text("usage_usec 2500000\nuser_usec 1\n")
    limited = cpu_quota(tmp_path)
    assert limited.cores == 0.5
    assert limited.used() == 2.5
    (tmp_path / "cpu.stat").write_text("nonsense\n")
    assert limited.used() is None
    (tmp_path / "cpu.max").unlink()
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("25000")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert cpu_quota(tmp_path) == CpuQuota(0.25)


async def test_a_caller_too_many_is_told_when_to_come_back() -> None:
    """Over real SIP: the door is shut by what is measured, long before ``server.max_calls``."""
    settings = load_settings(
        environ={
            "RINGTRUE_VOICES__ENABLED": "false",
            "RINGTRUE_WEBRTC__ENABLED": "false",
            "RINGTRUE_ADMISSION__MIN_CALLS": "0",
        }
    )
    server = Server(on_loopback(settings))
    server.engines.warm = _nothing  # type: ignore[method-assign]
    async with server, Phone() as phone:
        door = server.calls.door
        door.capacity.look(Load(tick_lateness=1.0), 10, now())
        result = await phone.call(
            f"sip:reception@127.0.0.1:{server.sip_port}", _silent, max_seconds=5
        )
        assert len(server.calls) == 0
        page = server.metrics.render().decode()
    assert result.failure is Failure.NOT_ANSWERED
    assert "503" in result.detail
    assert 'ringtrue_calls_refused_total{reason="busy"} 1.0' in page
    assert 'ringtrue_admission_refused_total{direction="inbound",signal="ticks"} 1.0' in page


async def _nothing() -> None:
    """The engines stay cold: nobody is to be answered."""


async def _silent(caller: VirtualCaller) -> None:
    """Never runs."""
