from __future__ import annotations

import asyncio

import pytest
from cached import PATIENCE, Shelf, until

from peers.redis import RedisServer
from ringtrue.voices.cache.bus import News
from ringtrue.voices.cache.errors import RedisUrlError
from ringtrue.voices.cache.opening import CacheSettings, Caching, open_caching

PATIENT = CacheSettings(timeout=2.0, lease=3.0)


def fresh(caching: Caching) -> bool:
    return caching.revocations.fresh(asyncio.get_running_loop().time())


async def read(caching: Caching, shelf: Shelf) -> bytes:
    return await caching.cache.get(shelf.place, shelf.key, shelf.load)


async def test_what_one_process_revokes_the_others_forget(redis: RedisServer) -> None:
    async with open_caching(redis.url, PATIENT) as a, open_caching(redis.url, PATIENT) as b:
        await until(lambda: fresh(a) and fresh(b))
        shelf, other = Shelf(), Shelf(number=2)
        for each in (shelf, other):
            assert await read(b, each) == each.data
        both = b.cache.memory_bytes
        await a.cache.drop(shelf.tenant, shelf.voice)
        await a.revocations.publish(shelf.voice, News.ERASED)
        await until(lambda: 0 < b.cache.memory_bytes < both)
        assert await read(b, other) == other.data
        assert other.loads == 1


async def test_after_a_gap_nothing_stays_in_memory(redis: RedisServer) -> None:
    async with open_caching(redis.url, PATIENT) as caching:
        await until(lambda: fresh(caching))
        assert await read(caching, Shelf()) == Shelf().data
        redis.kill()
        await until(lambda: not caching.revocations.connected)
        redis.start()
        await until(lambda: caching.revocations.connected and caching.cache.memory_bytes == 0)


async def test_a_drop_missed_by_redis_is_made_up_for_when_it_is_back(redis: RedisServer) -> None:
    async with open_caching(redis.url, PATIENT) as caching:
        await until(lambda: fresh(caching))
        redis.kill()
        await until(lambda: not caching.revocations.connected)
        assert not await caching.cache.drop("acme", Shelf().voice)
        redis.start()
        await until(lambda: caching.cache.stats.drops_pending == 0)


async def test_without_redis_everything_works_in_one_process() -> None:
    async with open_caching(None) as caching:
        shelf = Shelf()
        assert await read(caching, shelf) == shelf.data
        await caching.revocations.publish(shelf.voice, News.WITHDRAWN)
        assert caching.cache.memory_bytes == 0
        assert caching.link is None
        assert not fresh(caching)


async def test_it_opens_and_serves_while_redis_is_away(redis: RedisServer) -> None:
    redis.kill()
    async with asyncio.timeout(PATIENCE), open_caching(redis.url, PATIENT) as caching:
        for number in range(20):
            assert await read(caching, Shelf(number)) == Shelf().data
        assert caching.link is not None
        assert caching.link.failures > 0


async def test_an_unfit_url_is_refused() -> None:
    with pytest.raises(RedisUrlError, match="allowed: redis://"):
        async with open_caching("localhost:6379"):
            pytest.fail("opened")
