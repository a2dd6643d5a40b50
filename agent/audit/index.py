"""The index of all logs in a directory: one signed line for each, chained."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ringtrue.agent.audit.disk import locked
from ringtrue.agent.audit.entries import GENESIS, iso
from ringtrue.agent.audit.errors import LogBrokenError
from ringtrue.agent.audit.notes import sign_note
from ringtrue.agent.audit.published import VerificationError, canonical, open_note, read_canonical
from ringtrue.agent.audit.segments import INDEX, append_durably, lines_of
from ringtrue.voices.keys.signing import Signer

_ORIGIN = "ringtrue/audit-index"
_LOCK = "index.lock"


@dataclass(frozen=True, slots=True)
class Listed:
    """A log there is, or was."""

    slot: str
    log: str
    time: str
    """When it was begun: UTC, ISO 8601."""


def read_index(directory: Path, keys: Sequence[bytes]) -> list[Listed]:
    """Every log that was ever begun here; none where there is no index.

    Raises :class:`~ringtrue.agent.audit.published.VerificationError` and OSError.
    """
    path = directory / INDEX
    if not path.exists():
        return []
    lines, _ = lines_of(path.read_bytes())
    return _follow(lines, keys)


def enlist(directory: Path, slot: str, log: str, signer: Signer, keys: Sequence[bytes],
           now: datetime) -> None:  # fmt: skip
    """Put a log into the index, if it isn't there. Blocking; one process at a time.

    Raises :class:`~ringtrue.agent.audit.errors.LogBrokenError` for an index that was altered, and
    OSError.
    """
    with locked(directory / _LOCK):
        try:
            listed = read_index(directory, keys)
        except VerificationError as error:
            raise LogBrokenError(f"{directory / INDEX}: {error}") from None
        if any(known.log == log for known in listed):
            return
        path = directory / INDEX
        lines = lines_of(path.read_bytes())[0] if path.exists() else []
        prev = hashlib.sha256(lines[-1]).hexdigest() if lines else GENESIS
        note = sign_note(_body(prev, Listed(slot, log, iso(now))), signer)
        append_durably(path, canonical({"note": note}) + b"\n")


def _body(prev: str, listed: Listed) -> str:
    return f"{_ORIGIN}\n{prev}\n{listed.slot}\n{listed.log}\n{listed.time}\n"


def _follow(lines: Sequence[bytes], keys: Sequence[bytes]) -> list[Listed]:
    found: list[Listed] = []
    prev = GENESIS
    for number, line in enumerate(lines, 1):
        value = read_canonical(line)
        if set(value) != {"note"} or not isinstance(value["note"], str):
            raise VerificationError(f"line {number} of the index is none")
        body, _ = open_note(value["note"], keys)
        parts = body.split("\n")
        if len(parts) != 6 or parts[0] != _ORIGIN or parts[1] != prev:
            raise VerificationError(f"line {number} of the index doesn't follow the one before it")
        found.append(Listed(*parts[2:5]))
        prev = hashlib.sha256(line).hexdigest()
    return found
