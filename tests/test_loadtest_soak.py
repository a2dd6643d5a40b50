"""The soak reads a server as it is, waits for its rest, and says what can't be done."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from load_results import sample_run

from ringtrue.loadtest import soak as soaking
from ringtrue.loadtest.results import Outcome, RunResult
from ringtrue.loadtest.runner import RunPlan
from ringtrue.loadtest.scenario.schema import Scenario
from ringtrue.loadtest.soak import (
    RECOGNIZER,
    SharesProbe,
    SoakOrders,
    at_rest,
    failure,
    main,
    metrics_of,
    readings_of,
    soak,
    soak_scenario,
)
from ringtrue.loadtest.spawn import Spawned
from ringtrue.streaming.errors import RingtrueError


def page(*, calls: int = 0, transactions: int = 0, tasks: int = 9, ports: int = 0) -> str:
    """What a server's metrics say, as far as the soak reads them."""
    return (
        f"ringtrue_clock_calls {calls}.0\n"
        f"ringtrue_tasks {tasks}.0\n"
        f"ringtrue_rtp_ports {ports}.0\n"
        f'ringtrue_sip_held{{kind="calls"}} {calls}.0\n'
        f'ringtrue_sip_held{{kind="client"}} 0.0\n'
        f'ringtrue_sip_held{{kind="server"}} {transactions}.0\n'
    )


@asynccontextmanager
async def serving(pages: Iterator[str]) -> AsyncIterator[Spawned]:
    """A web server that shows ``pages`` one after the other, as this process's metrics."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = next(pages).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        stand_in = SimpleNamespace(
            process=SimpleNamespace(pid=os.getpid()),
            url=f"http://127.0.0.1:{port}",
            access=None,
            target=lambda transport, agent: f"sip:{agent}@127.0.0.1:5060",
        )
        yield cast("Spawned", stand_in)


def always(text: str) -> Iterator[str]:
    while True:
        yield text


@pytest.mark.virtual_time
async def test_it_waits_until_everything_is_forgotten() -> None:
    busy = [page(calls=2, transactions=4), page(transactions=4), page(transactions=1)]
    pages = iter([*busy, page(tasks=8), page(tasks=99)])
    async with serving(pages) as server:
        held = await at_rest(server, 40.0)
    assert (held.tasks, held.rtp_ports, held.sip_calls) == (8, 0, 0)
    assert held.rss_bytes > 10_000_000
    assert held.descriptors > 3


@pytest.mark.virtual_time
async def test_what_never_rests_is_read_as_it_is() -> None:
    async with serving(always(page(calls=1, transactions=1, ports=1))) as server:
        held = await at_rest(server, 5.0)
    assert (held.rtp_ports, held.sip_calls) == (1, 1)


async def test_a_server_that_is_gone_is_an_error() -> None:
    async with serving(always(page())) as server:
        assert (await metrics_of(server))["ringtrue_tasks"] == 9
    with pytest.raises(RingtrueError, match="no metrics"):
        await metrics_of(server)


async def test_a_soak_from_orders_to_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it but the calls: those are made up, with a server that grows as they go on."""
    ran: list[RunPlan] = []

    @asynccontextmanager
    async def stand_in(scenario: Scenario, folder: Path, seed: int) -> AsyncIterator[Spawned]:
        folder.mkdir(parents=True)
        async with serving(always(page())) as server:
            yield server

    async def pretend(plan: RunPlan, **given: object) -> RunResult:
        ran.append(plan)
        return sample_run()

    monkeypatch.setattr(soaking, "spawned", stand_in)
    monkeypatch.setattr(soaking, "run", pretend)
    said: list[str] = []
    console = SimpleNamespace(print=lambda text, **_: said.append(text))
    orders = SoakOrders(out=tmp_path, minutes=2, forget_seconds=0.1)
    drift = await soak(orders, console)  # type: ignore[arg-type]
    assert [plan.duration_s for plan in ran] == [None, 120]
    assert not drift.ok
    # 150,000 bytes a second, and six calls that were not as they should be.
    assert drift.rss_mib.per_hour == pytest.approx(515, abs=5)
    assert drift.failed == sum(not call.ok for call in sample_run().calls)
    assert (tmp_path / "soak.json").is_file()
    assert said[0].startswith("soaking for 2 min")


def test_readings_are_those_that_could_be_had() -> None:
    assert len(readings_of(sample_run())) == 90
    assert readings_of(sample_run())[0].processes == {}
    shares = [{"server": number} for number in range(95)]
    told = readings_of(sample_run(), shares)
    assert len(told) == 90
    assert {**told[-1].processes}["server"] > {**told[0].processes}["server"]


def test_whose_memory_it_is() -> None:
    waiting = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)", RECOGNIZER]
    with subprocess.Popen(waiting, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        probe = SharesProbe(os.getpid())
        _, together, _ = probe.read()
        child.kill()
    (share,) = probe.shares
    assert {"server", "recognizer"} <= set(share)
    assert sum(share.values()) == together
    assert share["server"] > share["recognizer"] > 1_000_000


def test_the_short_call() -> None:
    scenario = soak_scenario()
    assert (scenario.name, scenario.turns) == ("soak", 1)


@pytest.mark.parametrize(
    ("option", "complaint"),
    [(["--minutes", "0"], "minutes is 0; allowed: 0.2"), (["--calls", "99"], "calls is 99")],
)
def test_orders_out_of_range(
    option: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(option) == 2
    assert complaint in capsys.readouterr().err


def test_sigterm_ends_what_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[bool] = []

    async def endless(*_: object) -> None:
        signal.raise_signal(signal.SIGTERM)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    monkeypatch.setattr(soaking, "soak", endless)
    assert main([]) == 128 + signal.SIGTERM
    assert ended == [True]


def test_it_says_when_and_how_a_call_failed() -> None:
    calls = {call.outcome: call for call in sample_run().calls if not call.ok}
    refused, failed = calls[Outcome.REFUSED], calls[Outcome.FAILED]
    told = failure(refused)
    assert told.startswith(f"{refused.id} at {refused.started_s / 60:.1f} min: refused")
    broken = next(call for call in sample_run().calls if call.failed_expectations)
    (first, *_) = broken.failed_expectations
    assert f"{first.text}: {first.evidence}" in failure(broken)
    assert failed.id in failure(failed)
