"""One short query of a SQLite file, on a thread of its own.

Through a pool it is eight round trips to a connection's thread; where the machine has more to do
than it can, each of them waits for a processor twice, and who must know within half a second
whether a voice may still speak does not. Here it is one.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from ringtrue.voices.store.errors import StoreUnavailableError

PATIENCE_SECONDS: Final = 2.0
"""How long a query waits for a lock: no reader of a write-ahead log does but while one recovers."""

Row = tuple[Any, ...]


class Glance:
    """Reads from a SQLite file that is there. Connects when first used, anew after an error."""

    def __init__(self, path: Path) -> None:
        """``path`` need not be there yet."""
        self._path = path
        self._thread: ThreadPoolExecutor | None = None
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        """Device and inode of what the connection has open."""

    async def read(self, query: str, values: Sequence[object]) -> list[Row]:
        """All rows of one SELECT. One after another, in the order they were asked for.

        Raises :class:`StoreUnavailableError` where there is no such file or it can't be read.
        """
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "store-glance")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._read, query, tuple(values))

    async def close(self) -> None:
        """Close the connection, after what was asked for before; a query that hangs is left.

        Reading again connects again.
        """
        thread, self._thread = self._thread, None
        if thread is not None:
            closing = asyncio.get_running_loop().run_in_executor(thread, self._drop)
            thread.shutdown(wait=False)
            await asyncio.wait({closing}, timeout=PATIENCE_SECONDS)

    def _read(self, query: str, values: Row) -> list[Row]:
        try:
            return self._connected().execute(query, values).fetchall()
        except (sqlite3.Error, OSError) as error:
            self._drop()
            raise StoreUnavailableError(f"the database is not available: {error}") from error

    def _connected(self) -> sqlite3.Connection:
        """A connection to the file that is at the path now."""
        found = os.stat(self._path)
        file = found.st_dev, found.st_ino
        if self._connection is None or file != self._file:
            self._drop()
            self._connection = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode=rw",
                uri=True,
                timeout=PATIENCE_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
            self._connection.execute("PRAGMA query_only=ON")
            self._file = file
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
