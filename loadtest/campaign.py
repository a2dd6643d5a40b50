"""A load test from its orders to its report: target, runs, what is judged afterwards, files."""

from __future__ import annotations

import asyncio
import json
import math
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from ringtrue.loadtest.capacity import Capacity, SearchOverError, SearchPolicy, Trial, find_capacity
from ringtrue.loadtest.clips import FOLDER, clip_name, worst_turns
from ringtrue.loadtest.faults import Faults
from ringtrue.loadtest.joining import join_records
from ringtrue.loadtest.listening import listen
from ringtrue.loadtest.phones import Access
from ringtrue.loadtest.processes import FamilyProbe, apart, running_on
from ringtrue.loadtest.progress import ProgressView
from ringtrue.loadtest.reporting import Report, write
from ringtrue.loadtest.results import RunResult, Transport
from ringtrue.loadtest.runner import Probe, RunPlan, run
from ringtrue.loadtest.scenario.schema import Scenario
from ringtrue.loadtest.script import text_file, texts_of
from ringtrue.loadtest.slo import Slo, default_slo
from ringtrue.loadtest.spawn import Spawned, spawned
from ringtrue.loadtest.tool import Installation, synthesize
from ringtrue.loadtest.virtual_time import VirtualTimeLoop

LISTENED: Final = 20
"""Calls whose words and watermark are judged, unless said otherwise."""

RAMP_PER_CALL: Final = 0.4
"""Seconds of ramp a call, where none is given."""

REST_SECONDS: Final = 3.0
"""Between the runs of a search, for the target to come to rest."""

RECORD_SECONDS: Final = 10.0
"""How long a target may take to write the records of calls that are over."""


InProcess = Callable[[Scenario, Path, int], AbstractAsyncContextManager[tuple[str, Installation]]]
"""Given the scenario, a folder and the seed: a target's address, and whose settings it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What is wanted."""

    scenario: Scenario
    out: Path
    target: str | None = None
    """None: a target is started for the run."""

    transport: Transport | None = None
    """Of a target that is started; None: the scenario's first."""

    calls: int = 1
    ramp_s: float | None = None
    duration_s: float | None = None
    seed: int = 1
    slo: Slo | None = None
    """None: the scenario's, else the shipped limits."""

    capacity: SearchPolicy | None = None
    """Search for the knee instead of one run."""

    search_seconds: float | None = None
    """Begin no run of a search that would not be over by then; None: as long as it takes."""

    apart: bool = False
    """Keep a target that is started and its callers on processors of their own."""

    host: str = "127.0.0.1"
    access: Access = field(default_factory=Access)
    config: Path | None = None
    """The target's settings: those of one that runs here, or what one that is started builds on."""

    in_process: InProcess | None = None
    """Makes a target on this very loop: for one on virtual time, and the same result again."""

    withdraw: str | None = None
    detection_key: str | None = None
    listened: int = LISTENED
    processes: int | None = None

    @property
    def ramp(self) -> float:
        """Seconds over which the first calls begin."""
        return self.ramp_s if self.ramp_s is not None else RAMP_PER_CALL * (self.calls - 1)


@dataclass(slots=True)
class _Field:
    """Where a run takes place."""

    target: str
    installation: Installation
    access: Access
    server: Spawned | None = None
    probe: Probe | None = None
    here: bool = False
    """Whether the callers are to be on this loop, too."""


async def carry_out(orders: Orders, console: Console) -> Report:
    """Do it, show it on ``console``, and write the files to ``orders.out``.

    Raises :class:`~ringtrue.streaming.errors.RingtrueError` for what can't be done at all,
    ``ValueError`` for orders out of range, OSError where files can't be written. Calls that fail
    are part of the report.
    """
    slo = orders.slo or orders.scenario.slo or default_slo()
    scenario = orders.scenario
    targets, callers = apart() if orders.apart else (None, None)
    async with AsyncExitStack() as stack:
        with _on(targets):
            ground = await stack.enter_async_context(_ground(orders))
        stack.enter_context(_on(callers))
        texts = orders.out / "prompts"
        wanted = texts_of(scenario)
        files = [text_file(texts, text, v) for text in wanted for v in scenario.caller.voices]
        with _frozen():
            await synthesize(Installation(), wanted, scenario.caller.voices, files)
        plan = RunPlan(
            scenario=scenario,
            target=ground.target,
            calls=orders.calls,
            ramp_s=orders.ramp,
            duration_s=orders.duration_s,
            seed=orders.seed,
            host=orders.host,
            clips=orders.out,
            texts=texts if wanted else None,
            access=ground.access,
            processes=orders.processes,
        )
        if orders.capacity is not None:
            result, capacity = await _search(orders, plan, ground, slo, console)
        else:
            result, capacity = await _one(orders, plan, ground, console), None
        result = await _with_records(result, ground)
    if orders.apart:
        note = f"the target ran on cores {_listed(targets)}, the callers on {_listed(callers)}"
        result = replace(result, notes=(*result.notes, note))
    await asyncio.to_thread(_prune, orders.out, result)
    return await asyncio.to_thread(write, orders.out, result, slo=slo, capacity=capacity)


def _on(cores: set[int] | None) -> AbstractContextManager[None]:
    return nullcontext() if cores is None else running_on(cores)


def _listed(cores: set[int] | None) -> str:
    return ", ".join(map(str, sorted(cores or ())))


@asynccontextmanager
async def _ground(orders: Orders) -> AsyncIterator[_Field]:
    scenario = orders.scenario
    if orders.target is not None:
        yield _Field(orders.target, Installation(orders.config), orders.access)
        return
    if orders.in_process is not None:
        place = orders.out / "target"
        async with orders.in_process(scenario, place, orders.seed) as (target, installation):
            yield _Field(target, installation, orders.access, here=True)
        return
    transport = orders.transport or Transport(scenario.transports[0])
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            spawned(scenario, orders.out / "target", orders.seed, config=orders.config)
        )
        yield _Field(
            server.target(transport, scenario.agent),
            server.installation,
            server.access,
            server,
            FamilyProbe(server.process.pid),
        )


async def _one(orders: Orders, plan: RunPlan, ground: _Field, console: Console) -> RunResult:
    scenario = orders.scenario
    recordings = orders.out / "calls"
    if scenario.expect.heard or scenario.expect.watermark:
        plan = replace(plan, recordings=recordings, listened=orders.listened)
    faults = None
    if ground.server is not None and scenario.faults:
        faults = Faults(ground.server, scenario.faults, withdraw=orders.withdraw)
    try:
        result = await _watched(plan, console, ground, None if faults is None else faults.run)
        notes = [] if faults is None else faults.notes
        if ground.server is None and scenario.faults:
            notes = ["the scenario's faults were left out: the target was not started for it"]
        result = replace(result, notes=(*notes, *result.notes))
        with _frozen():
            return await listen(
                result,
                scenario,
                recordings,
                ground.installation,
                detection_key=orders.detection_key,
            )
    finally:
        await asyncio.to_thread(shutil.rmtree, recordings, True)


async def _search(
    orders: Orders, plan: RunPlan, ground: _Field, slo: Slo, console: Console
) -> tuple[RunResult, Capacity]:
    """The knee, and the last run that was made with so many calls (else the first run at all)."""
    assert orders.capacity is not None
    runs: list[RunResult] = []
    loop = asyncio.get_running_loop()
    began, longest = loop.time(), 0.0
    limit = math.inf if orders.search_seconds is None else orders.search_seconds

    async def measure(calls: int, seed: int) -> RunResult:
        nonlocal longest
        started = loop.time()
        if runs and started - began + longest > limit:
            raise SearchOverError
        if runs:
            await asyncio.sleep(REST_SECONDS)
        ramp = orders.ramp_s if orders.ramp_s is not None else RAMP_PER_CALL * (calls - 1)
        one = replace(plan, calls=calls, seed=seed, ramp_s=ramp, clips=None)
        result = await _watched(one, console, ground, None)
        runs.append(await _with_records(result, ground))
        longest = max(longest, loop.time() - started)
        return runs[-1]

    def told(trial: Trial) -> None:
        words = "held" if trial.ok else f"broke {', '.join(v.name for v in trial.broken)}"
        p95 = trial.turn_latency.p95
        shown = "–" if p95 is None else f"{p95:.0f} ms"
        console.print(f"{trial.calls} calls at once: {words}; p95 {shown}", highlight=False)

    capacity = await find_capacity(measure, slo, orders.capacity, on_trial=told)
    # A capacity's trials are the runs, in the same order.
    held = [
        result
        for result, trial in zip(runs, capacity.trials, strict=False)
        if trial.calls == capacity.knee and trial.ok
    ]
    return (held or runs)[-1], capacity


async def _watched(
    plan: RunPlan,
    console: Console,
    ground: _Field,
    during: Callable[[float], Awaitable[None]] | None,
) -> RunResult:
    title = f"{plan.scenario.name}: {plan.calls} calls at once, seed {plan.seed}"
    with ProgressView(console, title) as view:
        return await run(
            plan, on_progress=view.show, during=during, probe=ground.probe, here=ground.here
        )


@contextmanager
def _frozen() -> Iterator[None]:
    """Hold the loop's time, where it is virtual, while processes of ours work."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, VirtualTimeLoop):
        with loop.frozen():
            yield
    else:
        yield


async def _with_records(result: RunResult, ground: _Field) -> RunResult:
    """``result`` with the target's own records of its calls, where they can be had."""
    if ground.server is None:
        return result
    folder = ground.server.folder / "records"
    answered = sum(call.answered_s is not None for call in result.calls)
    for _ in range(round(RECORD_SECONDS / 0.2)):
        if await asyncio.to_thread(_count, folder) >= answered:
            break
        await asyncio.sleep(0.2)
    records = await asyncio.to_thread(_records, folder)
    return join_records(result, records)


def _count(folder: Path) -> int:
    return sum(1 for _ in folder.glob("*.json"))


def _records(folder: Path) -> list[dict[str, Any]]:
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            value = json.loads(path.read_bytes())
        except (OSError, ValueError):
            continue  # one that a kill left half
        if isinstance(value, dict):
            found.append(value)
    return found


def _prune(directory: Path, result: RunResult) -> None:
    """Each process of callers keeps the clips of its own worst turns: leave those of all."""
    wanted = {clip_name(worst.call.id, worst.index) for worst in worst_turns(result)}
    for path in (directory / FOLDER).glob("*.wav"):
        if path.name not in wanted:
            path.unlink(missing_ok=True)
