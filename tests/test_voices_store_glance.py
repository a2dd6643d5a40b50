"""Short queries of a SQLite file by a thread of their own."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from ringtrue.voices.store import glance as module
from ringtrue.voices.store.errors import StoreUnavailableError
from ringtrue.voices.store.glance import Glance

ALL = "SELECT name FROM things WHERE name <> ? ORDER BY name"


def write(path: Path, *names: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE IF NOT EXISTS things (name TEXT)")
        connection.executemany("INSERT INTO things VALUES (?)", [(name,) for name in names])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "a folder #1" / "things.db"
    found.parent.mkdir()
    return found


@pytest.fixture
async def glance(path: Path) -> AsyncIterator[Glance]:
    held = Glance(path)
    yield held
    await held.close()


async def test_what_others_committed_is_seen_at_once(path: Path, glance: Glance) -> None:
    write(path, "rope")
    assert await glance.read(ALL, [""]) == [("rope",)]
    write(path, "lamp", "tent")
    assert await glance.read(ALL, ["rope"]) == [("lamp",), ("tent",)]


async def test_a_writer_is_not_waited_for_nor_seen_before_it_commits(
    path: Path, glance: Glance
) -> None:
    write(path, "rope")
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM things")
        assert await glance.read(ALL, [""]) == [("rope",)]
        other.commit()
    assert await glance.read(ALL, [""]) == []


async def test_many_at_once_come_in_order(path: Path, glance: Glance) -> None:
    write(path, "rope")
    answers = await asyncio.gather(*(glance.read("SELECT ?", [n]) for n in range(50)))
    assert answers == [[(n,)] for n in range(50)]


async def test_it_writes_nothing(path: Path, glance: Glance) -> None:
    write(path, "rope")
    with pytest.raises(StoreUnavailableError, match="readonly|query_only|read-only"):
        await glance.read("INSERT INTO things VALUES (?)", ["lamp"])
    assert await glance.read(ALL, [""]) == [("rope",)]


async def test_a_missing_file_is_told_of_and_not_made(path: Path, glance: Glance) -> None:
    with pytest.raises(StoreUnavailableError, match="not available"):
        await glance.read(ALL, [""])
    assert not path.exists()
    write(path, "rope")
    assert await glance.read(ALL, [""]) == [("rope",)]
    path.rename(path.with_suffix(".gone"))
    with pytest.raises(StoreUnavailableError, match="not available"):
        await glance.read(ALL, [""])


async def test_another_file_in_its_place_is_read_instead(path: Path, glance: Glance) -> None:
    write(path, "rope")
    assert await glance.read(ALL, [""]) == [("rope",)]
    write(path.with_suffix(".new"), "lamp")
    path.rename(path.with_suffix(".old"))
    path.with_suffix(".new").rename(path)
    assert await glance.read(ALL, [""]) == [("lamp",)]


async def test_what_is_no_database_is_told_of(path: Path, glance: Glance) -> None:
    path.write_bytes(b"no database " * 400)
    with pytest.raises(StoreUnavailableError, match="not a database"):
        await glance.read(ALL, [""])


async def test_a_locked_file_is_waited_for_so_long(
    path: Path, glance: Glance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.05)
    write(path, "rope")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        other.execute("INSERT INTO things VALUES ('lamp')")
        with pytest.raises(StoreUnavailableError, match="locked"):
            await glance.read(ALL, [""])
        other.execute("COMMIT")
    assert await glance.read(ALL, [""]) == [("lamp",), ("rope",)]


async def test_closing_leaves_nothing_open(path: Path) -> None:
    write(path, "rope")
    glance = Glance(path)
    assert await glance.read(ALL, [""]) == [("rope",)]
    await glance.close()
    assert sorted(each.name for each in path.parent.iterdir()) == [path.name], "no log beside it"
    await glance.close()
    assert await glance.read(ALL, [""]) == [("rope",)]
    await glance.close()
