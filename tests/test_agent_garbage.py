"""Cycles that calls leave are freed in time, and only where that is cheap."""

from __future__ import annotations

import asyncio
import gc
import resource
import threading
import weakref
from pathlib import Path

import pytest

from ringtrue.agent import garbage
from ringtrue.agent.garbage import BUSY_INTERVAL, FEW, INTERVAL, keep_collected, keep_given_back
from ringtrue.streaming.freed import give_back_freed


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
    keeping = asyncio.create_task(keep_collected(lambda: 0 if idle else 1))
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


@pytest.mark.parametrize(("calls", "freed"), [(1, True), (FEW, True), (FEW + 1, False)])
@pytest.mark.virtual_time
async def test_a_server_that_always_has_a_call_collects_too_but_seldom(
    calls: int, freed: bool
) -> None:
    keeping = asyncio.create_task(keep_collected(lambda: calls))
    gc.collect()
    gc.disable()
    try:
        gc.freeze()
        for _ in range(2):
            left = weakref.ref(Knot())
            await asyncio.sleep(BUSY_INTERVAL - INTERVAL)
            assert left() is not None
            await asyncio.sleep(INTERVAL + 1)
            assert (left() is None) is freed
    finally:
        gc.unfreeze()
        gc.enable()
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


@pytest.mark.virtual_time
async def test_what_is_frozen_is_counted_once_and_never_while_many_calls_are_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Counting walks all of it, which holds the loop for longer than a frame."""
    counted: list[int] = []
    up = FEW + 1

    def count() -> int:
        counted.append(up)
        return 1

    monkeypatch.setattr(gc, "get_freeze_count", count)
    monkeypatch.setattr(gc, "collect", lambda: 0)
    keeping = asyncio.create_task(keep_collected(lambda: up))
    try:
        await asyncio.sleep(3 * BUSY_INTERVAL)
        assert counted == []
        up = 0
        await asyncio.sleep(3 * INTERVAL + 1)
        up = 1
        await asyncio.sleep(2 * BUSY_INTERVAL)
        assert counted == [0]
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def test_freed_memory_is_given_back_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    twice = asyncio.Event()
    loop = asyncio.get_running_loop()

    def give() -> bool:
        given.append(threading.get_ident())
        if len(given) == 2:
            loop.call_soon_threadsafe(twice.set)
        return True

    monkeypatch.setattr(garbage, "give_back_freed", give)
    keeping = asyncio.create_task(keep_given_back(0.01))
    async with asyncio.timeout(30):
        await twice.wait()
    assert threading.get_ident() not in given
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


async def test_where_nothing_can_be_given_back_nobody_keeps_trying(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(garbage, "give_back_freed", lambda: False)
    async with asyncio.timeout(30):
        await keep_given_back(0.01)


def test_pages_that_were_freed_go_back_to_the_system() -> None:
    """Blocks below the size that is mapped by itself, with one kept behind each other."""

    def resident() -> int:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * resource.getpagesize()

    blocks = [bytearray(100_000) for _ in range(400)]
    del blocks[::2]
    before = resident()
    if not give_back_freed():
        pytest.skip("this C library has no malloc_trim")
    assert before - resident() > 15_000_000
    assert len(blocks) == 200
