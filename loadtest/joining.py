"""The target's own call records laid beside what the callers heard.

A record bears no name that the caller knows, and its milliseconds count from the target's own
answer. But speech leaves the target when the record says and is heard a moment later, so a
record belongs to the call whose utterances began when its packets left.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ringtrue.loadtest.report import CallReport, match_turn
from ringtrue.loadtest.results import RunResult, Speculation

FAR_MS: Final = 500.0
"""An utterance this far from any packet, and a difference in length of this much, are misses."""

CLOSE_MS: Final = 120.0
"""A record further from every call than this, on average, belongs to none."""

Record = Mapping[str, Any]
"""``CallRecord.as_dict`` as JSON."""


def join_records(
    result: RunResult, records: Iterable[Record], *, speculative: bool | None = None
) -> RunResult:
    """``result`` with each record in its call and turns, and with what speculation came to.

    ``speculative`` says whether the target was to begin answers early; None: as the records
    show. Records that belong to no call, such as those of an earlier run, and what is no record
    are left out.
    """
    listed = [record for record in records if _is_record(record)]
    heard = {call.id: call.heard for call in result.calls if call.heard is not None}
    pairs = _assigned(heard, listed)
    calls = tuple(
        replace(call, heard=_joined(call.heard, pairs[call.id]))
        if call.heard is not None and call.id in pairs
        else call
        for call in result.calls
    )
    told = speculation_of([pairs[name] for name in sorted(pairs)], speculative)
    return replace(result, calls=calls, speculation=told)


def speculation_of(records: Sequence[Record], enabled: bool | None = None) -> Speculation | None:
    """What answers begun early came to, over all records; None where none tells of it."""
    told = [r["turn_taking"] for r in records if isinstance(r.get("turn_taking"), Mapping)]
    if not told:
        return None
    begun = sum(_count(each, "speculations") for each in told)
    confirmed = sum(_count(each, "confirmed") for each in told)
    dropped = sum(
        _count(each["dropped"], reason)
        for each in told
        if isinstance(each.get("dropped"), Mapping)
        for reason in each["dropped"]
    )
    return Speculation(
        enabled=begun > 0 if enabled is None else enabled,
        begun=begun,
        confirmed=confirmed,
        dropped=dropped,
        wasted_audio_ms=sum(_number(each, "wasted_ms") for each in told),
        wasted_tokens=sum(_count(each, "wasted_tokens") for each in told),
    )


def _is_record(record: object) -> bool:
    return (
        isinstance(record, Mapping)
        and isinstance(record.get("turns"), list)
        and all(
            isinstance(turn, Mapping) and isinstance(turn.get("at_ms"), Mapping)
            for turn in record["turns"]
        )
    )


def _assigned(heard: Mapping[str, CallReport], records: Sequence[Record]) -> dict[str, Record]:
    """Each call's record: the closest pairs first, none used twice."""
    starts = {
        name: np.array([stretch.start_ms for stretch in report.agent])
        for name, report in heard.items()
    }
    candidates = []
    for number, record in enumerate(records):
        packets = np.array(
            [
                value
                for turn in record["turns"]
                if not math.isinf(value := _number(turn["at_ms"], "first_packet", math.inf))
            ]
        )
        length = _number(record, "duration_ms", math.nan)
        for name, report in heard.items():
            if len(packets) and len(starts[name]):
                distance = _distance(packets, starts[name])
                apart = abs(report.duration_ms - length)
                apart = FAR_MS if math.isnan(apart) else min(FAR_MS, apart)
                if distance <= CLOSE_MS:
                    candidates.append((distance + apart, name, number))
    pairs: dict[str, Record] = {}
    used: set[int] = set()
    for _, name, number in sorted(candidates):
        if name not in pairs and number not in used:
            pairs[name] = records[number]
            used.add(number)
    return pairs


def _distance(packets: npt.NDArray[np.float64], starts: npt.NDArray[np.float64]) -> float:
    nearest = np.abs(packets[:, None] - starts[None, :]).min(axis=1)
    return float(np.minimum(nearest, FAR_MS).mean())


def _joined(report: CallReport, record: Record) -> CallReport:
    turns = tuple(
        turn
        if turn.answer is None
        else replace(turn, server=match_turn(record["turns"], turn.answer.start_ms))
        for turn in report.turns
    )
    rest = {key: value for key, value in record.items() if key != "turns"}
    return replace(report, turns=turns, server=rest)


def _number(values: Mapping[str, Any], key: str, missing: float = 0.0) -> float:
    value = values.get(key)
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known and value is not None else missing


def _count(values: Mapping[str, Any], key: str) -> int:
    return int(_number(values, key))
