"""What calls leave behind in cycles is freed soon after them.

A call's processors refer to each other, so that its end frees nothing by itself: some thousand
objects that hold native buffers, half a megabyte together. The collector counts objects alone
and lets a hundred such calls pile up. Once what is loaded at the start is exempt
(:func:`gc.freeze`), a full collection takes some milliseconds, and may as well be made in time.
"""

from __future__ import annotations

import asyncio
import gc
from typing import Final

INTERVAL: Final = 10.0
"""Seconds between collections."""


async def keep_collected(interval: float = INTERVAL) -> None:
    """Collect every ``interval`` seconds, until cancelled.

    Does nothing in a process that has frozen nothing: there a collection would visit everything
    that was ever loaded.
    """
    while True:
        await asyncio.sleep(interval)
        if gc.get_freeze_count():
            gc.collect()
