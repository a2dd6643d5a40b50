"""What a caller measured, as typed results and as JSON.

All latencies are at the caller's ear: a turn's runs from the last speech sample that left the
caller's mouth to the first agent sample heard, a barge-in's from the caller's first speech
sample to the agent's last. Milliseconds count from the answer (the 200 reached the caller).

The server's own record of the same call (``CallRecord.as_dict`` in
:mod:`ringtrue.streaming.record`) gives each turn's stages. Its milliseconds count from the
moment when the server answered, which on one machine lies a signalling round trip of a few
milliseconds earlier; a server turn belongs to the answer whose beginning is nearest to its first
packet.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any, Final

from ringtrue.loadtest.caller import CallResult
from ringtrue.loadtest.ear import (
    GapKind,
    Span,
    answer_after,
    find_gaps,
    stop_after,
    utterances,
)
from ringtrue.loadtest.line import Said
from ringtrue.loadtest.meters import unexplained_silences

MATCH_MS: Final = 500.0
"""How far a server turn's first packet may lie from the speech heard."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """Percentiles by nearest rank. A failed measurement counts as worse than any value."""

    count: int
    """Measurements, failed ones included."""

    failed: int
    p50: float | None
    """None where the percentile lies among the failed ones, or nothing was measured."""

    p95: float | None
    p99: float | None
    worst: float | None


def distribution(values: Iterable[float | None]) -> Distribution:
    """The distribution of ``values``; None stands for a failed measurement."""
    listed = [math.inf if value is None else value for value in values]
    ranked = sorted(listed)

    def at(part: float) -> float | None:
        if not ranked:
            return None
        value = ranked[max(0, math.ceil(part * len(ranked)) - 1)]
        return None if math.isinf(value) else round(value, 1)

    failed = sum(math.isinf(value) for value in listed)
    return Distribution(len(listed), failed, at(0.5), at(0.95), at(0.99), at(1.0))


@dataclass(frozen=True, slots=True)
class Stretch:
    """From when to when somebody spoke, in milliseconds since the answer."""

    start_ms: float
    end_ms: float


@dataclass(frozen=True, slots=True)
class TurnReport:
    """Something the caller said and what came of it."""

    prompt: str
    text: str
    said: Stretch
    interrupts: bool
    stop_ms: float | None
    """Of an interruption: how long the agent was still heard."""

    answer: Stretch | None
    """The answer's utterance; None if there was none before the caller spoke again."""

    latency_ms: float | None
    premature: bool
    """The agent was heard before the caller had finished (no interruption)."""

    server: Mapping[str, Any] | None
    """The server's record of the turn."""


@dataclass(frozen=True, slots=True)
class CallReport:
    """One call."""

    name: str
    ok: bool
    failure: str | None
    detail: str
    setup_ms: float | None
    greeting_ms: float | None
    """From the answer to the agent's first sample."""

    duration_ms: float
    ended: str | None
    """Why the far end or the network ended the call; None if the caller did."""

    turns: tuple[TurnReport, ...]
    agent: tuple[Stretch, ...]
    """The agent's utterances."""

    dropouts: tuple[Stretch, ...]
    pauses: tuple[Stretch, ...]
    concealed_frames: int
    """Frames lost or late within the agent's utterances."""

    packets_received: int
    packets_lost: int
    packets_late: int
    jitter_ms: float
    skipped_frames: int
    """Frames missed by the caller's own clock: above 0 the machine was too busy to measure."""

    server: Mapping[str, Any] | None
    """The server's record of the call, its turns left out."""

    silences: tuple[Stretch, ...] = ()
    """Where the agent owed speech for longer than
    :data:`~ringtrue.loadtest.meters.UNEXPLAINED_MS` and was not heard."""

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


class _Ruler:
    """Positions of a recording to milliseconds since the answer."""

    def __init__(self, result: CallResult, rate: int) -> None:
        self._zero = result.answered or 0
        self._rate = rate

    def at(self, position: int) -> float:
        return round((position - self._zero) * 1000 / self._rate, 2)

    def length(self, samples: int) -> float:
        return round(samples * 1000 / self._rate, 2)

    def stretch(self, span: Span) -> Stretch:
        return Stretch(self.at(span.start), self.at(span.end))


def report_call(
    result: CallResult,
    record: Mapping[str, Any] | None = None,
    *,
    excused: Sequence[Span] = (),
) -> CallReport:
    """Measure ``result``; ``record`` is the server's record of the same call, if there is one.

    ``excused`` are stretches of the recording in which nobody expects the agent to speak: the
    call on hold, a caller who is silent on purpose.
    """
    recording = result.recording
    rate = recording.rate if recording is not None else 8000
    ruler = _Ruler(result, rate)
    spoken = utterances(result.agent, rate)
    masked = result.faults.concealed + result.faults.skipped
    agent_pcm = recording.agent if recording is not None else b""
    gaps = find_gaps(agent_pcm, rate, spoken, ignore=masked)
    server_turns = list(record["turns"]) if record else []
    turns = [
        _turn(said, after, result.agent, ruler, rate, server_turns)
        for said, after in zip_longest(result.said, result.said[1:])
    ]
    silent = unexplained_silences(
        result.agent,
        sorted([*(said.speech for said in result.said), *result.pressed]),
        rate,
        begin=result.answered or 0,
        end=len(agent_pcm) // 2,
        excused=excused,
    )
    setup = result.setup_seconds
    return CallReport(
        name=result.name,
        ok=result.ok,
        failure=None if result.failure is None else str(result.failure),
        detail=result.detail,
        setup_ms=None if setup is None else round(setup * 1000, 1),
        greeting_ms=ruler.at(spoken[0].start) if spoken else None,
        duration_ms=ruler.at(len(agent_pcm) // 2),
        ended=None if result.ended is None else str(result.ended),
        turns=tuple(turns),
        agent=tuple(ruler.stretch(span) for span in spoken),
        dropouts=tuple(ruler.stretch(g.span) for g in gaps if g.kind is GapKind.DROPOUT),
        pauses=tuple(ruler.stretch(g.span) for g in gaps if g.kind is GapKind.PAUSE),
        concealed_frames=sum(
            any(frame.overlaps(span) for span in spoken) for frame in result.faults.concealed
        ),
        packets_received=result.stats.packets_received,
        packets_lost=result.stats.packets_lost,
        packets_late=result.stats.packets_late,
        jitter_ms=round(result.stats.jitter_ms, 2),
        skipped_frames=len(result.faults.skipped),
        server={k: v for k, v in record.items() if k != "turns"} if record else None,
        silences=tuple(map(ruler.stretch, silent)),
    )


def _turn(
    said: Said,
    after: Said | None,
    agent: Sequence[Span],
    ruler: _Ruler,
    rate: int,
    server_turns: Sequence[Mapping[str, Any]],
) -> TurnReport:
    until = after.speech.start if after is not None else None
    own = [span for span in agent if until is None or span.start < until]
    stop = stop_after(own, said.speech.start, rate) if said.interrupts else None
    listen_from = said.speech.end
    if stop is not None:
        listen_from = max(listen_from, said.speech.start + stop)
    first = answer_after(own, listen_from)
    premature = not said.interrupts and any(span.overlaps(said.speech) for span in own)
    answer = None
    if first is not None:
        joined = utterances([span for span in own if span.start >= first.start], rate)
        answer = joined[0]
    latency = None if answer is None else ruler.length(answer.start - said.speech.end)
    return TurnReport(
        prompt=said.name,
        text=said.text,
        said=ruler.stretch(said.speech),
        interrupts=said.interrupts,
        stop_ms=None if stop is None else ruler.length(stop),
        answer=None if answer is None else ruler.stretch(answer),
        latency_ms=None if premature else latency,
        premature=premature,
        server=None if answer is None else match_turn(server_turns, ruler.at(answer.start)),
    )


def match_turn(turns: Sequence[Mapping[str, Any]], heard_ms: float) -> Mapping[str, Any] | None:
    """The server's turn whose first packet lies nearest to what was heard at ``heard_ms``.

    None where none lies within :data:`MATCH_MS`.
    """

    def distance(turn: Mapping[str, Any]) -> float:
        first = turn["at_ms"].get("first_packet")
        known = isinstance(first, int | float)
        return abs(first - heard_ms) if known else math.inf

    best = min(turns, key=distance, default=None)
    return best if best is not None and distance(best) <= MATCH_MS else None
