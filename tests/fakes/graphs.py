"""A running Pipecat graph around the processors under test, with everything that leaves it kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from pipecat.frames.frames import Frame, StartFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner

F = TypeVar("F", bound=Frame)


class Tap(FrameProcessor):
    """Keeps every frame that passes in one direction."""

    def __init__(self, direction: FrameDirection) -> None:
        super().__init__(enable_direct_mode=True)
        self._direction = direction
        self.frames: list[Frame] = []
        self.times: list[float] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if direction is self._direction and not isinstance(frame, StartFrame):
            self.frames.append(frame)
            self.times.append(asyncio.get_running_loop().time())
        await self.push_frame(frame, direction)


@dataclass
class Graph:
    """The processors between two taps."""

    entry: Tap
    exit: Tap
    worker: PipelineWorker = field(repr=False)

    async def push(self, *frames: Frame) -> None:
        """Send ``frames`` down, from before the first processor."""
        for frame in frames:
            await self.entry.push_frame(frame)

    def down(self, kind: type[F]) -> list[F]:
        """Frames of ``kind`` that came out at the end."""
        return [frame for frame in self.exit.frames if isinstance(frame, kind)]

    def up(self, kind: type[F]) -> list[F]:
        """Frames of ``kind`` that came back."""
        return [frame for frame in self.entry.frames if isinstance(frame, kind)]

    def at(self, frame: Frame) -> float:
        """When ``frame`` came out at the end."""
        return self.exit.times[self.exit.frames.index(frame)]

    async def until(self, done: Callable[[], object], seconds: float = 10.0) -> None:
        """Wait for ``done`` to become true; on the loop's clock."""
        async with asyncio.timeout(seconds):
            while not done():
                await asyncio.sleep(0.005)


@asynccontextmanager
async def running(*processors: FrameProcessor, rate: int = 16000) -> AsyncIterator[Graph]:
    """Run ``processors`` in a pipeline until the block ends."""
    entry, exit_ = Tap(FrameDirection.UPSTREAM), Tap(FrameDirection.DOWNSTREAM)
    worker = PipelineWorker(
        Pipeline([entry, *processors, exit_]),
        params=PipelineParams(audio_in_sample_rate=rate, audio_out_sample_rate=rate),
        cancel_on_idle_timeout=False,
        idle_timeout_secs=None,
        enable_turn_tracking=False,
        enable_rtvi=False,
        check_dangling_tasks=False,
    )
    started = asyncio.Event()

    async def on_started(_worker: object, _frame: Frame) -> None:
        started.set()

    worker.add_event_handler("on_pipeline_started", on_started)
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    task = asyncio.get_running_loop().create_task(runner.run())
    try:
        async with asyncio.timeout(10):
            await started.wait()
        yield Graph(entry, exit_, worker)
    finally:
        await worker.cancel()
        await task
