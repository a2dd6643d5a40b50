"""Looking for anything that is not as it was written: flips, drops, reorders, cuts, forgeries.

What can be found without a witness: every change that the signing key's holder did not make. What
needs one: a log rolled back whole to an earlier state that had been closed and signed, and whatever
the holder of the key rewrites.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from ringtrue.agent.audit.entries import Kind, iso
from ringtrue.agent.audit.index import read_index
from ringtrue.agent.audit.published import Checkpoint, VerificationError, read_checkpoint
from ringtrue.agent.audit.replay import Replay
from ringtrue.agent.audit.segments import (
    INDEX,
    LOCK,
    ORIGIN,
    SEALED,
    Sealed,
    lines_of,
    read_sealed,
    segments_of,
    slots_of,
)
from ringtrue.agent.audit.writer import written_now

OnProgress = Callable[[int], None]
PROGRESS_ENTRIES: Final = 10_000


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it was written."""

    where: str
    what: str


@dataclass(slots=True)
class LogReport:
    """One log, as far as it could be followed."""

    slot: str
    log: str | None = None
    first: int = 0
    """Number of the first entry that is still kept."""

    size: int = 0
    """Entries ever written."""

    signed: int = 0
    """Entries under the last good checkpoint."""

    signed_at: str | None = None
    checked: int = 0
    """Entries looked at."""

    closed: bool = False
    live: bool = False
    """Being written, or taken to be."""

    witnessed: int = 0
    """Checkpoints of the witness that were compared."""


@dataclass(slots=True)
class Report:
    """What was found in a directory of logs."""

    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    logs: list[LogReport] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether everything is as it was written."""
        return not self.problems


def verify(
    directory: Path,
    keys: Sequence[bytes],
    *,
    since: datetime | None = None,
    witness: Sequence[str] = (),
    live: bool = False,
    on_progress: OnProgress = lambda entries: None,
) -> Report:
    """Check every log below ``directory``; only reads. Blocking.

    ``keys``: public keys whose checkpoints count. ``since``: finished segments that end before it
    are checked by their signed roots alone. ``witness``: notes that a witness kept. ``live``: the
    directory is a copy of logs that were being written, whose last entries need not be signed;
    logs that a process holds at this moment are recognized without it. Raises OSError.
    """
    report = Report()
    known = _witnessed(witness, keys, report)
    seen: dict[str, int] = {}
    for slot in slots_of(directory):
        one = _OneLog(slot, keys, since, known, live, report, seen, on_progress)
        if one.run():
            report.logs.append(one.found)
    _check_index(directory, keys, report)
    _check_claims(directory, seen, report)
    present = {f"{ORIGIN}{log.log}" for log in report.logs}
    report.problems += [
        Problem("witness", f"a log it knows is missing here: {origin.removeprefix(ORIGIN)}")
        for origin in sorted(set(known) - present)
    ]
    return report


class _OneLog:
    """Follows one log from the first segment that is kept."""

    def __init__(
        self,
        slot: Path,
        keys: Sequence[bytes],
        since: datetime | None,
        witnessed: dict[str, list[Checkpoint]],
        live: bool,
        report: Report,
        seen: dict[str, int],
        on_progress: OnProgress,
    ) -> None:
        self._slot = slot
        self._keys = keys
        self._since = None if since is None else iso(since)
        self._witnessed = witnessed
        self._report = report
        self._seen = seen
        self._on_progress = on_progress
        self._wanted: dict[int, list[Checkpoint]] = {}
        self._claims: list[tuple[int, int]] = []
        self.found = LogReport(slot.name, live=live or written_now(slot))

    def run(self) -> bool:
        """Whether there is a log at all."""
        segments = segments_of(self._slot)
        if not segments and not (self._slot / SEALED).exists():
            return False
        ends = self._boundaries()
        replay = Replay(self._keys)
        starts = sorted({0, *(sealed.end.size for sealed, _ in ends)})
        strays = [first for first in segments if first not in starts]
        for first in strays:
            self._problem(segments[first].name, "no segment begins there")
        missing = []
        state: dict[int, tuple[Sealed, Checkpoint]] = {
            sealed.end.size: (sealed, signed) for sealed, signed in ends
        }
        by_first = {sealed.first: (sealed, signed) for sealed, signed in ends}
        for first in starts:
            if first:
                sealed, signed = state[first]
                replay = Replay(
                    self._keys,
                    log=self.found.log,
                    frontier=sealed.end.copy(),
                    signed=signed,
                    note=sealed.note,
                )
                self._at(replay)
            finished = by_first.get(first)
            if first not in segments:
                if finished is not None:
                    missing.append(first)
                    self.found.first = finished[0].end.size
                continue
            if finished is not None and self._since and finished[1].time < self._since:
                continue
            self._segment(segments[first], replay, finished)
        self.found.log = self.found.log or replay.log
        self._end(replay)
        # Whoever could append unsigned lines must not explain away what is missing.
        kept_from = max((size for seq, size in self._claims if seq < self.found.signed), default=0)
        gone = [first for first in missing if first >= kept_from]
        if gone:
            names = ", ".join(str(first) for first in gone)
            self._problem(
                self._slot.name, f"segments missing that were not deleted by age: {names}"
            )
        self._files(segments)
        return True

    def _boundaries(self) -> list[tuple[Sealed, Checkpoint]]:
        path = self._slot / SEALED
        if not path.exists():
            return []
        found: list[tuple[Sealed, Checkpoint]] = []
        lines, torn = lines_of(path.read_bytes())
        if torn and not self.found.live:
            self._problem(SEALED, "its last line is cut short")
        before = Replay(self._keys).frontier
        for number, line in enumerate(lines, 1):
            try:
                sealed = read_sealed(line)
                signed, _ = read_checkpoint(sealed.note, self._keys)
                if self.found.log is None:
                    self.found.log = signed.origin.removeprefix(ORIGIN)
                    self._expect()
                sealed.check(before, f"{ORIGIN}{self.found.log}", self._keys)
            except VerificationError as error:
                self._problem(f"{SEALED} line {number}", str(error))
                break
            found.append((sealed, signed))
            before = sealed.end
        return found

    def _segment(
        self, path: Path, replay: Replay, finished: tuple[Sealed, Checkpoint] | None
    ) -> None:
        lines, torn = lines_of(path.read_bytes())
        for number, line in enumerate(lines, 1):
            try:
                entry = replay.feed(line)
            except VerificationError as error:
                self._problem(f"{path.name} line {number}", str(error))
                return
            if entry is None:
                continue
            if self.found.log is None:
                self.found.log = replay.log
                self._expect()
            try:
                self._entry(entry)
            except (KeyError, TypeError, ValueError, AttributeError):
                self._problem(f"{path.name} line {number}", "an entry that no writer makes")
            self._at(replay)
        if torn and not (self.found.live and finished is None):
            self._problem(path.name, f"{len(torn)} bytes behind the last whole line")
        if finished is None:
            return
        sealed, signed = finished
        whole = replay.frontier.nodes == sealed.end.nodes and replay.size == sealed.end.size
        if not whole or replay.signed != signed:
            self._problem(path.name, "it doesn't end as it was sealed")

    def _entry(self, entry: dict[str, Any]) -> None:
        self.found.checked += 1
        if self.found.checked % PROGRESS_ENTRIES == 0:
            self._on_progress(self.found.checked)
        detail = entry.get("detail") or {}
        kind = entry["kind"]
        if kind == Kind.LOG_RETENTION:
            self._claims.append((entry["seq"], int(detail["kept_from"])))
        elif kind == Kind.LOG_OPENED:
            for name, size in detail.items():
                if name.startswith("seen."):
                    slot = name.removeprefix("seen.")
                    self._seen[slot] = max(self._seen.get(slot, 0), int(size))
        elif kind == Kind.LOG_RECOVERED:
            self._note(f"entry {entry['seq']}: taken up after a crash, {detail['bytes']} bytes cut")
        elif kind == Kind.LOG_RESUMED:
            self._note(f"entry {entry['seq']}: {detail['lost']} events were lost before it")
        elif kind == Kind.LOG_BROKEN:
            self._note(f"entry {entry['seq']}: found {detail['log']} broken")

    def _expect(self) -> None:
        """Note what the witness knows of this log."""
        for checkpoint in self._witnessed.get(f"{ORIGIN}{self.found.log}", ()):
            self._wanted.setdefault(checkpoint.size, []).append(checkpoint)

    def _at(self, replay: Replay) -> None:
        """Compare with what the witness knows of the log at this size."""
        wanted = self._wanted.pop(replay.size, None)
        if wanted is None:
            return
        root = replay.frontier.root()
        for checkpoint in wanted:
            self.found.witnessed += 1
            if checkpoint.root != root:
                self._problem("witness", f"the first {replay.size} entries are not those it knows")

    def _end(self, replay: Replay) -> None:
        found = self.found
        found.size = replay.size
        if replay.signed is not None:
            found.signed, found.signed_at = replay.signed.size, replay.signed.time
        kind = replay.last["kind"] if replay.last is not None else None
        found.closed = kind == Kind.LOG_CLOSED and found.signed == found.size
        if not found.closed and not found.live:
            self._problem(
                self._slot.name,
                f"it was not closed behind entry {found.size - 1}: cut off, or its writer crashed "
                "and was not started again",
            )
        elif found.size > found.signed and not self._report.problems:
            self._note(f"{found.size - found.signed} entries are not signed yet")
        for size, checkpoints in sorted(self._wanted.items()):
            if size > found.size:
                self._problem("witness", f"it knows {size} entries, of {found.size} here: cut back")
            elif not self._report.problems:
                self._note(
                    f"{len(checkpoints)} of the witness's checkpoints lie before what is read"
                )

    def _files(self, segments: dict[int, Path]) -> None:
        expected = {LOCK, SEALED, *(path.name for path in segments.values())}
        for path in sorted(self._slot.iterdir()):
            if path.name.startswith("torn-"):
                digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
                if not path.name.endswith(f"-{digest}"):
                    self._problem(path.name, "altered since it was put aside")
            elif path.name not in expected:
                self._note(f"{path.name} is no file of a log")

    def _problem(self, where: str, what: str) -> None:
        place = where if where == self._slot.name else f"{self._slot.name}: {where}"
        self._report.problems.append(Problem(place, what))

    def _note(self, text: str) -> None:
        self._report.notes.append(f"{self._slot.name}: {text}")


def _witnessed(
    notes: Sequence[str], keys: Sequence[bytes], report: Report
) -> dict[str, list[Checkpoint]]:
    found: dict[str, list[Checkpoint]] = {}
    for number, note in enumerate(notes, 1):
        try:
            checkpoint, _ = read_checkpoint(note, keys)
        except VerificationError as error:
            report.problems.append(Problem(f"witness note {number}", str(error)))
        else:
            found.setdefault(checkpoint.origin, []).append(checkpoint)
    return found


def _check_index(directory: Path, keys: Sequence[bytes], report: Report) -> None:
    try:
        listed = read_index(directory, keys)
    except VerificationError as error:
        report.problems.append(Problem(INDEX, str(error)))
        return
    here = {(log.slot, log.log) for log in report.logs}
    for known in listed:
        if (known.slot, known.log) not in here:
            report.problems.append(Problem(known.slot, f"log {known.log} is missing"))
    names = {known.log for known in listed}
    for log in report.logs:
        if log.log not in names and not log.live:
            report.problems.append(Problem(log.slot, f"log {log.log} is not in the index"))
    path = directory / INDEX
    if path.exists() and lines_of(path.read_bytes())[1]:
        report.problems.append(Problem(INDEX, "its last line is cut short"))


def _check_claims(directory: Path, seen: dict[str, int], report: Report) -> None:
    """What the logs say of each other."""
    for slot, first in sorted(seen.items()):
        path = directory / slot
        has = max(segments_of(path), default=0) if path.is_dir() else -1
        if has < first:
            report.problems.append(Problem(slot, f"another log has seen its segment {first}"))
