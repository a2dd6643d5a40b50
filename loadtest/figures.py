"""What a run's calls add up to: distributions, shares and counts, failures in the denominator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from ringtrue.loadtest.report import Distribution, TurnReport, distribution
from ringtrue.loadtest.results import MeasuredCall, Outcome, RunResult
from ringtrue.loadtest.stages import EAR, SPANNING, ear_ms, stage_ms
from ringtrue.streaming.stages import INTERVALS

STAGES: Final = (*(name for name in INTERVALS if name not in SPANNING), EAR)
"""Stages of a turn, in order."""

Values = list[float | None]
"""Milliseconds; None is a measurement that failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Every measurement of a run, by what was measured."""

    turn_latency: Values
    """Caller's last speech sample to the agent's first, at the caller's ear."""

    greeting: Values
    """The answer to the agent's first sample."""

    setup: Values
    """The call's first request to its answer."""

    barge_in_stop: Values
    """Caller's first sample of an interruption to the agent's last."""

    ttfa: Values
    """First speakable text to the first packet, from the target's records."""

    stages: dict[str, Values]
    """Likewise by :data:`STAGES`; turns without a record are not in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Met:
    """How often one expectation was met."""

    name: str
    text: str
    met: int
    judged: int

    @property
    def share(self) -> float:
        """Of the calls it was judged in."""
        return self.met / self.judged


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """A run in numbers."""

    calls: int
    outcomes: dict[Outcome, int]
    polite: int
    """Refused with 503 and Retry-After."""

    ok: int
    """Completed with every expectation met."""

    counted: int
    """Calls that count in the shares: all, or those not refused politely."""

    failed: int
    """Of these, those not completed."""

    peak: int
    turns: int
    expectations: tuple[Met, ...]
    silences: int
    """Unexplained ones, over 1.5 s."""

    dropouts: int
    premature: int
    """Turns in which the agent spoke before the caller had finished."""

    packets_received: int
    packets_lost: int
    packets_late: int
    turn_latency: Distribution
    greeting: Distribution
    setup: Distribution
    barge_in_stop: Distribution
    ttfa: Distribution
    stages: dict[str, Distribution]

    @property
    def failed_share(self) -> float:
        """Calls not completed, of those that count."""
        return self.failed / self.counted if self.counted else 0.0

    @property
    def met_share(self) -> float | None:
        """Expectations met of all judged; None if there were none."""
        judged = sum(row.judged for row in self.expectations)
        return sum(row.met for row in self.expectations) / judged if judged else None

    @property
    def lost_share(self) -> float:
        """Packets that never came, of those sent."""
        sent = self.packets_received + self.packets_lost
        return self.packets_lost / sent if sent else 0.0

    @property
    def late_share(self) -> float:
        """Packets that came too late, of those received."""
        return self.packets_late / self.packets_received if self.packets_received else 0.0


def counted_calls(result: RunResult, *, leave_out_polite: bool = False) -> list[MeasuredCall]:
    """The calls that count: all, or without those refused with 503 and Retry-After."""
    return [
        call
        for call in result.calls
        if not (leave_out_polite and call.refusal is not None and call.refusal.polite)
    ]


def turn_slots(calls: Iterable[MeasuredCall]) -> list[TurnReport | None]:
    """Every turn that was to be; None for those that a call never came to.

    A call that failed lacks one turn at least, even if all it was to have were measured.
    """
    slots: list[TurnReport | None] = []
    for call in calls:
        own = call.heard.turns if call.heard is not None else ()
        missing = call.turns_expected - len(own)
        if not call.completed and missing <= 0 and all(t.latency_ms is not None for t in own):
            missing = 1
        slots += [*own, *[None] * max(0, missing)]
    return slots


def series_of(result: RunResult, *, leave_out_polite: bool = False) -> Series:
    """Every measurement; a call that failed gives None for what it never came to."""
    calls = counted_calls(result, leave_out_polite=leave_out_polite)
    slots = turn_slots(calls)
    return Series(
        turn_latency=[None if turn is None else turn.latency_ms for turn in slots],
        greeting=[None if call.heard is None else call.heard.greeting_ms for call in calls],
        setup=[
            None if call.answered_s is None else round(1000 * (call.answered_s - call.started_s), 1)
            for call in calls
        ],
        barge_in_stop=[turn.stop_ms for turn in slots if turn is not None and turn.interrupts],
        ttfa=_recorded(slots, lambda turn: stage_ms(turn, "ttfa")),
        stages={name: _recorded(slots, _reader(name)) for name in STAGES},
    )


def figures_of(result: RunResult, *, leave_out_polite: bool = False) -> Figures:
    """The run in numbers. ``leave_out_polite``: see :func:`counted_calls`."""
    calls = counted_calls(result, leave_out_polite=leave_out_polite)
    series = series_of(result, leave_out_polite=leave_out_polite)
    heard = [call.heard for call in calls if call.heard is not None]
    judged = [expected for call in calls for expected in call.expectations]
    texts = {expected.name: expected.text for expected in judged}
    outcomes = Counter(call.outcome for call in result.calls)
    return Figures(
        calls=len(result.calls),
        outcomes={outcome: outcomes[outcome] for outcome in Outcome if outcomes[outcome]},
        polite=sum(call.refusal is not None and call.refusal.polite for call in result.calls),
        ok=sum(call.ok for call in result.calls),
        counted=len(calls),
        failed=sum(not call.completed for call in calls),
        peak=result.peak,
        turns=len(series.turn_latency),
        expectations=tuple(
            Met(
                name=name,
                text=text,
                met=sum(expected.passed for expected in judged if expected.name == name),
                judged=sum(expected.name == name for expected in judged),
            )
            for name, text in texts.items()
        ),
        silences=sum(len(report.silences) for report in heard),
        dropouts=sum(len(report.dropouts) for report in heard),
        premature=sum(turn.premature for report in heard for turn in report.turns),
        packets_received=sum(call.network.packets_received for call in calls),
        packets_lost=sum(call.network.packets_lost for call in calls),
        packets_late=sum(call.network.packets_late for call in calls),
        turn_latency=distribution(series.turn_latency),
        greeting=distribution(series.greeting),
        setup=distribution(series.setup),
        barge_in_stop=distribution(series.barge_in_stop),
        ttfa=distribution(series.ttfa),
        stages={name: distribution(values) for name, values in series.stages.items() if values},
    )


def _reader(name: str) -> Callable[[TurnReport], float | None]:
    return ear_ms if name == EAR else lambda turn: stage_ms(turn, name)


def _recorded(
    slots: Iterable[TurnReport | None], read: Callable[[TurnReport], float | None]
) -> Values:
    """What the target's records give, and None for turns that failed.

    Nothing at all where no record has it: a target that keeps none has not failed.
    """
    slots = list(slots)
    known = [turn for turn in slots if turn is not None and turn.server is not None]
    if all(read(turn) is None for turn in known):
        return []
    failed = sum(turn is None or turn.latency_ms is None for turn in slots)
    answered = [turn for turn in known if turn.latency_ms is not None]
    values: Values = [value for turn in answered if (value := read(turn)) is not None]
    return values + [None] * failed
