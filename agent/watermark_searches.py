"""Searches of uploaded recordings, owned by the server and not by a request.

A search runs in a process of its own, at low priority. Overflow policy: one runs, :data:`WAITING`
wait, and the next is refused (503); a tenant may have :data:`PER_TENANT` of them (429). Reports
are kept for a while, a bounded number of them, in memory; recordings only until they have been
searched.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

import structlog

from ringtrue.agent.held_work import HeldWork, Register
from ringtrue.agent.problems import Problem, busy
from ringtrue.agent.watermark_sessions import Session, Sessions
from ringtrue.voices.engine import Progress
from ringtrue.voices.errors import CloningAbortedError, CloningError, EngineBusyError
from ringtrue.voices.pool import JobLimits, JobPool
from ringtrue.voices.watermark.detector import MarkOrDetectionKey
from ringtrue.voices.watermark.examination import JOB, encode_request
from ringtrue.voices.watermark.report import Report

log = structlog.get_logger(__name__)

MAX_BYTES: Final = 30 * 1024 * 1024
"""Of one recording."""

MAX_SECONDS: Final = 3600.0
MAX_THOROUGH_SECONDS: Final = 300.0

WAITING: Final = 3
PER_TENANT: Final = 2
KEPT: Final = 200

_LIMITS: Final = JobLimits(waiting=WAITING, seconds=1800.0, cpu_seconds=1200)


class State(StrEnum):
    """How far a search is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def over(self) -> bool:
        """Whether it is a last state."""
        return self not in (State.QUEUED, State.RUNNING)


@dataclass(slots=True, eq=False, kw_only=True)
class Searching(HeldWork):
    """One search as it stands."""

    state: State = State.QUEUED
    progress: float = 0.0
    report: Report | None = None
    sessions: tuple[Session, ...] = ()
    """Of the tenant's own sessions, what the audit log knows."""

    problem: Problem | None = None

    @property
    def over(self) -> bool:
        """Whether its state is a last one."""
        return self.state.over


class Searches:
    """Begins, runs and remembers searches. Serves one event loop."""

    def __init__(
        self,
        keys: Callable[[], Sequence[MarkOrDetectionKey]],
        sessions: Sessions | None,
        *,
        clock: Callable[[], datetime],
        limits: JobLimits = _LIMITS,
    ) -> None:
        """``keys`` gives those to look for, or raises; ``clock`` the time of day, with its zone."""
        self._keys = keys
        self._sessions = sessions
        self._clock = clock
        self._pool = JobPool(limits)
        self._known: Register[Searching] = Register("search", kept=KEPT, clock=clock)

    async def close(self) -> None:
        """Cancel everything, and take nothing more. Idempotent."""
        tasks = [each.task for each in self._known.all() if each.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._pool.close()

    def check(self, tenant: str) -> None:
        """Whether another search may begin. Raises :class:`~ringtrue.agent.problems.Problem`."""
        self._known.tidy()
        going = [each for each in self._known.all() if not each.over]
        if sum(each.tenant == tenant for each in going) >= PER_TENANT:
            raise busy(f"{PER_TENANT} searches of this tenant are under way", 30, status=429)
        if len(going) > WAITING or self._known.full:
            raise busy("too many searches are under way", 30)

    def begin(self, tenant: str, recording: bytes, *, thorough: bool) -> Searching:
        """Search a recording. Raises :class:`~ringtrue.agent.problems.Problem`."""
        self.check(tenant)
        longest = MAX_THOROUGH_SECONDS if thorough else MAX_SECONDS
        request = encode_request(recording, self._keys(), thorough=thorough, longest=longest)
        search = Searching(id=secrets.token_hex(16), tenant=tenant, changed_at=self._clock())
        self._known.add(search)
        loop = asyncio.get_running_loop()
        search.task = loop.create_task(self._run(search, request), name="watermark-search")
        return search

    def get(self, tenant: str, search_id: str) -> Searching:
        """A search of ``tenant``.

        Raises :class:`~ringtrue.agent.problems.Problem` (404) where there is none.
        """
        self._known.tidy()
        return self._known.get(tenant, search_id)

    async def wait(self, tenant: str, search_id: str, after: int, seconds: float) -> Searching:
        """The search once its version is above ``after``, or as it is after ``seconds``."""
        return await self._known.wait(self.get(tenant, search_id), after, seconds)

    def cancel(self, tenant: str, search_id: str) -> Searching:
        """Stop it; one that is over stays as it was."""
        search = self.get(tenant, search_id)
        if not search.over and search.task is not None:
            search.task.cancel()
            self._change(search, State.CANCELLED)
        return search

    async def _run(self, search: Searching, request: bytes) -> None:
        def told(progress: Progress) -> None:
            if not search.over:
                search.progress = max(search.progress, progress.done)
                self._change(search, State.RUNNING)

        try:
            report = Report.from_json(await self._pool.run(JOB, request, told))
            search.sessions = await self._known_sessions(search.tenant, report)
            search.report = report
            search.progress = 1.0
            self._change(search, State.DONE)
            log.info("watermark.searched", search=search.id, found=report.found)
        except asyncio.CancelledError:
            self._change(search, State.CANCELLED)
            raise
        except EngineBusyError:
            self._fail(search, busy("too many searches are under way", 30))
        except CloningAbortedError as error:
            log.error("watermark.search_aborted", search=search.id, reason=str(error))
            self._fail(search, Problem(500, "aborted", "the search was broken off; begin anew"))
        except CloningError as error:
            self._fail(search, Problem(422, "unreadable-recording", str(error)))
        except Exception:  # whatever it is, who waits is told that it is over
            log.exception("watermark.search_failed", search=search.id)
            self._fail(search, Problem(500, "internal", "something went wrong on the server"))
        finally:
            search.task = None

    async def _known_sessions(self, tenant: str, report: Report) -> tuple[Session, ...]:
        if self._sessions is None:
            return ()
        found = []
        for token in report.tokens:
            session = await asyncio.to_thread(self._sessions.find, token.id)
            if session is not None and session.tenant == tenant:
                found.append(session)
        return tuple(found)

    def _fail(self, search: Searching, problem: Problem) -> None:
        search.problem = problem
        self._change(search, State.FAILED)

    def _change(self, search: Searching, state: State) -> None:
        if search.over:
            return
        search.state = state
        self._known.changed(search)
