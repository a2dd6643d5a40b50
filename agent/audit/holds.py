"""What nobody may delete, whatever its age: evidence of an incident.

A hold is a file beside the logs that names, for each log, the first entry to be kept (everything
from there on is), and the calls whose recordings are. It is no part of the log: who deletes it lets
retention delete entries and recordings, which the log then says (``log.retention``,
``recording.erased``), as it says that the hold was made.

Who deletes holds a lock from looking at the holds until it is done (:func:`settled`), and who
writes a hold waits for it: what is held is there when the hold is, or was gone before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ringtrue.agent.audit.disk import locked, replacing, sync_directory

HOLDS: Final = "holds"
"""The directory of holds, beside the logs."""

_ID: Final = re.compile(r"[a-z]+_[0-9a-f]{16}")
_LOCK: Final = ".lock"


@dataclass(frozen=True, slots=True)
class Hold:
    """What one incident keeps."""

    id: str
    """The incident's."""

    first: Mapping[str, int]
    """Log (its directory's name) → the first entry to be kept. Of a log that isn't named every
    entry is, for it was begun since."""

    calls: frozenset[str] | None = None
    """The calls whose recordings are kept; None: those of all."""

    def keeps(self, call: str) -> bool:
        """Whether the recording of ``call`` is kept."""
        return self.calls is None or call in self.calls


def write_hold(directory: Path, hold: Hold) -> None:
    """Keep from now on what ``hold`` says, in place of an earlier one of its id.

    Waits for whoever is deleting. Blocking. Raises OSError.
    """
    path = _path(directory, hold.id)
    value: dict[str, object] = {"id": hold.id, "first": dict(hold.first)}
    if hold.calls is not None:
        value["calls"] = sorted(hold.calls)
    data = json.dumps(value, sort_keys=True).encode()
    with locked(_lock_of(directory)), replacing(path) as file:
        file.write(data)


@contextmanager
def settled(directory: Path) -> Iterator[None]:
    """While it is open no hold is added: for whoever looks at them and then deletes.

    Blocking, as long as a hold is being written. Raises OSError.
    """
    with locked(_lock_of(directory), shared=True):
        yield


def _lock_of(directory: Path) -> Path:
    place = directory / HOLDS
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    return place / _LOCK


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
            calls = frozenset(map(str, value["calls"])) if "calls" in value else None
        except (ValueError, KeyError, TypeError, AttributeError):
            first, calls = {}, None
        found.append(Hold(path.stem, first, calls))
    return tuple(found)


def kept_from(slot: Path) -> int | None:
    """The first entry of a log that a hold keeps, with all that follow; None: none does."""
    firsts = [hold.first.get(slot.name, 0) for hold in read_holds(slot.parent)]
    return min(firsts, default=None)


def keeper_of(holds: Iterable[Hold], call: str) -> str | None:
    """The first incident of ``holds`` that keeps the recording of ``call``; None: none does."""
    return next((hold.id for hold in holds if hold.keeps(call)), None)


def _path(directory: Path, hold: str) -> Path:
    if not _ID.fullmatch(hold):
        raise ValueError(f"hold {hold[:80]!r}: no incident's id")
    return directory / HOLDS / f"{hold}.json"
