"""Cycles that calls leave are freed in time, and only where that is cheap."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from ringtrue.agent.garbage import INTERVAL, keep_collected


class Knot:
    """An object that only a collection frees."""

    def __init__(self) -> None:
        self.itself = self


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    ("frozen", "idle", "freed"),
    [(True, True, True), (False, True, False), (True, False, False)],
)
async def test_what_calls_leave_is_freed_between_calls_in_a_process_that_serves(
    frozen: bool, idle: bool, freed: bool
) -> None:
    keeping = asyncio.create_task(keep_collected(lambda: idle))
    gc.collect()
    gc.disable()
    try:
        if frozen:
            gc.freeze()
        left = weakref.ref(Knot())
        await asyncio.sleep(INTERVAL - 1)
        assert left() is not None
        await asyncio.sleep(2)
        assert (left() is None) is freed
    finally:
        gc.unfreeze()
        gc.enable()
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
