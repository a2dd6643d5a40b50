"""Tasks of an owner: kept until they end, heard if they fail."""

from __future__ import annotations

import asyncio

from structlog.testing import capture_logs

from ringtrue.agent.background import Background


async def test_a_task_is_kept_until_it_ends() -> None:
    background, over = Background("x.failed"), asyncio.Event()

    async def work() -> None:
        await over.wait()

    task = background.spawn(work(), "waiting")
    assert background.tasks == {task}
    over.set()
    await task
    await asyncio.sleep(0)
    assert not background.tasks


async def test_a_failure_is_told_and_a_cancellation_is_not() -> None:
    background = Background("x.failed")

    async def fail() -> None:
        raise ValueError("no")

    with capture_logs() as logs:
        background.spawn(fail(), "failing")
        background.spawn(asyncio.sleep(60), "sleeping").cancel()
        await asyncio.sleep(0.01)
    assert [(entry["event"], entry["task"]) for entry in logs] == [("x.failed", "failing")]
    assert not background.tasks
