from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from cached import PATIENCE, until, voice_id

from peers.redis import RedisServer
from ringtrue.voices.cache.bus import CHANNEL, News, Revocation
from ringtrue.voices.cache.errors import RedisUrlError
from ringtrue.voices.cache.link import RedisLink
from ringtrue.voices.cache.revocations import Revocations

ADA, BOB = voice_id(1), voice_id(2)
LEASE = 1.5
"""Longer than in service: the machine may be busy, and nothing is measured here."""


@dataclass
class Process:
    """One process's end of the bus, with what it heard."""

    bus: Revocations
    link: RedisLink
    heard: list[Revocation] = field(default_factory=list)
    gaps: int = 0
    database: list[bool] = field(default_factory=list)
    """Whether each next look-up succeeds; beyond the list it does."""

    async def look_up(self) -> None:
        self.gaps += 1
        if self.database and not self.database.pop(0):
            raise OSError("the database is away")

    def fresh(self) -> bool:
        return self.bus.fresh(asyncio.get_running_loop().time())


@asynccontextmanager
async def process(server: RedisServer, *, wait: bool = True) -> AsyncIterator[Process]:
    link = RedisLink(server.url, timeout=1.0)
    try:
        async with Revocations(server.url, link=link, lease=LEASE) as bus:
            made = Process(bus, link)
            bus.subscribe(made.heard.append, made.look_up)
            if wait:
                await until(made.fresh)
            yield made
    finally:
        await link.close()


async def test_everybody_hears_and_nobody_twice(redis: RedisServer) -> None:
    async with process(redis) as a, process(redis) as b, process(redis) as c:
        assert await a.bus.publish(ADA, News.WITHDRAWN)
        assert await b.bus.publish(BOB, News.ERASED)
        expected = {Revocation(ADA, News.WITHDRAWN), Revocation(BOB, News.ERASED)}
        await until(lambda: all(len(p.heard) == 2 for p in (a, b, c)))
        # Whatever else was on its way comes before the answer to a ping sent from here on.
        marks = [p.bus._freshness.proven for p in (a, b, c)]
        await until(
            lambda: all(
                p.bus._freshness.proven != mark for p, mark in zip((a, b, c), marks, strict=True)
            )
        )
        for p in (a, b, c):
            assert set(p.heard) == expected
            assert len(p.heard) == 2
        assert (a.bus.stats.published, a.bus.stats.heard, c.bus.stats.heard) == (1, 1, 2)


async def test_this_process_hears_itself_before_anything_is_awaited(redis: RedisServer) -> None:
    async with process(redis) as p:
        redis.hang()
        publishing = asyncio.ensure_future(p.bus.publish(ADA, News.WITHDRAWN))
        await asyncio.sleep(0)
        assert p.heard == [Revocation(ADA, News.WITHDRAWN)]
        redis.resume()
        await publishing


async def test_a_listener_that_fails_keeps_it_from_nobody(redis: RedisServer) -> None:
    async with process(redis) as a, process(redis) as b:

        def broken(revocation: Revocation) -> None:
            raise RuntimeError("broken listener")

        late: list[Revocation] = []
        b.bus.subscribe(broken)
        b.bus.subscribe(late.append)
        await a.bus.publish(ADA, News.CHANGED)
        await until(lambda: len(b.heard) == len(late) == 1)


async def test_who_unsubscribed_hears_nothing(redis: RedisServer) -> None:
    async with process(redis) as a, process(redis) as b:
        heard: list[Revocation] = []
        leave = b.bus.subscribe(heard.append)
        leave()
        leave()
        await a.bus.publish(ADA, News.CHANGED)
        await until(lambda: len(b.heard) == 1)
        assert heard == []


async def test_messages_of_others_are_passed_over(redis: RedisServer) -> None:
    async with process(redis) as a, process(redis) as b:
        for message in ("", "{", "[1]", '{"voice":"ada","news":"erased","from":"x"}'):
            redis.ask("PUBLISH", CHANNEL, message)
        redis.ask("PUBLISH", "another", "x")
        await b.bus.publish(ADA, News.CHANGED)
        await until(lambda: len(a.heard) == 1)
        assert a.bus.stats.unreadable == 4
        assert a.bus.stats.losses == 0


async def test_a_message_missed_while_cut_off_is_looked_up(redis: RedisServer) -> None:
    async with process(redis) as a, process(redis) as b:
        gaps = b.gaps
        redis.ask("CLIENT", "KILL", "TYPE", "pubsub")
        # Nobody is subscribed yet, or only after this: either heard, or looked up.
        await a.bus.publish(ADA, News.WITHDRAWN)
        await until(lambda: b.gaps > gaps)
        await until(b.fresh)
        assert b.bus.stats.losses == 1
        assert b.bus.stats.subscriptions == 2


async def test_it_is_not_fresh_again_before_everything_was_looked_up(redis: RedisServer) -> None:
    async with process(redis) as p:
        loop = asyncio.get_running_loop()
        p.database = [False, False, False]
        looked = p.gaps
        redis.kill()
        await until(lambda: not p.bus.connected)
        lost = p.bus._freshness.proven
        redis.start()
        await until(lambda: p.bus.connected)
        while p.gaps < looked + 3:
            assert p.bus._freshness.proven == lost
            await asyncio.sleep(0.005)
        await until(lambda: p.bus._freshness.proven != lost)
        assert p.gaps == looked + 4
        assert p.bus.stats.checks_failed == 3
        assert p.bus.fresh(loop.time())


async def test_a_dead_server_is_noticed_and_found_again(redis: RedisServer) -> None:
    async with process(redis) as a, process(redis) as b:
        for _ in range(2):
            redis.kill()
            await until(lambda: not a.fresh() and not b.fresh())
            redis.start()
            await until(lambda: a.fresh() and b.fresh())
            a.heard.clear()
            await until_published(b, ADA)
            await until(lambda: Revocation(ADA, News.WITHDRAWN) in a.heard)
        assert a.bus.stats.losses >= 2


async def until_published(p: Process, voice: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await p.bus.publish(voice, News.WITHDRAWN):
            await asyncio.sleep(0.01)


async def test_a_hanging_server_is_noticed_and_found_again(redis: RedisServer) -> None:
    async with process(redis) as p:
        redis.hang()
        await until(lambda: not p.fresh())
        await until(lambda: p.bus.stats.losses >= 1)
        redis.resume()
        await until(p.fresh)


async def test_a_hang_too_short_for_a_loss_loses_nothing(redis: RedisServer) -> None:
    async with process(redis) as a, process(redis) as b:
        redis.hang()
        publishing = asyncio.ensure_future(a.bus.publish(ADA, News.WITHDRAWN))
        await asyncio.sleep(0.05)
        redis.resume()
        await publishing
        await until(lambda: Revocation(ADA, News.WITHDRAWN) in b.heard)
        await until(lambda: a.fresh() and b.fresh())


async def test_news_that_could_not_be_told_is_told_later(redis: RedisServer) -> None:
    async with process(redis) as a, process(redis) as b:
        redis.kill()
        assert not await a.bus.publish(ADA, News.WITHDRAWN)
        assert not await a.bus.publish(ADA, News.ERASED)
        assert not await a.bus.publish(BOB, News.WITHDRAWN)
        assert a.bus.stats.unsent == 2
        redis.start()
        await until(lambda: a.bus.stats.unsent == 0)
        # b may have subscribed after that; then it looked everything up.
        await until(lambda: b.fresh() and b.gaps >= 2)


async def test_it_starts_without_redis_and_joins_in_later(redis: RedisServer) -> None:
    redis.kill()
    async with process(redis, wait=False) as p:
        await until(lambda: p.bus.stats.losses >= 2)
        assert not p.fresh()
        assert not p.bus.connected
        redis.start()
        async with asyncio.timeout(PATIENCE):
            await p.bus.wait_connected()
        await until(p.fresh)
        assert p.gaps == 1


async def test_flushing_redis_changes_nothing(redis: RedisServer) -> None:
    async with process(redis) as a, process(redis) as b:
        redis.ask("FLUSHALL")
        await a.bus.publish(ADA, News.WITHDRAWN)
        await until(lambda: len(b.heard) == 1)
        assert b.bus.stats.losses == 0


async def test_a_flood_of_messages_does_not_end_freshness(redis: RedisServer) -> None:
    async with process(redis) as p:
        script = f"for i=1,5000 do redis.call('PUBLISH', '{CHANNEL}', i) end"
        redis.ask("EVAL", script, "0")
        await until(lambda: p.bus.stats.unreadable == 5000)
        await until(p.fresh)
        assert p.bus.stats.losses == 0


async def test_without_redis_it_reaches_this_process_and_never_claims_more() -> None:
    heard: list[Revocation] = []
    async with Revocations() as bus:
        bus.subscribe(heard.append)
        assert not await bus.publish(ADA, News.WITHDRAWN)
        assert heard == [Revocation(ADA, News.WITHDRAWN)]
        assert not bus.fresh(asyncio.get_running_loop().time())
        assert bus.stats.unsent == 0
        assert not bus.connected


async def test_nothing_is_called_after_closing(redis: RedisServer) -> None:
    async with process(redis) as a, process(redis) as b:
        await b.bus.close()
        await a.bus.publish(ADA, News.CHANGED)
        await until(lambda: len(a.heard) == 1)
        assert b.heard == []
        await b.bus.close()


async def test_closing_does_not_wait_for_a_server_that_hangs(redis: RedisServer) -> None:
    async with asyncio.timeout(PATIENCE):
        async with process(redis) as p:
            redis.hang()
            p.database = [False] * 1000
        redis.resume()


@pytest.mark.uvloop
async def test_it_works_on_the_servers_own_loop(redis: RedisServer) -> None:
    async with process(redis) as a, process(redis) as b:
        await a.bus.publish(ADA, News.WITHDRAWN)
        await until(lambda: len(b.heard) == 1)
        redis.kill()
        await until(lambda: not b.fresh())
        redis.start()
        await until(b.fresh)


async def test_unfit_arguments_are_refused(redis: RedisServer) -> None:
    with pytest.raises(ValueError, match="0 < beat < lease"):
        Revocations(lease=0.1, beat=0.1)
    with pytest.raises(ValueError, match="both, or neither"):
        Revocations(redis.url)
    link = RedisLink(redis.url)
    with pytest.raises(RedisUrlError):
        Revocations("http://localhost", link=link)
    await link.close()
