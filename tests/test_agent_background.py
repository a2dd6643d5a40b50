"""Tasks of an owner: kept until they end, heard if they fail."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from ringtrue.agent.background import RESTART_SECONDS, Background


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


@pytest.mark.virtual_time
async def test_what_is_to_go_on_is_begun_again_where_it_fails() -> None:
    begun: list[float] = []
    restarts: list[None] = []
    background = Background("x.failed", lambda: restarts.append(None))
    loop = asyncio.get_running_loop()

    async def work() -> None:
        begun.append(loop.time())
        if len(begun) < 3:
            raise ValueError("no")
        await asyncio.sleep(3600)

    with capture_logs() as logs:
        task = background.keep(work, "standing")
        await asyncio.sleep(10 * RESTART_SECONDS)
        assert not task.done()
        await background.close()
    assert begun == pytest.approx([begun[0] + at * RESTART_SECONDS for at in range(3)])
    assert len(restarts) == 2
    assert [(entry["event"], entry["task"]) for entry in logs] == [("x.failed", "standing")] * 2
    assert task.cancelled()
    assert not background.tasks


async def test_what_ends_by_itself_is_not_begun_again() -> None:
    background, begun = Background("x.failed"), 0

    async def work() -> None:
        nonlocal begun
        begun += 1

    await background.keep(work, "short")
    assert begun == 1
