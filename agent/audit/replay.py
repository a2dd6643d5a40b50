"""Following a log line by line, believing nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from ringtrue.agent.audit.entries import GENESIS, decode
from ringtrue.agent.audit.merkle import Frontier
from ringtrue.agent.audit.published import (
    Checkpoint,
    VerificationError,
    leaf_hash,
    read_checkpoint,
)
from ringtrue.agent.audit.segments import ORIGIN, checkpoint_in, checkpoint_line, mac_in


class Replay:
    """A log as far as it was followed."""

    def __init__(
        self,
        keys: Sequence[bytes],
        *,
        code: Callable[[str, int, str], bytes] | None = None,
        log: str | None = None,
        frontier: Frontier | None = None,
        signed: Checkpoint | None = None,
        note: str | None = None,
    ) -> None:
        """Begin at the start of a log, or behind the checkpoint ``signed`` of log ``log``.

        ``note`` is that checkpoint as it was signed. ``keys``: public keys whose checkpoints
        count. ``log`` None: whatever the first entry says. ``code`` gives the right code of a
        group, from its log, size and chain; None: codes are not checked.
        """
        self._keys = keys
        self._code = code
        self.log = log
        self.frontier = frontier or Frontier()
        self.prev = GENESIS if note is None else _digest(checkpoint_line(note))
        """SHA-256 of the line before, in hexadecimal."""

        self.signed = signed
        """The latest checkpoint."""

        self.key: bytes | None = None
        """The key it is by."""

        self.last: dict[str, Any] | None = None
        """The latest entry."""

        self.whole = self._ends = self.size
        """Entries up to the end of the latest group that its writer ended."""

    @property
    def size(self) -> int:
        """Entries so far."""
        return self.frontier.size

    @property
    def origin(self) -> str:
        """What the log's checkpoints call it."""
        return f"{ORIGIN}{self.log}"

    def copy(self) -> Replay:
        """Another one at the same place."""
        other = Replay(self._keys, code=self._code, log=self.log, frontier=self.frontier.copy())
        other.prev, other.signed, other.key = self.prev, self.signed, self.key
        other.last, other.whole, other._ends = self.last, self.whole, self._ends
        return other

    def feed(self, line: bytes) -> dict[str, Any] | None:
        """Follow one line: its entry, or None for a checkpoint or a code.

        Raises :class:`~ringtrue.agent.audit.published.VerificationError`; the line then counts as
        not there.
        """
        note = checkpoint_in(line)
        if note is not None:
            if self.signed is not None and self.signed.size == self.size:
                raise VerificationError(f"a second checkpoint of {self.size} entries")
            self._checkpoint(note)
            self._ended(line, whole=True)
            return None
        code = mac_in(line)
        if code is not None:
            if self._ends == self.size:
                raise VerificationError(f"a second end of {self.size} entries")
            right = self._code is None or code == self._code(self.log or "", self.size, self.prev)
            self._ended(line, whole=right)
            return None
        entry = decode(line)
        if self.log is not None and entry["log"] != self.log:
            raise VerificationError(f"an entry of log {entry['log'][:40]}")
        if entry["seq"] != self.size:
            raise VerificationError(f"entry {entry['seq']} stands where {self.size} belongs")
        if entry["prev"] != self.prev:
            raise VerificationError(f"entry {self.size} doesn't follow the one before it")
        self.log = entry["log"]
        self.frontier.add(leaf_hash(line))
        self.prev = _digest(line)
        self.last = entry
        return entry

    def _ended(self, line: bytes, *, whole: bool) -> None:
        """A group ends; one by another writer's code is whole once a checkpoint covers it."""
        self._ends = self.size
        self.prev = _digest(line)
        if whole:
            self.whole = self.size

    def _checkpoint(self, note: str) -> None:
        signed, key = read_checkpoint(note, self._keys)
        if signed.origin != self.origin:
            raise VerificationError(f"a checkpoint of {signed.origin[:80]}")
        if signed.size != self.size:
            raise VerificationError(f"a checkpoint of {signed.size} entries behind {self.size}")
        if signed.root != self.frontier.root() or signed.chain != self.prev:
            raise VerificationError(f"the {self.size} entries are not the ones signed")
        self.signed, self.key = signed, key


def _digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()
