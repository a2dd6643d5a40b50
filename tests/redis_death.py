"""What may happen to a Redis server under a running service, one thing after another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from peers.redis import RedisServer

FAULTS = ("kill", "hang", "cut", "flush")
"""``kill -9`` and an empty restart; SIGSTOP and SIGCONT; all connections closed; FLUSHALL."""


async def torment(
    server: RedisServer, *, faults: Sequence[str] = FAULTS, away: float = 0.3, between: float = 0.3
) -> None:
    """Do each of ``faults`` once; ``away`` and ``between`` are in seconds. The loop runs on."""
    for fault in faults:
        await asyncio.sleep(between)
        if fault == "kill":
            await asyncio.to_thread(server.kill)
            await asyncio.sleep(away)
            await asyncio.to_thread(server.start)
        elif fault == "hang":
            server.hang()
            await asyncio.sleep(away)
            server.resume()
        elif fault == "cut":
            for kind in ("normal", "pubsub"):
                await asyncio.to_thread(server.ask, "CLIENT", "KILL", "TYPE", kind)
        elif fault == "flush":
            await asyncio.to_thread(server.ask, "FLUSHALL")
        else:
            raise ValueError(f"fault {fault!r}; there are: {', '.join(FAULTS)}")
    await asyncio.sleep(between)


@asynccontextmanager
async def tormented(
    server: RedisServer, *, faults: Sequence[str] = FAULTS, away: float = 0.3, between: float = 0.3
) -> AsyncIterator[asyncio.Task[None]]:
    """Torment ``server`` while the block runs; it is left once block and torment are over."""
    task = asyncio.create_task(torment(server, faults=faults, away=away, between=between))
    try:
        yield task
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
