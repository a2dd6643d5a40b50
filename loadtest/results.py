"""The records of a load test: what a run was, and what every call of it measured.

A runner makes one :class:`RunResult` of many :class:`MeasuredCall`; the report, the SLO verdicts
and the capacity search read nothing else. All of them are frozen and JSON-ready
(:func:`dump_result`, :func:`read_result`). Seconds (``*_s``) count from the beginning of the run
on the callers' clock, milliseconds (``*_ms``) inside a call from its answer, both at the caller.

What was heard in a call is a :class:`~ringtrue.loadtest.report.CallReport`, made by
:func:`~ringtrue.loadtest.report.report_call`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from pydantic import ConfigDict, TypeAdapter, ValidationError

from ringtrue.loadtest.report import CallReport
from ringtrue.streaming.errors import RingtrueError
from ringtrue.streaming.ports import LegStats

SCHEMA: Final = 1
"""Version of the JSON; a file of another version is refused."""

_STRICT: Final = ConfigDict(extra="forbid")
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class ResultError(RingtrueError):
    """A file is not a result of this version."""


class Transport(StrEnum):
    """The way a caller reaches the target."""

    SIP = "sip"
    TWILIO = "twilio"
    WEBRTC = "webrtc"


class Outcome(StrEnum):
    """How a call went, as its caller saw it."""

    COMPLETED = "completed"
    """Its script ran to the end. Expectations may still have failed."""

    FAILED = "failed"
    """It was answered, and then its script could not go on."""

    REFUSED = "refused"
    """The target said no: :attr:`MeasuredCall.refusal` says how."""

    UNANSWERED = "unanswered"
    """Nothing came back in time, or the network failed."""

    BROKEN = "broken"
    """The caller itself failed. It counts against the run like any other failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A final answer other than yes."""

    __pydantic_config__ = _STRICT

    status: int
    """SIP or HTTP status, 300 to 699."""

    reason: str = ""
    retry_after_s: float | None = None
    """The answer's ``Retry-After`` in seconds (RFC 3261, section 20.33); None without one."""

    after_ms: float
    """From the first request sent to this answer."""

    @property
    def polite(self) -> bool:
        """Whether it is an overload's proper answer: 503 that says when to come back."""
        return self.status == 503 and self.retry_after_s is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """One expectation of a scenario, judged for one call."""

    __pydantic_config__ = _STRICT

    name: str
    """Its kind, the same in every call, e.g. ``greeting_within``."""

    text: str
    """In words, e.g. ``hears a greeting within 2 s``."""

    passed: bool
    evidence: str
    """What was seen, e.g. ``first sample 640 ms after the answer``."""

    at_ms: float | None = None
    """Where in the call, if it has a place."""

    value: float | None = None
    """What was measured, in the unit of :attr:`limit`."""

    limit: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What the caller's end of the wire counted."""

    __pydantic_config__ = _STRICT

    packets_received: int = 0
    packets_sent: int = 0
    packets_lost: int = 0
    packets_late: int = 0
    packets_duplicate: int = 0
    packets_refused: int = 0
    frames_concealed: int = 0
    jitter_ms: float = 0.0
    """RFC 3550 interarrival jitter at the end of the call."""

    round_trip_ms: float | None = None
    emulated: str | None = None
    """The impairment the caller put on itself, in words; None for a clean line."""

    @classmethod
    def of(cls, stats: LegStats, *, emulated: str | None = None) -> Network:
        """The counters of a leg."""
        return cls(
            packets_received=stats.packets_received,
            packets_sent=stats.packets_sent,
            packets_lost=stats.packets_lost,
            packets_late=stats.packets_late,
            packets_duplicate=stats.packets_duplicate,
            packets_refused=stats.packets_refused,
            frames_concealed=stats.frames_concealed,
            jitter_ms=round(stats.jitter_ms, 2),
            round_trip_ms=stats.round_trip_ms,
            emulated=emulated,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredCall:
    """One call that was to be placed."""

    __pydantic_config__ = _STRICT

    id: str
    """Unique in the run and fit for a file name: letters, digits, ``.``, ``_`` and ``-``."""

    seed: int
    """What this caller drew its chances from."""

    transport: Transport
    outcome: Outcome
    detail: str = ""
    """One line for a call that isn't completed."""

    started_s: float
    """When the caller began to call."""

    answered_s: float | None = None
    ended_s: float
    refusal: Refusal | None = None
    turns_expected: int = 0
    """Turns its script has. Those not measured count as failed; 1 where none is known."""

    expectations: tuple[Expected, ...] = ()
    network: Network = field(default_factory=Network)
    heard: CallReport | None = None
    """What was heard, its turns included; None for a call that was never answered."""

    def __post_init__(self) -> None:
        """Raises ``ValueError`` for an id that can't be a file's name or contradictory fields."""
        if not _ID.fullmatch(self.id):
            raise ValueError(
                f"call id is {self.id!r}; allowed: 1 to 64 letters, digits, '.', '_', '-', "
                "beginning with a letter or digit"
            )
        if (self.outcome is Outcome.REFUSED) != (self.refusal is not None):
            raise ValueError(f"call {self.id}: outcome {self.outcome} and refusal contradict")
        if self.outcome in (Outcome.COMPLETED, Outcome.FAILED) and self.answered_s is None:
            raise ValueError(f"call {self.id}: outcome {self.outcome} without answered_s")

    @property
    def completed(self) -> bool:
        """Whether its script ran to the end."""
        return self.outcome is Outcome.COMPLETED

    @property
    def failed_expectations(self) -> tuple[Expected, ...]:
        """Those that were not met."""
        return tuple(expected for expected in self.expectations if not expected.passed)

    @property
    def ok(self) -> bool:
        """Completed, with every expectation met."""
        return self.completed and not self.failed_expectations


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSample:
    """One moment of the run. Readings of the target only where it runs on this machine."""

    __pydantic_config__ = _STRICT

    at_s: float
    up: int
    """Calls answered and not over."""

    ringing: int = 0
    """Calls begun and not yet answered."""

    cpu_cores: float | None = None
    """CPU the target's processes used since the sample before, in cores."""

    rss_bytes: int | None = None
    """Resident memory of the target's processes together."""

    descriptors: int | None = None
    """Open file descriptors of the target's processes together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """How the callers' clocks relate to each other and, where known, to the target's."""

    __pydantic_config__ = _STRICT

    method: str
    """``shared`` (one machine, one monotonic clock), ``round-trip`` or ``virtual``."""

    offset_ms: float = 0.0
    """Target's clock minus the callers'."""

    uncertainty_ms: float = 0.0
    ticks: int = 0
    """Media ticks of the callers' clocks."""

    late: int = 0
    """Of these, over 10 ms late."""

    skipped: int = 0
    """Frames the callers missed: above a handful the machine was too busy to measure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where the callers ran."""

    __pydantic_config__ = _STRICT

    cpu: str
    cores: int
    memory_bytes: int
    system: str
    """Kernel's name and release."""

    target_is_local: bool = True
    """Whether the target ran on it too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speculation:
    """What the target's call records say of answers begun before the caller had finished."""

    __pydantic_config__ = _STRICT

    enabled: bool
    begun: int = 0
    confirmed: int = 0
    """The caller had indeed finished: the answer was ready sooner."""

    dropped: int = 0
    """The caller went on: the work was wasted."""

    wasted_audio_ms: float = 0.0
    """Speech synthesized and never heard."""

    wasted_tokens: int = 0

    @property
    def wasted_share(self) -> float | None:
        """Of the answers begun early, the part that was thrown away; None if there was none."""
        return self.dropped / self.begun if self.begun else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """A whole run."""

    __pydantic_config__ = _STRICT

    scenario: str
    target: str
    """The address called, without any telephone number in it."""

    seed: int
    calls_planned: int
    ramp_s: float = 0.0
    duration_s: float
    """How long the run took."""

    deterministic: bool = False
    began: str | None = None
    """Wall-clock time of the beginning, ISO 8601 with offset; None in a deterministic run."""

    versions: Mapping[str, str] = field(default_factory=dict)
    """Name → version of what took part: ``ringtrue``, ``python``, …"""

    machine: Machine | None = None
    """None in a deterministic run."""

    clock: Clock
    calls: tuple[MeasuredCall, ...]
    """Every call planned, in the order of their ids; nothing is left out."""

    load: tuple[LoadSample, ...] = ()
    """About one a second."""

    speculation: Speculation | None = None
    notes: tuple[str, ...] = ()
    """What a reader should know, e.g. the faults that were put on the target."""

    schema: int = SCHEMA

    def __post_init__(self) -> None:
        """Raises ``ValueError`` where two calls share an id."""
        seen: set[str] = set()
        for call in self.calls:
            if call.id in seen:
                raise ValueError(f"call id {call.id!r} is used twice")
            seen.add(call.id)

    @property
    def failures(self) -> tuple[MeasuredCall, ...]:
        """Calls that didn't complete or broke an expectation, worst first."""
        order = list(Outcome)
        failed = [call for call in self.calls if not call.ok]
        return tuple(sorted(failed, key=lambda call: (-order.index(call.outcome), call.id)))

    @property
    def peak(self) -> int:
        """Most calls up at once."""
        return peak_of((c.answered_s, c.ended_s) for c in self.calls if c.answered_s is not None)


def peak_of(stretches: Iterable[tuple[float, float]]) -> int:
    """The most of ``stretches`` (from, to) that lie over one moment."""
    steps = sorted(step for start, end in stretches for step in ((start, 1), (end, -1)))
    up = peak = 0
    for _, step in steps:
        up += step
        peak = max(peak, up)
    return peak


_RESULT: Final = TypeAdapter(RunResult)


def dump_result(result: RunResult) -> bytes:
    """JSON in a fixed order of keys; :func:`read_result` is the inverse."""
    return _RESULT.dump_json(result, indent=1)


def read_result(text: bytes) -> RunResult:
    """A result from its JSON. Raises :class:`ResultError` naming what is wrong."""
    try:
        result = _RESULT.validate_json(text)
    except ValidationError as error:
        raise ResultError(f"not a load test's result: {wrong(error)}") from None
    if result.schema != SCHEMA:
        raise ResultError(f"the result has schema {result.schema}; allowed: {SCHEMA}")
    return result


def wrong(error: ValidationError) -> str:
    """The first thing that is wrong, and where."""
    problem = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, problem['loc'])) or 'file'}: {problem['msg']}"
