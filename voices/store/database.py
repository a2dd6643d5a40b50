"""A database by URL: SQLite through aiosqlite, or PostgreSQL through asyncpg.

Transactions that write are serialised on SQLite (``BEGIN IMMEDIATE``, write-ahead log) and lock
the rows they decide about on PostgreSQL. Deleted SQLite content is overwritten.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import aiosqlite
from sqlalchemy import URL, Connection, event, make_url, text
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    InvalidatePoolError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry

from ringtrue.voices.store.errors import StoreUnavailableError, StoreUrlError
from ringtrue.voices.store.glance import Glance
from ringtrue.voices.store.schema import Schema, upgrade

BUSY_SECONDS: Final = 10
"""How long a transaction waits for a lock or a pooled connection before it gives up."""

_BUSY_PAUSE: Final = 0.02
_DRIVERS: Final = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}
_READ_ONLY: Final = "ringtrue_read_only"
_FILE: Final = "ringtrue_file"
_DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_PASSING: Final = ("40001", "40P01", "55P03", "57014")
"""PostgreSQL's serialization failure, deadlock, lock not available, query cancelled."""


def parse_url(url: str) -> URL:
    """Check a database URL and fill in its asynchronous driver.

    Raises :class:`StoreUrlError` on another kind of database, and on SQLite in memory, which
    would forget every voice.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise StoreUrlError(
            "the database URL can't be read; allowed: sqlite:///FILE or "
            "postgresql://USER:PASSWORD@HOST/NAME"
        ) from None
    driver = _DRIVERS.get(parsed.drivername)
    if driver is None:
        raise StoreUrlError(
            f"database {parsed.drivername!r} is not supported; allowed: sqlite, postgresql"
        )
    if driver.startswith("sqlite"):
        if not parsed.database or parsed.database == ":memory:" or parsed.query:
            raise StoreUrlError("a SQLite URL names a file and nothing more: sqlite:///FILE")
    elif not parsed.database:
        raise StoreUrlError("a PostgreSQL URL names its database: postgresql://HOST/NAME")
    return parsed.set(drivername=driver)


def same_database(one: URL, other: URL) -> bool:
    """Whether two URLs lead to the same file, or to the same database of the same server."""
    if one.drivername != other.drivername:
        return False
    if one.drivername.startswith("sqlite"):
        return Path(one.database or "").resolve() == Path(other.database or "").resolve()

    def place(url: URL) -> tuple[Any, ...]:
        host = url.host or url.query.get("host") or "localhost"
        return (host, url.port or url.query.get("port") or 5432, url.database)

    return place(one) == place(other)


class Database:
    """A pool of connections to one database. Connects when first used."""

    def __init__(self, url: str, schema: Schema) -> None:
        """``url`` as :func:`parse_url` takes it. SQLite files are made with mode 0600."""
        self.url = parse_url(url)
        self.schema = schema
        self.is_sqlite = self.url.drivername.startswith("sqlite")
        options: dict[str, Any] = {"pool_size": 5, "max_overflow": 0, "pool_timeout": BUSY_SECONDS}
        if self.is_sqlite:
            options |= {
                "poolclass": AsyncAdaptedQueuePool,
                "connect_args": {"timeout": BUSY_SECONDS, "factory": _RollingBack},
            }
        else:
            options |= {
                "pool_pre_ping": True,
                "connect_args": {
                    "timeout": BUSY_SECONDS,
                    "command_timeout": 3 * BUSY_SECONDS,
                    "server_settings": {
                        "application_name": "ringtrue",
                        "lock_timeout": str(1000 * BUSY_SECONDS),
                        "idle_in_transaction_session_timeout": str(60_000),
                    },
                },
            }
        # Parameters hold ciphertexts and names: they don't belong in an exception's text.
        self.engine: AsyncEngine = create_async_engine(self.url, hide_parameters=True, **options)
        if self.is_sqlite:
            file = _SqliteFile(Path(self.url.database or ""))
            event.listen(self.engine.sync_engine, "do_connect", file.connecting)
            event.listen(self.engine.sync_engine, "connect", file.connected)
            event.listen(self.engine.sync_engine, "checkout", file.taken)
            event.listen(self.engine.sync_engine, "connect", _prepare_sqlite)
            event.listen(self.engine.sync_engine, "begin", _begin_sqlite)
        self._reader = self.engine.execution_options(**{_READ_ONLY: True})
        self.glance = Glance(Path(self.url.database or "")) if self.is_sqlite else None
        """SQLite's way to ask one short question soon."""

    async def upgrade(self) -> tuple[str, ...]:
        """Create what is missing; returns the revisions run.

        Raises :class:`~ringtrue.voices.store.errors.SchemaTooNewError`.
        """
        if self.is_sqlite:
            self._make_file()
        async with self.write() as connection:
            return await connection.run_sync(upgrade, self.schema)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction, committed at the end and rolled back on any exception.

        Raises :class:`StoreUnavailableError` where the database can't be reached or is locked.
        """
        with _translated():
            async with self.engine.begin() as connection:
                yield connection

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that writes nothing and waits for no writer."""
        with _translated():
            async with self._reader.begin() as connection:
                yield connection

    async def forget_deleted(self, table: str) -> None:
        """Remove what deleted and updated rows of ``table`` left behind in the database's files.

        SQLite: overwritten already, and the write-ahead log is emptied here (where a reader holds
        it, by the next call). PostgreSQL: the dead rows are vacuumed; its write-ahead log keeps
        them until it is recycled.
        """
        with _translated():
            async with self.engine.connect() as connection:
                if self.is_sqlite:
                    await connection.commit()
                    raw = await connection.get_raw_connection()
                    cursor = await raw.driver_connection.execute(  # type: ignore[union-attr]
                        "PRAGMA wal_checkpoint(TRUNCATE)"
                    )
                    await cursor.close()
                else:
                    await connection.execution_options(isolation_level="AUTOCOMMIT")
                    await connection.execute(text(f'VACUUM "{table}"'))

    async def close(self) -> None:
        """Close all connections."""
        if self.glance is not None:
            await self.glance.close()
        await self.engine.dispose()

    def _make_file(self) -> None:
        path = Path(self.url.database or "")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Never opened where it is there already: a close would drop the locks that this
            # process's connections to it hold (https://sqlite.org/howtocorrupt.html, 2.2).
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            if not path.is_file() or not os.access(path, os.R_OK | os.W_OK):
                raise StoreUnavailableError(f"{path}: not a file to read and write") from None
        except OSError as error:
            raise StoreUnavailableError(f"{path}: can't be opened: {error.strerror}") from None

    def __repr__(self) -> str:
        return f"Database({self.url.render_as_string(hide_password=True)!r})"


class _RollingBack(sqlite3.Connection):
    """Ends its transaction before it closes.

    A task cancelled in the midst of a query leaves a statement behind; SQLite keeps a connection
    that is closed with one alive, and its locks, until the statement is collected too.
    """

    def close(self) -> None:
        """Roll back and close; again, it does nothing."""
        with suppress(sqlite3.Error):
            self.rollback()
        super().close()


class _SqliteFile:
    """Keeps a pool's connections to the file that is at its path now.

    A connection to one that was deleted or replaced would go on reading what nobody else sees, and
    what it writes, a withdrawal say, would be lost; SQLite makes a missing file anew, empty.
    """

    def __init__(self, path: Path) -> None:
        """``path`` need not be there yet."""
        self._path = path

    def connecting(self, *_: object) -> None:
        """Before a connection is made. Raises OSError where the file is missing."""
        self._identity()

    def connected(self, _connection: object, record: ConnectionPoolEntry) -> None:
        """It was made."""
        record.info[_FILE] = self._identity()

    def taken(self, _connection: object, record: ConnectionPoolEntry, _proxy: object) -> None:
        """It is to be used: the pool makes new ones where it leads to another file.

        Raises OSError where there is none.
        """
        if record.info.get(_FILE) != self._identity():
            raise InvalidatePoolError

    def _identity(self) -> tuple[int, int]:
        found = os.stat(self._path)
        return found.st_dev, found.st_ino


@contextmanager
def _translated() -> Iterator[None]:
    """Turn what says "not now" into :class:`StoreUnavailableError`, and nothing else."""
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeoutError, OSError) as error:
        raise _unavailable(error) from error
    except DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None)
        damaged = getattr(error.orig, "sqlite_errorcode", None) in _DAMAGED
        if error.connection_invalidated or damaged or state in _PASSING:
            raise _unavailable(error) from error
        raise


def _unavailable(error: Exception) -> StoreUnavailableError:
    # The first line: what follows is the statement.
    reason = str(error).partition("\n")[0]
    return StoreUnavailableError(f"the database is not available: {reason}")


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions begin where _begin_sqlite says
    connection.run_async(_write_ahead)
    cursor = connection.cursor()
    for pragma in ("synchronous=FULL", "foreign_keys=ON", "secure_delete=ON", "temp_store=MEMORY"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


async def _write_ahead(connection: aiosqlite.Connection) -> None:
    """Turn a new file to its write-ahead log, which stays so.

    SQLite does not wait where another connection writes or does the same: it says busy at once,
    whatever the connection's timeout.
    """
    loop = asyncio.get_running_loop()
    given_up = loop.time() + BUSY_SECONDS
    while True:
        try:
            async with connection.execute("PRAGMA journal_mode=WAL") as cursor:
                await cursor.fetchall()
            return
        except sqlite3.OperationalError as error:
            # The low byte is the result, the others say more of it (BUSY_RECOVERY, BUSY_SNAPSHOT).
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or loop.time() >= given_up:
                raise
        await asyncio.sleep(_BUSY_PAUSE)


def _begin_sqlite(connection: Connection) -> None:
    read_only = connection.get_execution_options().get(_READ_ONLY, False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
