"""What every kind of phone has in common: it places calls and follows scripts in them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ringtrue.loadtest.caller import CallResult, Script, run_call
from ringtrue.loadtest.line import caller_clock
from ringtrue.loadtest.scenario.schema import Network
from ringtrue.streaming.clock import ClockStats
from ringtrue.streaming.gate import FrameKind, Watermarker
from ringtrue.streaming.lifetime import Running
from ringtrue.streaming.ports import Call

CLEAN: Final = Network()


@dataclass(frozen=True, slots=True)
class CallerOptions:
    """What one caller's line is like."""

    network: Network = CLEAN
    seed: int = 0
    """Of the network and of the background."""

    background_dbfs: float | None = None
    """Level of the white noise under everything sent; None: none."""

    phase: float = 0.0
    """Seconds from the answer to the first tick of its clock, where that doesn't run yet."""

    def background(self) -> Callable[[int], Watermarker] | None:
        """What makes the noise for a rate."""
        level = self.background_dbfs
        if level is None:
            return None
        return lambda rate: Background(level, self.seed)


class Background:
    """White noise under a caller's frames, as a quiet street is; stands where marks are put."""

    id: Final = "background"

    def __init__(self, dbfs: float, seed: int) -> None:
        """``dbfs`` is its RMS relative to full scale."""
        self._random = np.random.default_rng(seed)
        self._level = 32768 * 10 ** (dbfs / 20)

    def mark(self, pcm: bytes, kind: FrameKind) -> bytes:
        """``pcm`` with noise added, limited to 16 bits."""
        samples = np.frombuffer(pcm, "<i2").astype(np.float64)
        samples += self._random.normal(0.0, self._level, len(samples))
        return bytes(np.clip(np.rint(samples), -32768, 32767).astype("<i2").tobytes())


class Calling(Running):
    """Places calls over one transport, any number at once, all on one media clock.

    Use ``async with``.
    """

    def __init__(self, drift_ppm: float, *parts: AbstractAsyncContextManager[Any]) -> None:
        """The clock runs ``drift_ppm`` parts per million fast; ``parts`` are open while it is."""
        self._clock = caller_clock(drift_ppm)
        self._parts = parts
        self._opened = AsyncExitStack()

    async def start(self) -> None:
        """Open what calls need. Raises OSError where that can't be done."""
        self._opened.callback(self._clock.stop)
        for part in self._parts:
            await self._opened.enter_async_context(part)

    async def close(self) -> None:
        """End what is still up and release everything."""
        await self._opened.aclose()

    @property
    def clock_stats(self) -> ClockStats:
        """How well the phone's own clock kept its time: the measurements are as good as that."""
        return self._clock.stats

    async def call(
        self,
        target: str,
        script: Script,
        *,
        name: str = "caller",
        answer_within: float = 10.0,
        max_seconds: float = 180.0,
        options: CallerOptions | None = None,
    ) -> CallResult:
        """Call ``target`` and follow ``script``.

        Only cancellation raises; see :func:`~ringtrue.loadtest.caller.run_call`.
        """
        given = options or CallerOptions()
        return await run_call(
            lambda: self._dial(target, given),
            script,
            self._clock,
            name=name,
            answer_within=answer_within,
            max_seconds=max_seconds,
            background=given.background(),
            phase=given.phase,
        )

    @abstractmethod
    async def _dial(self, target: str, options: CallerOptions) -> Call:
        """Place a call; returns once it is answered.

        Raises :class:`~ringtrue.loadtest.caller.RefusedError`, another
        :class:`~ringtrue.streaming.errors.RingtrueError` or OSError.
        """
