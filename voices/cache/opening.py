"""Opens cache and bus together at start-up, over one Redis or none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ringtrue.voices.cache.bus import Revocation
from ringtrue.voices.cache.cache import MAX_ENTRY, MEMORY_LIMIT, TTL, VoiceCache
from ringtrue.voices.cache.link import TIMEOUT, LinkStats, RedisLink
from ringtrue.voices.cache.revocations import BEAT, LEASE, Revocations


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """How much is kept, for how long, and how long anybody waits. Seconds and bytes."""

    ttl: float = TTL
    memory_limit: int = MEMORY_LIMIT
    max_entry: int = MAX_ENTRY
    timeout: float = TIMEOUT
    lease: float = LEASE
    beat: float = BEAT


@dataclass(frozen=True, slots=True)
class Caching:
    """The cache and the bus."""

    cache: VoiceCache
    revocations: Revocations
    link: LinkStats | None
    """Counters of the commands to Redis; None without one."""


@asynccontextmanager
async def open_caching(
    url: str | None, settings: CacheSettings | None = None
) -> AsyncIterator[Caching]:
    """Hold both open; ``url`` is Redis's, None for none. Redis need not be there yet.

    The cache listens to the bus: what another process revokes is forgotten here. Raises
    :class:`~ringtrue.voices.cache.errors.RedisUrlError`.
    """
    chosen = settings or CacheSettings()
    link = None if url is None else RedisLink(url, timeout=chosen.timeout)
    try:
        async with (
            VoiceCache(
                link,
                ttl=chosen.ttl,
                memory_limit=chosen.memory_limit,
                max_entry=chosen.max_entry,
            ) as cache,
            Revocations(url, link=link, lease=chosen.lease, beat=chosen.beat) as revocations,
        ):

            def forget(revocation: Revocation) -> None:
                cache.forget(revocation.voice)

            revocations.subscribe(forget, cache.settle)
            yield Caching(cache, revocations, None if link is None else link.stats)
    finally:
        if link is not None:
            await link.close()
