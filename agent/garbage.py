"""What calls leave behind is freed, and given back to the system.

What still ends in cycles is freed between calls, where nobody waits for a collection.

An ended call frees itself (:mod:`ringtrue.streaming.dismantle`), but for what libraries tie into
cycles: a browser's connection leaves some 450 objects, a hosted service's client others. The
collector counts objects alone, not the native buffers they hold, and lets thousands pile up. A
full collection holds the loop for some milliseconds even where what was loaded at the start is
exempt (:func:`gc.freeze`). So it is made when no call is up. Where there are always a few it is
made all the same, but seldom: what was in use for as long as a call lasts is old by the collector's
own count, which comes to the old about once an hour.

The C library keeps what was freed, in holes between what is still used. A server whose calls
overlap now so, now otherwise, would hold a little more after each new constellation; whole free
pages are therefore given back twice a minute, which takes a millisecond.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Final

from ringtrue.streaming.freed import give_back_freed

INTERVAL: Final = 10.0
"""Seconds between collections, at least."""

BUSY_INTERVAL: Final = 180.0
"""The same while a few calls are up."""

FEW: Final = 5
"""Calls at most beside which a collection is made: each adds some 3 ms, which all of them hear."""

GIVE_BACK_SECONDS: Final = 30.0
"""Between two times that freed memory is given back."""


async def keep_collected(
    calls: Callable[[], int], interval: float = INTERVAL, busy_interval: float = BUSY_INTERVAL
) -> None:
    """Collect every ``interval`` seconds in which no call is up, and every ``busy_interval`` where
    there is always one and :data:`FEW` at most, until cancelled. ``calls`` says how many there are.

    Does nothing in a process that has frozen nothing: there a collection would visit everything
    that was ever loaded.
    """
    passed = 0.0
    frozen = False
    while True:
        await asyncio.sleep(interval)
        passed += interval
        up = calls()
        if up and (passed < busy_interval or up > FEW):
            continue
        # counting walks everything that is frozen, for some 20 ms: never beside a call, if possible
        frozen = frozen or gc.get_freeze_count() > 0
        if frozen:
            gc.collect()
            passed = 0.0


async def keep_given_back(interval: float = GIVE_BACK_SECONDS) -> None:
    """Give freed memory back every ``interval`` seconds, on a thread, until cancelled."""
    while True:
        await asyncio.sleep(interval)
        if not await asyncio.to_thread(give_back_freed):
            return  # this C library has no way to
