"""How a log lies on disk.

::

    DIR/index.jsonl               every log there ever was, signed and chained
    DIR/w00/lock                  held by the process that writes this log
    DIR/w00/sealed.jsonl          one line per finished segment: its end's checkpoint
    DIR/w00/0000000000000000.jsonl   a segment, named by the number of its first entry

A segment's lines are entries and, between them, checkpoints (``{"checkpoint":"…"}``) and codes
(``{"mac":"…"}``), which are no leaves of the tree. Every group that was written at once ends in one
of the two: what stands behind the last of them was not written whole, or not by a log's writer.

What ``sealed.jsonl`` says can be checked without the segment, so that deleting old segments leaves
their roots, signatures and the proofs that each continues the one before.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ringtrue.agent.audit.disk import sync_directory, write_at
from ringtrue.agent.audit.merkle import Frontier
from ringtrue.agent.audit.published import (
    Checkpoint,
    VerificationError,
    canonical,
    check_consistency,
    read_canonical,
    read_checkpoint,
)

SEALED: Final = "sealed.jsonl"
LOCK: Final = "lock"
INDEX: Final = "index.jsonl"
SLOT: Final = re.compile(r"w\d\d")
ORIGIN: Final = "ringtrue/audit/"
_SEGMENT: Final = re.compile(r"(\d{16})\.jsonl")


def segment_name(first: int) -> str:
    """The file of the segment that begins with entry ``first``."""
    return f"{first:016d}.jsonl"


def segments_of(directory: Path) -> dict[int, Path]:
    """A log's segments by their first entry's number, in order."""
    found = {}
    for path in directory.iterdir():
        match = _SEGMENT.fullmatch(path.name)
        if match:
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def slots_of(directory: Path) -> list[Path]:
    """The logs below ``directory``."""
    if not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if SLOT.fullmatch(path.name))


def checkpoint_line(note: str) -> bytes:
    """A checkpoint as a segment holds it, without its newline."""
    return canonical({"checkpoint": note})


def checkpoint_in(line: bytes) -> str | None:
    """The note in a checkpoint's line; None for other lines.

    Raises :class:`~ringtrue.agent.audit.published.VerificationError` for one that is damaged.
    """
    if not line.startswith(b'{"checkpoint":'):
        return None
    value = read_canonical(line)
    note = value["checkpoint"]
    if set(value) != {"checkpoint"} or not isinstance(note, str):
        raise VerificationError("not a checkpoint's line")
    return note


def mac_line(code: bytes) -> bytes:
    """A group's authentication code as a segment holds it, without its newline."""
    return canonical({"mac": code.hex()})


def mac_in(line: bytes) -> bytes | None:
    """The code in such a line; None for other lines.

    Raises :class:`~ringtrue.agent.audit.published.VerificationError` for one that is damaged.
    """
    if not line.startswith(b'{"mac":'):
        return None
    try:
        code = bytes.fromhex(str(read_canonical(line)["mac"]))
    except ValueError:
        code = b""
    if len(code) != 32 or mac_line(code) != line:
        raise VerificationError("not a code's line")
    return code


@dataclass(frozen=True, slots=True)
class Sealed:
    """A finished segment, as far as it can be checked without its entries."""

    first: int
    """Number of its first entry."""

    end: Frontier
    """The tree with its last entry."""

    note: str
    """The signed checkpoint at its end."""

    proof: tuple[bytes, ...]
    """That the tree at its end continues the one at its beginning (RFC 9162 §2.1.4)."""

    def line(self) -> bytes:
        """As ``sealed.jsonl`` holds it, without its newline."""
        return canonical(
            {
                "first": self.first,
                "size": self.end.size,
                "frontier": [node.hex() for node in self.end.nodes],
                "checkpoint": self.note,
                "proof": [step.hex() for step in self.proof],
            }
        )

    def check(self, before: Frontier, origin: str, keys: Sequence[bytes]) -> Checkpoint:
        """What is signed at its end, which continues ``before``.

        Raises :class:`~ringtrue.agent.audit.published.VerificationError`.
        """
        signed, _ = read_checkpoint(self.note, keys)
        if signed.origin != origin:
            raise VerificationError(f"a checkpoint of {signed.origin}")
        if (
            self.first != before.size
            or signed.size != self.end.size
            or not self.first < signed.size
        ):
            raise VerificationError(f"segment {self.first} doesn't continue entry {before.size}")
        if signed.root != self.end.root():
            raise VerificationError(f"segment {self.first}: its tree is not the one signed")
        check_consistency(before.size, before.root(), signed.size, signed.root, self.proof)
        return signed


def read_sealed(line: bytes) -> Sealed:
    """Parse what :meth:`Sealed.line` wrote; nothing is checked yet.

    Raises :class:`~ringtrue.agent.audit.published.VerificationError`.
    """
    value = read_canonical(line)
    try:
        nodes = [bytes.fromhex(node) for node in value["frontier"]]
        proof = tuple(bytes.fromhex(step) for step in value["proof"])
        sealed = Sealed(_whole(value["first"]), Frontier(_whole(value["size"]), nodes),
                        str(value["checkpoint"]), proof)  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise VerificationError(f"not a sealed segment: {error}") from None
    if sealed.line() != line:
        raise VerificationError("not a sealed segment in its canonical form")
    return sealed


def lines_of(data: bytes) -> tuple[list[bytes], bytes]:
    """Whole lines, and what follows the last newline."""
    lines = data.split(b"\n")
    return lines[:-1], lines[-1]


def append_durably(path: Path, data: bytes) -> None:
    """Append to a small file, whole or not at all; a torn last line of before is cut off first.

    Raises OSError, with the file as it was.
    """
    new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        end = os.fstat(descriptor).st_size
        with open(descriptor, "rb", closefd=False) as file:
            _, torn = lines_of(file.read())
        end -= len(torn)
        try:
            os.ftruncate(descriptor, end)
            write_at(descriptor, data, end)
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, end)
            raise
    finally:
        os.close(descriptor)
    if new:
        sync_directory(path.parent)


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise ValueError(f"{value!r} is no whole number")
    return value
