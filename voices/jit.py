"""Compilation of numeric kernels to machine code that runs without the interpreter lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

KernelT = TypeVar("KernelT", bound=Callable[..., Any])


def compiled(kernel: KernelT) -> KernelT:
    """Compile ``kernel`` on first call; it releases the interpreter lock while it runs.

    Machine code is cached beside the source, or where that is read-only in the user's cache
    directory (``NUMBA_CACHE_DIR`` names another). Where nothing can be written, every process
    compiles anew, which costs seconds at start and nothing later. Results do not depend on
    which: reassociation of sums is off, so that a stream cut into pieces stays bit-exact.
    """
    return _compiled(kernel, nogil=True)


def brief(kernel: KernelT) -> KernelT:
    """Compile ``kernel``, of a few microseconds, like :func:`compiled`, but keep the lock.

    A thread that computes takes a lock that is let go of, and keeps it for the interpreter's
    switch interval: 5 ms for those few microseconds, at each of them.
    """
    return _compiled(kernel, nogil=False)


def _compiled(kernel: KernelT, *, nogil: bool) -> KernelT:
    try:
        return cast(KernelT, numba.njit(nogil=nogil, cache=True)(kernel))
    except RuntimeError:  # numba's way of saying that no cache directory can be written
        return cast(KernelT, numba.njit(nogil=nogil)(kernel))
