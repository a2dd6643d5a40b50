"""The library's counters as Prometheus reads them."""

from __future__ import annotations

import asyncio
from pathlib import Path

from library_links import NAME, PURPOSE, TENANT, Shelves, admit
from prometheus_client.parser import text_string_to_metric_families

from peers.redis import RedisServer
from ringtrue.agent.metrics import Metrics
from ringtrue.agent.metrics_voices import LibraryCollector
from ringtrue.voices.library import VoiceLibrary
from store_links import Urls


def read(metrics: Metrics) -> dict[str, float]:
    """Every sample of the library, by name and its one label's value."""
    found = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for item in family.samples:
            if item.name.startswith(("ringtrue_voice", "ringtrue_redis", "ringtrue_revocations")):
                found[":".join([item.name, *item.labels.values()])] = item.value
    return found


def watched(library: VoiceLibrary | None) -> Metrics:
    metrics = Metrics()
    metrics.registry.register(LibraryCollector(lambda: library))
    return metrics


async def speak_once(library: VoiceLibrary) -> None:
    lease = await library.lease(tenant=TENANT, voice=NAME, agent="x", purpose=PURPOSE)
    lease.close()


def urls(tmp_path: Path) -> Urls:
    return Urls(f"sqlite:///{tmp_path}/voices.db", f"sqlite:///{tmp_path}/keys.db")


def test_without_a_library_there_is_only_that() -> None:
    found = read(watched(None))
    assert found.pop("ringtrue_voices_open") == 0
    assert not any(name.startswith(("ringtrue_voice_cache", "ringtrue_redis")) for name in found)


async def test_without_redis_only_memory_counts(tmp_path: Path) -> None:
    async with Shelves(urls(tmp_path)).open() as library:
        await admit(library)
        await speak_once(library)
        found = read(watched(library))
    assert found["ringtrue_voices_open"] == 1
    assert found["ringtrue_voice_cache_reads_total:store"] >= 1
    assert found["ringtrue_voice_cache_bytes"] > 1000
    assert found["ringtrue_revocations_connected"] == 0
    assert not any(name.startswith("ringtrue_redis") for name in found)


async def test_with_redis_its_state_shows(tmp_path: Path, redis: RedisServer) -> None:
    shelves = Shelves(urls(tmp_path), redis_url=redis.url)
    async with shelves.open() as library:
        async with asyncio.timeout(10):
            await library.revocations.wait_connected()
        await admit(library)
        await speak_once(library)
        async with asyncio.timeout(10):
            while not library.cache.stats.stored:
                await asyncio.sleep(0.02)
        metrics = watched(library)
        found = read(metrics)
        assert found["ringtrue_voice_cache_writes_total:stored"] >= 1
        assert found["ringtrue_redis_commands_total:answered"] >= 2
        assert found["ringtrue_redis_breaker:closed"] == 1
        assert found["ringtrue_redis_breaker:open"] == 0
        assert found["ringtrue_revocations_connected"] == 1
        assert found["ringtrue_revocations_subscriptions_total:began"] == 1
        redis.kill()
        for _ in range(4):
            await library.cache.drop(TENANT, "v_" + "0" * 32)
        found = read(metrics)
        assert found["ringtrue_redis_commands_total:failed"] >= 1
        assert found["ringtrue_redis_breaker:closed"] == 0
        assert found["ringtrue_voice_cache_drops_pending"] >= 1
