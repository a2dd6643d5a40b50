"""One bounded way to Redis: every command has a deadline, and a breaker guards them all.

Nothing here retries: whoever asks has another source, and the breaker finds out when Redis is
back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import structlog
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from ringtrue.voices.cache.breaker import Breaker, BreakerState
from ringtrue.voices.cache.errors import RedisLinkError, RedisUrlError

log = structlog.get_logger(__name__)

TIMEOUT: Final = 0.1
"""Longest a command may take, in seconds, connecting included."""

CONCURRENCY: Final = 8
"""Commands on their way at once, each on a connection of its own."""

_CLOSING: Final = 1.0
_OPTIONS: Final = frozenset(
    {
        "db",
        "username",
        "password",
        "ssl_ca_certs",
        "ssl_certfile",
        "ssl_keyfile",
        "ssl_cert_reqs",
        "ssl_check_hostname",
    }
)

Clock = Callable[[], float]


def loop_time() -> float:
    """Seconds on the running loop's monotonic clock."""
    return asyncio.get_running_loop().time()


def redis_client(url: str, *, timeout: float = TIMEOUT) -> Redis:
    """A client for ``url`` that never retries and waits at most ``timeout`` s for the network.

    Nothing is connected yet. Raises :class:`RedisUrlError`.
    """
    shown = "the Redis URL"
    try:
        parts = urlsplit(url)
        unknown = sorted(set(parse_qs(parts.query)) - _OPTIONS)
        options: dict[str, Any] = dict(parse_url(url))
    except ValueError as error:
        raise RedisUrlError(
            f"{shown} can't be used ({error}); "
            "allowed: redis://, rediss:// or unix:// with a host or a path"
        ) from None
    if unknown:
        raise RedisUrlError(
            f"{shown} has the options {', '.join(unknown)}; allowed: {', '.join(sorted(_OPTIONS))}"
        )
    if not (parts.path if parts.scheme == "unix" else parts.hostname):
        raise RedisUrlError(f"{shown} names no host or path; e.g. redis://127.0.0.1:6379/0")
    # RESP2 is what every server speaks, and leaves the library's own maintenance hooks out.
    options |= {
        "protocol": 2,
        "decode_responses": False,
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
    }
    # The link bounds connections itself: a pool at its limit would raise instead of waiting.
    return Redis(connection_pool=ConnectionPool(**options))


async def close_quietly(client: Redis) -> None:
    """Close a client and its connections within a second, whatever state they are in."""
    try:
        async with asyncio.timeout(_CLOSING):
            await client.aclose()
            await client.connection_pool.disconnect()
    except (RedisError, OSError, TimeoutError) as error:
        log.warning("redis_close_failed", error=type(error).__name__)


@dataclass(slots=True)
class LinkStats:
    """Counters since the link was made."""

    commands: int = 0
    """Sent, or at least tried."""

    failures: int = 0
    """Of these: no connection, or no answer in time."""

    refusals: int = 0
    """Of these: answered with an error."""

    skipped: int = 0
    """Not even tried, because the breaker was open or too many were waiting."""


class RedisLink:
    """Sends commands. Make it inside the loop it is used in."""

    def __init__(
        self,
        url: str,
        *,
        timeout: float = TIMEOUT,
        concurrency: int = CONCURRENCY,
        breaker: Breaker | None = None,
        clock: Clock = loop_time,
    ) -> None:
        """``timeout`` in seconds bounds each command. Raises :class:`RedisUrlError`."""
        self._client = redis_client(url, timeout=timeout)
        self._timeout = timeout
        self._slots = asyncio.Semaphore(concurrency)
        self._breaker = breaker or Breaker()
        self._clock = clock
        self.stats = LinkStats()

    @property
    def state(self) -> BreakerState:
        """The breaker's state."""
        return self._breaker.state

    async def command(self, *words: str | bytes | int, urgent: bool = False) -> Any:
        """Send one command and return its answer, bytes undecoded.

        ``urgent`` ones are tried even while the breaker is open. Raises :class:`RedisLinkError`
        within the timeout, and nothing else.
        """
        asked = False
        try:
            async with asyncio.timeout(self._timeout), self._slots:
                if not self._breaker.allow(self._clock()) and not urgent:
                    raise _SkippedError
                asked = True
                self.stats.commands += 1
                answer = await self._client.execute_command(*words)  # type: ignore[no-untyped-call]
        except asyncio.CancelledError:
            if asked:
                self._breaker.given_up()
            raise
        except _SkippedError:
            self.stats.skipped += 1
            raise RedisLinkError("Redis is left alone after failures") from None
        except ResponseError as error:
            # An error is an answer: the server is there, and quick.
            self._answered()
            self.stats.refusals += 1
            raise RedisLinkError(f"Redis refused {words[0]!s}: {error}") from None
        except Exception as error:  # whatever a server that isn't Redis makes the library raise
            if asked:
                self._unanswered(error)
            else:
                self.stats.skipped += 1
            raise RedisLinkError(f"no answer from Redis: {type(error).__name__}") from None
        self._answered()
        return answer

    def _answered(self) -> None:
        if self._breaker.state is not BreakerState.CLOSED:
            log.info("redis_back")
        self._breaker.succeeded()

    def _unanswered(self, error: Exception) -> None:
        self.stats.failures += 1
        was = self._breaker.state
        self._breaker.failed(self._clock())
        if was is BreakerState.CLOSED and self._breaker.state is BreakerState.OPEN:
            log.warning("redis_lost", error=type(error).__name__)

    async def close(self) -> None:
        """Close all connections. Idempotent."""
        await close_quietly(self._client)


class _SkippedError(Exception):
    """The breaker said no."""
