"""Redis dies, hangs, is cut off and loses everything; nobody who reads a voice may notice."""

from __future__ import annotations

import asyncio
import random

import pytest
from cached import PATIENCE, Shelf, until, voice_id
from redis_death import tormented

from peers.redis import RedisServer
from ringtrue.voices.cache.breaker import BreakerState
from ringtrue.voices.cache.bus import News
from ringtrue.voices.cache.cache import VoiceCache
from ringtrue.voices.cache.link import RedisLink
from ringtrue.voices.cache.opening import CacheSettings, Caching, open_caching

READERS = 10
FORGETFUL = CacheSettings(memory_limit=0)
"""Every read asks Redis: with a memory of its own the cache would hardly notice."""


async def read(cache: VoiceCache, shelf: Shelf) -> None:
    assert await cache.get(shelf.place, shelf.key, shelf.load) == shelf.data


@pytest.mark.parametrize("fault", ["kill", "hang"])
async def test_in_the_middle_of_two_hundred_reads(redis: RedisServer, fault: str) -> None:
    shelves = [Shelf(number) for number in range(200)]
    done = 0
    async with open_caching(redis.url, FORGETFUL) as caching:

        async def reader(mine: list[Shelf]) -> None:
            nonlocal done
            for shelf in mine:
                await read(caching.cache, shelf)
                done += 1
                if done == 100:
                    redis.kill() if fault == "kill" else redis.hang()

        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(reader(shelves[n::READERS]) for n in range(READERS)))
        assert done == 200
        assert caching.link is not None
        # The breaker spares most readers the wait: without it each of 100 would have had it.
        assert 3 <= caching.link.failures < 50
        assert caching.link.skipped > 0
        assert caching.cache.redis_state is not BreakerState.CLOSED


async def test_two_hundred_readers_at_once_while_it_hangs(redis: RedisServer) -> None:
    redis.hang()
    link = RedisLink(redis.url)
    async with asyncio.timeout(PATIENCE), VoiceCache(link, memory_limit=0) as cache:
        await asyncio.gather(*(read(cache, Shelf(number)) for number in range(200)))
        assert cache.stats.misses == 200
    await link.close()


@pytest.mark.uvloop
async def test_readers_and_revocations_through_everything(redis: RedisServer) -> None:
    """Ten readers never fail; every revocation is heard, or a look-up follows it."""
    rng = random.Random(11)
    shelves = [Shelf(number) for number in range(8)]
    settings = CacheSettings(memory_limit=2000, timeout=0.2)
    heard: set[str] = set()
    looked_up = 0
    async with open_caching(redis.url, settings) as here, open_caching(redis.url) as there:

        async def look_up() -> None:
            nonlocal looked_up
            looked_up += 1

        there.revocations.subscribe(lambda revocation: heard.add(revocation.voice), look_up)
        await until(lambda: fresh(here) and fresh(there))
        reads = 0

        async def reader() -> None:
            nonlocal reads
            while not over.done():
                await read(here.cache, rng.choice(shelves))
                reads += 1
                await asyncio.sleep(0.002)

        async with tormented(redis, away=0.4, between=0.2) as over:
            readers = [asyncio.create_task(reader()) for _ in range(READERS)]
            published = 0
            while not over.done():
                before = looked_up
                voice = voice_id(1000 + published)
                await here.revocations.publish(voice, News.WITHDRAWN)
                published += 1
                await until(lambda b=before, v=voice: v in heard or looked_up > b)  # type: ignore[misc]
                await asyncio.sleep(0.01)
            await asyncio.gather(*readers)
        assert reads > READERS
        assert published > 4
        # And it ends as it began: connected, fresh, writing to Redis, nothing left over.
        await until(lambda: fresh(here) and fresh(there))
        await until(lambda: here.revocations.stats.unsent == 0)
        stored, number = here.cache.stats.stored, 100
        async with asyncio.timeout(PATIENCE):
            while here.cache.stats.stored == stored:
                number += 1
                await read(here.cache, Shelf(number))
                await asyncio.sleep(0.02)
        assert here.cache.redis_state is BreakerState.CLOSED


def fresh(caching: Caching) -> bool:
    return caching.revocations.fresh(asyncio.get_running_loop().time())
