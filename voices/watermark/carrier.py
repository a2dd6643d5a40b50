"""The chips' carrier of a signal of any length, epoch by epoch, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
import soxr

from ringtrue.voices.watermark.errors import WatermarkError
from ringtrue.voices.watermark.frontend import whitened
from ringtrue.voices.watermark.keys import CHIP_RATE
from ringtrue.voices.watermark.lpc import RealArray
from ringtrue.voices.watermark.tracking import EPOCH

BLOCK: Final = 4 * EPOCH
"""Chips whitened at once: what is noise is judged over some 19 s."""

OVERLAP: Final = 2048
"""Chips beside a block that are whitened with it and then left out."""

MIN_RATE: Final = 8000
MAX_RATE: Final = 192_000

Samples = npt.NDArray[np.float32] | npt.NDArray[np.int16]


class CarrierStream:
    """Takes mono samples as they come; gives the carrier in epochs of 4.8 s, the last shorter."""

    def __init__(self, rate: int) -> None:
        """For samples at ``rate`` Hz. Raises :class:`WatermarkError` outside 8 to 192 kHz."""
        if not MIN_RATE <= rate <= MAX_RATE:
            raise WatermarkError(f"rate must be from {MIN_RATE} to {MAX_RATE} Hz, got {rate}")
        self._resampler = (
            soxr.ResampleStream(rate, CHIP_RATE, 1, dtype="float32") if rate != CHIP_RATE else None
        )
        self._held: list[npt.NDArray[np.float32]] = []
        self._size = 0
        self._before = 0
        """Of the held samples, how many only lead up to the next block."""

    def feed(self, samples: Samples, *, last: bool = False) -> Iterator[RealArray]:
        """The epochs that ``samples`` complete; floats have full scale 1.0.

        With ``last`` also what is left. Raises :class:`WatermarkError` for more than one channel.
        """
        if samples.ndim != 1:
            raise WatermarkError(f"mono samples have shape (n,), got {samples.shape}")
        scaled = samples.astype(np.float32)
        if samples.dtype != np.int16:
            scaled *= 32768.0
        if self._resampler is not None:
            scaled = self._resampler.resample_chunk(scaled, last=last)
        self._held.append(scaled)
        self._size += len(scaled)
        while self._size >= self._before + BLOCK + OVERLAP:
            yield from self._block(BLOCK)
        if last and self._size > self._before:
            yield from self._block(self._size - self._before)

    def _block(self, size: int) -> Iterator[RealArray]:
        held = np.concatenate(self._held)
        begin, end = self._before, self._before + size
        carrier = whitened(held[: end + OVERLAP].astype(np.float64))[begin:end]
        left = held[max(0, end - OVERLAP) :]
        self._held, self._size, self._before = [left], len(left), min(OVERLAP, end)
        for first in range(0, size, EPOCH):
            yield carrier[first : first + EPOCH]


def half_a_chip_on(carrier: RealArray) -> RealArray:
    """The carrier as it would be sampled half a chip later, same length."""
    return np.convolve(carrier, _HALF_CHIP, "same")


def respeed(carrier: RealArray, speed: float) -> RealArray:
    """``carrier`` as it would be had it not run ``speed`` times too fast (cubic interpolation)."""
    count = int(len(carrier) * speed)
    time = np.arange(count) / speed
    at = time.astype(np.int64)
    f = time - at
    padded = np.pad(carrier, (1, 3))
    a, b, c, d = (padded[at + n] for n in range(4))
    bend = 2 * a - 5 * b + 4 * c - d + f * (3 * (b - c) + d - a)
    return np.asarray(b + 0.5 * f * (c - a + f * bend))


def _half_chip() -> RealArray:
    at = np.arange(-8, 8) + 0.5
    taps = np.sinc(at) * np.cos(np.pi * at / 17) ** 2
    return np.asarray(taps / np.sqrt((taps**2).sum()), np.float64)


_HALF_CHIP: Final[RealArray] = _half_chip()
