from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

import pytest
import pytest_asyncio
from cached import until

from peers.redis import RedisServer
from ringtrue.voices.cache.blobs import CachedBlobs
from ringtrue.voices.cache.cache import VoiceCache
from ringtrue.voices.cache.link import RedisLink
from ringtrue.voices.keys.sealing import SealContext, Sealed
from ringtrue.voices.store.errors import (
    BlobNotFoundError,
    VoiceErasedError,
    VoiceNotFoundError,
)
from ringtrue.voices.store.opening import Store
from ringtrue.voices.store.profile import BlobKind, Voice
from store_links import EMBEDDING, NAME, NOW, Link, Urls, new_voice

LATER = NOW + timedelta(hours=1)


@dataclass
class Reading:
    """A store, the cache before it, and Redis behind that."""

    store: Store
    cache: VoiceCache
    blobs: CachedBlobs
    redis: RedisServer
    voice: Voice

    async def embedding(self) -> bytes:
        blob = await self.blobs.get_blob("acme", self.voice.id, BlobKind.EMBEDDING)
        return blob.data


@pytest_asyncio.fixture
async def reading(store_urls: Urls, redis: RedisServer) -> AsyncIterator[Reading]:
    link = RedisLink(redis.url, timeout=5.0)
    async with Link(store_urls).open() as store, VoiceCache(link) as cache:
        blobs = CachedBlobs(store.voices, store.vault, cache)
        yield Reading(store, cache, blobs, redis, await new_voice(store))
    await link.close()


async def test_it_reads_what_the_store_reads_and_asks_it_for_the_content_once(
    reading: Reading,
) -> None:
    direct = await reading.store.voices.get_blob("acme", reading.voice.id, BlobKind.EMBEDDING)
    for _ in range(4):
        read = await reading.blobs.get_blob("acme", reading.voice.id, BlobKind.EMBEDDING)
        assert read == direct
        assert read.data == EMBEDDING
    assert reading.cache.stats.misses == 1
    assert reading.cache.stats.memory_hits == 3


async def test_a_rewritten_blob_is_read_anew(reading: Reading) -> None:
    assert await reading.embedding() == EMBEDDING
    voices = reading.store.voices
    await voices.put_blob("acme", reading.voice.id, BlobKind.EMBEDDING, b"new", LATER)
    blob = await reading.blobs.get_blob("acme", reading.voice.id, BlobKind.EMBEDDING)
    assert (blob.data, blob.version) == (b"new", 2)


async def test_an_erased_voice_is_read_from_no_cache(reading: Reading) -> None:
    assert await reading.embedding() == EMBEDDING
    await reading.store.voices.erase("acme", reading.voice.id, LATER)
    with pytest.raises(VoiceErasedError):
        await reading.embedding()


async def test_an_erasure_half_done_is_enough(reading: Reading) -> None:
    assert await reading.embedding() == EMBEDDING
    await reading.store.vault.destroy("acme", reading.voice.id, LATER)
    with pytest.raises(VoiceErasedError):
        await reading.embedding()


async def test_another_tenant_gets_nothing_out_of_the_cache(reading: Reading) -> None:
    assert await reading.embedding() == EMBEDDING
    with pytest.raises(VoiceNotFoundError):
        await reading.blobs.get_blob("other", reading.voice.id, BlobKind.EMBEDDING)


async def test_a_missing_kind_is_named(reading: Reading) -> None:
    with pytest.raises(BlobNotFoundError, match="engine_state"):
        await reading.blobs.get_blob("acme", reading.voice.id, BlobKind.ENGINE_STATE)


async def test_a_blob_written_between_version_and_content_is_read_whole(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    voices, voice = reading.store.voices, reading.voice.id
    sealed = voices.get_sealed

    async def overtaken(tenant: str, voice: str, kind: str, version: int) -> Sealed:
        await voices.put_blob(tenant, voice, kind, b"newest", LATER)
        return await sealed(tenant, voice, kind, version)

    monkeypatch.setattr(voices, "get_sealed", overtaken)
    blob = await reading.blobs.get_blob("acme", voice, BlobKind.EMBEDDING)
    assert (blob.data, blob.version) == (b"newest", 2)


async def test_a_dump_of_redis_holds_no_voiceprint_and_no_name(reading: Reading) -> None:
    await reading.embedding()
    await until(lambda: reading.cache.stats.stored == 1)
    sealed = await reading.store.voices.get_sealed("acme", reading.voice.id, "embedding", 1)
    dump = reading.redis.snapshot()
    assert sealed.ciphertext in dump
    for secret in (EMBEDDING[:18], NAME.encode(), NAME.split()[1].encode(), b"acme"):
        assert secret not in dump
    assert reading.voice.id.encode() not in dump


async def test_what_is_sealed_opens_under_the_vaults_key_only_as_itself(reading: Reading) -> None:
    voice = reading.voice.id
    sealed = await reading.store.voices.get_sealed("acme", voice, "embedding", 1)
    key = await reading.store.vault.get("acme", voice)
    assert key.unseal(sealed, SealContext("acme", voice, "embedding", 1)) == EMBEDDING
    assert await reading.store.voices.blob_version("acme", voice, "embedding") == 1
    with pytest.raises(BlobNotFoundError, match="version 2"):
        await reading.store.voices.get_sealed("acme", voice, "embedding", 2)
    for missing in (
        reading.store.voices.get_sealed("other", voice, "embedding", 1),
        reading.store.voices.blob_version("other", voice, "embedding"),
    ):
        with pytest.raises(VoiceNotFoundError):
            await missing
