"""URLs, transactions, and what happens when the database is not there."""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, StatementError

from ringtrue.voices.store.database import Database, parse_url, same_database
from ringtrue.voices.store.errors import StoreUnavailableError, StoreUrlError
from ringtrue.voices.store.schema import VOICES
from ringtrue.voices.store.tables import challenges
from store_links import NOW, Urls


def challenge(id: str, issued: datetime = NOW) -> dict[str, object]:
    return {
        "id": id,
        "tenant": "acme",
        "digest": b"secret-digest",
        "issued_at": issued,
        "expires_at": issued,
    }


async def put(database: Database, *rows: dict[str, object]) -> None:
    async with database.write() as connection:
        for row in rows:
            await connection.execute(insert(challenges).values(**row))


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("mysql://host/name", "'mysql' is not supported; allowed: sqlite, postgresql"),
        ("sqlite://", "names a file"),
        ("sqlite:///:memory:", "names a file"),
        ("sqlite:///x.db?mode=ro", "names a file"),
        ("postgresql://host", "names its database"),
        ("not a url, but a secret", "can't be read"),
    ],
)
def test_unfit_urls(url: str, complaint: str) -> None:
    with pytest.raises(StoreUrlError, match=complaint) as caught:
        parse_url(url)
    assert "secret" not in str(caught.value)


async def test_a_new_file_that_another_process_writes_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "voices.db"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    database = Database(f"sqlite:///{path}", VOICES)
    upgrading = asyncio.ensure_future(database.upgrade())
    try:
        # Busy is said within a millisecond; a tenth of a second is many tries.
        done, _ = await asyncio.wait({upgrading}, timeout=0.1)
        assert not done
        other.execute("COMMIT")
        assert len(await upgrading) == 4
    finally:
        other.close()
        upgrading.cancel()
        await asyncio.wait({upgrading})
        await database.close()


async def test_a_new_file_that_stays_locked_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringtrue.voices.store.database.BUSY_SECONDS", 0.1)
    path = tmp_path / "voices.db"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    database = Database(f"sqlite:///{path}", VOICES)
    try:
        with pytest.raises(StoreUnavailableError, match="database is locked"):
            await database.upgrade()
    finally:
        other.close()
    assert len(await database.upgrade()) == 4
    await database.close()


async def test_a_place_without_a_file_to_write_is_named(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}", VOICES)
    with pytest.raises(StoreUnavailableError, match=f"{tmp_path}: not a file"):
        await database.upgrade()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("sqlite:///a.db", "sqlite:///./a.db", True),
        ("sqlite:///a.db", "sqlite:///b.db", False),
        ("postgresql://h/a", "postgresql://u:p@h:5432/a", True),
        ("postgresql://h/a", "postgresql://h/b", False),
        ("postgresql://h/a", "postgresql://i/a", False),
        ("postgresql://h/a", "sqlite:///a", False),
        ("postgresql:///a", "postgresql://localhost/a", True),
    ],
)
def test_same_database(one: str, other: str, same: bool) -> None:
    assert same_database(parse_url(one), parse_url(other)) is same


def test_a_password_is_not_shown() -> None:
    database = Database("postgresql://user:hunter2@127.0.0.1/name", VOICES)
    assert "hunter2" not in repr(database)
    assert database.url == make_url("postgresql+asyncpg://user:hunter2@127.0.0.1/name")


async def test_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    gone = Database(f"postgresql:///name?host={tmp_path}", VOICES)
    blocked = Database(f"sqlite:///{tmp_path}/file/v.db", VOICES)
    try:
        for database in (gone, blocked):
            with pytest.raises(StoreUnavailableError):
                await database.upgrade()
    finally:
        await gone.close()
        await blocked.close()


async def test_not_a_database(tmp_path: Path) -> None:
    (tmp_path / "v.db").write_bytes(b"this is a letter, not a database" * 100)
    database = Database(f"sqlite:///{tmp_path}/v.db", VOICES)
    try:
        with pytest.raises(StoreUnavailableError, match="not a database"):
            await database.upgrade()
    finally:
        await database.close()


async def test_transactions(store_urls: Urls) -> None:
    database = Database(store_urls.voices, VOICES)
    try:
        await database.upgrade()
        with pytest.raises(IntegrityError):
            await put(database, challenge("undone"), challenge("undone"))
        east = timezone(timedelta(hours=9))
        await put(database, challenge("kept", NOW.astimezone(east)))
        async with database.read() as connection:
            row = (await connection.execute(select(challenges))).one()
        assert (row.id, row.issued_at, row.issued_at.tzinfo) == ("kept", NOW, UTC)
        with pytest.raises(IntegrityError) as caught:
            await put(database, challenge("kept"))
        assert "secret" not in str(caught.value)
        with pytest.raises(StatementError, match="no time zone"):
            await put(database, challenge("naive", NOW.replace(tzinfo=None)))
    finally:
        await database.close()


async def test_sqlite_overwrites_and_is_durable(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/v.db", VOICES)
    try:
        await database.upgrade()
        async with database.read() as connection:
            for pragma, value in (
                ("secure_delete", 1),
                ("journal_mode", "wal"),
                ("synchronous", 2),
                ("foreign_keys", 1),
            ):
                found = await connection.execute(text(f"PRAGMA {pragma}"))
                assert found.scalar_one() == value, pragma
    finally:
        await database.close()


async def test_readers_do_not_wait_for_a_writer(store_urls: Urls) -> None:
    database = Database(store_urls.voices, VOICES)
    try:
        await database.upgrade()
        async with asyncio.timeout(5), database.write() as writer:
            await writer.execute(insert(challenges).values(**challenge("new")))
            async with database.read() as reader:
                assert (await reader.execute(select(challenges))).all() == []
    finally:
        await database.close()


async def test_a_locked_database_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringtrue.voices.store.database.BUSY_SECONDS", 0.05)
    database = Database(f"sqlite:///{tmp_path}/v.db", VOICES)
    holder = None
    try:
        await database.upgrade()
        holder = sqlite3.connect(tmp_path / "v.db", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match="locked"):
            async with database.write() as connection:
                await connection.execute(text("DELETE FROM challenges"))
        holder.execute("ROLLBACK")
        async with database.write() as connection:
            await connection.execute(text("DELETE FROM challenges"))
    finally:
        if holder is not None:
            holder.close()
        await database.close()


async def ids(database: Database) -> list[str]:
    async with database.read() as connection:
        return [row.id for row in (await connection.execute(select(challenges))).all()]


async def test_a_sqlite_file_that_is_gone_is_unavailable_until_it_is_back(tmp_path: Path) -> None:
    """Nothing is read from, or written into, a file that nobody else can find."""
    kept, away = tmp_path / "kept", tmp_path / "away"
    database = Database(f"sqlite:///{kept}/v.db", VOICES)
    try:
        await database.upgrade()
        await put(database, challenge("before"))
        kept.rename(away)
        kept.mkdir()
        for _ in range(2):
            with pytest.raises(StoreUnavailableError, match="No such file"):
                await ids(database)
            with pytest.raises(StoreUnavailableError, match="No such file"):
                await put(database, challenge("meanwhile"))
        assert list(kept.iterdir()) == []
        kept.rmdir()
        away.rename(kept)
        await put(database, challenge("after"))
        assert sorted(await ids(database)) == ["after", "before"]
    finally:
        await database.close()


async def test_a_sqlite_file_that_was_replaced_is_the_one_that_counts(tmp_path: Path) -> None:
    kept, other = tmp_path / "kept", tmp_path / "other"
    database, restored = (Database(f"sqlite:///{path}/v.db", VOICES) for path in (kept, other))
    try:
        for each, name in ((database, "old"), (restored, "new")):
            await each.upgrade()
            await put(each, challenge(name))
        await restored.close()
        kept.rename(tmp_path / "aside")
        other.rename(kept)
        assert await ids(database) == ["new"]
    finally:
        await database.close()
        await restored.close()


async def test_a_query_broken_off_leaves_no_lock(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/voices.db", VOICES)
    await database.upgrade()
    try:
        async with database.engine.connect() as connection:
            await connection.begin()  # takes the write lock
            raw = (await connection.get_raw_connection()).driver_connection
            assert raw is not None
            unread = await raw.execute("SELECT 1 UNION SELECT 2")
            await connection.invalidate()  # as for a task that is cancelled here
            async with database.write() as other:
                await other.execute(text("CREATE TABLE fresh (x)"))
        del unread
    finally:
        await database.close()
