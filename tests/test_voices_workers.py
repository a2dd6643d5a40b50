"""The pool: urgent first, errors come back, nothing is left behind."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from ringtrue.voices.workers import ALIVE_SECONDS, Urgency, Workers


async def test_urgent_work_overtakes_what_waits() -> None:
    workers = Workers(1)
    gate, order = threading.Event(), []
    blocker = workers.submit(Urgency.AHEAD, gate.wait)
    waiting = [workers.submit(Urgency.AHEAD, lambda n=n: order.append(f"ahead{n}")) for n in (0, 1)]
    urgent = workers.submit(Urgency.FIRST_AUDIO, lambda: order.append("first"))
    gate.set()
    await asyncio.gather(blocker, *waiting, urgent)
    assert order == ["first", "ahead0", "ahead1"]
    workers.close()


async def test_threads_that_serve_are_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = Workers(1)
    assert not workers.alive
    await workers.submit(Urgency.AHEAD, lambda: None)
    assert workers.alive
    later = time.monotonic() + ALIVE_SECONDS
    monkeypatch.setattr("ringtrue.voices.workers.time.monotonic", lambda: later)
    assert not workers.alive
    workers.close()


async def test_results_and_errors_come_back() -> None:
    workers = Workers(2)
    assert await workers.submit(Urgency.AHEAD, lambda: 42) == 42
    with pytest.raises(ZeroDivisionError):
        await workers.submit(Urgency.AHEAD, lambda: 1 // 0)
    assert await workers.submit(Urgency.AHEAD, lambda: "still here") == "still here"
    workers.close()


async def test_a_cancelled_job_that_waits_never_runs() -> None:
    workers = Workers(1)
    gate, ran = threading.Event(), []
    blocker = workers.submit(Urgency.AHEAD, gate.wait)
    dropped = workers.submit(Urgency.AHEAD, lambda: ran.append(1))
    dropped.cancel()
    gate.set()
    await blocker
    await workers.submit(Urgency.AHEAD, lambda: None)
    assert ran == []
    workers.close()


async def test_threads_are_bounded_and_end() -> None:
    before = threading.active_count()
    workers = Workers(3, name="bounded")
    names = set(
        await asyncio.gather(
            *(
                workers.submit(Urgency.AHEAD, lambda: threading.current_thread().name)
                for _ in range(50)
            )
        )
    )
    assert names <= {"bounded-0", "bounded-1", "bounded-2"}
    workers.close()
    workers.close()
    assert threading.active_count() == before
    with pytest.raises(RuntimeError, match="closed"):
        workers.submit(Urgency.AHEAD, lambda: None)


def test_at_least_one_thread() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        Workers(0)
