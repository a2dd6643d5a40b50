"""Call records on disk: one JSON file a call, the newest so many kept."""

from __future__ import annotations

import asyncio
import os
import pickle
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import structlog
from pydantic_core import to_json

from ringtrue.streaming.record import CallRecord

log = structlog.get_logger(__name__)

RECENT: Final = 100
"""Records kept in memory."""


class Recent:
    """The newest so many records, oldest first.

    Each is kept as one run of bytes. The hundreds of small objects that a record is made of would
    outlive the rest of their call, each holding a page of the interpreter's that could else be
    used for something of another size.
    """

    def __init__(self, most: int = RECENT) -> None:
        """Keep ``most``."""
        self._kept: deque[bytes] = deque(maxlen=most)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._kept)

    def append(self, record: CallRecord) -> None:
        """Keep ``record`` as it is now."""
        self._kept.append(pickle.dumps(record, pickle.HIGHEST_PROTOCOL))

    def all(self) -> list[CallRecord]:
        """Copies of them, oldest first."""
        return _read(self._kept)

    def last(self) -> CallRecord | None:
        """A copy of the newest."""
        return next(iter(_read([*self._kept][-1:])), None)


def _read(kept: Iterable[bytes]) -> list[CallRecord]:
    """What this process pickled itself."""
    return [pickle.loads(data) for data in kept]


class RecordStore:
    """Keeps the latest records in memory and, where a directory is set, on disk."""

    def __init__(self, directory: Path | None, keep: int) -> None:
        """Write into ``directory`` (made on first use; None: nowhere), keeping ``keep`` files."""
        self._directory = directory
        self._keep = keep
        self._lock = asyncio.Lock()
        self.recent = Recent()

    async def write(self, record: CallRecord) -> None:
        """Keep ``record``. A disk that refuses is logged, and the call is not troubled by it."""
        self.recent.append(record)
        if self._directory is None:
            return
        async with self._lock:
            try:
                await asyncio.to_thread(self._write, self._directory, record)
            except OSError as error:
                log.error("record.not_written", call=record.call_id, error=error.strerror)

    def _write(self, directory: Path, record: CallRecord) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        name = "".join(c if c.isalnum() or c in "-_" else "_" for c in record.call_id)[:100]
        path = directory / f"{name}.json"
        part = path.with_suffix(".part")
        # Python's own encoder leaves a cycle behind each time that it indents.
        part.write_bytes(to_json(record.as_dict(), indent=1) + b"\n")
        os.replace(part, path)
        files = sorted(directory.glob("*.json"), key=_written_at)
        for old in files[: -self._keep]:
            old.unlink(missing_ok=True)


def _written_at(file: Path) -> int:
    """In nanoseconds; 0 for one that another worker has deleted meanwhile."""
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
