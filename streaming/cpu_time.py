"""CPU time of other threads and processes (Linux)."""

from __future__ import annotations

import time


def cpu_seconds(number: int, *, thread: bool = False) -> float:
    """CPU seconds of a process or, by its native id, of a thread; 0 where it has ended.

    The clock's id is made as Linux makes it (clock_getcpuclockid(3)). It counts run time
    exactly; utime and stime in ``/proc`` are sampled at timer ticks, to which a thread that
    wakes by a timer is aligned.
    """
    try:
        return time.clock_gettime((~number << 3) | (6 if thread else 2))
    except OSError:
        return 0.0
