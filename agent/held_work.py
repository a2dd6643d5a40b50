"""Long work that HTTP clients begin, watch and cancel: what is known of it, and for how long.

Held in memory, a bounded number: what has been over for long is forgotten, and the oldest of it
sooner where there is no room. Serves one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Final, Generic, TypeVar

from fastapi import Query

from ringtrue.agent.problems import Problem

KEEP: Final = timedelta(hours=1)
"""How long what is over is remembered."""

MAX_WAIT: Final = 30.0
"""Longest wait for a change, in seconds."""

After = Annotated[int, Query(ge=0, description="Answer once the version is above this.")]
Wait = Annotated[
    float, Query(ge=0, le=MAX_WAIT, description="Wait that many seconds for a change.")
]


@dataclass(slots=True, eq=False, kw_only=True)
class HeldWork(ABC):
    """One piece of work as it stands; :attr:`version` grows with every change."""

    id: str
    tenant: str
    changed_at: datetime
    version: int = 1
    task: asyncio.Task[None] | None = field(default=None, repr=False)
    """What does it, while it is done."""

    _changed: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    @property
    @abstractmethod
    def over(self) -> bool:
        """Whether nothing changes any more."""


WorkT = TypeVar("WorkT", bound=HeldWork)


class Register(Generic[WorkT]):
    """The pieces of one kind."""

    def __init__(self, kind: str, *, kept: int, clock: Callable[[], datetime]) -> None:
        """At most ``kept`` of them; ``kind`` names one in errors."""
        self._kind = kind
        self._kept = kept
        self._clock = clock
        self._known: dict[str, WorkT] = {}

    def __len__(self) -> int:
        return len(self._known)

    @property
    def full(self) -> bool:
        """Whether there is no room for another."""
        return len(self._known) >= self._kept

    def all(self) -> tuple[WorkT, ...]:
        """Every piece that is known."""
        return tuple(self._known.values())

    def add(self, work: WorkT) -> None:
        """Hold it; the caller has asked :attr:`full`."""
        self._known[work.id] = work

    def get(self, tenant: str, work_id: str) -> WorkT:
        """One of ``tenant``'s.

        Raises :class:`~ringtrue.agent.problems.Problem` (404) where there is none.
        """
        work = self._known.get(work_id)
        if work is None or work.tenant != tenant:
            raise Problem(404, f"no-such-{self._kind}", f"no {self._kind} {work_id[:80]!r}")
        return work

    @staticmethod
    async def wait(work: WorkT, after: int, seconds: float) -> WorkT:
        """Return ``work`` once its version is above ``after``, or as it is after ``seconds``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(seconds, MAX_WAIT)):
                while work.version <= after and not work.over:
                    await work._changed.wait()
        return work

    def changed(self, work: WorkT) -> None:
        """Wake up who waits for it."""
        work.version += 1
        work.changed_at = self._clock()
        changed, work._changed = work._changed, asyncio.Event()
        changed.set()

    def tidy(self) -> None:
        """Forget what has been over for long, or is the oldest of too many."""
        now = self._clock()
        over = sorted((w for w in self._known.values() if w.over), key=lambda w: w.changed_at)
        spare = len(self._known) - self._kept + 1
        for number, work in enumerate(over):
            if number < spare or now - work.changed_at > KEEP:
                del self._known[work.id]
