"""Taking up a log where its last writer left it, whether it closed it, crashed, or was killed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ringtrue.agent.audit.disk import sync_directory
from ringtrue.agent.audit.entries import Kind
from ringtrue.agent.audit.errors import LogBrokenError
from ringtrue.agent.audit.merkle import Frontier, Stretch
from ringtrue.agent.audit.published import (
    VerificationError,
    leaf_hash,
    open_note,
    parse_checkpoint,
    read_checkpoint,
)
from ringtrue.agent.audit.replay import Replay
from ringtrue.agent.audit.segments import (
    ORIGIN,
    SEALED,
    Sealed,
    append_durably,
    checkpoint_in,
    lines_of,
    read_sealed,
    segments_of,
)

Code = Callable[[str, int, str], bytes]


@dataclass(slots=True)
class Recovered:
    """A log as it was found."""

    replay: Replay
    """At its end."""

    leaves: list[bytes]
    """Leaf hashes of the last segment."""

    first: int
    """Number of the last segment's first entry."""

    before: Frontier
    """The tree at the last segment's beginning."""

    path: Path | None
    """The last segment; None where a new one is due."""

    offset: int
    """Its length, without what was cut off."""

    torn: bytes
    """What a crash left behind its last whole group."""

    closed: bool
    """Whether its writer ended in order."""


def recover(slot: Path, keys: Sequence[bytes], code: Code) -> Recovered | None:
    """Follow a log's last segment to its end; None where there is no log yet. Blocking.

    ``code`` gives the right code of a group; what is behind the last whole group is torn. Segments
    finished but not yet sealed are sealed. Raises
    :class:`~ringtrue.agent.audit.errors.LogBrokenError` where what is there was not written by a
    log's writer, and OSError.
    """
    try:
        return _recover(slot, keys, code)
    except VerificationError as error:
        raise LogBrokenError(f"{slot}: {error}") from None


def _recover(slot: Path, keys: Sequence[bytes], code: Code) -> Recovered | None:
    replay = read_boundaries(slot, keys, code)
    segments = segments_of(slot)
    rest = [first for first in segments if first >= replay.size]
    if not segments and not replay.size:
        return None
    while True:
        before = replay.frontier.copy()
        leaves: list[bytes] = []
        path = segments.get(replay.size)
        if path is None:
            if rest and rest[-1] > replay.size:
                raise VerificationError(f"entries {replay.size} to {rest[-1] - 1} are missing")
            return Recovered(replay, leaves, before.size, before, None, 0, b"", _closed(replay))
        data = path.read_bytes()
        last = path == segments[rest[-1]]
        read = whole = 0
        kept = replay.copy()
        lines, _ = lines_of(data)
        for line in lines:
            try:
                entry = replay.feed(line)
            except VerificationError:
                if not last or _signed_behind(data[whole:], kept, keys):
                    raise
                break
            read += len(line) + 1
            if entry is not None:
                leaves.append(leaf_hash(line))
            elif replay.whole == replay.size:
                whole, kept = read, replay.copy()
        replay = kept
        del leaves[replay.size - before.size :]
        if last:
            if not replay.size:  # crashed before its first entry: as if it had never been
                _discard(path)
                return None
            closed = whole == len(data) and _closed(replay)
            return Recovered(replay, leaves, before.size, before, path, whole, data[whole:], closed)
        if whole != len(data) or replay.signed is None or replay.signed.size != replay.size:
            raise VerificationError(f"segment {before.size} ends without a checkpoint")
        seal(slot, Stretch(before, leaves), replay.frontier, _last_note(lines))


def read_boundaries(slot: Path, keys: Sequence[bytes], code: Code | None = None) -> Replay:
    """Check ``sealed.jsonl``, and stand behind the last segment it names.

    Raises :class:`~ringtrue.agent.audit.published.VerificationError`.
    """
    replay = Replay(keys, code=code)
    path = slot / SEALED
    if not path.exists():
        return replay
    lines, _ = lines_of(path.read_bytes())
    for line in lines:
        sealed = read_sealed(line)
        if replay.log is None:
            body, _ = open_note(sealed.note, keys)
            replay.log = parse_checkpoint(body).origin.removeprefix(ORIGIN)
        signed = sealed.check(replay.frontier, replay.origin, keys)
        replay = Replay(
            keys,
            code=code,
            log=replay.log,
            frontier=sealed.end,
            signed=signed,
            note=sealed.note,
        )
    return replay


def seal(slot: Path, segment: Stretch, end: Frontier, note: str) -> Sealed:
    """Note a finished segment in ``sealed.jsonl``. Raises OSError."""
    sealed = Sealed(segment.start.size, end.copy(), note, tuple(segment.consistency()))
    line, path = sealed.line(), slot / SEALED
    # A try that failed may have left it there all the same.
    if not path.exists() or line not in lines_of(path.read_bytes())[0][-1:]:
        append_durably(path, line + b"\n")
    return sealed


def cut(recovered: Recovered, slot: Path) -> str | None:
    """Take what a crash left off the last segment, and keep it beside; its name. Raises OSError."""
    if recovered.path is None or not recovered.torn:
        return None
    name = f"torn-{recovered.replay.size:016d}-{hashlib.sha256(recovered.torn).hexdigest()[:16]}"
    kept = slot / name
    descriptor = os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(recovered.torn)
        file.flush()
        os.fsync(file.fileno())
    sync_directory(slot)
    descriptor = os.open(recovered.path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.ftruncate(descriptor, recovered.offset)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return name


def _closed(replay: Replay) -> bool:
    if replay.signed is None or replay.signed.size != replay.size:
        return False
    # Behind a sealed segment there is no entry to look at: its writer was alive when it sealed it.
    return replay.last is not None and replay.last["kind"] == Kind.LOG_CLOSED


def _signed_behind(data: bytes, replay: Replay, keys: Sequence[bytes]) -> bool:
    """Whether entries that are damaged, or missing, had been signed: then no crash did it."""
    for line in lines_of(data)[0]:
        try:
            note = checkpoint_in(line)
            if note is not None and read_checkpoint(note, keys)[0].size > replay.size:
                return True
        except VerificationError:
            continue
    return False


def _last_note(lines: Sequence[bytes]) -> str:
    note = checkpoint_in(lines[-1])
    if note is None:
        raise VerificationError("a finished segment ends in a checkpoint")
    return note


def _discard(path: Path) -> None:
    path.unlink()
    sync_directory(path.parent)
