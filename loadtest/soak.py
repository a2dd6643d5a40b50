"""A soak: short calls for an hour against a server started for it, and what it holds meanwhile.

``python -m ringtrue.loadtest.soak --minutes 60 -o build/soak`` (``make soak``). Exit status 0
where memory grows by less than 1 MiB an hour after the warm-up and nothing else is left behind,
1 otherwise, 2 where the soak could not be run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

import httpx
import uvloop
from prometheus_client.parser import text_string_to_metric_families
from pydantic import TypeAdapter
from rich.console import Console

from ringtrue.config.errors import ConfigError
from ringtrue.loadtest.drift import Drift, Held, Reading, drift_of
from ringtrue.loadtest.processes import FamilyProbe, named
from ringtrue.loadtest.results import MeasuredCall, RunResult, Transport
from ringtrue.loadtest.runner import RunPlan, run
from ringtrue.loadtest.scenario.reading import parse_scenario
from ringtrue.loadtest.scenario.schema import Scenario
from ringtrue.loadtest.spawn import Spawned, spawned
from ringtrue.streaming.built import media_built
from ringtrue.streaming.errors import RingtrueError

FORGET_SECONDS: Final = 40.0
"""By then SIP has forgotten the last transaction (RFC 3261: Timer J is 64*T1, 32 s)."""

TELL_SECONDS: Final = 60.0
RECOGNIZER: Final = "ringtrue.streaming.recognizers.worker"
"""What the command line of a recognizer's process holds."""

GREETING_CALLS: Final = 2
"""Calls before the first reading: what is loaded at the first call is no growth."""

_DRIFT: Final = TypeAdapter(Drift)


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakOrders:
    """What to do. Raises ``ValueError`` naming what is out of range."""

    out: Path
    minutes: float = 60.0
    calls: int = 4
    """At once."""

    seed: int = 1
    forget_seconds: float = FORGET_SECONDS

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, value, low, high in (
            ("minutes", self.minutes, 0.2, 24 * 60),
            ("calls", self.calls, 1, 50),
        ):
            if not low <= value <= high:
                raise ValueError(f"{name} is {value:g}; allowed: {low:g} to {high:g}")


class SharesProbe(FamilyProbe):
    """Notes with every reading what is whose."""

    def __init__(self, pid: int) -> None:
        """``pid`` is the server."""
        super().__init__(pid)
        self.shares: list[Mapping[str, int]] = []
        """Resident bytes by what a process is, one for each reading."""

    def read(self) -> tuple[float | None, int | None, int | None]:
        """As ever."""
        found = super().read()
        recognizers = set(named([*self.resident], RECOGNIZER))
        share: dict[str, int] = {}
        for pid, held in self.resident.items():
            name = "recognizer" if pid in recognizers else "others"
            name = "server" if pid == self.pid else name
            share[name] = share.get(name, 0) + held
        self.shares.append(share)
        return found


def soak_scenario() -> Scenario:
    """The short call."""
    text = (resources.files("ringtrue.loadtest") / "soak.yaml").read_text(encoding="utf-8")
    return parse_scenario(text, "soak.yaml")


async def soak(orders: SoakOrders, console: Console) -> Drift:
    """Do it; what was found is also written to ``orders.out / "soak.json"``.

    Raises :class:`~ringtrue.streaming.errors.RingtrueError` where the server can't be started or
    read, and ``ValueError`` for a run too short to be judged.
    """
    scenario = soak_scenario()
    async with spawned(scenario, orders.out / "target", orders.seed) as server:
        plan = RunPlan(
            scenario=scenario,
            target=server.target(Transport.SIP, scenario.agent),
            calls=GREETING_CALLS,
            seed=orders.seed,
            access=server.access,
            processes=1,
        )
        await run(plan)
        before = await at_rest(server, orders.forget_seconds)
        console.print(
            f"soaking for {orders.minutes:g} min, {orders.calls} calls at once, {media_built()}"
        )
        long = RunPlan(
            scenario=scenario,
            target=plan.target,
            calls=orders.calls,
            ramp_s=2.0 * orders.calls,
            duration_s=60 * orders.minutes,
            seed=orders.seed + 1,
            access=server.access,
            processes=1,
        )
        telling = asyncio.create_task(_tell(server, console), name="soak's readings")
        probe = SharesProbe(server.process.pid)
        try:
            result = await run(long, probe=probe)
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
        after = await at_rest(server, orders.forget_seconds)
    drift = drift_of(
        readings_of(result, probe.shares),
        before,
        after,
        ended=[call.ended_s for call in result.calls],
        failures=[failure(call) for call in result.calls if not call.ok],
    )
    await asyncio.to_thread(
        (orders.out / "soak.json").write_bytes, _DRIFT.dump_json(drift, indent=1) + b"\n"
    )
    return drift


def readings_of(result: RunResult, shares: Sequence[Mapping[str, int]] = ()) -> list[Reading]:
    """A run's readings of its target, those that could be had; ``shares`` are theirs in order."""
    unknown: list[Mapping[str, int]] = [{}] * len(result.load)
    return [
        Reading(sample.at_s, sample.rss_bytes, sample.descriptors, share)
        for sample, share in zip(result.load, [*shares, *unknown], strict=False)
        if sample.rss_bytes is not None and sample.descriptors is not None
    ]


def failure(call: MeasuredCall) -> str:
    """When and how a call failed."""
    seen = [f"{one.text}: {one.evidence}" for one in call.failed_expectations]
    if not call.completed:
        seen.insert(0, f"{call.outcome} {call.detail}".rstrip())
    return f"{call.id} at {call.started_s / 60:.1f} min: {', '.join(seen)}"


async def at_rest(server: Spawned, forget_seconds: float) -> Held:
    """What the server holds once no call is up and SIP has forgotten the last transaction.

    After ``forget_seconds`` it is read whatever is left. Raises
    :class:`~ringtrue.streaming.errors.RingtrueError` where it can't be asked.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + forget_seconds
    while True:
        page = await metrics_of(server)
        kept = page["ringtrue_sip_held:server"] + page["ringtrue_sip_held:client"]
        if not (page["ringtrue_clock_calls"] or kept) or loop.time() >= until:
            break
        await asyncio.sleep(1.0)
    _, rss, descriptors = await asyncio.to_thread(FamilyProbe(server.process.pid).read)
    if rss is None or descriptors is None:
        raise RingtrueError("the server is gone")
    return Held(
        rss_bytes=rss,
        descriptors=descriptors,
        tasks=round(page["ringtrue_tasks"]),
        rtp_ports=round(page["ringtrue_rtp_ports"]),
        sip_calls=round(page["ringtrue_sip_held:calls"]),
    )


async def metrics_of(server: Spawned) -> dict[str, float]:
    """The server's ``/metrics``: name, or ``name:label``, to value.

    Raises :class:`~ringtrue.streaming.errors.RingtrueError` where it doesn't answer.
    """
    try:
        async with httpx.AsyncClient(timeout=10.0) as client:
            page = (await client.get(f"{server.url}/metrics")).raise_for_status().text
    except httpx.HTTPError as error:
        raise RingtrueError(f"no metrics from the server: {type(error).__name__}") from None
    return {
        ":".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


async def _tell(server: Spawned, console: Console) -> None:
    """A line a minute, so that a long run is seen to live."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    probe = FamilyProbe(server.process.pid)
    while True:
        await asyncio.sleep(TELL_SECONDS)
        _, rss, descriptors = await asyncio.to_thread(probe.read)
        page: dict[str, float] = {}
        with contextlib.suppress(RingtrueError):
            page = await metrics_of(server)
        if rss is not None:
            console.print(
                f"{(loop.time() - began) / 60:5.0f} min  {rss / 2**20:8.1f} MiB  "
                f"({', '.join(f'{held / 2**20:.1f}' for held in probe.resident.values())})  "
                f"{descriptors} descriptors  {page.get('ringtrue_tasks', 0):.0f} tasks  "
                f"{page.get('ringtrue_rtp_ports', 0):.0f} RTP ports",
                highlight=False,
            )


async def _until_terminated(work: Coroutine[Any, Any, Drift]) -> Drift:
    """What ``work`` returns; SIGTERM cancels it, so that the server it began ends with it."""
    task = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Short calls for a long time.")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--calls", type=int, default=4, help="at once")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-o", "--out", type=Path, default=Path("build/soak"))
    given = parser.parse_args(arguments)
    console, errors = Console(), Console(stderr=True)
    try:
        orders = SoakOrders(
            out=given.out, minutes=given.minutes, calls=given.calls, seed=given.seed
        )
        drift = uvloop.run(_until_terminated(soak(orders, console)))
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM
    except (RingtrueError, ConfigError, OSError, ValueError) as error:
        errors.print(f"soak: {error}", style="red", highlight=False)
        return 2
    for line in drift.lines():
        console.print(line, highlight=False)
    return 0 if drift.ok else 1


if __name__ == "__main__":
    sys.exit(main())
