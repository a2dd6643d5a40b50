"""How late the event loop runs, always, and what held it up when that was too much.

The media clock's ticks are the heartbeat while there are calls, a slow timer of its own while
there are none. A thread sleeps until a beat is overdue and then looks, once for each beat, where
the loop's thread stands (``sys._current_frames``). What it saw is kept only where the beat turns
out to be more than :data:`STALL` late. A stack is files, lines and functions; never values.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

import structlog

from ringtrue.streaming.clock import TICK, Lately
from ringtrue.streaming.cpu_time import cpu_seconds

log = structlog.get_logger(__name__)

STALL: Final = 0.020
"""Seconds of lateness from which a beat counts as a stall."""

LOOK_AFTER: Final = 0.010
"""Seconds after which a beat that has not come is worth a look: the look itself may wait up to
5 ms for the interpreter's lock."""

IDLE_BEAT: Final = 0.1
"""Seconds between two beats while no call is up."""

BOUNDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Upper bounds of the histogram of lateness, in seconds."""

DEPTH: Final = 24
"""Frames of a stack that are kept, innermost first."""

MAX_CULPRITS: Final = 40
"""Culprits counted by name; those seen for the first time after that are ``other``."""

LOG_EVERY: Final = 5.0
"""Seconds between two log entries at least; stalls between are counted in the next one."""

SYSTEM: Final = "system"
"""The culprit where the loop had nothing to do: the machine did not run it in time."""

UNSEEN: Final = "unseen"
"""The culprit where nobody looked in time."""

_ROOT: Final = str(Path(__file__).resolve().parent.parent) + os.sep
_ROOMS: Final = ("agent/", "streaming/", "telephony/", "voices/", "loadtest/", "config/")
_LIBRARY: Final = str(Path(os.__file__).resolve().parent) + os.sep
_PACKAGES: Final = f"{os.sep}site-packages{os.sep}"
_IDLE: Final = ("asyncio/runners.py", "asyncio/base_events.py", "selectors.py", "uvloop/")


@dataclass(frozen=True, slots=True)
class Stall:
    """One beat that came too late."""

    seconds: float
    """How late."""

    cpu: float
    """CPU seconds that the loop's thread used since it was looked at; much less than
    ``seconds``: it waited, for a disk, a lock or the machine. 0 where nobody looked."""

    culprit: str
    """``file:function`` of the innermost frame of this project, else of the innermost one;
    :data:`SYSTEM`, :data:`UNSEEN`."""

    stack: tuple[str, ...]
    """``file:line:function``, innermost first."""


class LagMeter:
    """Counts lateness; keeps no time of its own."""

    def __init__(self, recent: int = 500) -> None:
        """``recent`` beats are kept for percentiles: 10 s of calls."""
        self.counts = [0] * (len(BOUNDS) + 1)
        """Beats by the first of :data:`BOUNDS` they were within, those beyond last."""

        self.beats = 0
        self.total = 0.0
        """Seconds of lateness, over all beats."""

        self.stalls: Counter[str] = Counter()
        """Stalls by culprit."""

        self.stalled = 0.0
        """Seconds of lateness in stalls."""

        self._recent = Lately(recent)

    def beat(
        self, lateness: float, cpu: float = 0.0, stack: tuple[str, ...] | None = None
    ) -> Stall | None:
        """Count one beat, ``lateness`` seconds late; the stall, where it is one.

        ``stack`` is where the loop was seen before it, None where nobody looked.
        """
        self.beats += 1
        self.total += lateness
        self.counts[bisect_left(BOUNDS, lateness)] += 1
        self._recent.append(lateness)
        if lateness <= STALL:
            return None
        culprit = culprit_of(stack)
        if culprit not in self.stalls and len(self.stalls) >= MAX_CULPRITS:
            culprit = "other"
        self.stalls[culprit] += 1
        self.stalled += lateness
        return Stall(lateness, cpu, culprit, stack or ())

    def quantile(self, share: float) -> float:
        """Lateness that ``share`` (0–1) of the recent beats were within; 0 before the first."""
        ordered = sorted(self._recent)
        if not ordered:
            return 0.0
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def culprit_of(stack: tuple[str, ...] | None) -> str:
    """Who is to blame for a stall in which the loop was seen at ``stack``."""
    if stack is None:
        return UNSEEN
    if not stack or stack[0].startswith(_IDLE):
        return SYSTEM
    ours = next((frame for frame in stack if frame.startswith(_ROOMS)), stack[0])
    file, _, function = ours.split(":", 2)
    return f"{file}:{function}"


def stack_of(frame: FrameType | None) -> tuple[str, ...]:
    """The innermost :data:`DEPTH` frames as ``file:line:function``; no values, no home paths."""
    seen: list[str] = []
    while frame is not None and len(seen) < DEPTH:
        code = frame.f_code
        seen.append(f"{_shown(code.co_filename)}:{frame.f_lineno}:{code.co_name}")
        frame = frame.f_back
    return tuple(seen)


def _shown(file: str) -> str:
    """A source file's name, relative to what it is installed in."""
    _, packaged, inside = file.rpartition(_PACKAGES)
    if packaged:
        return inside
    for root in (_ROOT, _LIBRARY):
        if file.startswith(root):
            return file[len(root) :]
    return Path(file).name


class LoopWatch:
    """Measures the running loop from :meth:`start` to :meth:`stop`."""

    def __init__(
        self,
        meter: LagMeter | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        on_stall: Callable[[Stall], None] | None = None,
    ) -> None:
        """Count into ``meter``; ``on_stall`` is told of each stall, on the loop."""
        self.meter = meter or LagMeter()
        self._clock = clock
        self._on_stall = on_stall
        self._timer: asyncio.TimerHandle | None = None
        self._idle_due = 0.0
        self._ticked = float("-inf")
        self._overdue = float("inf")
        """When the next beat is worth a look; read by the thread."""

        self._seen: tuple[float, tuple[str, ...], float] | None = None
        """Which beat the thread looked for, what it saw, and the CPU time used by then."""

        self._loop_thread = self._native_id = 0
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._logged = float("-inf")
        self._unlogged = 0

    def start(self) -> None:
        """Begin, on the loop to be measured. Idempotent."""
        if self._thread is not None:
            return
        self._loop_thread = threading.get_ident()
        self._native_id = threading.get_native_id()
        self._over.clear()
        self._thread = threading.Thread(target=self._look, name="loop-watch", daemon=True)
        self._thread.start()
        self._arm()

    def stop(self) -> None:
        """End; returns once the thread has. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._thread is not None:
            self._over.set()
            self._thread.join()
            self._thread = None

    def tick(self, lateness: float, until_next: float = TICK) -> None:
        """A tick of the media clock came, ``lateness`` seconds late; when the next one is due."""
        if self._thread is not None:
            self._ticked = self._clock()
            self._beat(lateness, until_next)

    def _arm(self) -> None:
        loop = asyncio.get_running_loop()
        self._idle_due = loop.time() + IDLE_BEAT
        self._timer = loop.call_at(self._idle_due, self._idle)

    def _idle(self) -> None:
        if self._clock() - self._ticked > IDLE_BEAT:
            lateness = asyncio.get_running_loop().time() - self._idle_due
            self._beat(max(0.0, lateness), IDLE_BEAT)
        self._arm()

    def _beat(self, lateness: float, until_next: float) -> None:
        seen, self._seen = self._seen, None
        if seen is not None and seen[0] != self._overdue:
            seen = None
        self._overdue = self._clock() + until_next + LOOK_AFTER
        if seen is None:
            stall = self.meter.beat(lateness)
        else:
            cpu = max(0.0, time.thread_time() - seen[2])
            stall = self.meter.beat(lateness, cpu, seen[1])
        if stall is not None:  # told later: a tick must not wait for a log, or fail by it
            asyncio.get_running_loop().call_soon(self._tell, stall)

    def _tell(self, stall: Stall) -> None:
        if self._on_stall is not None:
            self._on_stall(stall)
        now = self._clock()
        if now - self._logged < LOG_EVERY:
            self._unlogged += 1
            return
        self._logged, unlogged, self._unlogged = now, self._unlogged, 0
        log.warning(
            "loop.stalled",
            ms=round(1000 * stall.seconds),
            cpu_ms=round(1000 * stall.cpu),
            culprit=stall.culprit,
            frames=list(stall.stack),
            unlogged=unlogged,
        )

    def _look(self) -> None:
        """The thread: at most one look for each beat."""
        looked_for = None
        while not self._over.is_set():
            overdue = self._overdue
            wait = min(overdue - self._clock(), IDLE_BEAT)
            if wait <= 0 and overdue != looked_for:
                looked_for = overdue
                stack = stack_of(sys._current_frames().get(self._loop_thread))
                self._seen = overdue, stack, cpu_seconds(self._native_id, thread=True)
            self._over.wait(wait if wait > 0 else LOOK_AFTER)
