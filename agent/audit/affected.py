"""What a voice has said, as the audit log has it: calls, outputs, and where their entries are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from ringtrue.agent.audit.entries import Kind, iso
from ringtrue.agent.audit.searching import entries_of
from ringtrue.agent.audit.segments import slots_of

MAX_OUTPUTS: Final = 200_000
"""Outputs that are listed one by one; beyond, they are counted only."""


@dataclass(frozen=True, slots=True)
class AffectedOutput:
    """One utterance as it went out."""

    at: str
    """UTC, ISO 8601: when it was recorded."""

    log: str
    seq: int
    """Where its entry is."""

    sha256: str
    """Over the PCM, in hexadecimal."""

    seconds: float
    watermark: str | None
    consent: str | None


@dataclass(slots=True)
class AffectedCall:
    """One call, or one text spoken outside calls, in which the voice was heard."""

    call: str
    agent: str | None
    requester: str | None
    first: str
    """UTC, ISO 8601: when its first utterance was recorded."""

    last: str
    utterances: int = 0
    seconds: float = 0.0
    ended: bool = False
    """Whether its end is recorded; without, it goes on, or was no call."""

    revoked: bool = False
    """Whether the voice was taken away in the midst of it."""

    outputs: list[AffectedOutput] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Affected:
    """All of them."""

    calls: tuple[AffectedCall, ...]
    """By their beginning."""

    first: Mapping[str, int]
    """Log (its directory's name) → its earliest entry about the voice; no other log has one."""

    listed: int
    """Outputs that are listed."""

    @property
    def utterances(self) -> int:
        """How many there were."""
        return sum(call.utterances for call in self.calls)

    @property
    def seconds(self) -> float:
        """How long they were together."""
        return sum(call.seconds for call in self.calls)


def affected_by(
    directory: Path,
    tenant: str,
    voice: str,
    *,
    since: datetime | None = None,
    on_progress: Callable[[int], None] = lambda entries: None,
) -> Affected:
    """Every call in which ``voice`` (its id) was heard, since ``since`` where that is given.

    Reads the logs as they stand; ``ringtrue audit verify`` says whether they hold. Blocking.
    Raises OSError.
    """
    calls: dict[str, AffectedCall] = {}
    first: dict[str, int] = {}
    listed = read = 0
    begin = "" if since is None else iso(since)
    for slot, entry in _about(directory, tenant, voice):
        read += 1
        if read % 1000 == 0:
            on_progress(read)
        first[slot] = min(first.get(slot, entry["seq"]), entry["seq"])
        call = str(entry.get("call"))
        if entry["kind"] == Kind.VOICE_REVOKED and call in calls:
            calls[call].revoked = True
        if entry["kind"] != Kind.UTTERANCE or entry["at"] < begin:
            continue
        known = calls.get(call)
        if known is None:
            known = calls[call] = AffectedCall(
                call, entry.get("agent"), entry.get("requester"), entry["at"], entry["at"]
            )
        output = entry.get("output") or {}
        seconds = output.get("samples", 0) / max(1, output.get("rate", 1))
        known.first, known.last = min(known.first, entry["at"]), max(known.last, entry["at"])
        known.utterances += 1
        known.seconds = round(known.seconds + seconds, 3)
        if listed < MAX_OUTPUTS:
            listed += 1
            known.outputs.append(
                AffectedOutput(
                    entry["at"],
                    f"{slot} {entry['log']}",
                    entry["seq"],
                    str(output.get("sha256", "")),
                    round(seconds, 3),
                    entry.get("watermark"),
                    entry.get("consent"),
                )
            )
    _note_ends(directory, tenant, calls)
    return Affected(tuple(sorted(calls.values(), key=lambda call: call.first)), first, listed)


def _about(directory: Path, tenant: str, voice: str) -> Iterator[tuple[str, dict[str, Any]]]:
    hint = b'"voice":' + json.dumps(voice).encode()

    def wanted(entry: dict[str, Any]) -> bool:
        return entry.get("voice") == voice and entry.get("tenant") == tenant

    for slot in slots_of(directory):
        for entry in entries_of(directory, wanted, hint, slots=[slot]):
            yield slot.name, entry


def _note_ends(directory: Path, tenant: str, calls: dict[str, AffectedCall]) -> None:
    hint = f'"kind":"{Kind.CALL_ENDED}"'.encode()

    def wanted(entry: dict[str, Any]) -> bool:
        return entry.get("call") in calls and entry.get("tenant") == tenant

    for entry in entries_of(directory, wanted, hint):
        calls[entry["call"]].ended = True
