"""The one writer of a log: groups of entries, each durable when :meth:`LogWriter.append` returns.

Blocking; lives on a thread. What fails leaves the log as it was, on disk and in memory, so that the
same entries can be written again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Self

from ringtrue.agent.audit.disk import sync_directory, write_at
from ringtrue.agent.audit.entries import Event, Kind, encode, iso
from ringtrue.agent.audit.errors import LogBrokenError, LogBusyError
from ringtrue.agent.audit.holds import kept_from as held_from
from ringtrue.agent.audit.holds import settled
from ringtrue.agent.audit.index import enlist
from ringtrue.agent.audit.merkle import Frontier, Stretch
from ringtrue.agent.audit.notes import sign_checkpoint
from ringtrue.agent.audit.published import Checkpoint, leaf_hash
from ringtrue.agent.audit.recovery import Recovered, cut, recover, seal
from ringtrue.agent.audit.replay import Replay
from ringtrue.agent.audit.segments import (
    LOCK,
    ORIGIN,
    checkpoint_line,
    mac_line,
    segment_name,
    segments_of,
    slots_of,
)
from ringtrue.agent.audit.texts import TextKeeper
from ringtrue.voices.keys.signing import Signer

SLOTS: Final = 64
"""Logs that may be written at the same time in one directory."""


@dataclass(frozen=True, slots=True)
class WriterPolicy:
    """When a log is signed, divided and pruned."""

    checkpoint_entries: int = 1000
    checkpoint_seconds: float = 10.0
    segment_bytes: int = 16 * 1024 * 1024
    segment_seconds: float = 86_400.0
    keep: timedelta | None = None
    """How long finished segments are kept; None: for ever."""


@dataclass(frozen=True, slots=True)
class Pending:
    """An event with the moment it was recorded."""

    event: Event
    at: datetime


class LogWriter:
    """Writes one log. Made by :meth:`open`."""

    def __init__(
        self,
        slot: Path,
        lock: int,
        log: str,
        signer: Signer,
        texts: TextKeeper,
        policy: WriterPolicy,
        on_checkpoint: Callable[[str], None],
    ) -> None:
        """Use :meth:`open`."""
        self.slot = slot
        self.log = log
        self._lock = lock
        self._signer = signer
        self._texts = texts
        self._policy = policy
        self._on_checkpoint = on_checkpoint
        self._file: int | None = None
        self._offset = 0
        self._frontier = Frontier()
        self._prev = ""
        self._segment = Stretch(self._frontier)
        self._signed: Checkpoint | None = None
        self._note = ""
        self._signed_at: datetime | None = None
        self._began: datetime | None = None
        self._pruned_at: datetime | None = None

    @classmethod
    def open(
        cls,
        directory: Path,
        signer: Signer,
        texts: TextKeeper,
        now: datetime,
        *,
        policy: WriterPolicy | None = None,
        trusted: Sequence[bytes] = (),
        on_checkpoint: Callable[[str], None] = lambda note: None,
        on_broken: Callable[[LogBrokenError], None] = lambda error: None,
    ) -> Self:
        """Take up the first log below ``directory`` that nobody writes, or begin one.

        A log that is broken is left alone and told to ``on_broken``. ``on_checkpoint`` is given
        every signed note once it is durable. Raises OSError,
        :class:`~ringtrue.agent.audit.errors.LogBrokenError` for a broken index, and
        :class:`~ringtrue.agent.audit.errors.LogBusyError`.
        """
        keys = [signer.public, *trusted]
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        broken: list[tuple[Path, LogBrokenError]] = []
        for number in range(SLOTS):
            slot = directory / f"w{number:02d}"
            lock = _take(slot)
            if lock is None:
                continue
            try:
                found = recover(slot, keys, texts.code)
            except LogBrokenError as error:
                os.close(lock)
                broken.append((slot, error))
                on_broken(error)
                continue
            except BaseException:
                os.close(lock)
                raise
            log = secrets.token_hex(8) if found is None else found.replay.log or ""
            writer = cls(slot, lock, log, signer, texts, policy or WriterPolicy(), on_checkpoint)
            try:
                writer._begin(found, now, directory, broken)
                enlist(directory, slot.name, log, signer, keys, now)
            except BaseException:
                writer._release()
                raise
            return writer
        raise LogBusyError(f"{directory}: {SLOTS} logs are being written or broken already")

    @property
    def size(self) -> int:
        """Entries in the log."""
        return self._frontier.size

    @property
    def unsigned(self) -> int:
        """Entries since the last checkpoint."""
        return self.size - (self._signed.size if self._signed is not None else 0)

    @property
    def note(self) -> str:
        """The latest checkpoint, signed."""
        return self._note

    def append(self, entries: Sequence[Pending], now: datetime, *, sign: bool = False) -> None:
        """Make ``entries`` durable, with a checkpoint behind them where one is due, or ``sign``.

        Raises OSError; then none of them is in the log.
        """
        frontier, prev = self._frontier.copy(), self._prev
        lines: list[bytes] = []
        leaves: list[bytes] = []
        for pending in entries:
            event = pending.event
            seq = frontier.size
            line = encode(
                event,
                log=self.log,
                seq=seq,
                prev=prev,
                at=pending.at,
                text=self._texts.kept(event.text, log=self.log, seq=seq),
            )
            leaf = leaf_hash(line)
            frontier.add(leaf)
            leaves.append(leaf)
            prev = hashlib.sha256(line).hexdigest()
            lines.append(line)
        if sign or self.checkpoint_due(now, more=len(entries)):
            checkpoint = Checkpoint(
                f"{ORIGIN}{self.log}", frontier.size, frontier.root(), prev, iso(now)
            )
            note = sign_checkpoint(checkpoint, self._signer)
            lines.append(checkpoint_line(note))
            prev = hashlib.sha256(lines[-1]).hexdigest()
        elif lines:
            checkpoint, note = None, ""
            lines.append(mac_line(self._texts.code(self.log, frontier.size, prev)))
            prev = hashlib.sha256(lines[-1]).hexdigest()
        else:
            return
        self._commit(b"\n".join(lines) + b"\n", now)
        self._frontier, self._prev = frontier, prev
        for leaf in leaves:
            self._segment.add(leaf)
        if checkpoint is not None:
            self._signed, self._note, self._signed_at = checkpoint, note, now
            self._on_checkpoint(note)
        self._began = self._began or now

    def checkpoint_due(self, now: datetime, *, more: int = 0) -> bool:
        """Whether the next group, of ``more`` entries, ends in a checkpoint."""
        unsigned = self.unsigned + more
        if not unsigned:
            return False
        late = timedelta(seconds=self._policy.checkpoint_seconds)
        return (
            unsigned >= self._policy.checkpoint_entries
            or self._signed_at is None
            or abs(now - self._signed_at) >= late
        )

    def tidy(self, now: datetime) -> None:
        """Finish a segment that is long or old enough, and delete old ones. Raises OSError."""
        age = timedelta(seconds=self._policy.segment_seconds)
        full = self._offset >= self._policy.segment_bytes
        if len(self._segment) and (full or (self._began is not None and now - self._began >= age)):
            self.rotate(now)
        if self._policy.keep is not None and (
            self._pruned_at is None or now - self._pruned_at >= timedelta(hours=1)
        ):
            with settled(self.slot.parent):
                self._prune(now - self._policy.keep, now)
            self._pruned_at = now

    def rotate(self, now: datetime) -> None:
        """Finish the segment being written, if it holds anything. Raises OSError."""
        if not len(self._segment):
            return
        if self.unsigned or self._signed is None:
            self.append((), now, sign=True)
        seal(self.slot, self._segment, self._frontier, self._note)
        self._segment, self._began = Stretch(self._frontier), None
        if self._file is not None:
            os.close(self._file)
        self._file, self._offset = None, 0

    def close(self, now: datetime) -> None:
        """End the log in order; another process may take it up. Raises OSError, released anyway."""
        try:
            if self._lock >= 0:
                self.append([Pending(Event(Kind.LOG_CLOSED), now)], now, sign=True)
        finally:
            self._release()

    def _begin(
        self,
        found: Recovered | None,
        now: datetime,
        directory: Path,
        broken: Sequence[tuple[Path, LogBrokenError]],
    ) -> None:
        detail: dict[str, str | int | bool] = {"pid": os.getpid(), "key": self._signer.id}
        detail |= _others(directory, self.slot)
        events = [Event(Kind.LOG_OPENED, detail=detail)]
        if found is None:
            self._prev = Replay(()).prev
        else:
            self._resume(found)
            if not found.closed:
                name = cut(found, self.slot)
                lost: dict[str, str | int | bool] = {
                    "bytes": len(found.torn),
                    "sha256": hashlib.sha256(found.torn).hexdigest(),
                }
                if name is not None:
                    lost["kept"] = name
                events.append(Event(Kind.LOG_RECOVERED, detail=lost))
            if found.replay.key not in (None, self._signer.public):
                events.append(Event(Kind.KEY_ROTATED, detail={"key": self._signer.id}))
        events += [
            Event(Kind.LOG_BROKEN, detail={"log": slot.name, "reason": str(error)})
            for slot, error in broken
        ]
        self.append([Pending(event, now) for event in events], now, sign=True)

    def _resume(self, found: Recovered) -> None:
        replay = found.replay
        self._frontier, self._prev = replay.frontier, replay.prev
        self._segment = Stretch(found.before, found.leaves)
        self._signed = replay.signed
        self._offset = found.offset
        if found.path is not None:
            self._file = os.open(found.path, os.O_WRONLY | os.O_CLOEXEC)

    def _commit(self, data: bytes, now: datetime) -> None:
        if self._file is None:
            path = self.slot / segment_name(self._segment.start.size)
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            sync_directory(self.slot)
        try:
            write_at(self._file, data, self._offset)
            os.fsync(self._file)
        except OSError:
            self._undo()
            raise
        self._offset += len(data)

    def _undo(self) -> None:
        """Take a group that failed off the file again; the next one is written over it anyway."""
        assert self._file is not None
        try:
            os.ftruncate(self._file, self._offset)
        except OSError:
            return

    def _prune(self, before: datetime, now: datetime) -> None:
        """Delete finished segments whose last checkpoint is older, unless they are held, and say
        so first."""
        kept_from = 0
        held = held_from(self.slot)
        paths = segments_of(self.slot)
        for first, path in paths.items():
            if first >= self._segment.start.size or _end_of(path) >= iso(before):
                break
            later = [other for other in paths if other > first]
            end = later[0] if later else self._segment.start.size
            if held is not None and end > held:
                break
            kept_from = end
        old = [path for first, path in paths.items() if first < kept_from]
        if not old:
            return
        event = Event(Kind.LOG_RETENTION, detail={"kept_from": kept_from, "segments": len(old)})
        self.append([Pending(event, now)], now, sign=True)
        for path in old:
            path.unlink(missing_ok=True)
        sync_directory(self.slot)

    def _release(self) -> None:
        for descriptor in (self._file, self._lock):
            if descriptor is not None and descriptor >= 0:
                os.close(descriptor)
        self._file, self._lock = None, -1


def _take(slot: Path) -> int | None:
    """The lock of a log, or None where another process holds it."""
    slot.mkdir(mode=0o700, exist_ok=True)
    lock = os.open(slot / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    except BaseException:
        os.close(lock)
        raise
    return lock


def written_now(slot: Path) -> bool:
    """Whether a process holds the log of ``slot``; never waits."""
    try:
        lock = os.open(slot / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _others(directory: Path, own: Path) -> dict[str, int]:
    """How far the other logs here are at least, so that one can't vanish from beside this one."""
    return {
        f"seen.{slot.name}": max(segments_of(slot), default=0)
        for slot in slots_of(directory)
        if slot != own
    }


def _end_of(path: Path) -> str:
    """The time of a finished segment's last checkpoint; later than any where there is none."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        last = file.read().rstrip(b"\n").rsplit(b"\n", 1)[-1]
    found = last.rpartition(b"\\ntime ")[2][:27]
    return found.decode("ascii", "replace") or "~"
