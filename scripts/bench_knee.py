"""Callers more and more until the server can't carry them, then twice as many as it can.

    python scripts/bench_knee.py [--most 40] [--per-second 1.3] [--turns 8] [-o build/bench]

First every call is taken: at how many at once do turns leave their limits? Then twice as many
call a server that measures whom it can take: who is refused, and do those it took keep their
p95? Server and callers are kept on processors of their own, where there are two or more, so that
what is measured is the server's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from ringtrue.agent.bench import machine
from ringtrue.loadtest.bench import QUESTIONS
from ringtrue.loadtest.joining import join_records
from ringtrue.loadtest.processes import apart, running_on
from ringtrue.loadtest.report import Distribution, distribution
from ringtrue.loadtest.results import MeasuredCall, RunResult
from ringtrue.loadtest.runner import RunPlan, run
from ringtrue.loadtest.scenario.schema import Scenario
from ringtrue.loadtest.served import Served, serving

TURN_MS: Final = 800.0
TTFA_MS: Final = 200.0
LEVEL: Final = 5
"""Calls at once that count as the same load."""

LOOK_SECONDS: Final = 2.0
"""Between two looks at the server: its page of metrics takes its loop some milliseconds."""

MEASURING: Final = 1.0
"""Seconds before a call's end from which its callers measure, and speak less punctually."""

SIGNAL: Final = 'ringtrue_admission_pressure{signal="'
LOOKS: Final = 12
"""Of them that are shown."""

SETTINGS: Final = {
    "SERVER__MAX_CALLS": "1000",
    "SIP__CALLERS__CALLS_PER_SECOND": "1000",
    "SIP__CALLERS__CALLS_AT_ONCE": "1000",
}


def conversation(turns: int) -> Scenario:
    """A caller who asks so many questions and hangs up."""
    steps: list[dict[str, Any]] = [{"hear": None}]
    for number in range(turns):
        question = QUESTIONS[number % len(QUESTIONS)]
        steps += [{"wait": [0.1, 0.8]}, {"say": question}, {"hear": None}]
    return Scenario.model_validate(
        {
            "name": "knee",
            "title": "Callers who ask one question after the other",
            "transports": ["sip"],
            "steps": [*steps, {"hang_up": None}],
            "max_seconds": 600,
        }
    )


@dataclass(frozen=True, slots=True)
class Look:
    """What the server says of itself, ``at`` seconds of the run."""

    at: float
    up: int
    is_open: bool
    pressure: dict[str, float]
    cores: dict[str, float]
    """A call's, as learned."""


class Watching:
    """Looks at the server every :data:`LOOK_SECONDS`."""

    def __init__(self, served: Served) -> None:
        """Begins and ends with the context."""
        self.looks: list[tuple[float, dict[str, float]]] = []
        self._served = served
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="looks")

    def __enter__(self) -> Watching:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._over.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            self.looks.append((time.monotonic(), self._served.metrics()))

    def since(self, start: float) -> list[Look]:
        """The looks, by the run's own time."""
        return [
            Look(
                at=round(at - start, 2),
                up=int(sum(v for k, v in page.items() if k.startswith("ringtrue_calls_active"))),
                is_open=bool(page["ringtrue_admission_open"]),
                pressure={
                    key.removeprefix(SIGNAL).rstrip('"}'): round(value, 3)
                    for key, value in page.items()
                    if key.startswith(SIGNAL)
                },
                cores={
                    part: round(page[f'ringtrue_admission_call_cores{{part="{part}"}}'], 4)
                    for part in ("loop", "cpu", "burst")
                },
            )
            for at, page in self.looks
        ]


@dataclass(frozen=True, slots=True)
class Turn:
    """One that a caller took part in."""

    at: float
    """Seconds of the run at which the caller had finished."""

    up: int
    """Calls at that moment."""

    latency_ms: float | None
    ttfa_ms: float | None


@dataclass(frozen=True, slots=True)
class Level:
    """All turns while so many calls were up."""

    calls: str
    turn_latency_ms: Distribution
    ttfa_ms: Distribution
    held: bool


@dataclass
class Offered:
    """What one load came to."""

    admission: bool
    offered: int
    taken: int
    refused: dict[str, int]
    """By the callers' own account."""

    without_retry_after: int
    """Of these."""

    first_refused_at: float | None
    peak: int
    failed: dict[str, int]
    """Calls that were taken and did not go well."""

    levels: list[Level]
    before: Distribution
    """Turn latency until the first was refused."""

    after: Distribution
    """And from then on, until as many had called as were to."""

    later: Distribution
    ttfa_after: Distribution
    silences: int
    """Over 1.5 s, of an agent who owed speech."""

    callers_late_percent: float
    """Ticks of the callers' own clocks over 10 ms late: what they measured is as good as this."""

    signals: dict[str, float]
    """By which the server refused."""

    looks: list[Look] = field(repr=False)


def turns_of(calls: Sequence[MeasuredCall]) -> list[Turn]:
    """Every turn, with the number of calls that were up, until the first call was over.

    From then on the callers' processes measure the calls that are, which holds up the others.
    """
    taken = [call for call in calls if call.answered_s is not None]
    until = min((call.ended_s for call in taken), default=0.0) - MEASURING

    def up(at: float) -> int:
        return sum(call.answered_s <= at < call.ended_s for call in taken)  # type: ignore[operator]

    found = []
    for call in taken:
        heard = () if call.heard is None else call.heard.turns
        for turn in heard:
            at = (call.answered_s or 0.0) + turn.said.end_ms / 1000
            if at + (turn.latency_ms or 0.0) / 1000 > until:
                continue
            known = {} if turn.server is None else turn.server["intervals_ms"]
            found.append(Turn(round(at, 2), up(at), turn.latency_ms, known.get("ttfa")))
    return found


def levels_of(turns: Iterable[Turn]) -> list[Level]:
    """The turns by load."""
    sorted_in: dict[int, list[Turn]] = {}
    for turn in turns:
        sorted_in.setdefault(max(0, turn.up - 1) // LEVEL, []).append(turn)
    found = []
    for level, own in sorted(sorted_in.items()):
        latency = distribution(turn.latency_ms for turn in own)
        ttfa = distribution(turn.ttfa_ms for turn in own if turn.ttfa_ms is not None)
        held = all(
            p95 is not None and p95 < limit
            for p95, limit in ((latency.p95, TURN_MS), (ttfa.p95, TTFA_MS))
        )
        found.append(Level(f"{level * LEVEL + 1}-{(level + 1) * LEVEL}", latency, ttfa, held))
    return found


def knee_of(levels: Sequence[Level]) -> int:
    """The most calls at once at which, and below which, the turns kept their limits."""
    knee = 0
    for level in levels:
        if not level.held:
            break
        knee = int(level.calls.rpartition("-")[2])
    return knee


def records_of(folder: Path) -> Iterator[dict[str, Any]]:
    """The server's own records."""
    for path in folder.glob("*.json"):
        yield json.loads(path.read_text())


def offer(
    calls: int, per_second: float, turns: int, *, admission: bool, workers: int = 1
) -> Offered:
    """One load against a server of its own."""
    server_on, callers_on = apart()
    settings = {
        **SETTINGS,
        "ADMISSION__ENABLED": str(admission).lower(),
        "SERVER__WORKERS": str(workers),
    }
    began: list[float] = []

    async def note(start: float) -> None:
        began.append(start)
        await asyncio.Event().wait()

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        with running_on(server_on):
            served = stack.enter_context(serving(folder, settings))
        plan = RunPlan(
            scenario=conversation(turns),
            target=f"sip:reception@127.0.0.1:{served.sip_port}",
            calls=calls,
            ramp_s=calls / per_second,
            processes=2,
        )
        with running_on(callers_on), Watching(served) as watching:
            result = asyncio.run(run(plan, during=note))
        time.sleep(1.0)
        page = served.metrics()
        result = join_records(result, records_of(served.records_dir))
    return judged(result, admission, plan.ramp_s, page, watching.since(began[0]))


def judged(
    result: RunResult, admission: bool, ramp: float, page: dict[str, float], looks: list[Look]
) -> Offered:
    """What a run came to."""
    turns = turns_of(result.calls)
    taken = [call for call in result.calls if call.answered_s is not None]
    refused = [call for call in result.calls if call.refusal is not None]
    first = min((call.started_s for call in refused), default=None)
    split = ramp if first is None else first
    prefix = "ringtrue_admission_refused_total{"
    during = [turn for turn in turns if split <= turn.at < ramp + 1]
    return Offered(
        admission=admission,
        offered=len(result.calls),
        taken=len(taken),
        refused=dict(Counter(str(c.refusal.status) for c in refused if c.refusal is not None)),
        without_retry_after=sum(
            c.refusal is not None and c.refusal.retry_after_s is None for c in refused
        ),
        first_refused_at=first,
        peak=result.peak,
        failed=dict(Counter(str(call.outcome) for call in taken if not call.ok)),
        levels=levels_of(turns),
        before=distribution(turn.latency_ms for turn in turns if turn.at < split),
        after=distribution(turn.latency_ms for turn in during),
        later=distribution(turn.latency_ms for turn in turns if turn.at >= ramp + 1),
        ttfa_after=distribution(
            turn.ttfa_ms for turn in turns if turn.at >= split and turn.ttfa_ms is not None
        ),
        silences=sum(len(call.heard.silences) for call in taken if call.heard is not None),
        callers_late_percent=round(100 * result.clock.late / max(1, result.clock.ticks), 2),
        signals={k.removeprefix(prefix): v for k, v in page.items() if k.startswith(prefix)},
        looks=looks,
    )


def shown(row: Offered) -> str:
    """A few lines of the report."""
    lines = [
        f"{'with' if row.admission else 'without'} admission: {row.offered} offered, "
        f"{row.taken} taken, {row.peak} up at once; refused {row.refused or 'none'} "
        f"({row.without_retry_after} without Retry-After), the first at {row.first_refused_at} s",
        f"  calls taken that failed {row.failed or 'none'}; silences over 1.5 s {row.silences}; "
        f"callers' own ticks late {row.callers_late_percent} %; refused by {row.signals or 'none'}",
    ]
    lines += [
        f"  at {look.at:.0f} s: {look.up} up, door {'open' if look.is_open else 'shut'}; "
        f"of what shuts it {look.pressure}; a call takes {look.cores}"
        for look in row.looks[:: max(1, len(row.looks) // LOOKS)]
    ]
    lines += [
        f"  {level.calls:>6} up: turn p50/p95 {level.turn_latency_ms.p50}/"
        f"{level.turn_latency_ms.p95} ms of {level.turn_latency_ms.count} "
        f"({level.turn_latency_ms.failed} failed), TTFA p95 {level.ttfa_ms.p95} ms"
        f"{'' if level.held else '  beyond the limits'}"
        for level in row.levels
    ]
    for name, part in (("before", row.before), ("while", row.after), ("after", row.later)):
        lines.append(
            f"  {name} callers were refused: turn p50/p95 {part.p50}/{part.p95} ms of "
            f"{part.count}, {part.failed} failed"
        )
    return "\n".join(lines)


def main(
    most: int, per_second: float, turns: int, offered: int | None, workers: int, out: Path
) -> int:
    """Measure, print, write; 0 where those that were taken kept their p95."""
    rows = []
    if offered is None:
        rows.append(offer(most, per_second, turns, admission=False, workers=workers))
        knee = knee_of(rows[0].levels)
        print(shown(rows[0]), f"knee: {knee} calls at once", sep="\n", flush=True)
        offered = max(2 * knee, LEVEL)
    row = offer(offered, per_second, turns, admission=True, workers=workers)
    rows.append(row)
    print(f"{shown(row)}\non {machine()}; server and callers on cores {apart()}")
    out.mkdir(parents=True, exist_ok=True)
    (out / "knee.json").write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    parts = [part.p95 for part in (row.after, row.later) if part.count]
    kept = bool(parts) and all(p95 is not None and p95 < TURN_MS for p95 in parts)
    proper = not row.without_retry_after and set(row.refused) == {"503"}
    return 0 if kept and proper and not row.failed else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="More callers than the server can carry.")
    parser.add_argument("--most", type=int, default=40, help="calls that all are taken")
    parser.add_argument("--offered", type=int, help="skip that, and offer so many")
    parser.add_argument("--per-second", type=float, default=1.3)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--workers", type=int, default=1, help="of the server")
    parser.add_argument("-o", "--out", type=Path, default=Path("build/bench"))
    given = parser.parse_args()
    raise SystemExit(
        main(given.most, given.per_second, given.turns, given.offered, given.workers, given.out)
    )
