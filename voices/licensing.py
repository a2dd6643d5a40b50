"""Looks at consents again and again while voices speak by them, and says when one is gone.

A :class:`Grant` holds for one *term* from the moment the look at the register began that allowed
it, so whatever happens in between (a withdrawal nobody told us of, a database that hangs) the
voice is silent one term later. While it is in use it is looked at several times a term: one query
for all voices tells which of them changed, and only those are weighed again, signatures and all;
the others every :data:`WEIGH_SECONDS`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

import structlog

from ringtrue.voices.consent.decision import Decision, Reason
from ringtrue.voices.consent.errors import ConsentError
from ringtrue.voices.consent.register import ConsentRegister

log = structlog.get_logger(__name__)

LOOKS: Final = 3
"""Looks in one term: that many must fail before a grant lapses."""

WEIGH_SECONDS: Final = 5.0
"""How often a consent is weighed again whose voice has not changed."""

QUESTIONS: Final = 2
"""Put to the register at once, besides one look: the store needs connections for other work too,
and voices that speak already don't wait behind those that are to."""

GRANT_SECONDS: Final = 2.0
"""How long a new grant may wait for the register."""

START_SECONDS: Final = 1.0
"""For so long a new grant may be late being renewed, its voice silent, by a register that is slow:
where many calls begin there is much to do, and a call whose voice is given up has it no more."""

_MOMENT: Final = 0.001

T = TypeVar("T")

Versions = Callable[[Collection[str]], Awaitable[Mapping[str, int]]]
"""Gives the present version of each voice (by id) that there still is."""


class ConsentRefusedError(ConsentError):
    """No consent lets this voice speak there and then."""

    def __init__(self, decision: Decision) -> None:
        """``decision`` is what the register answered."""
        super().__init__(f"no consent lets this voice speak here: {decision.reason}")
        self.decision = decision


@dataclass(frozen=True, slots=True)
class Question:
    """Who wants to speak with which voice, and what for."""

    tenant: str
    voice: str
    """Id of the voice."""

    agent: str
    purpose: str


OnLost = Callable[[Reason], None]


class Grant:
    """The register's standing answer to one question; shared by all leases that asked it."""

    __slots__ = ("_callbacks", "_expires", "_lost", "_until", "_users", "consent", "question")

    def __init__(self, question: Question) -> None:
        """Nothing is granted yet."""
        self.question = question
        self.consent = ""
        self._until = self._expires = float("-inf")
        self._lost: Reason | None = None
        self._callbacks: dict[OnLost, None] = {}
        self._users = 0

    @property
    def lost(self) -> Reason | None:
        """Why it is gone for good; None while it stands, even where it is late being renewed."""
        return self._lost

    def holds(self, now: float) -> bool:
        """Whether the voice may be heard at ``now``, in loop time."""
        return self._lost is None and now < self._until

    def on_lost(self, callback: OnLost) -> None:
        """Tell ``callback``, on the loop, once it is gone; at once where it is already."""
        if self._lost is not None:
            callback(self._lost)
        else:
            self._callbacks[callback] = None

    def forget(self, callback: OnLost) -> None:
        """Take :meth:`on_lost` back."""
        self._callbacks.pop(callback, None)

    def _extend(self, until: float) -> None:
        self._until = min(max(self._until, until), self._expires)

    def _allow(self, decision: Decision, looked: float, term: float, expires: float) -> None:
        self.consent = decision.serial or ""
        self._expires = expires
        self._extend(looked + term)

    def _lose(self, reason: Reason) -> None:
        if self._lost is not None:
            return
        self._lost = reason
        log.info("licence.lost", voice=self.question.voice, reason=reason.value)
        callbacks, self._callbacks = tuple(self._callbacks), {}
        for callback in callbacks:
            try:
                callback(reason)
            except Exception as error:  # one call's fault must not keep the others speaking
                log.error("licence.callback_failed", error=type(error).__name__)


@dataclass(slots=True)
class _Watched:
    grant: Grant
    version: int | None
    """Of the voice when its consent was last weighed; None: weigh it now."""

    weighed: float
    given: float
    """When it was granted, in loop time."""

    failed: bool = False
    """Whether the register said since then that it can't say."""


@dataclass(frozen=True, slots=True)
class _Answer:
    began: float
    """When the register was asked, in loop time: what it says is true of then."""

    version: int | None
    decision: Decision
    late: bool = False
    """Whether there was none in time."""


class ConsentWatch:
    """Gives grants and keeps them true. Serves one event loop; the work is one small task."""

    def __init__(
        self,
        register: ConsentRegister,
        versions: Versions,
        *,
        term: float,
        clock: Callable[[], datetime],
    ) -> None:
        """``term`` is in seconds; ``clock`` gives the time of day, with its zone."""
        self._register = register
        self._versions = versions
        self._term = term
        self._pause = term / LOOKS
        self._clock = clock
        self._watched: dict[Question, _Watched] = {}
        self._flights: dict[object, asyncio.Task[Any]] = {}
        self._questions = asyncio.Semaphore(QUESTIONS)
        self._one_look = asyncio.Semaphore(1)
        self._suspect = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.looks = 0
        """Looks taken since the start."""

    async def grant(self, question: Question) -> Grant:
        """Ask the register now. Give the grant back with :meth:`release`.

        Raises :class:`ConsentRefusedError`.
        """
        answer = await self._asked(question, patience=GRANT_SECONDS)
        if not answer.decision.allowed:
            raise ConsentRefusedError(answer.decision)
        known = self._watched.get(question)
        if known is None:
            now = asyncio.get_running_loop().time()
            known = _Watched(Grant(question), None, answer.began, now)
            self._watched[question] = known
        self._allowed(known, answer)
        known.grant._users += 1
        if self._task is None:
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._run(), name="consent-watch")
        return known.grant

    def release(self, grant: Grant) -> None:
        """One user fewer; the last ends the watching."""
        grant._users -= 1
        known = self._watched.get(grant.question)
        if grant._users <= 0 and known is not None and known.grant is grant:
            del self._watched[grant.question]
            self._suspect.set()

    def suspect(self, voice: str) -> None:
        """Weigh the consents of ``voice`` at once: for any news of it, true or not."""
        for watched in self._watched.values():
            if watched.grant.question.voice == voice:
                watched.version = None
        self._suspect.set()

    def revoke(self, voice: str, reason: Reason) -> None:
        """It is known that nothing lets ``voice`` speak any more: end its grants at once."""
        for watched in tuple(self._watched.values()):
            if watched.grant.question.voice == voice:
                self._end(watched, reason)

    async def look(self) -> None:
        """Look at every grant now, as far as news of it may have been missed."""
        for watched in self._watched.values():
            watched.version = None
        if self._watched:
            await self._look()

    async def close(self) -> None:
        """End every grant and the task."""
        for watched in tuple(self._watched.values()):
            self._end(watched, Reason.UNAVAILABLE)
        task, self._task = self._task, None
        running = [*self._flights.values(), *([] if task is None else [task])]
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._watched:
            due = loop.time() + self._pause
            ends = min(watched.grant._expires for watched in self._watched.values())
            try:
                async with asyncio.timeout_at(min(due, ends + _MOMENT)):
                    await self._suspect.wait()
            except TimeoutError:
                pass
            self._suspect.clear()
            if self._watched:
                await self._look()
        self._task = None

    async def _look(self) -> None:
        self.looks += 1
        loop = asyncio.get_running_loop()
        began = loop.time()
        failed = False
        try:
            await self._renew(began)
        except Exception as error:  # fail closed: nothing is extended
            failed = not isinstance(error, TimeoutError)
            log.warning("licence.look_failed", error=type(error).__name__)
        now = loop.time()
        for watched in tuple(self._watched.values()):
            expired = now >= watched.grant._expires
            # Only where a whole look after its end has failed: a loop that was held up is no
            # reason to take a voice away.
            late = not watched.grant.holds(now) and began >= watched.grant._until
            hopeless = expired or failed or watched.failed
            if late and (hopeless or now >= watched.given + START_SECONDS):
                self._end(watched, Reason.EXPIRED if expired else Reason.UNAVAILABLE)

    async def _renew(self, began: float) -> None:
        """Extend the grants of voices that have not changed, and weigh the others again."""
        voices = frozenset(watched.grant.question.voice for watched in self._watched.values())
        read, versions = await self._flown(
            voices, lambda: self._versions(voices), self._one_look, patience=self._pause
        )
        doubtful = []
        for watched in tuple(self._watched.values()):
            version = versions.get(watched.grant.question.voice)
            age = began - watched.weighed
            unchanged = version is not None and version == watched.version
            # Many may be due at once: one whose turn has not come yet is not in doubt.
            if unchanged and not watched.failed and age < 2 * WEIGH_SECONDS:
                watched.grant._extend(read + self._term)
            if not unchanged or age >= WEIGH_SECONDS:
                doubtful.append(self._weigh(watched))
        await asyncio.gather(*doubtful)

    async def _weigh(self, watched: _Watched) -> None:
        answer = await self._asked(watched.grant.question, patience=self._pause)
        if answer.decision.allowed:
            self._allowed(watched, answer)
        elif answer.decision.reason is not Reason.UNAVAILABLE:
            self._end(watched, answer.decision.reason)
        elif not answer.late:
            watched.failed = True

    def _allowed(self, watched: _Watched, answer: _Answer) -> None:
        watched.version, watched.weighed = answer.version, answer.began
        watched.failed = False
        remaining = float("inf")
        if answer.decision.until is not None:
            remaining = (answer.decision.until - self._clock()).total_seconds()
        now = asyncio.get_running_loop().time()
        watched.grant._allow(answer.decision, answer.began, self._term, now + remaining)

    async def _asked(self, question: Question, *, patience: float) -> _Answer:
        """What the register says; whatever it can't say in time is a no."""

        async def ask() -> tuple[int | None, Decision]:
            # The version first, so that a change meanwhile is seen as one.
            version = (await self._versions([question.voice])).get(question.voice)
            decision = await self._register.decide(
                tenant=question.tenant,
                voice=question.voice,
                agent=question.agent,
                purpose=question.purpose,
                now=self._clock(),
            )
            return version, decision

        try:
            began, (version, decision) = await self._flown(
                question, ask, self._questions, patience=patience
            )
        except Exception as error:  # fail closed
            log.warning("licence.register_unavailable", error=type(error).__name__)
            now, late = asyncio.get_running_loop().time(), isinstance(error, TimeoutError)
            return _Answer(now, None, Decision(Reason.UNAVAILABLE), late)
        return _Answer(began, version, decision)

    async def _flown(
        self,
        key: object,
        work: Callable[[], Awaitable[T]],
        slots: asyncio.Semaphore,
        *,
        patience: float,
    ) -> tuple[float, T]:
        """The outcome of ``work`` and when it began, shared by all who ask for ``key`` meanwhile.

        It waits for one of ``slots``.

        Raises what it raises, and TimeoutError where it takes too long: it is left to end by
        itself, because a query that is broken off costs its connection.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = asyncio.get_running_loop().create_task(
                self._fly(work, slots), name="consent-query"
            )
            self._flights[key] = flight
            flight.add_done_callback(lambda done: self._landed(key, done))
        await asyncio.wait({flight}, timeout=patience)
        if not flight.done():
            raise TimeoutError
        began, outcome = flight.result()
        return began, outcome

    async def _fly(
        self, work: Callable[[], Awaitable[T]], slots: asyncio.Semaphore
    ) -> tuple[float, T]:
        async with slots:
            began = asyncio.get_running_loop().time()
            return began, await work()

    def _landed(self, key: object, flight: asyncio.Task[Any]) -> None:
        self._flights.pop(key, None)
        if not flight.cancelled():
            flight.exception()  # told to whoever waited

    def _end(self, watched: _Watched, reason: Reason) -> None:
        self._watched.pop(watched.grant.question, None)
        watched.grant._lose(reason)
