from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from cached import PATIENCE, until

from peers.redis import RedisServer
from ringtrue.voices.cache.breaker import Breaker, BreakerState
from ringtrue.voices.cache.errors import RedisLinkError, RedisUrlError
from ringtrue.voices.cache.link import RedisLink


@pytest_asyncio.fixture
async def link(redis: RedisServer) -> AsyncIterator[RedisLink]:
    """A patient link: the machine may be busy."""
    made = RedisLink(redis.url, timeout=5.0)
    yield made
    await made.close()


async def test_commands_are_answered(link: RedisLink) -> None:
    assert await link.command("SET", "a", b"\x00\xff") is True
    assert await link.command("GET", "a") == b"\x00\xff"
    assert link.stats.commands == 2
    assert link.state is BreakerState.CLOSED


async def test_many_commands_share_few_connections(redis: RedisServer) -> None:
    link = RedisLink(redis.url, timeout=PATIENCE, concurrency=3)
    await asyncio.gather(*(link.command("INCR", "n") for _ in range(200)))
    clients = redis.ask("CLIENT", "LIST").decode().splitlines()
    assert redis.ask("GET", "n") == b"200"
    assert len([line for line in clients if "cmd=incr" in line]) == 3
    await link.close()


async def test_an_error_is_an_answer_and_leaves_the_breaker_closed(link: RedisLink) -> None:
    await link.command("RPUSH", "list", "x")
    for _ in range(10):
        with pytest.raises(RedisLinkError, match="WRONGTYPE"):
            await link.command("GET", "list")
    assert link.state is BreakerState.CLOSED
    assert link.stats.refusals == 10
    assert link.stats.failures == 0


async def test_a_dead_server_opens_the_breaker_and_is_left_alone(redis: RedisServer) -> None:
    link = RedisLink(redis.url, timeout=5.0, breaker=Breaker(first_pause=1e6, longest_pause=1e6))
    await link.command("PING")
    redis.kill()
    for _ in range(20):
        with pytest.raises(RedisLinkError):
            await link.command("PING")
    assert link.state is BreakerState.OPEN
    assert link.stats.failures == 3
    assert link.stats.skipped == 17
    await link.close()


async def test_it_finds_out_by_itself_that_the_server_is_back(redis: RedisServer) -> None:
    link = RedisLink(redis.url, timeout=5.0, breaker=Breaker(first_pause=0.01, longest_pause=0.05))
    redis.kill()
    for _ in range(3):
        with pytest.raises(RedisLinkError):
            await link.command("PING")
    redis.start()
    async with asyncio.timeout(PATIENCE):
        while link.state is not BreakerState.CLOSED:
            await asyncio.sleep(0.01)
            await asyncio.gather(link.command("PING"), return_exceptions=True)
    assert await link.command("SET", "a", "b") is True
    await link.close()


async def test_a_hanging_server_costs_the_timeout_and_answers_never_get_mixed_up(
    redis: RedisServer,
) -> None:
    clock = [0.0]
    link = RedisLink(redis.url, timeout=0.05, clock=lambda: clock[0])
    for name in "abc":
        redis.ask("SET", name, name * 3)
    redis.hang()
    async with asyncio.timeout(PATIENCE):
        for _ in range(3):
            with pytest.raises(RedisLinkError, match="no answer"):
                await link.command("GET", "a")
    assert link.stats.failures == 3
    redis.resume()
    clock[0] = 1e9  # the pause is over

    async def answer(name: str) -> bytes:
        while True:
            try:
                found: bytes = await link.command("GET", name)
            except RedisLinkError:
                clock[0] += 1e3
                await asyncio.sleep(0.005)
            else:
                return found

    # The answers to the commands given up on must not be taken for those of later ones.
    async with asyncio.timeout(PATIENCE):
        for _ in range(20):
            assert [await answer(name) for name in "cab"] == [b"ccc", b"aaa", b"bbb"]
    await link.close()


async def test_urgent_commands_are_tried_while_the_breaker_is_open(redis: RedisServer) -> None:
    link = RedisLink(redis.url, timeout=5.0, breaker=Breaker(first_pause=1e6, longest_pause=1e6))
    redis.kill()
    for _ in range(3):
        with pytest.raises(RedisLinkError):
            await link.command("PING")
    redis.start()
    with pytest.raises(RedisLinkError, match="left alone"):
        await link.command("PING")
    assert await link.command("SET", "a", "b", urgent=True) is True
    assert link.state is BreakerState.CLOSED
    await link.close()


async def test_a_cancelled_probe_does_not_keep_the_breaker_waiting(redis: RedisServer) -> None:
    clock = [0.0]
    link = RedisLink(
        redis.url, timeout=PATIENCE, breaker=Breaker(failures=1), clock=lambda: clock[0]
    )
    redis.kill()
    with pytest.raises(RedisLinkError):
        await link.command("PING")
    redis.start()
    redis.hang()
    clock[0] = 100.0
    probe = asyncio.create_task(link.command("PING"))
    await until(lambda: link.state is BreakerState.PROBING)
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    redis.resume()
    assert await link.command("SET", "a", "b") is True
    await link.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b":abc\r\n",
        b"$-7\r\n",
        b"*99\r\n",
        b"*1\r\n" * 5000,
        b"",
    ],
)
async def test_a_server_that_is_no_redis_raises_nothing_else(tmp_path: Path, answer: bytes) -> None:
    served = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(writer)
        await reader.read(1)
        writer.write(answer)
        writer.close()

    path = tmp_path / "s"
    async with await asyncio.start_unix_server(serve, path):
        link = RedisLink(f"unix://{path}", timeout=5.0)
        for _ in range(5):
            with pytest.raises(RedisLinkError):
                await link.command("GET", "a")
        await link.close()
    assert served
    assert link.stats.failures + link.stats.refusals >= 3


async def test_nothing_listens_at_all() -> None:
    link = RedisLink("unix:///nowhere/at/all.sock", timeout=5.0)
    with pytest.raises(RedisLinkError, match="no answer"):
        await link.command("PING")
    await link.close()
    await link.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "allowed: redis://"),
        ("http://localhost", "allowed: redis://"),
        ("redis://", "no host or path"),
        ("unix://", "no host or path"),
        ("redis://localhost:notaport", "can't be used"),
        ("redis://localhost/0?socket_timeout=1000", "socket_timeout; allowed: db"),
        ("redis://:hunter2@localhost/0?retry=5&protocol=3", "protocol, retry; allowed"),
        ("redis://:hunter2@localhost?db=x", "can't be used"),
    ],
)
async def test_unfit_urls_are_refused_and_never_shown(url: str, said: str) -> None:
    with pytest.raises(RedisUrlError, match=said.replace("?", r"\?")) as refused:
        RedisLink(url)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["redis://u:p@h:1/2", "rediss://h?ssl_ca_certs=/ca.pem", "unix:///s?db=3&password=p"]
)
async def test_usual_urls_are_taken(url: str) -> None:
    await RedisLink(url).close()
