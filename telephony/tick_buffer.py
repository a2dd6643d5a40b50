"""A bounded buffer between audio that arrives when it likes and a clock that takes 20 ms a tick.

For transports that deliver in order and lose nothing on the way (a websocket): what varies is
only when the bytes come. The buffer waits for a little stock, bridges gaps with silence, and
drains whatever delay stands in it for longer than a burst explains.

Policies: overflow drops the oldest audio and counts it; underflow gives silence, counts it and
waits for the stock again.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ringtrue.streaming.ports import FRAME_MS, frame_bytes

WINDOW: Final = 100
"""Ticks over which the least stock is what stands: 2 s."""

FAST_WINDOW: Final = 15
"""The same where three frames and more stand: a stall's delay goes at 20 ms each 300 ms."""


class TickBuffer:
    """PCM (16-bit mono) at ``rate`` Hz. Sans-IO."""

    def __init__(self, rate: int, *, stock_ms: int = 40, max_ms: int = 500) -> None:
        """``stock_ms`` is gathered before the first frame is given, ``max_ms`` bounds the stock.

        Raises ``ValueError`` unless ``0 < stock_ms < max_ms``.
        """
        if not 0 < stock_ms < max_ms:
            raise ValueError(f"stock_ms {stock_ms} must be between 0 and max_ms {max_ms}")
        self._frame = frame_bytes(rate)
        self._silence = bytes(self._frame)
        self._bytes_per_ms = rate * 2 // 1000
        self._stock = stock_ms * self._bytes_per_ms
        self._max = max_ms * self._bytes_per_ms
        self._pcm = bytearray()
        self._flowing = False
        self._least = self._max
        self._ticks = 0
        self._fade = np.linspace(0.0, 1.0, self._frame // 2, dtype=np.float32)
        self.overflowed_ms = 0
        """Audio dropped because the buffer was full, in milliseconds."""

        self.drained_ms = 0
        """Audio taken out to shorten a standing delay, in milliseconds."""

        self.underflows = 0
        """Times the buffer ran dry while audio was flowing."""

        self.standing_ms = 0.0
        """Least stock of the last full window: delay that no burst explains."""

    @property
    def depth_ms(self) -> float:
        """Audio waiting."""
        return len(self._pcm) / self._bytes_per_ms

    def put(self, pcm: bytes) -> None:
        """Append audio of any whole number of samples."""
        self._pcm += pcm
        excess = len(self._pcm) - self._max
        if excess > 0:
            excess += excess % 2
            del self._pcm[:excess]
            self.overflowed_ms += excess // self._bytes_per_ms

    def take(self) -> tuple[bytes, bool]:
        """The next 20 ms, and whether it is silence in place of audio that did not come."""
        if not self._flowing:
            if len(self._pcm) < self._stock:
                return self._silence, True
            self._flowing = True
            self._restart_window()
        if len(self._pcm) < self._frame:
            self._flowing = False
            self.underflows += 1
            rest = bytes(self._pcm)
            self._pcm.clear()
            return rest + bytes(self._frame - len(rest)), True
        frame = bytes(self._pcm[: self._frame])
        del self._pcm[: self._frame]
        self._observe()
        if self._standing() and len(self._pcm) >= self._frame:
            frame = self._merge(frame, bytes(self._pcm[: self._frame]))
            del self._pcm[: self._frame]
            self.drained_ms += FRAME_MS
            self._restart_window()
        return frame, False

    def trim(self) -> None:
        """Drop all but the newest stock: what came before anybody listened would only delay."""
        excess = len(self._pcm) - self._stock
        if excess > 0:
            del self._pcm[: excess + excess % 2]
            self.drained_ms += excess // self._bytes_per_ms

    def clear(self) -> None:
        """Drop everything and gather stock anew."""
        self._pcm.clear()
        self._flowing = False

    def _observe(self) -> None:
        self._least = min(self._least, len(self._pcm))
        self._ticks += 1

    def _standing(self) -> bool:
        large = self._least >= self._stock + 3 * self._frame
        if self._ticks < (FAST_WINDOW if large else WINDOW):
            return False
        self.standing_ms = self._least / self._bytes_per_ms
        excess = self._least > self._stock
        if not excess:
            self._restart_window()
        return excess

    def _restart_window(self) -> None:
        self._least = self._max
        self._ticks = 0

    def _merge(self, first: bytes, second: bytes) -> bytes:
        """One frame that begins as ``first`` and ends as ``second``, without a click."""
        a = np.frombuffer(first, dtype="<i2").astype(np.float32)
        b = np.frombuffer(second, dtype="<i2").astype(np.float32)
        return (a + (b - a) * self._fade).round().astype("<i2").tobytes()
