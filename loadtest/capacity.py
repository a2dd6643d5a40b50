"""How many calls a target carries: the largest load at which every limit is kept.

The load doubles until a limit breaks, the interval is halved until it is narrow, and both of its
ends are measured again with other seeds: one lucky or unlucky run decides nothing. A load holds
if more than half of its runs kept every limit. Nothing here places a call or reads a clock.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from pydantic import ConfigDict

from ringtrue.loadtest.figures import figures_of
from ringtrue.loadtest.report import Distribution
from ringtrue.loadtest.results import RunResult
from ringtrue.loadtest.slo import Slo, Verdict, broken, judge

Measure = Callable[[int, int], Awaitable[RunResult]]
"""Runs so many calls at once with a seed."""

REFUSED: Final = "calls.refused"


class SearchOverError(Exception):
    """No more runs are allowed: what was found so far is the result. A measure may raise it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPolicy:
    """How to search. Raises ``ValueError`` for what can't be searched."""

    start: int = 1
    """First load tried."""

    limit: int = 200
    """Largest load tried."""

    repeats: int = 3
    """Runs that each end of the last interval gets, odd."""

    tolerance: float = 0.05
    """Width of the last interval, as a share of its lower end; one call at least."""

    max_trials: int = 40
    """Runs altogether; the search ends there, certain or not."""

    seed: int = 1

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 1 <= self.start <= self.limit:
            raise ValueError(f"start is {self.start}; allowed: 1 to limit, which is {self.limit}")
        if self.repeats < 1 or self.repeats % 2 == 0:
            raise ValueError(f"repeats is {self.repeats}; allowed: 1, 3, 5, ...")
        if not 0 <= self.tolerance <= 1:
            raise ValueError(f"tolerance is {self.tolerance}; allowed: 0 to 1")
        if self.max_trials < 1:
            raise ValueError(f"max_trials is {self.max_trials}; allowed: 1 and more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One run of the search."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    calls: int
    seed: int
    ok: bool
    turn_latency: Distribution
    failed_share: float
    refused: int
    broken: tuple[Verdict, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What was found."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    knee: int
    """Largest load that held; 0 if not even the first did."""

    breaks_at: int | None
    """Smallest load that did not; None if the largest tried held."""

    certain: bool
    """Both ends were measured as often as they should be."""

    trials: tuple[Trial, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """The limits that broke at :attr:`breaks_at`, the most often broken first."""
        counts: dict[str, int] = {}
        for trial in self.trials:
            if trial.calls == self.breaks_at:
                for verdict in trial.broken:
                    counts[verdict.name] = counts.get(verdict.name, 0) + 1
        return tuple(sorted(counts, key=lambda name: -counts[name]))

    def lines(self) -> list[str]:
        """It in words."""
        if self.breaks_at is None:
            head = f"no limit broke up to {self.knee} calls at once: the knee lies beyond"
        elif not self.knee:
            head = f"even {self.breaks_at} calls at once break a limit"
        else:
            head = f"knee: {self.knee} calls at once; {self.breaks_at} break a limit"
        lines = [head]
        if self.breaks_at is not None:
            lines += [
                str(verdict)
                for verdict in next(
                    (t.broken for t in self.trials if t.calls == self.breaks_at and not t.ok), ()
                )
            ]
        if not self.certain:
            lines.append(f"not certain: the search ended after {len(self.trials)} runs")
        return lines


async def find_capacity(
    measure: Measure,
    slo: Slo,
    policy: SearchPolicy | None = None,
    *,
    on_trial: Callable[[Trial], None] | None = None,
) -> Capacity:
    """Search with runs by ``measure``; whatever it raises ends the search, with what was found
    where that is :class:`SearchOverError`.

    A refused call means that the target itself calls the load too high: it breaks the load even
    if ``slo`` allows it, unless ``slo`` limits refusals itself. ``on_trial`` is told of each run.
    """
    return await _Search(measure, slo, policy or SearchPolicy(), on_trial).run()


@dataclass(slots=True)
class _Search:
    measure: Measure
    slo: Slo
    policy: SearchPolicy
    on_trial: Callable[[Trial], None] | None
    trials: list[Trial] = field(default_factory=list)

    async def run(self) -> Capacity:
        certain = True
        try:
            await self._try(self.policy.start)
            while not await self._settled():
                pass
        except SearchOverError:
            certain = False
        knee, breaks_at = self._ends()
        return Capacity(knee=knee, breaks_at=breaks_at, certain=certain, trials=tuple(self.trials))

    async def _settled(self) -> bool:
        """Take one step; True where none is left to take."""
        low, high = self._ends()
        if high is None and low < self.policy.limit:
            await self._try(min(self.policy.limit, max(self.policy.start, 2 * low)))
            return False
        if high is not None and high - low > max(1, round(self.policy.tolerance * low)):
            await self._try((low + high) // 2)
            return False
        for end in (high, low or None):
            if end is not None and not self._decided(end):
                await self._try(end)
                return False
        return True

    async def _try(self, calls: int) -> None:
        if len(self.trials) >= self.policy.max_trials:
            raise SearchOverError
        seed = self.policy.seed + len(self._of(calls))
        result = await self.measure(calls, seed)
        figures = figures_of(result, leave_out_polite=self.slo.leave_out_refused)
        found = list(broken(judge(result, self.slo)))
        refused = sum(call.refusal is not None for call in result.calls)
        if refused and (self.slo.calls is None or self.slo.calls.refused is None):
            found.append(
                Verdict(
                    name=REFUSED,
                    limit=0,
                    value=round(refused / figures.calls, 6),
                    ok=False,
                    samples=figures.calls,
                    failed=refused,
                    note=f"{refused} of {figures.calls}",
                )
            )
        trial = Trial(
            calls=calls,
            seed=seed,
            ok=not found,
            turn_latency=figures.turn_latency,
            failed_share=round(figures.failed_share, 6),
            refused=refused,
            broken=tuple(found),
        )
        self.trials.append(trial)
        if self.on_trial is not None:
            self.on_trial(trial)

    def _of(self, calls: int) -> list[Trial]:
        return [trial for trial in self.trials if trial.calls == calls]

    def _holds(self, calls: int) -> bool:
        own = self._of(calls)
        return 2 * sum(trial.ok for trial in own) > len(own)

    def _decided(self, calls: int) -> bool:
        """Whether further runs can't change what most of ``repeats`` say."""
        own = self._of(calls)
        kept = sum(trial.ok for trial in own)
        return 2 * max(kept, len(own) - kept) > self.policy.repeats

    def _ends(self) -> tuple[int, int | None]:
        """The largest load below the smallest that broke, and that one."""
        levels = sorted({trial.calls for trial in self.trials})
        high = next((calls for calls in levels if not self._holds(calls)), None)
        below = [calls for calls in levels if high is None or calls < high]
        return (below[-1] if below else 0), high
