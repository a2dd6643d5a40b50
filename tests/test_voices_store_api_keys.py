"""API keys in the store: shown once, kept as hashes, refused without saying why."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from sqlalchemy import insert, select

from ringtrue.voices.store.api_keys import MAX_KEYS, ApiKeyStore, ApiScope
from ringtrue.voices.store.database import Database
from ringtrue.voices.store.errors import ApiKeyError, ApiKeyNotFoundError, StoreError
from ringtrue.voices.store.schema import VOICES
from ringtrue.voices.store.tables import api_keys
from store_links import HOUR, NOW, Urls

READ, SPEAK = ApiScope.READ, ApiScope.SPEAK


@pytest.fixture
async def database(store_urls: Urls) -> AsyncIterator[Database]:
    held = Database(store_urls.voices, VOICES)
    await held.upgrade()
    yield held
    await held.close()


@pytest.fixture
def keys(database: Database) -> ApiKeyStore:
    return ApiKeyStore(database)


async def test_a_token_opens_its_key_and_only_its_hash_is_kept(
    keys: ApiKeyStore, database: Database
) -> None:
    issued = await keys.create("acme", label="  front  desk ", scopes=[READ, SPEAK], now=NOW)
    found = await keys.authenticate(issued.token, NOW)
    assert found == issued.key
    assert (found.tenant, found.label) == ("acme", "front desk")
    assert found.allows(READ)
    assert not found.allows(ApiScope.WRITE)
    assert issued.token not in repr(issued)
    secret = issued.token.split("_", 2)[2]
    async with database.read() as connection:
        row = (await connection.execute(select(api_keys))).mappings().one()
    assert not any(secret in str(value) or issued.token in str(value) for value in row.values())
    assert len(row["digest"]) == 32


async def test_a_key_speaks_as_one_agent(keys: ApiKeyStore) -> None:
    plain = await keys.create("acme", label="a", scopes=[SPEAK], now=NOW)
    front = await keys.create("acme", label="b", scopes=[SPEAK], now=NOW, agent="front desk")
    assert (await keys.authenticate(plain.token, NOW)).agent == "api"
    assert (await keys.authenticate(front.token, NOW)).agent == "front desk"
    for unfit in ("*", "", "x" * 257):
        with pytest.raises(ValueError, match="agent"):
            await keys.create("acme", label="c", scopes=[SPEAK], now=NOW, agent=unfit)


async def test_keys_from_before_speak_as_the_interface(database: Database) -> None:
    row = {"id": "0" * 16, "tenant": "acme", "label": "old", "scopes": "voices:speak"}
    stored = insert(api_keys).values(**row, digest=bytes(32), created_at=NOW)
    async with database.write() as connection:
        await connection.execute(stored)
    assert [key.agent for key in await ApiKeyStore(database).list("acme")] == ["api"]


async def test_admin_may_do_everything(keys: ApiKeyStore) -> None:
    key = (await keys.create("acme", label="a", scopes=["admin"], now=NOW)).key
    assert all(key.allows(scope) for scope in ApiScope)


async def test_what_opens_nothing_is_refused_alike(keys: ApiKeyStore) -> None:
    issued = await keys.create("acme", label="a", scopes=[READ], now=NOW, expires=NOW + HOUR)
    other = await keys.create("globex", label="b", scopes=[READ], now=NOW)
    await keys.revoke(other.key.id, NOW)
    swapped = f"rtk_{issued.key.id}_{other.token.split('_', 2)[2]}"
    last = "A" if issued.token[-2] != "A" else "B"
    altered = issued.token[:-2] + last + issued.token[-1]
    assert (await keys.authenticate(issued.token, NOW + HOUR - timedelta(seconds=1))).id
    for token, when in [
        (issued.token, NOW + HOUR),
        (other.token, NOW),
        (swapped, NOW),
        (altered, NOW),
        (f"rtk_{'0' * 16}_{'A' * 43}", NOW),
        ("", NOW),
        ("rtk_", NOW),
        (issued.token + "\n", NOW),
        ("\ud800" * 3, NOW),
    ]:
        with pytest.raises(ApiKeyError, match="^the API key is not valid$"):
            await keys.authenticate(token, when)


async def test_listing_and_revoking(keys: ApiKeyStore) -> None:
    one = (await keys.create("acme", label="one", scopes=[READ], now=NOW)).key
    two = (await keys.create("globex", label="two", scopes=[SPEAK], now=NOW + HOUR)).key
    assert await keys.list("acme") == (one,)
    assert await keys.list() == (one, two)
    revoked = await keys.revoke(one.id, NOW + HOUR)
    assert revoked.revoked_at == NOW + HOUR
    assert (await keys.revoke(one.id, NOW + 2 * HOUR)).revoked_at == NOW + HOUR
    assert await keys.list("acme") == (revoked,)
    with pytest.raises(ApiKeyNotFoundError, match="no API key 'beef'"):
        await keys.revoke("beef", NOW)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tenant": "a b"}, "tenant 'a b': 1 to 64 of"),
        ({"tenant": ""}, "tenant ''"),
        ({"label": " "}, "label has 0 characters; allowed: 1 to 80"),
        ({"scopes": []}, "scopes is empty; allowed: voices:read"),
        ({"scopes": ["voices:sing"]}, "scope 'voices:sing'; allowed: voices:read, voices:write"),
        ({"expires": NOW}, "is not after now"),
    ],
)
async def test_an_unfit_key_says_what_is_wrong(
    keys: ApiKeyStore, changes: dict[str, object], says: str
) -> None:
    values: dict[str, object] = {"tenant": "acme", "label": "x", "scopes": [READ], "now": NOW}
    tenant = str((values | changes).pop("tenant"))
    values = {key: value for key, value in (values | changes).items() if key != "tenant"}
    with pytest.raises(ValueError, match=says):
        await keys.create(tenant, **values)  # type: ignore[arg-type]
    assert await keys.list() == ()


async def test_a_tenant_can_not_fill_the_table(
    keys: ApiKeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringtrue.voices.store.api_keys.MAX_KEYS", 2)
    first = (await keys.create("acme", label="x", scopes=[READ], now=NOW)).key
    await keys.create("acme", label="x", scopes=[READ], now=NOW)
    with pytest.raises(StoreError, match="this tenant has 2 keys"):
        await keys.create("acme", label="x", scopes=[READ], now=NOW)
    await keys.create("globex", label="x", scopes=[READ], now=NOW)
    await keys.revoke(first.id, NOW)
    await keys.create("acme", label="x", scopes=[READ], now=NOW)
    assert MAX_KEYS == 1000
