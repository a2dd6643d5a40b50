"""smart-turn v3: whether a caller's turn sounds complete.

The network always hears 16 kHz (8 kHz calls are resampled), runs in a shared executor off the
loop, and is loaded once per process. Time is counted in samples, so a stalled loop does not move
the segment it judges.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.streaming.dsp import resample_segment
from ringtrue.streaming.turns.network import TurnNetwork

MODEL_RATE: Final = 16000
MAX_SECONDS: Final = 8.0
"""What the model can hear; longer turns are judged by their end."""

PRE_SPEECH_SECONDS: Final = 0.5


class SmartTurnModel:
    """The network and the thread it runs on, shared by every call of the process."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        """Load the model that Pipecat ships; ``executor`` runs it."""
        self._network = TurnNetwork()
        self._executor = executor
        self._pending = 0

    @property
    def busy(self) -> bool:
        """Whether a judgement is under way: one asked for now would have to wait."""
        return self._pending > 0

    def predict(self, samples: npt.NDArray[np.int16], rate: int) -> float:
        """Probability that the turn whose audio is ``samples`` at ``rate`` Hz is complete."""
        return self._network.probability(resample_segment(samples, rate, MODEL_RATE))

    async def judge(self, samples: npt.NDArray[np.int16], rate: int) -> float:
        """:meth:`predict` off the loop. Cancelled before its turn has come, it costs nothing."""
        loop = asyncio.get_running_loop()
        self._pending += 1
        try:
            return await loop.run_in_executor(self._executor, self.predict, samples, rate)
        finally:
            self._pending -= 1


class TurnAudio:
    """The caller's recent audio, for the model: bounded to what it can hear."""

    def __init__(self, rate: int) -> None:
        """Keep :data:`MAX_SECONDS` at ``rate`` Hz."""
        self.rate = rate
        self._blocks: deque[bytes] = deque()
        self._bytes = 0
        self._limit = int(MAX_SECONDS * rate) * 2

    def push(self, pcm: bytes) -> None:
        """Append a block; the oldest is dropped beyond the limit."""
        self._blocks.append(pcm)
        self._bytes += len(pcm)
        while self._bytes - len(self._blocks[0]) >= self._limit:
            self._bytes -= len(self._blocks.popleft())

    def segment(self, samples: int) -> npt.NDArray[np.int16]:
        """The last ``samples`` samples, or as many as there are."""
        joined = np.frombuffer(b"".join(self._blocks), np.int16)
        return joined[-samples:] if samples else joined[:0]


def prolonged(samples: npt.NDArray[np.int16], pause: int, more: int) -> npt.NDArray[np.int16]:
    """``samples``, whose last ``pause`` are a pause, with ``more`` of the same behind them.

    The pause is continued back and forth, so that a line's noise goes on without a seam.
    """
    if more <= 0 or not len(samples):
        return samples
    tail = samples[-pause:] if pause else samples[-1:]
    there_and_back = np.concatenate((tail[::-1], tail))
    return np.concatenate((samples, np.resize(there_and_back, more)))
