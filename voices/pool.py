"""Long jobs in processes of their own, a few at a time, with progress.

A process serves one job: what a crash, a leak or an exit in a C library can spoil ends with it,
and cancelling a job is killing its process. Processes are executed anew, never forked from a
server full of threads.

Overflow policy: :attr:`JobLimits.running` jobs run, :attr:`JobLimits.waiting` wait in the order
they came, and the next is refused with :class:`~ringtrue.voices.errors.EngineBusyError`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from dataclasses import asdict, dataclass
from typing import Final

import structlog

from ringtrue.voices.engine import OnProgress, Progress
from ringtrue.voices.errors import CloningAbortedError, CloningError, EngineBusyError
from ringtrue.voices.job import HEADER, LENGTH, MAX_REQUEST, MAX_RESULT, MAX_TEXT, Kind, Spec

_log = structlog.get_logger(__name__)

_MODULE: Final = "ringtrue.voices.job"
_PASSED: Final = (
    "HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "NUMBA_CACHE_DIR", "PATH",
    "PYTHONDONTWRITEBYTECODE", "PYTHONHOME", "PYTHONPATH", "TMPDIR", "VIRTUAL_ENV",
    "XDG_CACHE_HOME",
)  # fmt: skip
"""Variables a job sees; no secret of the server's is among them."""

_ONE_THREAD: Final = dict.fromkeys(
    ("MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"
)


@dataclass(frozen=True, slots=True)
class JobLimits:
    """Bounds of a pool and of each job in it."""

    running: int = 1
    """Jobs at once, each on one core."""

    waiting: int = 4
    """Jobs that may wait for their turn."""

    seconds: float = 300.0
    """How long a job may take once it runs."""

    cpu_seconds: int = 120
    """CPU time a job may take."""

    memory: int = 2 << 30
    """Bytes of data a job may hold."""

    nice: int = 10
    """Added to the server's niceness, so that calls come first."""

    def __post_init__(self) -> None:
        """Raises ``ValueError`` for bounds under which nothing could run."""
        for name in ("running", "seconds", "cpu_seconds", "memory"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.waiting < 0:
            raise ValueError(f"waiting must be at least 0, got {self.waiting}")


class JobPool:
    """Runs jobs for one event loop. Nothing is started before the first job."""

    def __init__(self, limits: JobLimits | None = None) -> None:
        """Run jobs within ``limits``."""
        self.limits = limits or JobLimits()
        self._turn = asyncio.Semaphore(self.limits.running)
        self._jobs = 0
        self._processes: set[Process] = set()
        self._closed = False
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the jobs that run."""
        return tuple(process.pid for process in self._processes if process.returncode is None)

    async def run(self, entry: str, request: bytes, on_progress: OnProgress) -> bytes:
        """Run the :data:`~ringtrue.voices.job.Job` at ``entry`` (``module:function``).

        Cancelling kills it. Raises :class:`~ringtrue.voices.errors.CloningError` with the job's
        own words where it refuses the request, :class:`EngineBusyError` where too many wait,
        :class:`CloningAbortedError` where it crashed, took too long or the pool was closed, and
        ``ValueError`` for a request of more than 32 MiB.
        """
        if len(request) > MAX_REQUEST:
            raise ValueError(f"a request has at most {MAX_REQUEST} bytes, got {len(request)}")
        if self._closed:
            raise CloningAbortedError("no voice can be made: the server is stopping")
        if self._jobs >= self.limits.running + self.limits.waiting:
            raise EngineBusyError(
                f"as many voices as may are being made ({self.limits.running}) or wait "
                f"({self.limits.waiting}); try again in a minute"
            )
        self._jobs += 1
        self._empty.clear()
        try:
            if self._turn.locked():
                on_progress(Progress(0.0, "waiting for its turn"))
            async with self._turn:
                return await self._run(entry, request, on_progress)
        finally:
            self._jobs -= 1
            if not self._jobs:
                self._empty.set()

    async def _run(self, entry: str, request: bytes, on_progress: OnProgress) -> bytes:
        if self._closed:
            raise CloningAbortedError("no voice was made: the server is stopping")
        limits = self.limits
        spec = Spec(entry, limits.nice, limits.memory, limits.cpu_seconds)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", _MODULE, json.dumps(asdict(spec)),
                stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=_environment(),
            )  # fmt: skip
        except OSError as error:
            raise CloningAbortedError(f"no process for the voice can be started: {error}") from None
        self._processes.add(process)
        try:
            async with asyncio.timeout(limits.seconds):
                return await self._talk(process, request, on_progress)
        except TimeoutError:
            raise CloningAbortedError(
                f"making the voice took more than the {limits.seconds:g} s it may"
            ) from None
        finally:
            await _end(process)
            self._processes.discard(process)

    async def _talk(self, process: Process, request: bytes, on_progress: OnProgress) -> bytes:
        assert process.stdin is not None
        assert process.stdout is not None
        done = 0.0
        try:
            process.stdin.write(LENGTH.pack(len(request)))
            process.stdin.write(request)
            await process.stdin.drain()
            while True:
                kind, payload = await _receive(process.stdout)
                if kind is not Kind.PROGRESS:
                    return _outcome(kind, payload)
                progress = _progress(payload)
                done = max(done, progress.done)
                on_progress(Progress(done, progress.doing))
        except (ConnectionError, asyncio.IncompleteReadError):
            raise await self._gone(process) from None

    async def _gone(self, process: Process) -> CloningAbortedError:
        """Why a process ended without a word."""
        if self._closed:
            return CloningAbortedError("no voice was made: the server is stopping")
        status = await process.wait()
        how = f"ended with status {status}"
        if status < 0:
            how = f"was killed by {signal.Signals(-status).name}"
        _log.error("voice_job_died", status=status)
        return CloningAbortedError(f"no voice was made: the process that made it {how}")

    async def close(self) -> None:
        """Kill what runs and refuse what waits; returns once all is gone. Idempotent."""
        self._closed = True
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await self._empty.wait()


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in _PASSED if name in os.environ} | _ONE_THREAD


async def _receive(source: asyncio.StreamReader) -> tuple[Kind, bytes]:
    kind, size = HEADER.unpack(await source.readexactly(HEADER.size))
    if kind not in tuple(Kind) or size > (MAX_RESULT if kind == Kind.RESULT else MAX_TEXT):
        raise CloningAbortedError(f"a voice's process sent {size} bytes of unknown kind {kind}")
    return Kind(kind), await source.readexactly(size)


def _progress(payload: bytes) -> Progress:
    try:
        fields = json.loads(payload)
        return Progress(min(1.0, max(0.0, float(fields["done"]))), str(fields["doing"]))
    except (ValueError, KeyError, TypeError) as error:
        raise CloningAbortedError(f"a voice's process sent malformed progress: {error}") from None


def _outcome(kind: Kind, payload: bytes) -> bytes:
    if kind is Kind.RESULT:
        return payload
    text = payload.decode(errors="replace")
    if kind is Kind.REFUSED:
        raise CloningError(text)
    _log.error("voice_job_failed", error=text)
    raise CloningAbortedError(f"no voice was made: {text}")


async def _end(process: Process) -> None:
    """Leave no process and no pipe behind."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    process.stdin.close()
    while await process.stdout.read(MAX_TEXT):
        pass  # a pipe with unread data in it would stay open
    await process.wait()
    with contextlib.suppress(ConnectionError):  # of a request that was still being written
        await process.stdin.wait_closed()
