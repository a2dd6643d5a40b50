"""Which recordings there are, and erasing them unless they are evidence."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ringtrue.agent.audit.entries import iso
from ringtrue.agent.audit.holds import keeper_of, read_holds, settled
from ringtrue.agent.recording_files import (
    SUFFIX,
    Found,
    Header,
    RecordingError,
    erase,
    look,
)
from ringtrue.streaming.errors import RingtrueError


class HeldError(RingtrueError):
    """A recording is evidence of an incident, and is not erased."""

    def __init__(self, incident: str) -> None:
        """``incident`` is its id."""
        super().__init__(f"it is evidence of {incident}; `incident lift --release` lets go of it")


def recordings_in(directory: Path) -> tuple[list[Found], list[str]]:
    """Every recording in ``directory``, oldest first, and what is wrong with those unreadable."""
    found, problems = [], []
    for path in directory.glob(f"*{SUFFIX}"):
        try:
            found.append(look(path))
        except RecordingError as error:
            problems.append(str(error))
    return sorted(found, key=lambda one: one.header.started), problems


def erase_unheld(path: Path, header: Header, holds: Path | None) -> None:
    """Destroy a recording, unless an incident keeps it; ``holds`` is the audit logs' directory.

    Blocking. Raises :class:`HeldError` and OSError.
    """
    if holds is None:
        erase(path)
        return
    with settled(holds):
        keeper = keeper_of(read_holds(holds), header.call)
        if keeper is not None:
            raise HeldError(keeper)
        erase(path)


Described = dict[str, str | float | bool | None]


def evidence_of(directory: Path, holds: Path, call: str) -> list[Described]:
    """What a bundle of evidence says of a call's recordings, their contents aside.

    ``sha256`` is of the file as it lies, encrypted; None while it is being written. Blocking.
    Raises OSError.
    """
    described: list[Described] = []
    keeper = keeper_of(read_holds(holds), call)
    for one in recordings_in(directory)[0]:
        if one.header.call != call:
            continue
        digest = None
        if one.complete:
            try:
                with open(one.path, "rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
            except FileNotFoundError:  # erased just now, which the log says
                continue
        described.append(
            {
                "id": one.header.id,
                "call": call,
                "begun": iso(one.header.started),
                "seconds": round(one.seconds, 2),
                "complete": one.complete,
                "sha256": digest,
                "kept_until": iso(one.header.keep_until),
                "kept_by": keeper,
            }
        )
    return described
