"""Giving memory that was freed back to the system.

The C library keeps what a process frees for its next allocations. After a peak that may be most
of what the process holds.
"""

from __future__ import annotations

import ctypes


def give_back_freed() -> bool:
    """Have the C library return whole free pages (``malloc_trim``); False where it has no such way.

    Takes a few milliseconds where much was freed since the last time, else less than one;
    meanwhile other threads' allocations may wait. Only glibc can.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        return False
    trim(ctypes.c_size_t(0))
    return True
