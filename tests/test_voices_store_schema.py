"""Upgrades: from nothing, again, at once, from a newer version; and revisions match the tables."""

from __future__ import annotations

import asyncio

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, text

from ringtrue.voices.store.database import Database
from ringtrue.voices.store.errors import SchemaTooNewError
from ringtrue.voices.store.schema import KEYS, VOICES, Schema
from store_links import Link, Urls, new_voice


def database(urls: Urls, schema: Schema) -> Database:
    return Database(urls.voices if schema is VOICES else urls.keys, schema)


@pytest.mark.parametrize(
    ("schema", "revisions"),
    [(VOICES, ("v0001", "v0002", "v0003", "v0004")), (KEYS, ("k0001",))],
    ids=lambda value: getattr(value, "name", ""),
)
async def test_revisions_lead_to_the_tables(
    store_urls: Urls, schema: Schema, revisions: tuple[str, ...]
) -> None:
    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(
            connection,
            opts={"version_table": schema.version_table, "compare_type": True},
        )
        return list(compare_metadata(context, schema.metadata))

    db = database(store_urls, schema)
    try:
        assert await db.upgrade() == revisions
        assert await db.upgrade() == (), "a second time there is nothing to do"
        async with db.read() as connection:
            assert await connection.run_sync(differences) == []
            names = await connection.run_sync(lambda c: set(inspect(c).get_table_names()))
        assert names == {*schema.metadata.tables, schema.version_table}
    finally:
        await db.close()


async def test_processes_that_start_together(store_urls: Urls) -> None:
    both = [Database(store_urls.voices, VOICES) for _ in range(3)]
    try:
        done = await asyncio.gather(*(db.upgrade() for db in both))
        assert sorted(map(len, done)) == [0, 0, 4]
    finally:
        for db in both:
            await db.close()


@pytest.mark.parametrize("schema", [VOICES, KEYS], ids=lambda schema: schema.name)
async def test_a_newer_schema_is_refused_and_left_alone(store_urls: Urls, schema: Schema) -> None:
    link = Link(store_urls)
    async with link.open() as store:
        await new_voice(store)
    db = database(store_urls, schema)
    stamp = text(f"UPDATE {schema.version_table} SET version_num = 'z9999'")
    try:
        async with db.write() as connection:
            await connection.execute(stamp)
        with pytest.raises(SchemaTooNewError, match=r"schema 'z9999'; this version knows .000[14]"):
            async with link.open():
                pytest.fail("it opened")
        async with db.read() as connection:
            query = text(f"SELECT version_num FROM {schema.version_table}")
            assert (await connection.execute(query)).scalars().all() == ["z9999"]
    finally:
        await db.close()
