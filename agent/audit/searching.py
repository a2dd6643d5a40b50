"""Finding a call's entries, and proving them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ringtrue.agent.audit.errors import AuditError, LogBrokenError, NoSuchCallError
from ringtrue.agent.audit.merkle import Tree
from ringtrue.agent.audit.published import RELATED, VerificationError, leaf_hash, read_canonical
from ringtrue.agent.audit.recovery import read_boundaries
from ringtrue.agent.audit.replay import Replay
from ringtrue.agent.audit.segments import (
    SEALED,
    checkpoint_in,
    lines_of,
    read_sealed,
    segments_of,
    slots_of,
)


@dataclass(frozen=True, slots=True)
class Proven:
    """An entry with the proof that it is under its log's checkpoint."""

    line: bytes
    entry: dict[str, Any]
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class FromLog:
    """What one log holds of a call."""

    origin: str
    note: str
    """The latest signed checkpoint."""

    entries: tuple[Proven, ...]


def entries_of(
    directory: Path,
    wanted: Callable[[dict[str, Any]], bool],
    hint: bytes,
    slots: Sequence[Path] | None = None,
) -> Iterator[dict[str, Any]]:
    """Entries that are ``wanted``, of all logs or of ``slots``, as they stand there: nothing is
    checked.

    ``hint``: bytes that every wanted line holds. Raises OSError.
    """
    for slot in slots_of(directory) if slots is None else slots:
        for path in segments_of(slot).values():
            with path.open("rb") as file:
                for line in file:
                    if hint not in line or not line.endswith(b"\n"):
                        continue
                    try:
                        entry = read_canonical(line[:-1])
                    except VerificationError:
                        continue
                    if wanted(entry):
                        yield entry


def call_entries(directory: Path, call: str) -> list[dict[str, Any]]:
    """A call's entries as they stand in the logs; nothing is checked.

    Raises :class:`~ringtrue.agent.audit.errors.NoSuchCallError` and OSError.
    """
    hint = b'"call":' + json.dumps(call, ensure_ascii=False).encode()
    found = list(entries_of(directory, lambda entry: entry.get("call") == call, hint))
    if not found:
        raise NoSuchCallError(f"no entry of call {call!r} in {directory}")
    return found


def prove_call(
    directory: Path,
    keys: Sequence[bytes],
    call: str,
    on_progress: Callable[[int], None] = lambda entries: None,
) -> list[FromLog]:
    """A call's entries, and what is recorded of the voices it heard, each with its proof.

    Reads every entry that is kept. Raises :class:`~ringtrue.agent.audit.errors.NoSuchCallError`,
    :class:`~ringtrue.agent.audit.errors.LogBrokenError` where a log doesn't hold,
    :class:`~ringtrue.agent.audit.errors.AuditError` where entries are not signed yet, and OSError.
    """
    voices = {entry.get("voice") for entry in call_entries(directory, call)} - {None}

    def wanted(entry: dict[str, Any]) -> bool:
        if entry.get("call") == call:
            return True
        return entry["kind"] in RELATED and entry.get("voice") in voices

    found = []
    for slot in slots_of(directory):
        try:
            log = _prove(slot, keys, wanted, on_progress)
        except VerificationError as error:
            raise LogBrokenError(f"{slot}: {error}; run `ringtrue audit verify`") from None
        if log is not None:
            found.append(log)
    return found


def _prove(
    slot: Path,
    keys: Sequence[bytes],
    wanted: Callable[[dict[str, Any]], bool],
    on_progress: Callable[[int], None],
) -> FromLog | None:
    segments = segments_of(slot)
    if not segments:
        return None
    replay = _behind(slot, keys, next(iter(segments)))
    tree = Tree(replay.frontier.copy())
    lines: list[tuple[bytes, dict[str, Any]]] = []
    note = ""
    for path in segments.values():
        for line in lines_of(path.read_bytes())[0]:
            entry = replay.feed(line)
            if entry is None:
                note = checkpoint_in(line) or note
                continue
            tree.add(leaf_hash(line))
            if wanted(entry):
                lines.append((line, entry))
            if replay.size % 10_000 == 0:
                on_progress(replay.size)
    if not lines:
        return None
    signed = 0 if replay.signed is None else replay.signed.size
    late = sum(entry["seq"] >= signed for _, entry in lines)
    if late:
        raise AuditError(f"{late} entries of {slot.name} are not signed yet: try again in a minute")
    proven = [
        Proven(line, entry, tuple(tree.inclusion(entry["seq"], signed))) for line, entry in lines
    ]
    return FromLog(replay.origin, note, tuple(proven))


def _behind(slot: Path, keys: Sequence[bytes], first: int) -> Replay:
    """Stand where the first segment that is kept begins."""
    read_boundaries(slot, keys)
    if not first:
        return Replay(keys)
    for line in lines_of((slot / SEALED).read_bytes())[0]:
        sealed = read_sealed(line)
        if sealed.end.size == first:
            replay = Replay(keys, frontier=sealed.end, note=sealed.note)
            replay.log = read_boundaries(slot, keys).log
            return replay
    raise VerificationError(f"no segment ends before entry {first}")
