"""Entries that retention must not delete, whatever their age: evidence of an incident.

A hold is a file beside the logs that names, for each log, the first entry to be kept; everything
from there on is. It is no part of the log: who deletes it lets retention delete entries, which the
log then says (``log.retention``), as it says that the hold was made.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ringtrue.agent.audit.segments import sync_directory

HOLDS: Final = "holds"
"""The directory of holds, beside the logs."""

_ID: Final = re.compile(r"[a-z]+_[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Hold:
    """What one incident keeps."""

    id: str
    """The incident's."""

    first: Mapping[str, int]
    """Log (its directory's name) → the first entry to be kept. Of a log that isn't named every
    entry is, for it was begun since."""


def write_hold(directory: Path, hold: Hold) -> None:
    """Keep from now on what ``hold`` says, in place of an earlier one of its id. Raises OSError."""
    place = directory / HOLDS
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = _path(directory, hold.id)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    data = json.dumps({"id": hold.id, "first": dict(hold.first)}, sort_keys=True).encode()
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    sync_directory(place)


def release_hold(directory: Path, hold: str) -> bool:
    """Let retention delete what only ``hold`` kept; False where there was none. Raises OSError."""
    path = _path(directory, hold)
    if not path.exists():
        return False
    path.unlink()
    sync_directory(path.parent)
    return True


def read_holds(directory: Path) -> tuple[Hold, ...]:
    """Every hold. One that can't be read keeps everything. Raises OSError."""
    place = directory / HOLDS
    if not place.is_dir():
        return ()
    found = []
    for path in sorted(place.glob("*.json")):
        try:
            value = json.loads(path.read_bytes())
            first = {str(slot): int(seq) for slot, seq in value["first"].items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            first = {}
        found.append(Hold(path.stem, first))
    return tuple(found)


def kept_from(slot: Path) -> int | None:
    """The first entry of a log that a hold keeps, with all that follow; None: none does."""
    firsts = [hold.first.get(slot.name, 0) for hold in read_holds(slot.parent)]
    return min(firsts, default=None)


def _path(directory: Path, hold: str) -> Path:
    if not _ID.fullmatch(hold):
        raise ValueError(f"hold {hold[:80]!r}: no incident's id")
    return directory / HOLDS / f"{hold}.json"
