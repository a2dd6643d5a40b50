"""Tells every server process of voices that were revoked, erased or changed.

Order matters to whoever publishes: first the database, then the bus. Redis's pub/sub forgets
whatever nobody listens to, so a listener also knows when it may have missed something: it then
has everything looked up again (``on_gap``), and :meth:`Revocations.fresh` says no meanwhile.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Final, Self

import structlog
from redis.asyncio.client import PubSub, Redis
from redis.exceptions import RedisError

from ringtrue.streaming.lifetime import Closing
from ringtrue.voices.cache.bus import CHANNEL, News, Revocation, packed, unpacked
from ringtrue.voices.cache.errors import RedisLinkError
from ringtrue.voices.cache.freshness import Freshness
from ringtrue.voices.cache.link import RedisLink, close_quietly, redis_client

log = structlog.get_logger(__name__)

LEASE: Final = 0.4
"""Seconds for which it counts as known that nothing was missed."""

BEAT: Final = 0.1
"""Seconds between pings on the subscription."""

DEAD: Final = 1.0
"""A ping unanswered, with nothing else heard, for this many seconds ends the subscription."""

FIRST_WAIT: Final = 0.1
LONGEST_WAIT: Final = 1.0
"""Pauses between attempts to subscribe, doubling, in seconds."""

MAX_UNSENT: Final = 1000
"""Voices whose news is kept while Redis is away."""

OnRevoked = Callable[[Revocation], None]
OnGap = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class BusStats:
    """Counters since the bus was opened."""

    published: int = 0
    """Told to Redis."""

    heard: int = 0
    """From other processes."""

    unreadable: int = 0
    """Messages that were none of ours."""

    subscriptions: int = 0
    """Times the subscription began."""

    losses: int = 0
    """Times it ended, or could not begin."""

    checks_failed: int = 0
    """Times a listener's ``on_gap`` failed; it is called again."""

    unsent: int = 0
    """Voices whose news Redis was not told yet; current value."""


@dataclass(frozen=True, slots=True, eq=False)
class _Listener:
    on_revoked: OnRevoked
    on_gap: OnGap | None


class Revocations(Closing):
    """The bus, as one process sees it. Use as ``async with``; all calls from one event loop.

    Without Redis it reaches this process only, and :meth:`fresh` is always a no: another process
    (a command, a second server) may write to the same database.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        link: RedisLink | None = None,
        lease: float = LEASE,
        beat: float = BEAT,
    ) -> None:
        """``url`` is subscribed to, ``link`` to the same Redis publishes; both or neither.

        ``lease`` and ``beat`` are in seconds. Raises
        :class:`~ringtrue.voices.cache.errors.RedisUrlError`, and :class:`ValueError` where the
        lease is not longer than the beat.
        """
        if (url is None) != (link is None):
            raise ValueError("url and link belong together: give both, or neither")
        if not 0 < beat < lease:
            raise ValueError(f"lease {lease} s, beat {beat} s; allowed: 0 < beat < lease")
        # Connecting may take longer than a command: nobody waits for it.
        self._client = None if url is None else redis_client(url, timeout=DEAD)
        self._link = link
        self._beat = beat
        self._freshness = Freshness(lease)
        self._origin = secrets.token_hex(8)
        self._listeners: dict[_Listener, None] = {}
        self._unsent: dict[str, Revocation] = {}
        self._task: asyncio.Task[None] | None = None
        self._began = asyncio.Event()
        self._stats = BusStats()

    async def __aenter__(self) -> Self:
        """Start subscribing; Redis need not be there yet."""
        if self._client is not None and self._task is None:
            self._task = asyncio.create_task(self._run(self._client), name="revocations")
        return self

    @property
    def stats(self) -> BusStats:
        """Live counters."""
        self._stats.unsent = len(self._unsent)
        return self._stats

    @property
    def connected(self) -> bool:
        """Whether the subscription stands, as far as is known."""
        return self._began.is_set()

    async def wait_connected(self) -> None:
        """Return once the subscription stands; without Redis, never."""
        await self._began.wait()

    def fresh(self, now: float) -> bool:
        """Whether everything published up to ``now`` less the lease was certainly heard.

        ``now`` is loop time. A no means: ask the database. It is no from the lease's end after
        Redis stopped answering until it answers again *and* every ``on_gap`` has returned. It says
        nothing of a publisher that was itself cut off from Redis, so ask the database now and
        then in any case.
        """
        return self._freshness.fresh(now)

    def subscribe(self, on_revoked: OnRevoked, on_gap: OnGap | None = None) -> Callable[[], None]:
        """Be told of every revocation, on the loop; returns what ends it.

        ``on_revoked`` must be quick. ``on_gap`` is called whenever news may have been missed:
        look up whatever matters and return, or raise to be called again.
        """
        listener = _Listener(on_revoked, on_gap)
        self._listeners[listener] = None
        return lambda: self._unsubscribe(listener)

    async def publish(self, voice: str, news: News) -> bool:
        """Tell everybody; this process's own listeners before anything is awaited.

        False where Redis could not be told in time, or there is none. Then it is told once it is
        back, as long as this process lives, and others know meanwhile that they are not fresh.
        """
        revocation = Revocation(voice, news)
        self._tell(revocation)
        if self._link is None:
            return False
        sent = False
        try:
            sent = await self._send(revocation)
        finally:
            if not sent:
                self._keep(revocation)
        return sent

    async def close(self) -> None:
        """End the subscription; nothing is called any more. Idempotent."""
        self._listeners.clear()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if self._client is not None:
            await close_quietly(self._client)

    def _unsubscribe(self, listener: _Listener) -> None:
        self._listeners.pop(listener, None)

    def _tell(self, revocation: Revocation) -> None:
        for listener in tuple(self._listeners):
            try:
                listener.on_revoked(revocation)
            except Exception as error:  # one listener's fault must not keep it from the others
                log.error("revocation_listener_failed", error=type(error).__name__)

    async def _send(self, revocation: Revocation) -> bool:
        if self._link is None:
            return False
        message = packed(revocation, self._origin)
        try:
            await self._link.command("PUBLISH", CHANNEL, message, urgent=True)
        except RedisLinkError as error:
            log.warning("revocation_unsent", voice=revocation.voice, error=str(error))
            return False
        self._stats.published += 1
        self._unsent.pop(revocation.voice, None)
        return True

    def _keep(self, revocation: Revocation) -> None:
        # One news per voice: each says the same, look it up again.
        self._unsent.pop(revocation.voice, None)
        self._unsent[revocation.voice] = revocation
        if len(self._unsent) > MAX_UNSENT:
            self._unsent.pop(next(iter(self._unsent)))
            log.warning("revocation_not_announced")

    async def _run(self, client: Redis) -> None:
        wait = FIRST_WAIT
        while True:
            begun_before = self._stats.subscriptions
            try:
                await self._subscribed(client)
            except (RedisError, OSError, TimeoutError, _LostError) as error:
                if self._began.is_set() or wait == FIRST_WAIT:
                    log.warning("revocations_lost", error=type(error).__name__)
            except Exception as error:  # whatever else a broken server makes the library raise
                log.error("revocations_failed", error=type(error).__name__)
            self._began.clear()
            self._freshness.lost()
            self._stats.losses += 1
            if self._stats.subscriptions > begun_before:
                wait = FIRST_WAIT
            await asyncio.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT)

    async def _subscribed(self, client: Redis) -> None:
        """Hold one subscription until it is lost; never returns."""
        pubsub = client.pubsub()
        chores: set[asyncio.Task[None]] = set()
        try:
            async with asyncio.timeout(DEAD):
                await pubsub.subscribe(CHANNEL)
            await self._listen(pubsub, chores)
        finally:
            for chore in chores:
                chore.cancel()
            await asyncio.gather(*chores, return_exceptions=True)
            await _end(pubsub)

    async def _listen(self, pubsub: PubSub, chores: set[asyncio.Task[None]]) -> None:
        loop = asyncio.get_running_loop()
        heard = next_beat = loop.time()
        confirmed = False
        while True:
            now = loop.time()
            # Behind many messages an answer may be late; a server that sends is not dead.
            waiting = not confirmed or self._freshness.unanswered(now) > DEAD
            if waiting and now - heard > DEAD:
                raise _LostError
            if confirmed and now >= next_beat:
                next_beat = now + self._beat
                await pubsub.ping(self._freshness.ping(now))
                if self._unsent and len(chores) < 2:
                    self._start(self._send_unsent(), chores)
            wait = max(0.0, next_beat - now) if confirmed else self._beat
            message = await pubsub.get_message(timeout=wait)
            if message is None:
                continue
            heard = loop.time()
            kind, data = message["type"], message["data"]
            if kind == "subscribe":
                if confirmed:  # the library connected anew by itself: something may be missed
                    raise _LostError
                confirmed = True
                self._begin(chores)
            elif kind == "pong":
                self._freshness.pong(data)
            elif kind == "message":
                self._hear(data)
            await asyncio.sleep(0)  # many messages at once must not hold the loop

    def _begin(self, chores: set[asyncio.Task[None]]) -> None:
        generation = self._freshness.begun()
        self._stats.subscriptions += 1
        self._began.set()
        log.info("revocations_subscribed", subscription=generation)
        self._start(self._check(generation), chores)

    def _hear(self, data: object) -> None:
        said = unpacked(data)
        if said is None:
            self._stats.unreadable += 1
            return
        revocation, origin = said
        if origin != self._origin:
            self._stats.heard += 1
            self._tell(revocation)

    async def _check(self, generation: int) -> None:
        """Have every listener look up what it may have missed; then the subscription counts."""
        left = list(self._listeners)
        wait = FIRST_WAIT
        while left:
            listener = left[0]
            if listener.on_gap is not None and listener in self._listeners:
                try:
                    await listener.on_gap()
                except Exception as error:
                    self._stats.checks_failed += 1
                    log.warning("revocations_check_failed", error=type(error).__name__)
                    await asyncio.sleep(wait)
                    wait = min(2 * wait, LONGEST_WAIT)
                    continue
            left.pop(0)
        self._freshness.checked(generation)

    async def _send_unsent(self) -> None:
        for revocation in tuple(self._unsent.values()):
            if not await self._send(revocation):
                return

    def _start(self, chore: Coroutine[None, None, None], chores: set[asyncio.Task[None]]) -> None:
        task = asyncio.create_task(chore, name="revocations-chore")
        chores.add(task)
        task.add_done_callback(chores.discard)


async def _end(pubsub: PubSub) -> None:
    try:
        async with asyncio.timeout(DEAD):
            await pubsub.aclose()  # type: ignore[no-untyped-call]
    except (RedisError, OSError, TimeoutError) as error:
        log.debug("redis_close_failed", error=type(error).__name__)


class _LostError(Exception):
    """The subscription can't be relied on any more."""
