"""Two levels of sealed blobs: a bounded memory in this process, and Redis behind it.

Both hold what the store holds: a nonce and a ciphertext under the voice's own data key, bound to
tenant, voice, kind and version. The cache never keeps a key, and whatever doesn't open under the
key it is shown is a miss. So neither level needs to be trusted, and losing one costs time only.

One miss loads once per process, however many wait for it. Between processes there is no lock: one
more read of a row by each process costs less than a lock that its holder may die with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from ringtrue.streaming.lifetime import Closing
from ringtrue.voices.cache.breaker import BreakerState
from ringtrue.voices.cache.errors import CacheClosedError, RedisLinkError
from ringtrue.voices.cache.link import Clock, LinkStats, RedisLink, loop_time
from ringtrue.voices.cache.memory import MemoryCache
from ringtrue.voices.cache.names import VoiceNames, names_of, suffix_of
from ringtrue.voices.keys.errors import UnsealError
from ringtrue.voices.keys.sealing import NONCE_BYTES, TAG_BYTES, DataKey, SealContext, Sealed

log = structlog.get_logger(__name__)

TTL: Final = 3600.0
"""Seconds an entry lives, in either level."""

MEMORY_LIMIT: Final = 32 * 1024 * 1024
"""Bytes of the first level."""

MAX_ENTRY: Final = 8 * 1024 * 1024
"""Bytes of the largest value that is written to Redis, or read from it."""

DROP_GUARD: Final = 60.0
"""Seconds after a drop in which nothing of that voice is written: longer than any load takes."""

MAX_PENDING: Final = 1000
"""Drops remembered while Redis is away. Beyond that the oldest is left to the entries' TTL."""

_OFF_LOOP: Final = 256 * 1024

_STORE: Final = """
if redis.call('EXISTS', KEYS[3]) == 1 then return 0 end
redis.call('SADD', KEYS[2], ARGV[1])
if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[3]) then redis.call('PEXPIRE', KEYS[2], ARGV[3]) end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""
"""Entry, index, guard; suffix, value, milliseconds. Index first: no entry is outside the index."""

_DROP: Final = """
redis.call('SET', KEYS[2], '', 'PX', ARGV[2])
local dropped = 0
if redis.call('TYPE', KEYS[1]).ok == 'set' then
  for _, suffix in ipairs(redis.call('SMEMBERS', KEYS[1])) do
    dropped = dropped + redis.call('UNLINK', ARGV[1] .. suffix)
  end
end
redis.call('UNLINK', KEYS[1])
return dropped
"""
"""Index, guard; prefix, milliseconds. The prefix keeps a forged index off other voices' entries."""

Load = Callable[[], Awaitable[Sealed]]


@dataclass(slots=True)
class CacheStats:
    """Counters since the cache was made."""

    memory_hits: int = 0
    redis_hits: int = 0
    misses: int = 0
    """Neither level had it; the store was asked."""

    joined: int = 0
    """Waited for somebody else's miss."""

    unusable: int = 0
    """Found in Redis, but not to be opened: altered, moved, too large or not a value at all."""

    stored: int = 0
    """Written to Redis."""

    not_stored: int = 0
    """Not written to Redis: it failed, the value was too large, or the voice was just dropped."""

    drops: int = 0
    drops_pending: int = 0
    """Drops that Redis was not told yet; current value."""


@dataclass(slots=True, eq=False)
class _Flight:
    """One miss on its way, and everybody who waits for it."""

    voice: str
    value: asyncio.Future[bytes] = field(repr=False)
    keep: bool = True
    """Whether what it brings may be kept; not if the voice was dropped meanwhile."""


class VoiceCache(Closing):
    """Reads through both levels. Use as ``async with``; all calls from one event loop."""

    def __init__(
        self,
        link: RedisLink | None = None,
        *,
        ttl: float = TTL,
        memory_limit: int = MEMORY_LIMIT,
        max_entry: int = MAX_ENTRY,
        clock: Clock = loop_time,
    ) -> None:
        """``link`` is Redis, None for memory only, and stays the caller's to close."""
        self._link = link
        self._ttl = ttl
        self._max_entry = max_entry
        self._clock = clock
        self._memory = MemoryCache(limit=memory_limit, ttl=ttl)
        self._flights: dict[str, _Flight] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._pending: dict[tuple[str, str], None] = {}
        self._closed = False
        self._stats = CacheStats()

    @property
    def stats(self) -> CacheStats:
        """Live counters."""
        self._stats.drops_pending = len(self._pending)
        return self._stats

    @property
    def memory_bytes(self) -> int:
        """What the first level takes."""
        return self._memory.size

    @property
    def redis_state(self) -> BreakerState | None:
        """The breaker's state; None without Redis."""
        return None if self._link is None else self._link.state

    @property
    def link_stats(self) -> LinkStats | None:
        """Live counters of the commands to Redis; None without Redis."""
        return None if self._link is None else self._link.stats

    async def get(self, place: SealContext, key: DataKey, load: Load) -> bytes:
        """The plaintext at ``place``, from memory, from Redis, or by ``load``.

        ``load`` reads what is sealed for exactly ``place`` from the store. It is called once for
        all who wait, in a task of the cache's own, and what it raises is raised to all of them.
        Redis being slow or away shows only as time, at most the link's timeout. Raises
        :class:`~ringtrue.voices.keys.errors.UnsealError` where what ``load`` brought doesn't open
        under ``key``, and :class:`CacheClosedError`.
        """
        if self._closed:
            raise CacheClosedError("the cache is closed")
        names = names_of(place.tenant, place.voice)
        name = names.entry(suffix_of(place))
        raw = self._memory.get(name, self._clock())
        if raw is not None:
            data = await _opened(raw, place, key)
            if data is not None:
                self._stats.memory_hits += 1
                return data
            self._memory.remove(name)
        flight = self._flights.get(name)
        if flight is None:
            flight = self._fly(name, names, place, key, load)
        else:
            self._stats.joined += 1
        return await asyncio.shield(flight.value)

    async def put(self, place: SealContext, sealed: Sealed) -> None:
        """Keep what was just written to the store, so that the next reader finds it."""
        if self._closed:
            return
        names = names_of(place.tenant, place.voice)
        raw = sealed.nonce + sealed.ciphertext
        self._memory.put(names.entry(suffix_of(place)), place.voice, raw, self._clock())
        await self._write(names, suffix_of(place), raw)

    async def drop(self, tenant: str, voice: str) -> bool:
        """Forget everything of one voice, here and in Redis, and what is on its way there.

        False where Redis could not be told: that is made up for by :meth:`settle`, and what is
        left meanwhile is ciphertext that lives for its TTL. The first levels of other processes
        hear of it over the bus and call :meth:`forget`.
        """
        self.forget(voice)
        self._stats.drops += 1
        if self._link is None:
            return True
        if await self._drop(tenant, voice):
            self._pending.pop((tenant, voice), None)
            return True
        self._pending[tenant, voice] = None
        if len(self._pending) > MAX_PENDING:
            self._pending.pop(next(iter(self._pending)))
            log.warning("cache_drop_left_to_expiry")
        return False

    def forget(self, voice: str) -> None:
        """Forget one voice in this process only."""
        self._memory.drop(voice)
        for flight in self._flights.values():
            if flight.voice == voice:
                flight.keep = False

    async def settle(self) -> None:
        """After a time without Redis: forget the first level, and make up for missed drops."""
        self._memory.clear()
        for tenant, voice in tuple(self._pending):
            if not await self._drop(tenant, voice):
                return
            self._pending.pop((tenant, voice), None)

    async def close(self) -> None:
        """End what is on its way and forget everything. Idempotent."""
        self._closed = True
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._memory.clear()

    def _fly(
        self, name: str, names: VoiceNames, place: SealContext, key: DataKey, load: Load
    ) -> _Flight:
        flight = _Flight(place.voice, asyncio.get_running_loop().create_future())
        # Retrieved even if every waiter was cancelled, or asyncio would report it as lost.
        flight.value.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._flights[name] = flight
        task = asyncio.create_task(
            self._flight(flight, name, names, place, key, load), name="voice-cache-miss"
        )
        self._tasks.add(task)

        def landed(done: asyncio.Task[None]) -> None:
            self._tasks.discard(done)
            if self._flights.get(name) is flight:  # cancelled before its first step
                del self._flights[name]
            if not flight.value.done():
                flight.value.set_exception(CacheClosedError("the cache was closed"))

        task.add_done_callback(landed)
        return flight

    async def _flight(
        self,
        flight: _Flight,
        name: str,
        names: VoiceNames,
        place: SealContext,
        key: DataKey,
        load: Load,
    ) -> None:
        suffix = suffix_of(place)
        raw = await self._read(names, suffix)
        data = None if raw is None else await _opened(raw, place, key)
        found = data is not None
        try:
            if raw is None or data is None:
                self._stats.unusable += raw is not None
                self._stats.misses += 1
                sealed = await load()
                raw = sealed.nonce + sealed.ciphertext
                data = await _unsealed(sealed, place, key)
            else:
                self._stats.redis_hits += 1
        except Exception as error:
            del self._flights[name]
            flight.value.set_exception(error)
            return
        # In one step: whoever comes after the flight's end finds the value in memory.
        del self._flights[name]
        if flight.keep:
            self._memory.put(name, place.voice, raw, self._clock())
        flight.value.set_result(data)
        if flight.keep and not found:
            await self._write(names, suffix, raw)

    async def _read(self, names: VoiceNames, suffix: str) -> bytes | None:
        if self._link is None:
            return None
        try:
            # A range, because a value of any size may have been put there.
            raw = await self._link.command("GETRANGE", names.entry(suffix), 0, self._max_entry)
        except RedisLinkError:
            return None
        if not raw:
            return None
        if not isinstance(raw, bytes) or len(raw) > self._max_entry:
            self._stats.unusable += 1
            return None
        return raw

    async def _write(self, names: VoiceNames, suffix: str, raw: bytes) -> None:
        if self._link is None:
            return
        stored: Any = 0
        if len(raw) <= self._max_entry:
            keys = (names.entry(suffix), names.index, names.dropped)
            milliseconds = max(1, round(self._ttl * 1000))
            try:
                stored = await self._link.command(
                    "EVAL", _STORE, len(keys), *keys, suffix, raw, milliseconds
                )
            except RedisLinkError as error:
                log.debug("cache_not_stored", error=str(error))
        if stored == 1:
            self._stats.stored += 1
        else:
            self._stats.not_stored += 1

    async def _drop(self, tenant: str, voice: str) -> bool:
        if self._link is None:
            return True
        names = names_of(tenant, voice)
        guard = round(DROP_GUARD * 1000)
        try:
            await self._link.command(
                "EVAL",
                _DROP,
                2,
                names.index,
                names.dropped,
                names.entry(""),
                guard,
                urgent=True,
            )
        except RedisLinkError as error:
            log.warning("cache_drop_failed", voice=voice, error=str(error))
            return False
        return True


async def _unsealed(sealed: Sealed, place: SealContext, key: DataKey) -> bytes:
    if len(sealed.ciphertext) > _OFF_LOOP:
        return await asyncio.to_thread(key.unseal, sealed, place)
    return key.unseal(sealed, place)


async def _opened(raw: bytes, place: SealContext, key: DataKey) -> bytes | None:
    """What ``raw`` holds; None where it is not what was sealed for ``place`` under ``key``."""
    if len(raw) < NONCE_BYTES + TAG_BYTES:
        return None
    try:
        return await _unsealed(Sealed(raw[:NONCE_BYTES], raw[NONCE_BYTES:]), place, key)
    except UnsealError:
        return None
