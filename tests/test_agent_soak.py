"""Two hundred calls, one after the other, over real SIP and RTP, leave everything where it was."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import pytest
import structlog
from loguru import logger as loguru_logger

from ringtrue.agent.loopback import loopback_server
from ringtrue.agent.server import Server
from ringtrue.config.settings import load_settings
from ringtrue.loadtest.caller import VirtualCaller
from ringtrue.loadtest.phone import Phone

CALLS = 200
WARM_UP = 40
FORGETTING = 40.0
"""Seconds by which SIP has forgotten the last transaction (RFC 3261: Timer J is 64*T1, 32 s)."""

OBJECTS_PER_CALL = 5
"""What may stay of a call: entries of bounded histories. A call's graph has thousands."""

BYTES_PER_CALL = 50_000
"""Likewise, with the allocator's own slack."""


@dataclass(frozen=True)
class Holdings:
    """What the process holds."""

    descriptors: int
    threads: int
    children: int
    tasks: int
    ports: int
    sip: dict[str, int]
    objects: int
    resident: int


def holdings(server: Server) -> Holdings:
    assert server._pool is not None
    assert server._sip is not None
    gc.collect()
    process = psutil.Process()
    return Holdings(
        descriptors=len(os.listdir("/proc/self/fd")),
        threads=threading.active_count(),
        children=len(process.children(recursive=True)),
        tasks=len(asyncio.all_tasks()),
        ports=server._pool.in_use,
        sip=server._sip.sizes(),
        objects=len(gc.get_objects()),
        resident=process.memory_info().rss,
    )


async def greeted(caller: VirtualCaller) -> None:
    """Hang up as soon as the agent is heard."""
    await caller.wait_for_agent_to_start()
    await caller.hangup()


async def idle(server: Server) -> None:
    """Until the server has finished with the last call."""
    async with asyncio.timeout(5):
        while len(server.calls):
            await asyncio.sleep(0.01)


async def forgotten(server: Server) -> None:
    """Until SIP has no transaction left."""
    assert server._sip is not None
    async with asyncio.timeout(FORGETTING):
        while server._sip.sizes()["server"]:
            await asyncio.sleep(0.2)


@pytest.fixture
def quiet() -> Iterator[None]:
    """Log as a server does at WARNING: what libraries say at DEBUG costs memory of its own."""
    loguru_logger.disable("pipecat")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    yield
    structlog.reset_defaults()
    loguru_logger.enable("pipecat")


@pytest.mark.uvloop
@pytest.mark.timeout(240)
@pytest.mark.usefixtures("quiet", "settled")
async def test_two_hundred_calls_leave_nothing() -> None:
    settings = load_settings(environ={})
    async with loopback_server(settings) as server, Phone() as phone:
        target = f"sip:demo@127.0.0.1:{server.sip_port}"

        async def place(calls: int) -> None:
            for number in range(calls):
                transport = ";transport=tcp" if number % 2 else ""
                result = await phone.call(target + transport, greeted)
                assert result.ok, result.detail
                if number % 20 == 0:
                    gc.collect()  # what waits for the collector is no leak
            await idle(server)

        at_first = holdings(server)
        await place(WARM_UP)
        warm = holdings(server)
        await place(CALLS - WARM_UP)
        busy = holdings(server)
        await forgotten(server)
        at_last = holdings(server)
        page = server.metrics.render().decode()
        records = tuple(server.calls.records)

    assert at_last.descriptors == busy.descriptors == warm.descriptors
    assert at_last.threads <= warm.threads
    assert at_last.children == warm.children == at_first.children
    assert at_last.tasks <= at_first.tasks + 2  # the two ends of the one TCP connection
    assert at_last.ports == busy.ports == warm.ports == 0
    assert at_last.sip["calls"] == busy.sip["calls"] == at_last.sip["client"] == 0
    assert at_last.sip["server"] == 0
    assert at_last.sip["streams"] == warm.sip["streams"] <= 1
    assert at_last.objects - warm.objects < OBJECTS_PER_CALL * (CALLS - WARM_UP)
    assert at_last.resident - warm.resident < BYTES_PER_CALL * (CALLS - WARM_UP)
    assert f'ringtrue_calls_total{{outcome="caller_hung_up",transport="sip"}} {CALLS}.0' in page
    assert 'ringtrue_calls_active{transport="sip"} 0.0' in page
    assert "ringtrue_clock_calls 0.0" in page
    assert len(records) == 100
    assert not any(record.errors or record.refused for record in records)
