"""Who gets in: the right key with the right scope, and how wrong ones are slowed down."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from ringtrue.agent.api_keys import Gatekeeper
from ringtrue.agent.problems import Problem
from ringtrue.streaming.throttle import FailureThrottle
from ringtrue.voices.store.api_keys import ApiKey, ApiKeyStore, ApiScope, IssuedApiKey
from ringtrue.voices.store.database import Database
from ringtrue.voices.store.schema import VOICES
from store_links import HOUR, NOW

READ, WRITE = ApiScope.READ, ApiScope.WRITE
HERE, THERE = "192.0.2.1", "192.0.2.2"


@pytest.fixture
async def keys(tmp_path: Path) -> AsyncIterator[ApiKeyStore]:
    database = Database(f"sqlite:///{tmp_path}/voices.db", VOICES)
    await database.upgrade()
    yield ApiKeyStore(database)
    await database.close()


@pytest.fixture
async def issued(keys: ApiKeyStore) -> IssuedApiKey:
    return await keys.create("acme", label="x", scopes=[READ], now=NOW, expires=NOW + HOUR)


def gatekeeper(keys: ApiKeyStore, at: timedelta = timedelta(0), burst: int = 3) -> Gatekeeper:
    throttle = FailureThrottle(burst=burst, leak_seconds=3600)
    return Gatekeeper(lambda: keys, clock=lambda: NOW + at, throttle=throttle)


async def refused(gate: Gatekeeper, token: str | None, address: str = HERE) -> Problem:
    with pytest.raises(Problem) as told:
        await gate.admit(token, address, READ)
    return told.value


async def test_a_key_gets_in_with_its_scope_only(keys: ApiKeyStore, issued: IssuedApiKey) -> None:
    gate = gatekeeper(keys)
    assert await gate.admit(issued.token, HERE, READ) == issued.key
    with pytest.raises(Problem, match="lacks the scope voices:write; it has: voices:read") as told:
        await gate.admit(issued.token, HERE, WRITE)
    assert told.value.status == 403


async def test_expired_and_revoked_keys_stay_out_at_once(
    keys: ApiKeyStore, issued: IssuedApiKey
) -> None:
    assert (await refused(gatekeeper(keys, HOUR), issued.token)).status == 401
    gate = gatekeeper(keys)
    await gate.admit(issued.token, HERE, READ)
    await keys.revoke(issued.key.id, NOW)
    assert (await refused(gate, issued.token)).status == 401


async def test_wrong_keys_are_not_looked_at_for_long(
    keys: ApiKeyStore, issued: IssuedApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = gatekeeper(keys)
    await gate.admit(issued.token, HERE, READ)
    looked = []
    authenticate = keys.authenticate

    async def counted(token: str, now: datetime) -> ApiKey:
        looked.append(token)
        return await authenticate(token, now)

    monkeypatch.setattr(keys, "authenticate", counted)
    answers = [await refused(gate, f"wrong-{n}") for n in range(6)]
    assert [answer.status for answer in answers] == [401, 401, 401, 429, 429, 429]
    assert int(answers[-1].headers["Retry-After"]) > 3000
    assert looked == ["wrong-0", "wrong-1", "wrong-2"]
    # A key that was right before still is, and elsewhere nothing changed.
    assert await gate.admit(issued.token, HERE, READ) == issued.key
    assert (await refused(gate, "wrong", THERE)).status == 401
    # One that was never shown from anywhere has to wait like the rest.
    fresh = await keys.create("acme", label="y", scopes=[READ], now=NOW)
    assert (await refused(gate, fresh.token)).status == 429
    assert await gate.admit(fresh.token, THERE, READ) == fresh.key


async def test_no_key_at_all_is_no_failure_to_count(keys: ApiKeyStore) -> None:
    gate = gatekeeper(keys)
    answers = [await refused(gate, None) for _ in range(10)]
    assert {answer.status for answer in answers} == {401}
