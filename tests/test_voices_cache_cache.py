from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from cached import Shelf, until

from peers.redis import RedisServer
from ringtrue.voices.cache.breaker import BreakerState
from ringtrue.voices.cache.cache import VoiceCache
from ringtrue.voices.cache.errors import CacheClosedError
from ringtrue.voices.cache.link import RedisLink
from ringtrue.voices.cache.names import names_of, suffix_of
from ringtrue.voices.keys.errors import UnsealError
from ringtrue.voices.keys.sealing import DataKey, SealContext, Sealed
from ringtrue.voices.store.errors import VoiceErasedError

SLOW_MACHINE = 5.0
"""Timeout in seconds where none is meant to happen."""


@pytest_asyncio.fixture
async def link(redis: RedisServer) -> AsyncIterator[RedisLink]:
    made = RedisLink(redis.url, timeout=SLOW_MACHINE)
    yield made
    await made.close()


@pytest_asyncio.fixture
async def cache(link: RedisLink) -> AsyncIterator[VoiceCache]:
    async with VoiceCache(link) as made:
        yield made


def entry(shelf: Shelf) -> str:
    return names_of(shelf.tenant, shelf.voice).entry(suffix_of(shelf.place))


async def read(cache: VoiceCache, shelf: Shelf) -> bytes:
    return await cache.get(shelf.place, shelf.key, shelf.load)


async def stored(cache: VoiceCache, shelf: Shelf) -> None:
    """Read it once and wait until it is in Redis."""
    before = cache.stats.stored
    assert await read(cache, shelf) == shelf.data
    await until(lambda: cache.stats.stored == before + 1)


async def test_a_value_is_loaded_once_then_comes_from_memory(cache: VoiceCache) -> None:
    shelf = Shelf()
    for _ in range(5):
        assert await read(cache, shelf) == shelf.data
    assert shelf.loads == 1
    assert (cache.stats.misses, cache.stats.memory_hits) == (1, 4)


async def test_another_process_finds_it_in_redis(link: RedisLink) -> None:
    shelf = Shelf()
    async with VoiceCache(link) as first, VoiceCache(link) as second:
        await stored(first, shelf)
        assert await read(second, shelf) == shelf.data
        assert second.stats.redis_hits == 1
        assert await read(second, shelf) == shelf.data
        assert second.stats.memory_hits == 1
    assert shelf.loads == 1


async def test_what_was_put_is_found_without_a_load(link: RedisLink) -> None:
    shelf = Shelf()
    async with VoiceCache(link) as writer, VoiceCache(link) as reader:
        await writer.put(shelf.place, shelf.sealed)
        assert await read(writer, shelf) == await read(reader, shelf) == shelf.data
    assert shelf.loads == 0


async def test_redis_holds_exactly_what_was_sealed(cache: VoiceCache, redis: RedisServer) -> None:
    shelf = Shelf()
    await stored(cache, shelf)
    assert redis.ask("GET", entry(shelf)) == shelf.raw


async def test_a_dump_shows_neither_voiceprint_nor_key_nor_name(
    cache: VoiceCache, redis: RedisServer
) -> None:
    shelves = [Shelf(number, tenant="quillfeather-and-sons") for number in range(1, 9)]
    for shelf in shelves:
        await stored(cache, shelf)
    dump = redis.snapshot()
    for shelf in shelves:
        assert shelf.sealed.ciphertext in dump  # the dump can be searched at all
        assert shelf.key.export() not in dump
        assert shelf.voice.encode() not in dump
        assert bytes.fromhex(shelf.voice[2:]) not in dump
    for secret in (b"voiceprint-of-ada", b"quillfeather", b"embedding"):
        assert secret not in dump


async def test_everything_in_redis_expires(link: RedisLink, redis: RedisServer) -> None:
    async with VoiceCache(link, ttl=600.0) as cache:
        for number in range(3):
            await stored(cache, Shelf(number))
        await cache.drop("acme", Shelf(0).voice)
    keys = redis.names()
    assert len(keys) == 5  # two entries, two indices, one guard
    for key in keys:
        assert 0 < int(redis.ask("PTTL", key)) <= 600_000


async def test_an_index_outlives_the_entries_of_longer_lived_processes(
    link: RedisLink, redis: RedisServer
) -> None:
    old, new = Shelf(version=1), Shelf(version=2)
    async with VoiceCache(link, ttl=900.0) as patient, VoiceCache(link, ttl=30.0) as hasty:
        await stored(patient, old)
        await stored(hasty, new)
    index = names_of("acme", old.voice).index
    assert int(redis.ask("PTTL", index)) >= int(redis.ask("PTTL", entry(old)))


async def test_entries_expire_in_both_levels(link: RedisLink) -> None:
    now, shelf = [0.0], Shelf()
    async with VoiceCache(link, ttl=0.05, clock=lambda: now[0]) as cache:
        assert await read(cache, shelf) == shelf.data
        now[0] = 0.05  # memory's clock; Redis has its own
        async with asyncio.timeout(20):
            while await link.command("GET", entry(shelf)) is not None:
                await asyncio.sleep(0.01)
        assert await read(cache, shelf) == shelf.data
    assert shelf.loads == 2


async def test_fifty_misses_at_once_load_once(cache: VoiceCache) -> None:
    shelf = Shelf(gate=asyncio.Event())
    readers = [asyncio.create_task(read(cache, shelf)) for _ in range(50)]
    await until(lambda: shelf.loads == 1 and cache.stats.joined == 49)
    assert shelf.gate is not None
    shelf.gate.set()
    assert await asyncio.gather(*readers) == [shelf.data] * 50
    assert shelf.loads == 1
    assert cache.stats.misses == 1


async def test_a_reader_that_gives_up_takes_nobody_along(cache: VoiceCache) -> None:
    shelf = Shelf(gate=asyncio.Event())
    first, second = (asyncio.create_task(read(cache, shelf)) for _ in range(2))
    await until(lambda: shelf.loads == 1 and cache.stats.joined == 1)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert shelf.gate is not None
    shelf.gate.set()
    assert await second == shelf.data
    assert shelf.loads == 1


async def test_a_failed_load_reaches_everybody_and_is_not_remembered(cache: VoiceCache) -> None:
    shelf, opened = Shelf(), asyncio.Event()

    async def erased() -> Sealed:
        await opened.wait()
        raise VoiceErasedError(shelf.voice)

    readers = [asyncio.create_task(cache.get(shelf.place, shelf.key, erased)) for _ in range(10)]
    await until(lambda: cache.stats.joined == 9)
    opened.set()
    outcomes = await asyncio.gather(*readers, return_exceptions=True)
    assert all(isinstance(outcome, VoiceErasedError) for outcome in outcomes)
    assert await read(cache, shelf) == shelf.data


async def test_versions_kinds_and_tenants_do_not_mix(cache: VoiceCache) -> None:
    shelves = [
        Shelf(version=1, data=b"one"),
        Shelf(version=2, data=b"two"),
        Shelf(tenant="other", data=b"three"),
        Shelf(number=2, data=b"four"),
    ]
    for shelf in shelves * 2:
        assert await read(cache, shelf) == shelf.data


async def stored_again(cache: VoiceCache) -> None:
    await until(lambda: cache.stats.stored == 1)


def flipped(raw: bytes, bit: int) -> bytes:
    changed = bytearray(raw)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


async def test_no_flipped_bit_gets_through(link: RedisLink) -> None:
    shelf = Shelf(data=b"x" * 40)
    bits = range(0, 8 * len(shelf.raw), 5)
    for bit in bits:
        async with VoiceCache(link) as cache:
            await link.command("SET", entry(shelf), flipped(shelf.raw, bit))
            assert await read(cache, shelf) == shelf.data
            assert cache.stats.unusable == 1
            await stored_again(cache)  # and it is put right
    assert shelf.loads == len(bits)
    assert await link.command("GET", entry(shelf)) == shelf.raw


async def test_poison_of_every_kind_is_a_miss(link: RedisLink) -> None:
    mine = Shelf(version=2)
    other = Shelf(number=2, version=2)
    older = Shelf(version=1, key=mine.key)
    elsewhere = mine.key.seal(
        mine.data, SealContext(mine.tenant, mine.voice, "engine_state", mine.version)
    )
    poison: list[tuple[str | bytes, ...]] = [
        ("SET", entry(mine), other.raw),
        ("SET", entry(mine), older.raw),
        ("SET", entry(mine), elsewhere.nonce + elsewhere.ciphertext),
        ("SET", entry(mine), mine.raw[:-1]),
        ("SET", entry(mine), mine.raw + b"\0"),
        ("SET", entry(mine), mine.data),
        ("SET", entry(mine), b"short"),
        ("SET", entry(mine), b""),
        ("SET", entry(mine), bytes(300_000)),
        ("RPUSH", entry(mine), "x"),
        ("HSET", entry(mine), "a", "b"),
    ]
    for number, words in enumerate(poison):
        async with VoiceCache(link) as cache:
            await link.command("DEL", entry(mine))
            await link.command(*words)
            assert await read(cache, mine) == mine.data
            assert cache.stats.redis_hits == 0
            await stored_again(cache)
        assert mine.loads == number + 1
    assert link.state is BreakerState.CLOSED


async def test_oversized_values_are_neither_fetched_whole_nor_written(
    link: RedisLink, redis: RedisServer
) -> None:
    shelf, large = Shelf(), Shelf(number=2, data=bytes(5000))
    await link.command("SETRANGE", entry(shelf), 50_000_000, "x")
    before = int(_info(redis, "total_net_output_bytes"))
    async with VoiceCache(link, max_entry=4000) as cache:
        assert await read(cache, shelf) == shelf.data
        assert cache.stats.unusable == 1
        assert await read(cache, large) == large.data
        await until(lambda: cache.stats.not_stored == 1)
    assert int(_info(redis, "total_net_output_bytes")) - before < 100_000
    assert not await link.command("EXISTS", entry(large))


def _info(redis: RedisServer, name: str) -> str:
    lines = redis.ask("INFO").decode().split()
    return next(line.partition(":")[2] for line in lines if line.startswith(name + ":"))


async def test_a_load_that_brings_something_else_is_an_error_and_is_not_kept(
    cache: VoiceCache, redis: RedisServer
) -> None:
    mine, other = Shelf(), Shelf(number=2)
    for _ in range(2):
        with pytest.raises(UnsealError):
            await cache.get(mine.place, mine.key, other.load)
    assert other.loads == 2
    assert redis.names() == []


async def test_a_wrong_key_gets_nothing_from_memory(cache: VoiceCache) -> None:
    shelf = Shelf()
    assert await read(cache, shelf) == shelf.data
    with pytest.raises(UnsealError):
        await cache.get(shelf.place, DataKey.generate(), shelf.load)


async def test_large_values_are_opened_off_the_loop_and_right(cache: VoiceCache) -> None:
    shelf = Shelf(data=bytes(range(256)) * 4096)
    for _ in range(3):
        assert await read(cache, shelf) == shelf.data


async def test_dropping_empties_both_levels_of_this_voice_only(
    link: RedisLink, redis: RedisServer
) -> None:
    versions = [Shelf(number=1, version=version) for version in (1, 2, 3)]
    other = Shelf(number=2)
    async with VoiceCache(link) as cache:
        for shelf in (*versions, other):
            await stored(cache, shelf)
        assert await cache.drop("acme", versions[0].voice)
        gone = names_of("acme", versions[0].voice)
        left = [key for key in redis.names() if key.startswith(gone.prefix)]
        assert left == [gone.dropped]
        assert await read(cache, other) == other.data
        assert await read(cache, versions[0]) == versions[0].data
    assert other.loads == 1
    assert versions[0].loads == 2


async def test_a_dropped_voice_is_not_written_again_by_whoever_loaded_it_before(
    link: RedisLink, redis: RedisServer
) -> None:
    here, there = Shelf(gate=asyncio.Event()), Shelf(gate=asyncio.Event())
    async with VoiceCache(link) as mine, VoiceCache(link) as elsewhere:
        readers = [
            asyncio.create_task(read(cache, shelf))
            for cache, shelf in ((mine, here), (elsewhere, there))
        ]
        await until(lambda: here.loads == there.loads == 1)
        await mine.drop("acme", here.voice)  # the other process hears of it too late
        for shelf in (here, there):
            assert shelf.gate is not None
            shelf.gate.set()
        await asyncio.gather(*readers)
        await until(lambda: elsewhere.stats.not_stored == 1)
        assert mine.memory_bytes == 0
    assert redis.names() == [names_of("acme", here.voice).dropped]


async def test_a_forged_index_deletes_nothing_of_others(link: RedisLink) -> None:
    mine, other = Shelf(number=1), Shelf(number=2)
    async with VoiceCache(link) as cache:
        await stored(cache, mine)
        await stored(cache, other)
        await link.command("SADD", names_of("acme", mine.voice).index, entry(other), "", "*")
        assert await cache.drop("acme", mine.voice)
        assert await link.command("EXISTS", entry(other))
        assert not await link.command("EXISTS", entry(mine))
        await link.command("SET", names_of("acme", other.voice).index, "not a set")
        assert await cache.drop("acme", other.voice)
        assert not await link.command("EXISTS", names_of("acme", other.voice).index)


async def test_a_drop_that_redis_missed_is_made_up_for(redis: RedisServer) -> None:
    link = RedisLink(redis.url, timeout=0.2)
    async with VoiceCache(link) as cache:
        shelf = Shelf()
        await link.command("PING")
        await until_stored(cache, shelf)
        redis.hang()
        assert not await cache.drop("acme", shelf.voice)
        assert cache.stats.drops_pending == 1
        await cache.settle()
        assert cache.stats.drops_pending == 1
        redis.resume()
        async with asyncio.timeout(20):
            while cache.stats.drops_pending:
                await cache.settle()
        assert redis.ask("EXISTS", entry(shelf)) == b"0"
    await link.close()


async def until_stored(cache: VoiceCache, shelf: Shelf) -> None:
    """As :func:`stored`, where the machine may be slower than the timeout."""
    async with asyncio.timeout(20):
        while not cache.stats.stored:
            await cache.put(shelf.place, shelf.sealed)


async def test_a_flushed_redis_fills_again(cache: VoiceCache, redis: RedisServer) -> None:
    shelf = Shelf()
    await stored(cache, shelf)
    redis.ask("FLUSHALL")
    cache.forget(shelf.voice)
    await stored(cache, shelf)
    assert redis.ask("GET", entry(shelf)) == shelf.raw


async def test_without_redis_memory_serves(redis: RedisServer) -> None:
    shelf = Shelf()
    async with VoiceCache() as cache:
        for _ in range(3):
            assert await read(cache, shelf) == shelf.data
        assert cache.redis_state is None
        assert await cache.drop("acme", shelf.voice)
        assert await read(cache, shelf) == shelf.data
        await cache.settle()
    assert shelf.loads == 2
    assert redis.names() == []


async def test_memory_stays_within_its_limit() -> None:
    async with VoiceCache(memory_limit=20_000) as cache:
        for number in range(100):
            assert await read(cache, Shelf(number)) == Shelf().data
            assert cache.memory_bytes <= 20_000
        assert cache.memory_bytes > 15_000


async def test_closing_ends_what_is_on_its_way(link: RedisLink) -> None:
    shelf = Shelf(gate=asyncio.Event())
    cache = VoiceCache(link)
    reader = asyncio.create_task(read(cache, shelf))
    await until(lambda: shelf.loads == 1)
    await cache.close()
    with pytest.raises(CacheClosedError):
        await reader
    with pytest.raises(CacheClosedError):
        await read(cache, shelf)
    assert cache.memory_bytes == 0
    await cache.close()


@pytest.mark.uvloop
async def test_it_works_on_the_servers_own_loop(redis: RedisServer) -> None:
    link = RedisLink(redis.url, timeout=SLOW_MACHINE)
    async with VoiceCache(link) as cache, VoiceCache(link) as other:
        await stored(cache, Shelf(data=b"a", key=(key := DataKey.generate())))
        again = Shelf(data=b"a", key=key)
        assert await read(other, again) == b"a"
        assert again.loads == 0
    await link.close()
