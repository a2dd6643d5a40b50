"""Enrolments under way: from the challenge to the voice, owned by the server and not by a request.

An enrolment outlives the connection that began it. States are kept for a while after the end, a
bounded number of them, in memory: after a restart an unfinished one is begun anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol

import structlog

from ringtrue.agent.held_work import HeldWork, Register
from ringtrue.agent.problems import Problem, busy, problem_of, wrong
from ringtrue.voices.consent.challenge import IssuedChallenge
from ringtrue.voices.consent.records import ConsentArtifact
from ringtrue.voices.engine import OnProgress, Progress
from ringtrue.voices.enrolment.errors import EnrolmentRefused, RecordingError
from ringtrue.voices.enrolment.findings import Finding
from ringtrue.voices.store.profile import Voice

log = structlog.get_logger(__name__)

WORKERS: Final = 1
"""Enrolments computed at once."""

WAITING: Final = 4
"""Enrolments that may wait for that, each with its recordings in memory."""

PER_TENANT: Final = 2
"""Of those running and waiting, how many may be one tenant's."""

AWAITING_PER_TENANT: Final = 100
"""Challenges of one tenant without recordings yet."""

KEPT: Final = 1000
"""Enrolments remembered in all; the oldest finished are forgotten first."""

UNCHECKED: Final = "not every check could be made, so nothing was made of the recordings"
"""Said where no check failed and not all were made."""


class State(StrEnum):
    """How far an enrolment is."""

    AWAITING_RECORDINGS = "awaiting_recordings"
    QUEUED = "queued"
    RUNNING = "running"
    ENROLLED = "enrolled"
    REFUSED = "refused"
    """By a check, or by the challenge; see the findings or the problem."""

    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    """No recordings came before the challenge's end."""

    @property
    def over(self) -> bool:
        """Whether it is a last state."""
        return self not in (State.AWAITING_RECORDINGS, State.QUEUED, State.RUNNING)


@dataclass(frozen=True, slots=True)
class Terms:
    """What is to be enrolled."""

    name: str = field(repr=False)
    purpose: str = field(repr=False)
    agents: tuple[str, ...] = ("*",)
    engine: str = "embedded-1"
    language: str = "en"
    expires: datetime | None = None
    """Of the consent; None: as the settings say."""

    voice: str | None = None
    """Id of the voice whose consent is renewed; None: a new voice."""


@dataclass(slots=True, eq=False, kw_only=True)
class Enrolment(HeldWork):
    """One enrolment as it stands."""

    asked_by: str
    terms: Terms
    challenge_expires: datetime
    state: State = State.AWAITING_RECORDINGS
    progress: Progress = Progress(0.0, "waiting for the recordings")
    findings: tuple[Finding, ...] = ()
    problem: Problem | None = None
    voice: str | None = None
    """Id of the voice, once there is one."""

    similarity: float | None = None
    """Cosine between the recording and the cloned voice, where the desk told it."""

    @property
    def over(self) -> bool:
        """Whether its state is a last one."""
        return self.state.over


class EnrolledVoice(Protocol):
    """What a desk gives for an enrolment that passed."""

    @property
    def voice(self) -> Voice:
        """The new voice, live."""
        ...

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Of every check."""
        ...

    @property
    def similarity(self) -> float:
        """Cosine of the cloned voice to the recorded one."""
        ...


class Desk(Protocol):
    """What enrols: see :class:`ringtrue.voices.enrolment.desk.EnrolmentDesk`."""

    async def begin(
        self, tenant: str, *, name: str, purpose: str, now: datetime
    ) -> IssuedChallenge:
        """Issue a challenge."""
        ...

    async def enrol(
        self,
        tenant: str,
        token: str,
        *,
        name: str,
        purpose: str,
        statement: bytes,
        speech: bytes,
        agents: tuple[str, ...],
        engine: str,
        language: str,
        expires: datetime | None,
        asked_by: str,
        now: datetime,
        on_progress: OnProgress,
    ) -> EnrolledVoice:
        """Check the recordings and make the voice."""
        ...

    async def renew(
        self,
        tenant: str,
        voice: str,
        token: str,
        *,
        name: str,
        purpose: str,
        statement: bytes,
        agents: tuple[str, ...],
        expires: datetime | None,
        asked_by: str,
        now: datetime,
    ) -> ConsentArtifact:
        """Check a new statement and renew the consent."""
        ...


@dataclass(frozen=True, slots=True)
class _Job:
    enrolment: Enrolment
    token: str = field(repr=False)
    statement: bytes = field(repr=False)
    speech: bytes = field(repr=False)


class Enrolments:
    """Begins, runs and remembers enrolments. Serves one event loop."""

    def __init__(
        self,
        desk: Callable[[], Desk],
        *,
        clock: Callable[[], datetime],
        workers: int = WORKERS,
        waiting: int = WAITING,
    ) -> None:
        """``desk`` gives the one to use, or raises; ``clock`` the time of day, with its zone."""
        self._desk = desk
        self._clock = clock
        self._count = workers
        self._queue: asyncio.Queue[_Job] = asyncio.Queue(maxsize=waiting)
        self._known: Register[Enrolment] = Register("enrolment", kept=KEPT, clock=clock)
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False

    async def close(self) -> None:
        """Cancel everything, and take nothing more. Idempotent."""
        self._closed = True
        for enrolment in self._known.all():
            if not enrolment.over:
                self._end(enrolment, State.CANCELLED)
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def begin(
        self, tenant: str, asked_by: str, terms: Terms
    ) -> tuple[Enrolment, IssuedChallenge]:
        """A challenge, and the enrolment that waits for its recordings.

        Raises :class:`~ringtrue.agent.problems.Problem` where there are too many and what the
        desk raises.
        """
        if self._closed:
            raise busy("the server is stopping", 30)
        self._tidy()
        awaiting = self._of(tenant, State.AWAITING_RECORDINGS)
        if len(awaiting) >= AWAITING_PER_TENANT:
            raise busy(
                f"{AWAITING_PER_TENANT} challenges of this tenant are waiting for recordings",
                60,
                status=429,
            )
        if self._known.full:
            raise busy("too many enrolments are under way", 60)
        now = self._clock()
        try:
            issued = await self._desk().begin(
                tenant, name=terms.name, purpose=terms.purpose, now=now
            )
        except ValueError as error:  # says whether it is the name or the purpose, and why
            field = "name" if str(error).startswith("name") else "purpose"
            raise wrong(field, getattr(terms, field), str(error)) from None
        enrolment = Enrolment(
            id=issued.challenge.id,
            tenant=tenant,
            asked_by=asked_by,
            terms=terms,
            challenge_expires=issued.challenge.expires,
            changed_at=now,
        )
        self._known.add(enrolment)
        return enrolment, issued

    def submit(
        self, tenant: str, enrolment_id: str, token: str, statement: bytes, speech: bytes
    ) -> Enrolment:
        """Queue the recordings of an enrolment that waits for them.

        Raises :class:`~ringtrue.agent.problems.Problem`.
        """
        enrolment = self.ready(tenant, enrolment_id)
        if self._closed:
            raise busy("the server is stopping", 30)
        if not token.startswith(f"{enrolment.id}."):
            raise Problem(422, "challenge", "the token is not this enrolment's", reason="mismatch")
        if len(self._of(tenant, State.QUEUED, State.RUNNING)) >= PER_TENANT:
            raise busy(f"{PER_TENANT} enrolments of this tenant are under way", 30, status=429)
        try:
            self._queue.put_nowait(_Job(enrolment, token, statement, speech))
        except asyncio.QueueFull:
            raise busy("too many enrolments are under way", 30) from None
        self._start()
        enrolment.progress = Progress(0.0, "waiting for its turn")
        self._change(enrolment, State.QUEUED)
        return enrolment

    def ready(self, tenant: str, enrolment_id: str) -> Enrolment:
        """An enrolment of ``tenant`` that waits for its recordings.

        Raises :class:`~ringtrue.agent.problems.Problem`.
        """
        enrolment = self.get(tenant, enrolment_id)
        if enrolment.state is State.EXPIRED:
            raise Problem(410, "challenge-expired", "the challenge has expired; begin anew")
        if enrolment.state is not State.AWAITING_RECORDINGS:
            raise Problem(
                409, "conflict", f"this enrolment is {enrolment.state}; it takes no recordings"
            )
        return enrolment

    def get(self, tenant: str, enrolment_id: str) -> Enrolment:
        """An enrolment of ``tenant``.

        Raises :class:`~ringtrue.agent.problems.Problem` (404) where there is none.
        """
        self._tidy()
        return self._known.get(tenant, enrolment_id)

    async def wait(self, tenant: str, enrolment_id: str, after: int, seconds: float) -> Enrolment:
        """The enrolment once its version is above ``after``, or as it is after ``seconds``."""
        return await self._known.wait(self.get(tenant, enrolment_id), after, seconds)

    def cancel(self, tenant: str, enrolment_id: str) -> Enrolment:
        """Stop it, whatever it is doing; one that is over stays as it was."""
        enrolment = self.get(tenant, enrolment_id)
        if not enrolment.over:
            self._end(enrolment, State.CANCELLED)
        return enrolment

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        while len(self._tasks) < self._count:
            name = f"enrolments-{len(self._tasks)}"
            self._tasks.append(loop.create_task(self._work(), name=name))

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            job = await self._queue.get()
            if job.enrolment.state is not State.QUEUED:
                continue
            task = job.enrolment.task = loop.create_task(self._run(job), name="enrolment")
            del job  # or its recordings would be kept until the next one comes
            try:
                await asyncio.wait({task})
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _run(self, job: _Job) -> None:
        enrolment = job.enrolment
        self._progress(enrolment, Progress(0.0, "listening to the recordings"))
        self._change(enrolment, State.RUNNING)
        try:
            await self._enrol(job)
        except EnrolmentRefused as refusal:
            enrolment.findings = refusal.findings
            enrolment.problem = Problem(422, "recordings-refused", str(refusal) or UNCHECKED)
            self._end(enrolment, State.REFUSED)
        except RecordingError as error:
            enrolment.problem = Problem(422, "unreadable-recording", str(error))
            self._end(enrolment, State.REFUSED)
        except Exception as error:  # whatever it is, the enrolment is told it
            enrolment.problem = problem_of(error)
            server = enrolment.problem.status >= 500
            self._end(enrolment, State.FAILED if server else State.REFUSED)
        finally:
            if not enrolment.over:
                self._end(enrolment, State.CANCELLED)

    async def _enrol(self, job: _Job) -> None:
        enrolment, terms = job.enrolment, job.enrolment.terms
        loop = asyncio.get_running_loop()

        def on_progress(progress: Progress) -> None:
            loop.call_soon_threadsafe(self._progress, enrolment, progress)

        if terms.voice is not None:
            await self._desk().renew(
                enrolment.tenant,
                terms.voice,
                job.token,
                name=terms.name,
                purpose=terms.purpose,
                statement=job.statement,
                agents=terms.agents,
                expires=terms.expires,
                asked_by=enrolment.asked_by,
                now=self._clock(),
            )
            enrolment.voice = terms.voice
        else:
            done = await self._desk().enrol(
                enrolment.tenant,
                job.token,
                name=terms.name,
                purpose=terms.purpose,
                statement=job.statement,
                speech=job.speech,
                agents=terms.agents,
                engine=terms.engine,
                language=terms.language,
                expires=terms.expires,
                asked_by=enrolment.asked_by,
                now=self._clock(),
                on_progress=on_progress,
            )
            enrolment.voice = done.voice.id
            enrolment.findings, enrolment.similarity = done.findings, done.similarity
        enrolment.progress = Progress(1.0, "done")
        self._end(enrolment, State.ENROLLED)

    def _progress(self, enrolment: Enrolment, progress: Progress) -> None:
        if enrolment.over:
            return
        done = min(1.0, max(enrolment.progress.done, progress.done))
        enrolment.progress = Progress(done, progress.doing)
        self._change(enrolment, enrolment.state)

    def _end(self, enrolment: Enrolment, state: State) -> None:
        if enrolment.over:
            return
        self._change(enrolment, state)
        log.info("enrolment.over", enrolment=enrolment.id, state=state.value)
        task, enrolment.task = enrolment.task, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    def _change(self, enrolment: Enrolment, state: State) -> None:
        enrolment.state = state
        self._known.changed(enrolment)

    def _of(self, tenant: str, *states: State) -> list[Enrolment]:
        return [e for e in self._known.all() if e.tenant == tenant and e.state in states]

    def _tidy(self) -> None:
        """Let what is due expire, and forget what is old."""
        now = self._clock()
        for enrolment in self._known.all():
            awaiting = enrolment.state is State.AWAITING_RECORDINGS
            if awaiting and enrolment.challenge_expires <= now:
                self._end(enrolment, State.EXPIRED)
        self._known.tidy()
