"""Why a frame was not sent, and the few words of it that the audit log gets.

Every refusal is counted. The first of its reason is told at once; what follows within
:data:`SUMMARY_SECONDS` is told as one number, so that no fault can flood the log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import structlog

log = structlog.get_logger(__name__)

SUMMARY_SECONDS: Final = 10.0
"""How often repeats of one reason are told."""


class Refusal(StrEnum):
    """Why a draft was not sent. Each is counted; marked comfort noise went out instead."""

    UNSEALED = "unsealed"
    """Nothing in this call vouches for its audio: no seal, or one that does not fit it."""

    SESSION = "session"
    """Made for another call."""

    STALE_TURN = "stale_turn"
    """Its turn was cut, its utterance closed, or a later one has begun."""

    SEQUENCE = "sequence"
    """Not newer than a frame already sent: a replay or a reorder."""

    EXPIRED = "expired"
    """Made longer ago than the policy allows."""

    CALL_DOWN = "call_down"
    """The call is not up."""

    FAR_END = "far_end"
    """Nothing heard from the far end for too long."""

    FORMAT = "format"
    """Not one frame of PCM at the leg's rate, or not what its kind says: silence that sounds,
    a digit without its step."""

    CONSENT = "consent"
    """In a cloned voice whose licence doesn't hold at this moment."""

    LIKENESS = "likeness"
    """In a cloned voice that no longer sounds like the person who consented."""

    ORIGIN = "origin"
    """Relayed from a call that is over, or whose far end is not there."""

    WATERMARK = "watermark"
    """The watermark stage failed or changed the frame's length."""


@dataclass(frozen=True, slots=True)
class RefusalReport:
    """Refusals of one reason: the first one, or those since the last report."""

    reason: Refusal
    frames: int
    since: float
    """When the first of them was refused, in loop time."""

    until: float
    at_wire: bool = False
    """Offered to the leg itself, past the gate."""


OnRefusal = Callable[[RefusalReport], None]


@dataclass(slots=True)
class _Repeats:
    due: float
    frames: int = 0
    since: float = 0.0
    until: float = 0.0


class RefusalLog:
    """One call's refusals. Sans-IO: times come from the caller."""

    __slots__ = (
        "_due",
        "_now",
        "_on_report",
        "_repeats",
        "counts",
    )

    def __init__(self, on_report: OnRefusal | None = None) -> None:
        """``on_report`` takes what is to be recorded; what it raises is logged and forgotten."""
        self._on_report = on_report
        self._repeats: dict[tuple[Refusal, bool], _Repeats] = {}
        self._due = float("inf")
        self._now = 0.0
        self.counts: Counter[Refusal] = Counter()

    def note(self, reason: Refusal, now: float, *, at_wire: bool = False) -> None:
        """A frame was refused."""
        self._now = now
        self.counts[reason] += 1
        known = self._repeats.get((reason, at_wire))
        if known is None:
            self._repeats[reason, at_wire] = _Repeats(now + SUMMARY_SECONDS)
            self._due = min(self._due, now + SUMMARY_SECONDS)
            self._tell(RefusalReport(reason, 1, now, now, at_wire))
            return
        known.since = now if not known.frames else known.since
        known.frames += 1
        known.until = now

    def at_wire(self, reason: Refusal) -> None:
        """A leg was offered a frame that no gate sealed for it, or twice."""
        self.note(reason, self._now, at_wire=True)

    def tick(self, now: float) -> None:
        """Tell what is due. One comparison where nothing is."""
        self._now = now
        if now < self._due:
            return
        for key, repeats in tuple(self._repeats.items()):
            if now < repeats.due:
                continue
            if not repeats.frames:
                del self._repeats[key]  # the next one is told at once
                continue
            self._summarise(key, repeats)
            repeats.due = now + SUMMARY_SECONDS
        self._due = min((each.due for each in self._repeats.values()), default=float("inf"))

    def close(self) -> None:
        """The call is over: tell what was not told."""
        for key, repeats in self._repeats.items():
            if repeats.frames:
                self._summarise(key, repeats)
        self._repeats.clear()
        self._due = float("inf")

    def _summarise(self, key: tuple[Refusal, bool], repeats: _Repeats) -> None:
        reason, at_wire = key
        self._tell(RefusalReport(reason, repeats.frames, repeats.since, repeats.until, at_wire))
        repeats.frames = 0

    def _tell(self, report: RefusalReport) -> None:
        if self._on_report is None:
            return
        try:
            self._on_report(report)
        except Exception as error:  # no fault of a log may hold up the clock
            log.error("refusals.report_failed", error=type(error).__name__)
