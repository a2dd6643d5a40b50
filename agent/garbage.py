"""What calls leave behind in cycles is freed between calls, where nobody waits for a collection.

A call's processors refer to each other, so that its end frees nothing by itself: some thousand
objects that hold native buffers, half a megabyte together. The collector counts objects alone
and lets a hundred such calls pile up. A full collection holds the loop for some 50 ms even where
what was loaded at the start is exempt (:func:`gc.freeze`): two frames of every call. So it is made
when no call is up; while some are, the collector's own count decides.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Final

INTERVAL: Final = 10.0
"""Seconds between collections, at least."""


async def keep_collected(idle: Callable[[], bool], interval: float = INTERVAL) -> None:
    """Collect every ``interval`` seconds in which it is ``idle``, until cancelled.

    Does nothing in a process that has frozen nothing: there a collection would visit everything
    that was ever loaded.
    """
    while True:
        await asyncio.sleep(interval)
        if idle() and gc.get_freeze_count():
            gc.collect()
