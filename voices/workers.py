"""A small pool of threads that serves urgent work first.

Jobs are short (a slice of vocoding, the analysis of one clause) and each stream has at most one
waiting, so the queue is bounded by the number of open streams and no stream can starve another.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import os
import threading
import time
from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final, TypeVar

ResultT = TypeVar("ResultT")

ALIVE_SECONDS: Final = 0.5
"""Threads that ended a job so lately are at work: what waits will be served."""


class Urgency(IntEnum):
    """Lower runs first; equals run in the order they came."""

    FIRST_AUDIO = 0
    """A caller hears nothing yet."""

    AHEAD = 1
    """Audio that continues what is already being heard."""


class Workers:
    """Threads that start on first use and end with :meth:`close`."""

    def __init__(self, threads: int | None = None, name: str = "voices") -> None:
        """``threads`` defaults to the processors available, between 2 and 4."""
        size = threads if threads is not None else min(4, max(2, os.cpu_count() or 2))
        if size < 1:
            raise ValueError(f"threads must be at least 1, got {size}")
        self._size = size
        self._name = name
        self._ready = threading.Condition()
        self._jobs: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._threads: list[threading.Thread] = []
        self._closed = False
        self.pending = 0
        """Jobs whose outcome the loop has not got yet."""

        self._served = float("-inf")

    @property
    def alive(self) -> bool:
        """Whether a job was served lately."""
        return time.monotonic() - self._served < ALIVE_SECONDS

    @property
    def waiting(self) -> float:
        """Jobs that wait, for each thread."""
        return len(self._jobs) / self._size

    def submit(self, urgency: Urgency, job: Callable[[], ResultT]) -> asyncio.Future[ResultT]:
        """Run ``job`` in a thread; the future has its result or what it raised.

        Cancelling the future drops a job that waits; one that has begun ends unheard. Raises
        ``RuntimeError`` after :meth:`close`.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[ResultT] = loop.create_future()

        def settle(result: ResultT | None, error: BaseException | None) -> None:
            self.pending -= 1
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]

        def work() -> None:
            result: Any = None
            failure: BaseException | None = None
            if not future.cancelled():
                try:
                    result = job()
                except Exception as error:
                    failure = error
                self._served = time.monotonic()
            try:
                loop.call_soon_threadsafe(settle, result, failure)
            except RuntimeError:  # the loop closed while the job ran: nobody waits for it
                return

        self._enqueue(urgency, work)
        self.pending += 1
        return future

    def _enqueue(self, urgency: Urgency, work: Callable[[], None]) -> None:
        with self._ready:
            if self._closed:
                raise RuntimeError("the workers are closed")
            heapq.heappush(self._jobs, (urgency, next(self._order), work))
            if len(self._threads) < self._size:
                number = len(self._threads)
                thread = threading.Thread(
                    target=self._serve, name=f"{self._name}-{number}", daemon=True
                )
                self._threads.append(thread)
                thread.start()
            self._ready.notify()

    def _serve(self) -> None:
        while True:
            with self._ready:
                while not self._jobs and not self._closed:
                    self._ready.wait()
                if not self._jobs:
                    return
                _, _, work = heapq.heappop(self._jobs)
            work()

    def close(self) -> None:
        """Serve what is waiting, then end the threads; blocks until they have. Idempotent."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()
        for thread in self._threads:
            thread.join()
        self._threads.clear()
