"""A witness on the same machine, at a second place: the latest checkpoint of every log.

A log that is put back to an earlier state, each of whose lines is signed, looks whole by itself.
Here the newest signed root of each log is kept outside the log's directory, so that who puts back
only the log is found: at once, as the log goes on from there, and by ``ringtrue audit verify``. One
root vouches for every entry before it (RFC 9162 §2.1). Who can put back both is found by a witness
on another machine alone.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Final

from ringtrue.agent.audit.disk import locked, replacing
from ringtrue.agent.audit.errors import WitnessError

MAX_FILE: Final = 1 << 20
"""Longest file that is read, in bytes; 64 logs take some 20 kB."""


class LocalWitness:
    """Keeps the newest note of each log of one directory; many processes may share it.

    Implements :class:`~ringtrue.agent.audit.witness.Witness`. Blocking.
    """

    def __init__(self, place: Path, directory: Path) -> None:
        """``place`` is a directory, made on first use; ``directory`` is that of the logs."""
        self._directory = str(Path(os.path.abspath(directory)))
        name = hashlib.sha256(self._directory.encode()).hexdigest()[:16]
        self.path = place / f"{name}.json"
        """The file."""

    def take(self, note: str) -> None:
        """Keep ``note`` in place of the log's last one.

        Raises :class:`~ringtrue.agent.audit.errors.WitnessError`, also where the log was known to
        be longer, or to be another.
        """
        origin, size, root = _claim(note)
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with locked(self.path.with_suffix(".lock")):
                notes = self._read()
                if origin in notes:
                    self._compare(origin, size, root, notes[origin])
                self._write(notes | {origin: note})
        except OSError as error:
            raise WitnessError(f"{self.path}: {error.strerror}") from None

    def notes(self) -> list[str]:
        """The newest note of each log.

        Raises OSError, and :class:`~ringtrue.agent.audit.errors.WitnessError` for a file that is
        none of a witness.
        """
        return list(self._read().values())

    def _compare(self, origin: str, size: int, root: str, known: str) -> None:
        _, known_size, known_root = _claim(known)
        name = origin.rpartition("/")[2]
        if size < known_size:
            raise WitnessError(
                f"{self.path}: log {name} was signed with {known_size} entries and has {size} now: "
                "it was cut back, or an older state restored"
            )
        if size == known_size and root != known_root:
            raise WitnessError(f"{self.path}: log {name} was signed with other entries before")

    def _read(self) -> dict[str, str]:
        try:
            with open(self.path, encoding="utf-8") as file:
                value = json.loads(file.read(MAX_FILE))
            return {str(origin): str(note) for origin, note in value["logs"].items()}
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise WitnessError(f"{self.path}: it was altered") from None

    def _write(self, notes: dict[str, str]) -> None:
        data = json.dumps({"directory": self._directory, "logs": notes}, indent=1, sort_keys=True)
        with replacing(self.path) as file:
            file.write(data.encode())


def _claim(note: str) -> tuple[str, int, str]:
    """Origin, size and root of a checkpoint (C2SP tlog-checkpoint); not verified."""
    lines = note.split("\n", 3)
    try:
        return lines[0], int(lines[1]), lines[2]
    except (IndexError, ValueError):
        raise WitnessError(f"no checkpoint: {note[:40]!r}") from None
