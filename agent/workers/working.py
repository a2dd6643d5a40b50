"""What a worker's process does once it has loaded: one server, led by its supervisor."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from typing import Final

import structlog
import uvloop

from ringtrue.agent.logs import configure_logs, log_loop_error
from ringtrue.agent.server import Server, settle_memory
from ringtrue.agent.workers.link import SupervisorLink
from ringtrue.agent.workers.plan import WorkerPlan
from ringtrue.agent.workers.wire import Status
from ringtrue.config.errors import ConfigError
from ringtrue.streaming.errors import RingtrueError

log = structlog.get_logger(__name__)

DONE: Final = 0
LOST: Final = 1
"""The supervisor was gone."""

UNFIT: Final = 2
"""The settings can't be used, or something that is needed can't be had."""


def status_of(server: Server, link: SupervisorLink) -> Status:
    """How a running server is."""
    is_open = server.ready and not link.draining.is_set() and not server.calls.full()
    return Status(len(server.calls), is_open, server.sip_hosts, link.relay.heard)


async def work(plan: WorkerPlan, channel: socket.socket, door: socket.socket) -> int:
    """Serve until the supervisor says otherwise; returns the exit code."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(log_loop_error)
    link = SupervisorLink(plan, channel, door)
    await link.open()
    loop.add_signal_handler(signal.SIGTERM, link.draining.set)
    server = Server(plan.settings, link)

    async def hurry() -> None:
        await link.ending.wait()
        server.hurry()

    hurrying = loop.create_task(hurry(), name="worker-hurry")
    try:
        async with server:
            settle_memory()
            link.report(lambda: status_of(server, link), server.metrics.render)
            await link.draining.wait()
            log.info("server.draining", calls=len(server.calls))
    finally:
        hurrying.cancel()
        await asyncio.gather(hurrying, return_exceptions=True)
        await link.close()
    return LOST if link.lost else DONE


def run(plan: WorkerPlan, channel: socket.socket, door: socket.socket) -> int:
    """Serve as ``plan`` says, in an event loop of its own; returns the exit code."""
    configure_logs(plan.settings.logging)
    structlog.contextvars.bind_contextvars(worker=plan.slot)
    try:
        return uvloop.run(work(plan, channel, door))
    except (ConfigError, RingtrueError, OSError) as error:
        print(f"ringtrue: {error}", file=sys.stderr)
        return UNFIT
