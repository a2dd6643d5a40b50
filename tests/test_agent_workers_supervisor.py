"""The supervisor over processes that only pretend to be servers."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from ringtrue.agent.workers import child, slots, supervisor
from ringtrue.agent.workers.serving import serve_workers
from ringtrue.agent.workers.slots import SlotState
from ringtrue.agent.workers.supervisor import Supervisor, WorkersError
from ringtrue.config.settings import Settings, load_settings

FAKE = Path(__file__).parent / "fakes" / "worker_process.py"


@pytest.fixture(autouse=True)
def pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_IS", "steady")
    monkeypatch.setattr(child, "COMMAND", (sys.executable, "-I", str(FAKE)))


def settings(how: str, **changed: str) -> Settings:
    """Settings for workers that behave as ``how`` says."""
    os.environ["WORKER_IS"] = how
    environ = {
        "SIP__HOST": "127.0.0.1",
        "SIP__PORT": "0",
        "HTTP__HOST": "127.0.0.1",
        "HTTP__PORT": "0",
        "SERVER__DRAIN_SECONDS": "1",
    }
    return load_settings(
        environ={f"RINGTRUE_{key}": value for key, value in (environ | changed).items()}
    )


@asynccontextmanager
async def running(how: str, count: int = 2) -> AsyncIterator[tuple[Supervisor, httpx.AsyncClient]]:
    async with Supervisor(settings(how), count) as it:
        base = f"http://127.0.0.1:{it.http_port}"
        async with httpx.AsyncClient(base_url=base) as web:
            yield it, web


async def until(web: httpx.AsyncClient, path: str, **wanted: Any) -> dict[str, Any]:
    async with asyncio.timeout(15):
        while True:
            told: dict[str, Any] = (await web.get(path)).json()
            if all(told[name] == value for name, value in wanted.items()):
                return told
            await asyncio.sleep(0.05)


async def test_health_and_metrics_are_all_workers() -> None:
    async with running("steady") as (it, web):
        assert it.sip_port
        ready = await until(web, "/readyz", calls=2)
        assert ready["status"] == "ready"
        assert [worker["state"] for worker in ready["workers"]] == ["ready", "ready"]
        text = (await web.get("/metrics")).text
        assert "fake_calls_total 4.0" in text
        assert 'ringtrue_workers{state="ready"} 2.0' in text


async def test_a_worker_that_ends_before_it_is_ready_at_the_start_is_the_end() -> None:
    with pytest.raises(WorkersError, match="before it was ready"):
        async with Supervisor(settings("unfit"), 2):
            pass


async def test_a_crash_loop_is_told_and_not_hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "FIRST_PAUSE", 0.01)
    async with running("young", 1) as (it, web):
        told = await until(web, "/healthz", status="failing")
        assert told["workers"][0]["crash_loop"]
        assert it.slots[0].restarts >= slots.LOOPING
        assert "ringtrue_workers_crash_loop 1.0" in (await web.get("/metrics")).text


async def test_a_worker_that_says_nothing_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "HUNG_SECONDS", 0.2)
    async with running("mute", 1) as (it, web):
        first = it.slots[0].worker
        assert first is not None
        async with asyncio.timeout(15):
            while not it.slots[0].restarts or it.slots[0].state is not SlotState.READY:
                await asyncio.sleep(0.05)
        assert it.slots[0].worker is not first
        assert (await web.get("/healthz")).status_code == 200


async def test_a_killed_worker_is_replaced() -> None:
    async with running("steady") as (it, web):
        told = await until(web, "/healthz", status="ok")
        os.kill(told["workers"][1]["pid"], signal.SIGKILL)
        async with asyncio.timeout(15):
            while not it.slots[1].restarts or it.slots[1].state is not SlotState.READY:
                await asyncio.sleep(0.05)
        assert it.slots[0].restarts == 0


async def test_a_fault_in_keeping_a_worker_is_told_and_the_worker_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failing, ended = asyncio.Event(), child.Worker.ended

    async def faulty(self: child.Worker) -> int:
        if self.plan.slot == 1 and not failing.is_set():
            await failing.wait()
            raise RuntimeError("a fault of the supervisor's own")
        return await ended(self)

    monkeypatch.setattr(child.Worker, "ended", faulty)
    async with running("steady") as (it, web):
        told = await until(web, "/healthz", status="ok")
        with capture_logs() as logs:
            failing.set()
            async with asyncio.timeout(15):
                while not it.slots[1].restarts or it.slots[1].state is not SlotState.READY:
                    await asyncio.sleep(0.05)
        assert [entry["worker"] for entry in logs if "keeping_failed" in entry["event"]] == [1]
        with pytest.raises(ProcessLookupError):  # it was not left behind
            os.kill(told["workers"][1]["pid"], 0)
        assert "ringtrue_workers_keeping_failed_total 1.0" in (await web.get("/metrics")).text
        assert it.slots[0].restarts == 0


async def test_a_fault_in_keeping_the_first_worker_ends_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def faulty(self: Supervisor, slot: slots.Slot) -> None:
        raise RuntimeError("no plan")

    monkeypatch.setattr(Supervisor, "_plan", faulty)
    with pytest.raises(WorkersError, match="before it was ready"):
        async with asyncio.timeout(15), Supervisor(settings("steady"), 1):
            pass


async def test_a_spare_worker_takes_the_place_of_one_that_dies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervisor, "SPARE_SECONDS", 0.05)
    async with running("steady") as (it, web):
        for _ in range(2):  # and there is another for the next
            await until(web, "/healthz", spare=True)
            spare, restarts = it._spare.pid, it.slots[1].restarts
            victim = it.slots[1].worker
            assert spare is not None
            assert victim is not None
            assert victim.pid is not None
            os.kill(victim.pid, signal.SIGKILL)
            async with asyncio.timeout(15):
                while it.slots[1].restarts == restarts or it.slots[1].state is not SlotState.READY:
                    await asyncio.sleep(0.05)
            assert it.slots[1].worker is not None
            assert it.slots[1].worker.pid == spare


async def test_a_spare_worker_that_dies_is_replaced_and_one_is_not_left_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervisor, "SPARE_SECONDS", 0.05)
    async with running("steady", 1) as (it, web):
        await until(web, "/healthz", spare=True)
        first = it._spare.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        async with asyncio.timeout(15):
            while it._spare.pid in (None, first):
                await asyncio.sleep(0.05)
        last = it._spare.pid
        assert last is not None
        assert it.slots[0].restarts == 0
    with pytest.raises(ProcessLookupError):
        os.kill(last, 0)


async def test_who_wants_no_spare_worker_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "SPARE_SECONDS", 0.0)
    async with Supervisor(settings("steady", SERVER__SPARE_WORKER="false"), 1) as it:
        await asyncio.sleep(0.2)
        assert it._spare.pid is None


async def test_a_signal_drains_and_ends_with_code_0() -> None:
    ready = asyncio.Event()

    def signalled(it: Supervisor) -> None:
        ready.set()
        os.kill(os.getpid(), signal.SIGTERM)

    assert await serve_workers(settings("steady"), 2, on_ready=signalled) == 0
    assert ready.is_set()


async def test_a_second_signal_ends_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()

    def signalled(it: Supervisor) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        loop.call_later(0.3, os.kill, os.getpid(), signal.SIGTERM)

    async with asyncio.timeout(15):
        assert await serve_workers(settings("deaf"), 2, on_ready=signalled) == 0


async def test_a_worker_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "DRAIN_MARGIN", 0.2)
    async with running("deaf", 1) as (it, _):
        async with asyncio.timeout(10):
            await it.drain()
        assert it.slots[0].state is SlotState.ENDED


async def test_a_port_that_is_taken() -> None:
    async with running("steady", 1) as (it, _):
        taken = settings("steady", SIP__PORT=str(it.sip_port))
        with pytest.raises(OSError, match=f"SIP can't listen on 127.0.0.1 port {it.sip_port}"):
            async with Supervisor(taken, 1):
                pass
        taken = settings("steady", HTTP__PORT=str(it.http_port))
        with pytest.raises(OSError, match="HTTP can't listen on 127.0.0.1"):
            async with Supervisor(taken, 1):
                pass
