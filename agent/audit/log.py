"""The audit log as the rest of the process sees it: :meth:`AuditLog.record` and :attr:`writable`.

Recording is cheap, never waits and never raises: events go through a bounded queue to a thread
that writes them in groups, each made durable by one fsync. What doesn't fit is counted, and
written as a gap once there is room. While events can't be made durable, or some were lost,
:attr:`AuditLog.writable` is false: calls in progress go on, no cloned voice begins to speak.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

import structlog

from ringtrue.agent.audit.entries import Event, Kind
from ringtrue.agent.audit.errors import AuditError, LogBrokenError
from ringtrue.agent.audit.texts import TextKeeper
from ringtrue.agent.audit.witness import Herald, Witness
from ringtrue.agent.audit.writer import LogWriter, Pending, WriterPolicy
from ringtrue.voices.keys.signing import Signer

log = structlog.get_logger(__name__)

GROUP: Final = 256
"""Entries written at once: so many hold Python's lock for a few milliseconds at most."""


class Recorder(Protocol):
    """What those who record need of the log."""

    @property
    def writable(self) -> bool:
        """Whether what is recorded now is going to be kept."""
        ...

    def record(self, event: Event) -> None:
        """Record; never raises, never blocks."""
        ...


@dataclass(frozen=True, slots=True)
class LogPolicy:
    """How a log is written."""

    queue: int = 20_000
    """Events that may wait."""

    linger_seconds: float = 0.02
    """How long the first event of a group waits for more."""

    stall_seconds: float = 5.0
    """An event that waits longer than this for the disk makes the log unwritable."""

    retry_seconds: tuple[float, ...] = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
    """Pauses between attempts after a failure, the last one over and over."""

    witness_seconds: float = 5.0
    """How long a closing log waits for its witness."""

    writer: WriterPolicy = field(default_factory=WriterPolicy)


@dataclass(slots=True)
class LogStats:
    """Counters since the log was opened."""

    entries: int = 0
    """Made durable."""

    groups: int = 0
    checkpoints: int = 0
    lost: int = 0
    """Events that found the queue full, or could not be written as entries."""

    faults: int = 0
    """Times that the log became unwritable."""

    deepest: int = 0
    """Most events that waited at once."""


def _now() -> datetime:
    return datetime.now(UTC)


class AuditLog:
    """Writes one log from a thread, which begins with :meth:`start` or the first event."""

    def __init__(
        self,
        directory: Path,
        signer: Signer,
        texts: TextKeeper,
        *,
        trusted: Sequence[bytes] = (),
        witnesses: Sequence[Witness] = (),
        policy: LogPolicy | None = None,
        clock: Callable[[], datetime] = _now,
        on_fault: Callable[[str | None], None] | None = None,
    ) -> None:
        """Keep a log below ``directory``; nothing is touched yet.

        ``signer`` signs its checkpoints; ``trusted`` are further public keys that did so earlier;
        ``clock`` gives the time of day, with its zone; ``on_fault`` is told, on the writer's
        thread, why the log is not :attr:`writable`, and None when it is again.
        """
        self.directory = directory
        self.stats = LogStats()
        self._signer = signer
        self._texts = texts
        self._trusted = tuple(trusted)
        self._witnesses = tuple(witnesses)
        self._policy = policy or LogPolicy()
        self._clock = clock
        self._on_fault = on_fault
        self._queue: deque[Pending] = deque()
        self._group: list[Pending] = []
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._lock = threading.Lock()
        self._writer: LogWriter | None = None
        self._heralds: tuple[Herald, ...] = ()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._waiting_since: float | None = None
        self._failing: str | None = None
        self._failed_at = 0.0
        self._broken: str | None = None
        self._lost = 0
        self._idle: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[bool]]] = []

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        directory: Path,
        signer: Signer,
        texts: TextKeeper,
        *,
        trusted: Sequence[bytes] = (),
        witnesses: Sequence[Witness] = (),
        policy: LogPolicy | None = None,
        clock: Callable[[], datetime] = _now,
        on_fault: Callable[[str | None], None] | None = None,
        lazy: bool = False,
    ) -> AsyncIterator[AuditLog]:
        """Hold a log open; on leaving, everything recorded is written. Arguments as ever.

        ``lazy``: it isn't started before the first event.
        """
        audit = cls(
            directory,
            signer,
            texts,
            trusted=trusted,
            witnesses=witnesses,
            policy=policy,
            clock=clock,
            on_fault=on_fault,
        )
        try:
            if not lazy:
                await audit.start()
            yield audit
        finally:
            await audit.close()

    @property
    def fault(self) -> str | None:
        """Why the log is not writable; None while it is."""
        if self._broken is not None:
            return self._broken
        if self._failing is not None:
            return self._failing
        if self._lost:
            return f"{self._lost} events found the queue full"
        since = self._waiting_since
        if since is not None and time.monotonic() - since > self._policy.stall_seconds:
            return "the disk takes too long"
        return None

    @property
    def writable(self) -> bool:
        """Whether what is recorded now is going to be kept."""
        return self.fault is None and not self._stopping

    @property
    def witness_fault(self) -> str | None:
        """Why a witness doesn't take checkpoints; None where all do, or there is none."""
        return next((each.failing for each in self._heralds if each.failing), None)

    @property
    def waiting(self) -> int:
        """Events that are not durable yet."""
        return len(self._queue) + len(self._group)

    def record(self, event: Event) -> None:
        """Record ``event``; never raises, never blocks. May be called on any thread.

        Overflow: an event that finds the queue full is lost, counted, and told in the log by its
        number; the log is not :attr:`writable` until that is written.
        """
        try:
            at = self._clock()
            with self._lock:
                if self._stopping or len(self._queue) >= self._policy.queue:
                    self._lost += 1
                    self.stats.lost += 1
                    return
                self._queue.append(Pending(event, at))
                self.stats.deepest = max(self.stats.deepest, len(self._queue))
                if self._waiting_since is None:
                    self._waiting_since = time.monotonic()
                if self._thread is None:
                    self._start()
            self._wake.set()
        except Exception as error:  # whoever records has something more important to do
            self.stats.lost += 1
            self._lost += 1
            log.error("audit.not_recorded", error=type(error).__name__)

    async def start(self) -> None:
        """Open the log now, and wait for what comes of it: see :attr:`writable`.

        A directory that can't be written is tried again and again.
        """
        with self._lock:
            if self._thread is None and not self._stopping:
                self._start()
        await self.flush()

    async def flush(self, seconds: float = 5.0) -> bool:
        """Wait until everything recorded so far is durable; False where it isn't in time."""
        if self._thread is None or not self._thread.is_alive():
            return not self.waiting
        loop = asyncio.get_running_loop()
        done: asyncio.Future[bool] = loop.create_future()
        with self._lock:
            self._idle.append((loop, done))
        self._hurry.set()
        self._wake.set()
        try:
            async with asyncio.timeout(seconds):
                return await done
        except TimeoutError:
            return False

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="audit-log", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Write what was recorded, end the log in order, and give the witness a moment.

        Idempotent. What is recorded afterwards is lost.
        """
        with self._lock:
            self._stopping = True
            thread = self._thread
        if thread is None:
            return
        self._hurry.set()
        self._wake.set()
        await asyncio.to_thread(thread.join)

    def _run(self) -> None:
        """The writer's thread."""
        tries = 0
        while True:
            fine = self._attempt()
            tries = 0 if fine else tries + 1
            self._tell_idle(fine)
            if self._stopping and (not fine or not self.waiting):
                break
            if not fine:
                pauses = self._policy.retry_seconds
                self._hurry.wait(pauses[min(tries, len(pauses)) - 1])
                self._hurry.clear()
            elif not self._queue:
                self._wake.wait(self._policy.writer.checkpoint_seconds / 2)
                if not self._hurry.is_set() and self._queue:
                    self._hurry.wait(self._policy.linger_seconds)
                self._hurry.clear()
            self._wake.clear()
        self._shut()

    def _attempt(self) -> bool:
        """Write what waits; False where that failed."""
        try:
            if self._writer is None:
                self._open()
            self._write()
        except (OSError, AuditError) as error:
            self._failed(error)
            return False
        except Exception as error:  # events that can't be written must not block those behind
            log.exception("audit.writer_failed")
            with self._lock:
                self._lost += len(self._group)
                self.stats.lost += len(self._group)
            self._group = []
            self._failed(error)
            return False
        return True

    def _open(self) -> None:
        if not self._heralds:
            self._heralds = tuple(Herald(each) for each in self._witnesses)
        self._writer = LogWriter.open(
            self.directory,
            self._signer,
            self._texts,
            self._clock(),
            policy=self._policy.writer,
            trusted=self._trusted,
            on_checkpoint=self._signed,
            on_broken=self._found_broken,
        )

    def _write(self) -> None:
        writer = self._writer
        assert writer is not None
        now = self._clock()
        while True:
            self._fill()
            if not self._group:
                break
            writer.append(self._group, now)
            self.stats.entries += len(self._group)
            self.stats.groups += 1
            self._group = []
            with self._lock:
                self._waiting_since = time.monotonic() if self._queue else None
        if self._failing is not None or self._lost:
            self._resume(writer, now)
        if writer.checkpoint_due(now):
            writer.append((), now, sign=True)
        writer.tidy(now)

    def _fill(self) -> None:
        with self._lock:
            while self._queue and len(self._group) < GROUP:
                self._group.append(self._queue.popleft())

    def _resume(self, writer: LogWriter, now: datetime) -> None:
        """Note the gap; from then on the log is writable again."""
        with self._lock:
            lost = self._lost
        detail: dict[str, str | int | bool] = {"lost": lost}
        if self._failing is not None:
            detail |= {"reason": self._failing}
            detail |= {"milliseconds": round((time.monotonic() - self._failed_at) * 1000)}
        writer.append([Pending(Event(Kind.LOG_RESUMED, detail=detail), now)], now, sign=True)
        with self._lock:
            self._lost -= lost
        self._failing = None
        log.warning("audit.resumed", lost=lost)
        self._changed()

    def _failed(self, error: Exception) -> None:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        if self._failing is None:
            self.stats.faults += 1
            self._failed_at = time.monotonic()
            log.error("audit.not_writable", error=type(error).__name__, reason=reason)
            self._failing = reason or type(error).__name__
            self._changed()

    def _found_broken(self, error: LogBrokenError) -> None:
        if self._broken is None:
            self.stats.faults += 1
            log.critical("audit.broken", reason=str(error))
            self._broken = str(error)
            self._changed()

    def _changed(self) -> None:
        if self._on_fault is not None:
            self._on_fault(self.fault)

    def _signed(self, note: str) -> None:
        self.stats.checkpoints += 1
        for herald in self._heralds:
            herald.carry(note)

    def _tell_idle(self, fine: bool) -> None:
        with self._lock:
            if fine and self._queue:
                return
            waiting, self._idle = self._idle, []
        for loop, done in waiting:
            try:
                loop.call_soon_threadsafe(_settle, done, fine)
            except RuntimeError:  # that loop is closed: nobody waits any more
                continue

    def _shut(self) -> None:
        try:
            if self._writer is not None:
                self._writer.close(self._clock())
        except OSError as error:
            log.error("audit.not_closed", reason=error.strerror)
        if self.waiting or self._lost:
            log.error("audit.events_lost", events=self.waiting + self._lost)
        for herald in self._heralds:
            herald.close(self._policy.witness_seconds)


def _settle(done: asyncio.Future[bool], fine: bool) -> None:
    if not done.done():
        done.set_result(fine)
