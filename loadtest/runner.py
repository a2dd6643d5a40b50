"""A run of a load test: crews of callers in processes of their own, gathered into one result."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import platform
import random
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final, Protocol

from ringtrue.loadtest.crew import (
    MAX_CALLS,
    STATE_SECONDS,
    CallDone,
    Crew,
    CrewEnd,
    CrewEvent,
    CrewSpec,
    CrewState,
    Slot,
)
from ringtrue.loadtest.phones import Access
from ringtrue.loadtest.results import (
    Clock,
    LoadSample,
    Machine,
    MeasuredCall,
    RunResult,
)
from ringtrue.loadtest.scenario.schema import Scenario
from ringtrue.loadtest.target import read_target
from ringtrue.loadtest.worker import MAX_LINE, SPEC, read_line
from ringtrue.streaming.errors import RingtrueError

CALLS_PER_PROCESS: Final = 25
"""Callers that one process takes before another is started, while there are cores."""

LEAD_SECONDS: Final = 2.0
"""Between the orders and the first call: processes start, prompts are read."""

GRACE_SECONDS: Final = 60.0
"""Beyond the longest time calls can take, after which a crew is given up."""

STOP_SECONDS: Final = 5.0


class CrewError(RingtrueError):
    """A process of callers could not do its work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """What to run."""

    scenario: Scenario
    target: str
    calls: int = 1
    """At once."""

    ramp_s: float = 0.0
    """Over which the first calls begin."""

    duration_s: float | None = None
    """Each caller calls again until so long has passed; None: once."""

    seed: int = 1
    host: str = "127.0.0.1"
    clips: Path | None = None
    recordings: Path | None = None
    listened: int = 0
    """First calls of so many callers, drawn by the seed, are recorded whole."""

    texts: Path | None = None
    access: Access = field(default_factory=Access)
    processes: int | None = None
    """None: one for each :data:`CALLS_PER_PROCESS`, no more than cores."""

    def __post_init__(self) -> None:
        """Raises ``ValueError`` naming what is out of range."""
        bounds: tuple[tuple[str, float | None, float, float], ...] = (
            ("calls", self.calls, 1, 2000),
            ("ramp", self.ramp_s, 0, 3600),
            ("duration", self.duration_s, 1, 86_400),
        )
        for name, value, low, high in bounds:
            if value is not None and not low <= value <= high:
                raise ValueError(f"{name} is {value:g}; allowed: {low:g} to {high:g}")

    def slots(self) -> list[Slot]:
        """When each caller first calls: along the ramp, each at random within its part."""
        chance = random.Random(f"{self.seed}/ramp")
        step = self.ramp_s / self.calls
        drawn = random.Random(f"{self.seed}/listened")
        listened = set(drawn.sample(range(self.calls), min(self.listened, self.calls)))
        return [
            Slot(number, round(step * (number + chance.random()), 4), number in listened)
            for number in range(self.calls)
        ]

    @property
    def max_seconds(self) -> float:
        """Longest time a run can take."""
        one = self.scenario.max_seconds + self.scenario.caller.answer_within + 10
        return self.ramp_s + (self.duration_s or 0.0) + one + GRACE_SECONDS


@dataclass(slots=True)
class Progress:
    """Where a run stands, for whoever watches."""

    at_s: float = 0.0
    up: int = 0
    ringing: int = 0
    done: int = 0
    failed: int = 0
    planned: int | None = None
    """None with a duration."""

    latencies: list[float] = field(default_factory=list, repr=False)
    """Of all turns so far, in ms."""


OnProgress = Callable[[Progress], None]


class Probe(Protocol):
    """Reads the target's processes, where they run here."""

    def read(self) -> tuple[float | None, int | None, int | None]:
        """CPU seconds so far, resident bytes, open descriptors; None for what can't be had."""
        ...


@dataclass(slots=True)
class _Gathered:
    calls: list[MeasuredCall] = field(default_factory=list)
    states: dict[int, CrewState] = field(default_factory=dict)
    ends: list[CrewEnd] = field(default_factory=list)


async def run(
    plan: RunPlan,
    *,
    on_progress: OnProgress = lambda _: None,
    during: Callable[[float], Awaitable[None]] | None = None,
    probe: Probe | None = None,
    here: bool = False,
) -> RunResult:
    """Run ``plan``; every call that was begun is in the result, whatever became of it.

    ``during`` runs beside the calls and is given the loop time of the run's beginning; it is
    cancelled once the calls are over. ``probe`` reads the target's processes.
    ``here`` keeps the callers on this event loop, for one that has a time of its own.

    Raises :class:`CrewError` if a process fails, ``ValueError`` and
    :class:`~ringtrue.loadtest.target.TargetError` for a plan that can't be carried out.
    """
    loop = asyncio.get_running_loop()
    target = read_target(plan.target)
    gathered = _Gathered()
    progress = Progress(planned=plan.calls if plan.duration_s is None else None)
    began = datetime.now().astimezone().isoformat(timespec="seconds")
    specs = _specs(plan, 1 if here else _processes(plan), loop.time() + LEAD_SECONDS)
    start = specs[0].start_at

    def take(crew: int, event: CrewEvent) -> None:
        match event:
            case CallDone(call):
                gathered.calls.append(call)
                _note(progress, call)
            case CrewState():
                gathered.states[crew] = event
            case CrewEnd():
                gathered.ends.append(event)
        progress.up = sum(state.up for state in gathered.states.values())
        progress.ringing = sum(state.ringing for state in gathered.states.values())
        progress.at_s = max(0.0, loop.time() - start)
        on_progress(progress)

    sampler = _Sampler(progress, start, probe)
    beside = [asyncio.create_task(sampler.run(), name="load samples")]
    noting = None
    if during is not None:
        noting = asyncio.ensure_future(during(start))
    try:
        if here:
            await Crew(specs[0], lambda event: take(0, event)).run()
        else:
            async with asyncio.TaskGroup() as group:
                for index, spec in enumerate(specs):
                    group.create_task(_crew(index, spec, plan.max_seconds, take))
    except BaseExceptionGroup as errors:
        raise _first(errors) from None
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        await _ended(noting)
    return RunResult(
        scenario=plan.scenario.name,
        target=target.shown,
        seed=plan.seed,
        calls_planned=len(gathered.calls),
        ramp_s=plan.ramp_s,
        duration_s=round(loop.time() - start, 3),
        deterministic=here,
        began=None if here else began,
        versions={"ringtrue": version("ringtrue"), "python": platform.python_version()},
        machine=None if here else machine(target_is_local=target.is_local),
        clock=_clock(gathered.ends, target.is_local, here),
        calls=tuple(sorted(gathered.calls, key=lambda call: call.id)),
        load=tuple(sampler.samples),
    )


def _processes(plan: RunPlan) -> int:
    wanted = plan.processes or math.ceil(plan.calls / CALLS_PER_PROCESS)
    return max(1, min(wanted, plan.calls, os.cpu_count() or 1))


def _specs(plan: RunPlan, crews: int, start: float) -> list[CrewSpec]:
    slots = plan.slots()
    whole = CrewSpec(
        scenario=plan.scenario,
        target=plan.target,
        slots=(),
        seed=plan.seed,
        start_at=start,
        duration_s=plan.duration_s,
        clips=plan.clips,
        recordings=plan.recordings,
        texts=plan.texts,
        host=plan.host,
        access=plan.access,
    )
    return [replace(whole, slots=tuple(slots[index::crews])) for index in range(crews)]


async def _crew(
    index: int, spec: CrewSpec, seconds: float, take: Callable[[int, CrewEvent], None]
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ringtrue.loadtest.worker",
        stdin=PIPE, stdout=PIPE, stderr=PIPE, limit=MAX_LINE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(seconds):
            errors = asyncio.create_task(process.stderr.read(), name="crew errors")
            process.stdin.write(SPEC.dump_json(spec, exclude_unset=True) + b"\n")
            await process.stdin.drain()
            await _read(process, index, take)
            status, said = await process.wait(), await errors
    except TimeoutError:
        raise CrewError(f"the callers were not done after {seconds:.0f} s") from None
    except (ConnectionError, ValueError) as error:
        raise CrewError(f"the callers' process failed: {type(error).__name__}") from None
    finally:
        await _stop(process)
    if status:
        last = said.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        raise CrewError(f"the callers' process ended with {status}: {last[0]}")


async def _read(process: Process, index: int, take: Callable[[int, CrewEvent], None]) -> None:
    assert process.stdout is not None
    while line := await process.stdout.readline():
        take(index, read_line(line))
        if len(line) >= MAX_LINE:
            raise ValueError("a line is too long")


async def _stop(process: Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """What went wrong first."""
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


async def _ended(noting: asyncio.Future[None] | None) -> None:
    """What ran beside the calls is over, or is made so."""
    if noting is None:
        return
    if not noting.done():
        noting.cancel()
    (outcome,) = await asyncio.gather(noting, return_exceptions=True)
    if isinstance(outcome, BaseException) and not isinstance(outcome, asyncio.CancelledError):
        raise outcome


def _note(progress: Progress, call: MeasuredCall) -> None:
    progress.done += 1
    progress.failed += not call.ok
    for turn in call.heard.turns if call.heard is not None else ():
        if turn.latency_ms is not None:
            progress.latencies.append(turn.latency_ms)


class _Sampler:
    """One sample a second of what is up, and of what it costs the target."""

    def __init__(self, progress: Progress, start: float, probe: Probe | None) -> None:
        self._progress, self._start, self._probe = progress, start, probe
        self.samples: list[LoadSample] = []

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        before: tuple[float, float] | None = None
        # Between two of the crews' reports, whatever the time runs by.
        await asyncio.sleep(max(0.0, self._start + STATE_SECONDS / 2 - loop.time()))
        while len(self.samples) < MAX_CALLS:
            now = loop.time()
            cpu = rss = descriptors = cores = None
            if self._probe is not None:
                cpu, rss, descriptors = await asyncio.to_thread(self._probe.read)
            if cpu is not None:
                if before is not None and now > before[1]:
                    cores = round(max(0.0, cpu - before[0]) / (now - before[1]), 3)
                before = (cpu, now)
            self.samples.append(
                LoadSample(
                    at_s=round(now - self._start, 3),
                    up=self._progress.up,
                    ringing=self._progress.ringing,
                    cpu_cores=cores,
                    rss_bytes=rss,
                    descriptors=descriptors,
                )
            )
            await asyncio.sleep(1.0)


def _clock(ends: Sequence[CrewEnd], local: bool, here: bool) -> Clock:
    method = "virtual" if here else "shared" if local else "round-trip"
    return Clock(
        method=method,
        ticks=sum(end.ticks for end in ends),
        late=sum(end.late for end in ends),
        skipped=sum(end.skipped for end in ends),
    )


def machine(*, target_is_local: bool) -> Machine:
    """This machine, as a report names it."""
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
    return Machine(
        cpu=cpu,
        cores=os.cpu_count() or 1,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        system=f"{platform.system()} {platform.release()}",
        target_is_local=target_is_local,
    )
