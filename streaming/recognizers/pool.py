"""Worker processes shared by all calls, as the event loop sees them.

Every queue is bounded: a worker takes :attr:`PoolPolicy.max_utterances` at once (more are
refused), and an utterance may run :attr:`PoolPolicy.max_backlog` seconds ahead of its worker
(then it fails: a recognizer that can't keep up has lost the turn anyway). A worker that dies
fails the utterances it had, and is replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import struct
import sys
from collections import deque
from dataclasses import dataclass
from typing import Final, NoReturn

import structlog

from ringtrue.streaming.errors import RecognizerError
from ringtrue.streaming.recognizers.grammar import Grammar, GrammarReport
from ringtrue.streaming.recognizers.wire import Kind, Message, MessageReader, WireError

_log = structlog.get_logger(__name__)

_MODULE: Final = "ringtrue.streaming.recognizers.worker"
_READ_BYTES: Final = 1 << 16
_CLOSE_SECONDS: Final = 5.0
"""How long a worker gets to end by itself once its stdin is closed."""


@dataclass(frozen=True, slots=True)
class PoolPolicy:
    """Bounds and times of the pool."""

    processes: int = 1
    """Workers; each decodes on one core at most."""

    max_utterances: int = 48
    """Utterances open in one worker at once."""

    max_backlog: float = 6.0
    """Seconds of audio sent to a worker and not yet decoded, per utterance."""

    max_seconds: float = 60.0
    """Longest utterance: a decoder's lattice grows with it."""

    start_timeout: float = 3.0
    """Seconds a new utterance waits for a worker that is being replaced."""

    open_timeout: float = 30.0
    """Seconds a worker may take to come up at first: on a cold disk, mostly reading Python."""

    finish_timeout: float = 10.0
    """Seconds a final text may take before the utterance fails."""

    load_timeout: float = 60.0
    """Seconds a worker may take to load one grammar."""

    beat: float = 0.5
    """Seconds between two looks at whether a worker still answers."""

    missed_beats: int = 6
    """Looks in a row without an answer, after which it is replaced. Not counted while it loads a
    grammar, which may take long."""

    restart_delay: float = 0.1
    """Seconds before a dead worker is replaced; doubled each time one dies young."""

    restart_delay_max: float = 10.0
    """The delay doesn't grow beyond this."""


@dataclass(frozen=True, slots=True)
class WorkerFinal:
    """What a worker says of a finished utterance."""

    text: str
    """The words."""

    confidence: float
    """0 to 1."""

    cmn: str
    """Cepstral mean to begin the call's next utterance with."""


class OpenUtterance:
    """An utterance in a worker: the parent's half."""

    def __init__(self, worker: _Worker, number: int, rate: int, policy: PoolPolicy) -> None:
        """Made by :meth:`WorkerPool.start`."""
        self._worker = worker
        self._number = number
        self._rate = rate
        self._policy = policy
        self._sent = 0
        self._done = 0
        self._under_way: deque[tuple[int, float]] = deque()
        """Blocks not yet decoded: samples sent up to their end, and when."""

        self.partial = ""
        """Latest partial text."""

        self.final: asyncio.Future[WorkerFinal] = asyncio.get_running_loop().create_future()
        # A failure nobody waits for is still reported by the next accept or finish.
        self.final.add_done_callback(lambda done: done.cancelled() or done.exception())

    def accept(self, pcm: bytes) -> None:
        """Send audio. Raises :class:`RecognizerError` once the utterance has failed."""
        if self.final.done():
            self.final.result()
        self._sent += len(pcm) // 2
        if self._sent - self._done > self._policy.max_backlog * self._rate:
            self._abort(f"recognizer is more than {self._policy.max_backlog:g} s behind")
        elif self._sent > self._policy.max_seconds * self._rate:
            self._abort(f"utterance is longer than {self._policy.max_seconds:g} s")
        else:
            self._under_way.append((self._sent, asyncio.get_running_loop().time()))
            self._worker.send(Message(Kind.AUDIO, self._number, pcm))

    @property
    def waiting(self) -> float:
        """Seconds since the oldest audio that is not yet decoded was sent.

        Not seconds of audio: what was kept from before the VAD's start comes all at once, and is
        decoded many times faster than it was spoken.
        """
        if self.final.done() or not self._under_way:
            return 0.0
        return asyncio.get_running_loop().time() - self._under_way[0][1]

    @property
    def alive(self) -> bool:
        """Whether its worker has answered within the last two beats."""
        return self._worker.missed < 2

    def _abort(self, why: str) -> NoReturn:
        self.cancel(why)
        raise RecognizerError(why)

    async def finish(self) -> WorkerFinal:
        """Wait for the final text. Raises :class:`RecognizerError` where there is none in time."""
        if not self.final.done():
            self._worker.send(Message(Kind.FINISH, self._number))
        try:
            async with asyncio.timeout(self._policy.finish_timeout):
                return await asyncio.shield(self.final)
        except TimeoutError:
            self._abort(f"no final text within {self._policy.finish_timeout:g} s")
        except asyncio.CancelledError:
            self.cancel()
            raise

    def cancel(self, why: str = "utterance was cancelled") -> None:
        """Drop it; whoever waits for it gets :class:`RecognizerError` with ``why``."""
        if not self.final.done():
            self._worker.send(Message(Kind.CANCEL, self._number))
            self.fail(why)
        self._worker.utterances.pop(self._number, None)

    def receive(self, message: Message) -> None:
        """Take a worker's reply about this utterance."""
        if self.final.done():
            return
        if message.kind is Kind.PROGRESS:
            (self._done,) = struct.unpack_from("<I", message.payload)
            while self._under_way and self._under_way[0][0] <= self._done:
                self._under_way.popleft()
            self.partial = message.payload[4:].decode()
        elif message.kind is Kind.FINAL:
            self.final.set_result(WorkerFinal(**json.loads(message.payload)))
        elif message.kind is Kind.FAILED:
            self.fail(f"recognizer failed: {message.payload.decode()}")

    def fail(self, why: str) -> None:
        """The worker can't go on with it."""
        if not self.final.done():
            self.final.set_exception(RecognizerError(why))


class _Worker:
    """One process and the task that reads it."""

    def __init__(self, index: int, numbers: itertools.count[int]) -> None:
        self.index = index
        self.utterances: dict[int, OpenUtterance] = {}
        self._loads: dict[int, asyncio.Future[GrammarReport]] = {}
        self._numbers = numbers
        self.process: asyncio.subprocess.Process | None = None
        self.missed = 0
        """Looks since it last answered."""

        self.ready = asyncio.Event()
        """Set while it is up with every grammar loaded."""

    async def spawn(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", _MODULE, stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip

    def send(self, message: Message) -> None:
        """Write without waiting: what may be in flight is bounded by the utterances' backlog."""
        if self.process is not None and self.process.stdin is not None:
            with contextlib.suppress(ConnectionError, RuntimeError):
                self.process.stdin.write(message.encode())

    async def watch(self, policy: PoolPolicy) -> None:
        """Kill the process once it no longer answers; :meth:`read` then tells of its end."""
        assert self.process is not None
        self.missed = 0
        while self.missed < policy.missed_beats:
            if not self._loads:
                # Beats are counted, not seconds: a parent that was held up itself misses none.
                self.missed += 1
                self.send(Message(Kind.PING, 0))
            await asyncio.sleep(policy.beat)
        _log.error("recognizer_worker_stalled", worker=self.index, beats=self.missed)
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def load(self, grammar: Grammar, limit: float) -> GrammarReport:
        number = next(self._numbers)
        loaded: asyncio.Future[GrammarReport] = asyncio.get_running_loop().create_future()
        self._loads[number] = loaded
        self.send(Message(Kind.LOAD, number, grammar.to_json().encode()))
        try:
            async with asyncio.timeout(limit):
                return await loaded
        except TimeoutError:
            raise RecognizerError(f"a recognizer took over {limit:g} s to load") from None
        finally:
            self._loads.pop(number, None)

    async def read(self) -> str:
        """Take replies until the process ends; returns how it ended."""
        assert self.process is not None
        assert self.process.stdout is not None
        reader = MessageReader()
        try:
            while data := await self.process.stdout.read(_READ_BYTES):
                for message in reader.feed(data):
                    self._receive(message)
            ending = f"ended with status {await self.process.wait()}"
        except WireError as error:
            self.process.kill()
            await self.process.wait()
            ending = f"sent {error}"
        self.fail("recognizer worker is gone")
        return ending

    def _receive(self, message: Message) -> None:
        self.missed = 0
        if message.kind is Kind.LOADED:
            loaded = self._loads.get(message.utterance)
            if loaded is not None and not loaded.done():
                fields = json.loads(message.payload)
                if "error" in fields:
                    loaded.set_exception(RecognizerError(fields["error"]))
                else:
                    loaded.set_result(GrammarReport(**fields))
        elif (utterance := self.utterances.get(message.utterance)) is not None:
            utterance.receive(message)
            if utterance.final.done():
                del self.utterances[message.utterance]

    def fail(self, why: str) -> None:
        """Fail everything that waits for this process."""
        self.ready.clear()
        for utterance in self.utterances.values():
            utterance.fail(why)
        self.utterances.clear()
        for loaded in self._loads.values():
            if not loaded.done():
                loaded.set_exception(RecognizerError(why))

    async def stop(self) -> None:
        """End the process: by the end of its input, else by force."""
        if self.process is None or self.process.returncode is not None:
            return
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


class WorkerPool:
    """Recognizer workers: grammars are loaded into all, utterances go to the least busy."""

    def __init__(self, policy: PoolPolicy | None = None) -> None:
        """Nothing runs before :meth:`open`.

        Raises ``ValueError`` for fewer than one process.
        """
        self.policy = policy or PoolPolicy()
        if self.policy.processes < 1:
            raise ValueError(f"processes must be at least 1, got {self.policy.processes}")
        self._numbers = itertools.count(1)
        self._workers: list[_Worker] = []
        self._keepers: list[asyncio.Task[None]] = []
        self._grammars: dict[str, Grammar] = {}
        self._opening = asyncio.Lock()
        self.restarts = 0
        """Workers replaced since the pool was opened."""

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the workers that are up."""
        return tuple(
            worker.process.pid
            for worker in self._workers
            if worker.process is not None and worker.process.returncode is None
        )

    @property
    def waiting(self) -> float:
        """Seconds that audio waits to be decoded, in the utterance where it waits longest."""
        open_now = (u for worker in self._workers for u in worker.utterances.values())
        return max((utterance.waiting for utterance in open_now), default=0.0)

    async def open(self) -> None:
        """Start the processes. Idempotent; raises :class:`RecognizerError` if one stays down."""
        async with self._opening:
            if not self._workers:
                self._workers = [_Worker(i, self._numbers) for i in range(self.policy.processes)]
                self._keepers = [asyncio.create_task(self._keep(w)) for w in self._workers]
            for worker in self._workers:
                await self._wait_ready(worker, self.policy.open_timeout)

    async def _keep(self, worker: _Worker) -> None:
        """Run one worker, and run it again whenever it dies."""
        loop = asyncio.get_running_loop()
        delay = self.policy.restart_delay
        while True:
            born = loop.time()
            try:
                await worker.spawn()
            except OSError as error:
                _log.error("recognizer_worker_not_started", worker=worker.index, error=str(error))
                delay = min(2 * delay, self.policy.restart_delay_max)
                await asyncio.sleep(delay)
                continue
            reading = asyncio.create_task(worker.read())
            try:
                # Each grammar loaded before; one that fails now fails its utterances by name.
                for grammar in tuple(self._grammars.values()):
                    with contextlib.suppress(RecognizerError):
                        await worker.load(grammar, self.policy.load_timeout)
                if not reading.done():
                    worker.ready.set()
                watching = asyncio.create_task(worker.watch(self.policy))
                try:
                    ending = await asyncio.shield(reading)
                finally:
                    watching.cancel()
                    await asyncio.gather(watching, return_exceptions=True)
            finally:
                await worker.stop()
                await reading
            self.restarts += 1
            _log.warning("recognizer_worker_died", worker=worker.index, ending=ending)
            young = loop.time() - born < self.policy.restart_delay_max
            delay = (
                min(2 * delay, self.policy.restart_delay_max)
                if young
                else self.policy.restart_delay
            )
            await asyncio.sleep(delay)

    async def load(self, grammar: Grammar) -> GrammarReport:
        """Load ``grammar`` into every worker.

        Raises :class:`RecognizerError` when it can't be compiled or no worker comes up.
        """
        await self.open()
        reports: list[GrammarReport] = []
        for worker in self._workers:
            await self._wait_ready(worker, self.policy.open_timeout)
            reports.append(await worker.load(grammar, self.policy.load_timeout))
        self._grammars[grammar.key] = grammar
        return reports[0]

    async def _wait_ready(self, worker: _Worker, limit: float) -> None:
        try:
            async with asyncio.timeout(limit):
                await worker.ready.wait()
        except TimeoutError:
            raise RecognizerError("no recognizer worker is up") from None

    async def start(
        self, grammar: str, rate: int, *, mirror: float, cmn: str | None
    ) -> OpenUtterance:
        """Begin an utterance under the loaded grammar of key ``grammar``.

        ``rate`` is 8000 or 16000 Hz, ``mirror`` the gain of :class:`~.band.BandMirror` for 8 kHz,
        ``cmn`` what the call's last :class:`WorkerFinal` gave. Raises
        :class:`RecognizerError` for an unknown grammar, when every worker is full, or when none
        is up in time.
        """
        if grammar not in self._grammars:
            raise RecognizerError(f"grammar {grammar} is not loaded")
        if not any(worker.ready.is_set() for worker in self._workers):
            if not self._workers:
                raise RecognizerError("the recognizer pool is closed")
            await self._wait_ready(self._workers[0], self.policy.start_timeout)
        worker = min(
            (worker for worker in self._workers if worker.ready.is_set()),
            key=lambda worker: (worker.missed > 2, len(worker.utterances)),
        )
        if len(worker.utterances) >= self.policy.max_utterances:
            raise RecognizerError(
                f"recognizer is full: {self.policy.max_utterances} utterances in each of "
                f"{self.policy.processes} processes"
            )
        number = next(self._numbers) & 0xFFFFFFFF
        utterance = OpenUtterance(worker, number, rate, self.policy)
        worker.utterances[number] = utterance
        asked = {"grammar": grammar, "rate": rate, "mirror": mirror, "cmn": cmn}
        worker.send(Message(Kind.START, number, json.dumps(asked).encode()))
        return utterance

    async def close(self) -> None:
        """End every process; utterances still open fail. Idempotent."""
        async with self._opening:
            for keeper in self._keepers:
                keeper.cancel()
            await asyncio.gather(*self._keepers, return_exceptions=True)
            self._keepers, self._workers = [], []
            self._grammars.clear()
