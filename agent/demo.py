"""``ringtrue demo``: a server started for one call, the call, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from ringtrue.agent.loopback import loopback_server
from ringtrue.config.settings import Settings
from ringtrue.loadtest.demo import AGENT, print_demo, run_demo


async def run(settings: Settings, out: Path) -> int:
    """Hold the demonstration call and print it; 0 only if it went as it should."""
    console = Console()
    async with loopback_server(settings) as server:

        async def record() -> Mapping[str, Any] | None:
            found = await server.calls.last_record()
            return None if found is None else found.as_dict()

        report = await run_demo(
            f"sip:{AGENT}@127.0.0.1:{server.sip_port}",
            out_dir=out,
            record=record,
            agent=server.agents.named(AGENT),
        )
    print_demo(report, console)
    return 0 if report.ok else 1
