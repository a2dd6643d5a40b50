"""An asyncio event loop in which waiting costs nothing.

``loop.time()`` is a number that jumps to the next timer as soon as nothing else can run, so a
30 s call takes milliseconds and every run takes the same steps. Real I/O works: whatever the
kernel already holds for a socket (loopback delivers at once) is handled before time moves.

Time stands still while work runs outside the loop: during ``run_in_executor`` and
``asyncio.to_thread`` by itself, for threads and processes of another kind inside
``with loop.frozen():`` or while one of ``loop.holds`` says so. A loop with neither a timer nor
anything outside to wait for can never go on; it raises :class:`VirtualDeadlockError` instead of
hanging.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

START = 1000.0
"""``loop.time()`` of a new loop: not zero, so that a falsy-time bug shows."""

DEADLOCK_SECONDS = 5.0
"""Real seconds without any event after which a loop with no timer counts as deadlocked."""

_SNAP = 1e-6


class VirtualDeadlockError(RuntimeError):
    """Every task waits for something that can't happen."""


class _VirtualSelector(selectors.DefaultSelector):
    """Polls the real selector; where the loop would sleep, moves its clock instead."""

    loop: VirtualTimeLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready: list[tuple[selectors.SelectorKey, int]] = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if self.loop.held:
            # Any wake-up counts: a finished executor job reaches the loop through its self-pipe.
            return super().select(DEADLOCK_SECONDS)
        if timeout is not None:
            if self.loop.settle and timeout > 0:
                # The kernel may hand a datagram over a moment after it was sent.
                ready = super().select(self.loop.settle)
                if ready:
                    return ready
            self.loop.skip(timeout)
            return ready
        ready = super().select(DEADLOCK_SECONDS)
        if not ready:
            waiting = ", ".join(sorted(t.get_name() for t in asyncio.all_tasks(self.loop)))
            raise VirtualDeadlockError(
                f"no timer, no I/O and no executor job left at t={self.loop.time():.3f}; "
                f"tasks still waiting: {waiting or 'none'}"
            )
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time; see the module's docstring."""

    virtual = True
    """The kernel's own times of events mean nothing here."""

    def __init__(self, settle: float = 0.0, seed: int | None = None) -> None:
        """At :data:`START`.

        For ``settle`` real seconds the kernel is waited for before time moves. With a ``seed``,
        RTP's random numbers (RFC 3550, section 5.1) are drawn from it, and are the same again.
        """
        selector = _VirtualSelector()
        selector.loop = self
        self._virtual_now = START
        self.outside = 0
        self.settle = settle
        self.chance = None if seed is None else random.Random(seed)
        self.holds: list[Callable[[], bool]] = []
        """Asked whether work outside the loop is under way."""

        super().__init__(selector)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        """Virtual seconds."""
        return self._virtual_now

    @property
    def held(self) -> bool:
        """Whether time stands still."""
        return self.outside > 0 or any(hold() for hold in self.holds)

    def skip(self, seconds: float) -> None:
        """Move the clock on; onto the next timer exactly when that is where it lands."""
        target = self._virtual_now + seconds
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        if scheduled and abs(scheduled[0].when() - target) < _SNAP:
            target = scheduled[0].when()
        self._virtual_now = max(self._virtual_now, target)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Hold time still while something outside the loop works (a thread, a process)."""
        self.outside += 1
        try:
            yield
        finally:
            self.outside -= 1

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """As usual, with time held still until the job is done."""
        future: asyncio.Future[T] = super().run_in_executor(executor, func, *args)
        self.outside += 1
        future.add_done_callback(self._came_back)
        return future

    def _came_back(self, _: asyncio.Future[Any]) -> None:
        self.outside -= 1


def run_virtual(main: Coroutine[Any, Any, T], settle: float = 0.0, seed: int | None = None) -> T:
    """Run ``main`` on a :class:`VirtualTimeLoop` of its own."""
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(settle, seed)) as runner:
        return runner.run(main)
