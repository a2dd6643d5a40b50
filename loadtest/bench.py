"""Many callers at once, measured at their ears.

The callers can run in processes of their own (``python -m ringtrue.loadtest.bench_caller``), so
that their CPU isn't counted as the server's and their measuring doesn't disturb it.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pydantic import TypeAdapter
from rich.console import Console

from ringtrue.loadtest.caller import Script, VirtualCaller
from ringtrue.loadtest.phone import Phone
from ringtrue.loadtest.prompts import Prompt, load_prompts, prompt_names, voices
from ringtrue.loadtest.report import CallReport, Distribution, distribution, report_call
from ringtrue.loadtest.timeline import add_distribution, plain_table
from ringtrue.streaming.errors import RingtrueError
from ringtrue.telephony.codecs import by_name

QUESTIONS: Final = ("closing_time", "options", "order_status", "order_number", "confirm")
"""Prompts of :mod:`ringtrue.loadtest.prompts` that get an answer and keep the call up."""

TURN_SECONDS: Final = 30.0
"""A turn that takes longer has failed; bounds the whole run."""


class BenchError(RingtrueError):
    """The caller process could not be run."""


@dataclass(frozen=True, slots=True)
class BenchSpec:
    """What to run. JSON-ready, so that it can be handed to a process."""

    target: str
    """``sip:user@host:port``"""

    calls: int
    """At once."""

    turns: int = 4
    """Questions each caller asks."""

    stagger_seconds: float = 4.0
    """Calls begin at random within this time."""

    seed: int = 1
    first: int = 0
    """Number of the first caller, where several processes share a run."""

    host: str = "127.0.0.1"
    """Address the callers call from."""

    codecs: tuple[str, ...] = ("PCMU",)
    questions: tuple[str, ...] = QUESTIONS

    def __post_init__(self) -> None:
        """Raises ``ValueError`` naming what is out of range."""
        for name, low, high in (("calls", 1, 500), ("turns", 1, 200)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} is {value}; allowed: {low} to {high}")
        if not 0 <= self.stagger_seconds <= 600:
            raise ValueError(f"stagger_seconds is {self.stagger_seconds}; allowed: 0 to 600")
        if not self.questions or set(self.questions) - set(prompt_names()):
            raise ValueError(
                f"questions are {self.questions}; allowed: {', '.join(prompt_names())}"
            )

    @property
    def max_seconds(self) -> float:
        """Longest time the run can take."""
        return self.stagger_seconds + (self.turns + 1) * TURN_SECONDS + 30


@dataclass(slots=True)
class BenchResult:
    """What the callers measured. JSON-ready."""

    spec: BenchSpec
    calls: list[CallReport]
    seconds: float
    """How long the run took."""

    caller_cpu_seconds: float
    """CPU time of the process the callers ran in."""

    clock_late: int
    """Ticks of the callers' clock that came over 10 ms late."""

    clock_ticks: int
    turn_latency_ms: Distribution = field(init=False)
    """Over ``calls`` times ``turns``: what wasn't asked or answered counts as failed."""

    greeting_ms: Distribution = field(init=False)
    setup_ms: Distribution = field(init=False)

    def __post_init__(self) -> None:
        """Derive the distributions."""
        latencies: list[float | None] = []
        for call in self.calls:
            measured = [turn.latency_ms for turn in call.turns][: self.spec.turns]
            latencies += measured + [None] * (self.spec.turns - len(measured))
        self.turn_latency_ms = distribution(latencies)
        self.greeting_ms = distribution(call.greeting_ms for call in self.calls)
        self.setup_ms = distribution(call.setup_ms for call in self.calls)

    @property
    def failures(self) -> list[CallReport]:
        """Calls that did not go as they should."""
        return [call for call in self.calls if not call.ok]

    @property
    def dropouts(self) -> int:
        """Dropped blocks heard within speech."""
        return sum(len(call.dropouts) for call in self.calls)

    @property
    def silences(self) -> int:
        """Silences of over 1.5 s in which the agent owed speech."""
        return sum(len(call.silences) for call in self.calls)

    def total(self, counter: str) -> int:
        """Sum of one of the calls' counters, e.g. ``packets_late``."""
        return sum(int(getattr(call, counter)) for call in self.calls)

    def to_json(self) -> bytes:
        """For a file or another process; :func:`read_result` is the inverse."""
        return _RESULT.dump_json(self, indent=1)


_RESULT: Final = TypeAdapter(BenchResult)


def read_result(text: bytes) -> BenchResult:
    """A result from its JSON. Raises ``ValueError`` (pydantic's) for anything else."""
    return _RESULT.validate_json(text)


async def run_bench(spec: BenchSpec, *, own_process: bool = True) -> BenchResult:
    """Run ``spec``, with the callers in a process of their own unless told otherwise.

    Failed calls are part of the result. Raises :class:`BenchError` if the process fails.
    """
    if not own_process:
        return await call_from_here(spec)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "ringtrue.loadtest.bench_caller",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(spec.max_seconds + 30):
            out, err = await process.communicate(TypeAdapter(BenchSpec).dump_json(spec))
    except TimeoutError:
        raise BenchError(f"the callers were not done after {spec.max_seconds:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        last = err.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        raise BenchError(f"the callers' process ended with {process.returncode}: {last[0]}")
    return read_result(out)


async def call_from_here(spec: BenchSpec) -> BenchResult:
    """Run ``spec``'s callers on this event loop."""
    loop = asyncio.get_running_loop()
    # Read and measured before the clock runs: it must not wait for files.
    spoken = [load_prompts(voice) for voice in voices()]
    for prompt in (prompt for prompts in spoken for prompt in prompts.values()):
        for codec in spec.codecs:
            _ = prompt.at(by_name(codec).pcm_rate).speech
    began, cpu = loop.time(), time.process_time()
    async with Phone(spec.host, codecs=spec.codecs) as phone:

        async def one(number: int) -> CallReport:
            chance = random.Random(f"{spec.seed}/{number}")
            await asyncio.sleep(chance.uniform(0, spec.stagger_seconds))
            result = await phone.call(
                spec.target,
                conversation(spec, chance.choice(spoken), chance),
                name=f"caller {number}",
                max_seconds=spec.max_seconds,
            )
            return report_call(result)

        async with asyncio.TaskGroup() as group:
            numbers = range(spec.first, spec.first + spec.calls)
            tasks = [group.create_task(one(number)) for number in numbers]
        clock = phone.clock_stats
    return BenchResult(
        spec=spec,
        calls=[task.result() for task in tasks],
        seconds=round(loop.time() - began, 2),
        caller_cpu_seconds=round(time.process_time() - cpu, 3),
        clock_late=clock.late,
        clock_ticks=clock.ticks,
    )


def conversation(spec: BenchSpec, prompts: Mapping[str, Prompt], chance: random.Random) -> Script:
    """One caller's script: hear the greeting, ask ``turns`` questions, hang up."""
    # "confirm" answers what follows "order_number", so a caller may not begin with either.
    offset = chance.randrange(max(1, len(spec.questions) - 2))
    asked: list[Prompt] = [
        prompts[spec.questions[(offset + turn) % len(spec.questions)]] for turn in range(spec.turns)
    ]

    async def script(caller: VirtualCaller) -> None:
        await caller.hear_out()
        for prompt in asked:
            await caller.pause(chance.uniform(0.1, 0.8))
            await caller.say(prompt)
            await caller.hear_out()
        await caller.hangup()

    return script


def print_bench(result: BenchResult, console: Console) -> None:
    """Print what the callers measured."""
    spec = result.spec
    title = f"{spec.calls} calls at once, {spec.turns} turns each, at the callers' ears (ms)"
    console.print(title, style="bold")
    table = plain_table()
    for title in ("", "count", "failed", "p50", "p95", "p99", "worst"):
        table.add_column(title, justify="left" if not title else "right")
    add_distribution(table, "turn latency", result.turn_latency_ms)
    add_distribution(table, "greeting", result.greeting_ms)
    add_distribution(table, "call set-up", result.setup_ms)
    console.print(table)
    console.print(
        f"packets received {result.total('packets_received')}, "
        f"lost {result.total('packets_lost')}, late {result.total('packets_late')}; "
        f"dropped blocks in speech {result.dropouts}, "
        f"concealed frames in speech {result.total('concealed_frames')}, "
        f"unexplained silences {result.silences}; "
        f"caller's clock: {result.clock_late} of {result.clock_ticks} ticks late, "
        f"{result.total('skipped_frames')} skipped"
    )
    for call in result.failures:
        console.print(f"{call.name}: {call.failure}: {call.detail}", style="red")
