"""The server for one's own calls: every setting as given, but only on loopback and free ports.

How fast one caller may call is not limited: there is only one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ringtrue.agent.engines import Engines
from ringtrue.agent.server import Server
from ringtrue.config.settings import Settings


def on_loopback(settings: Settings) -> Settings:
    """``settings`` bound to 127.0.0.1 with ports the system chooses, and nothing to drain for."""
    callers = settings.sip.callers.model_copy(
        update={"calls_per_second": 10_000.0, "calls_at_once": 100_000}
    )
    sip = {"enabled": True, "host": "127.0.0.1", "port": 0, "advertised_host": None}
    return settings.model_copy(
        update={
            "sip": settings.sip.model_copy(update={**sip, "callers": callers}),
            "http": settings.http.model_copy(
                update={"enabled": True, "host": "127.0.0.1", "port": 0, "public_url": None}
            ),
            "server": settings.server.model_copy(update={"drain_seconds": 2.0}),
        }
    )


@asynccontextmanager
async def loopback_server(
    settings: Settings, *, engines: type[Engines] = Engines
) -> AsyncIterator[Server]:
    """A running server on loopback."""
    async with Server(on_loopback(settings), engines=engines) as server:
        yield server
