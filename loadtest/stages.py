"""Where a turn's time went, from the target's own record of it, on the caller's time line.

The record's moments are the target's; they are laid so that its last caller's speech sample is
the caller's own. What remains between its first packet and the ear is the way there and back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ringtrue.loadtest.report import TurnReport
from ringtrue.streaming.stages import INTERVALS, Stage

EAR: Final = "ear"
"""From the target's turn latency to the caller's: network, jitter buffer, codecs."""

SPANNING: Final = ("ttfa", "turn_latency")
"""Intervals that span others and are no stages."""


@dataclass(frozen=True, slots=True)
class StageBar:
    """One stage of a turn. Milliseconds since the caller's last speech sample.

    A stage that ran ahead of the end of the turn may begin, and end, before 0.
    """

    name: str
    """One of :data:`~ringtrue.streaming.stages.INTERVALS` or :data:`EAR`."""

    begin_ms: float
    end_ms: float


def stage_ms(turn: TurnReport, name: str) -> float | None:
    """An interval of the record in milliseconds; None where the target gave none."""
    intervals = turn.server.get("intervals_ms") if turn.server else None
    return _number(intervals.get(name)) if isinstance(intervals, Mapping) else None


def ear_ms(turn: TurnReport) -> float | None:
    """What the turn took at the caller's ear beyond what the target saw."""
    inside = stage_ms(turn, "turn_latency")
    return None if inside is None or turn.latency_ms is None else turn.latency_ms - inside


def stages_of(turn: TurnReport) -> tuple[StageBar, ...]:
    """The turn's stages in order; none where the target gave no record."""
    moments = turn.server.get("at_ms") if turn.server else None
    if not isinstance(moments, Mapping):
        return ()
    zero = _number(moments.get(str(Stage.SPEECH_ENDED)))
    if zero is None:
        return ()
    bars = []
    for name, (first, last) in INTERVALS.items():
        begin, end = _number(moments.get(str(first))), _number(moments.get(str(last)))
        if name in SPANNING or begin is None or end is None:
            continue
        # Work begun before the turn was known to be over is done when the turn ends.
        bars.append(StageBar(name, min(begin, end) - zero, end - zero))
    packet = _number(moments.get(str(Stage.FIRST_PACKET)))
    if packet is not None and turn.latency_ms is not None:
        at = packet - zero
        bars.append(StageBar(EAR, at, max(at, turn.latency_ms)))
    return tuple(bars)


def misses_of(turn: TurnReport) -> list[tuple[str, str, float, float]]:
    """What took longer than its allotment: stage, reason, milliseconds allotted and spent."""
    found = []
    for miss in _entries(turn, "misses"):
        allotted, spent = _number(miss.get("allotted_ms")), _number(miss.get("spent_ms"))
        if allotted is not None and spent is not None:
            found.append((str(miss.get("stage")), str(miss.get("reason")), allotted, spent))
    return found


def ladder_of(turn: TurnReport) -> list[tuple[str, str]]:
    """What the target did to keep the turn's budget: step and reason."""
    return [(str(step.get("step")), str(step.get("reason"))) for step in _entries(turn, "ladder")]


def _entries(turn: TurnReport, key: str) -> list[Mapping[str, Any]]:
    entries = turn.server.get(key) if turn.server else None
    listed = entries if isinstance(entries, list | tuple) else []
    return [entry for entry in listed if isinstance(entry, Mapping)]


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
