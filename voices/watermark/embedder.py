"""Marks 20 ms at a time; see :mod:`ringtrue.voices.watermark.shaping` for how."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.watermark.errors import WatermarkError
from ringtrue.voices.watermark.keys import PERIOD, PERIOD_FRAMES, SYMBOLS, MarkKey
from ringtrue.voices.watermark.shaping import (
    FIXED,
    GAIN,
    PILOT_SHARE,
    STATE,
    STRENGTH,
    Signs,
    mark_frame,
)

RATES: Final = (8000, 16000)


@dataclass(frozen=True, slots=True)
class Excitation:
    """The chips of one mark, made frame by frame: a whole period of them takes 0.3 MB."""

    signs: Signs
    """Pilot and carrier, ±1, ``(2, PERIOD)``: the same array for all legs of one key."""

    symbols: npt.NDArray[np.float64]
    """±1, ``(SYMBOLS,)``."""

    pilot_gain: float = math.sqrt(PILOT_SHARE)
    data_gain: float = math.sqrt(1 - PILOT_SHARE)

    def __post_init__(self) -> None:
        if self.signs.shape != (2, PERIOD):
            raise WatermarkError(f"a period has {PERIOD} chips, got shape {self.signs.shape}")
        if self.symbols.shape != (SYMBOLS,):
            shape = self.symbols.shape
            raise WatermarkError(f"a period carries {SYMBOLS} symbols, got shape {shape}")


def excitation(key: MarkKey, symbols: npt.NDArray[np.float64]) -> Excitation:
    """Pilot and data of ``key``, unit power; ``symbols`` are ±1, ``(SYMBOLS,)``."""
    return Excitation(key.signs, symbols)


class Embedder:
    """Marks one leg. Not for two threads at a time."""

    __slots__ = (
        "_frame",
        "_octets",
        "_pcm",
        "_signs",
        "_size",
        "_state",
    )

    def __init__(self, chips: Excitation, rate: int, *, strength: float = STRENGTH) -> None:
        """Mark PCM at ``rate`` Hz with ``chips``.

        Raises :class:`WatermarkError` for another rate or a strength outside 0 … 1.
        """
        if rate not in RATES:
            raise WatermarkError(f"rate must be one of {', '.join(map(str, RATES))} Hz, got {rate}")
        if not 0 < strength < 1:
            raise WatermarkError(f"strength must be above 0 and below 1, got {strength}")
        self._size = 2 * (rate // 50)
        self._signs = chips.signs
        self._frame = 0
        self._state = np.zeros(STATE)
        self._state[:FIXED] = [strength, chips.pilot_gain, chips.data_gain, *chips.symbols]
        self._pcm = np.zeros(rate // 50, np.int16)
        self._octets = self._pcm.data.cast("B")

    def rest(self) -> None:
        """Forget what the leg sounded like, so that the mark of a host that was cut off doesn't
        ring on into the silence after it; the level the strength is adapted to stays.
        """
        self._state[GAIN:] = 0.0

    def mark(self, pcm: bytes) -> bytes:
        """One frame of 16-bit PCM, marked; same length, no delay.

        Raises :class:`WatermarkError` unless it is one whole frame.
        """
        if len(pcm) != self._size:
            raise WatermarkError(f"a frame has {self._size} bytes, got {len(pcm)}")
        frame = self._frame
        self._frame = (frame + 1) % PERIOD_FRAMES
        self._octets[:] = pcm
        mark_frame(self._pcm, self._signs, frame, self._state)
        return self._octets.tobytes()
