"""Finds marks in recordings that may be cropped, filtered, recoded or slightly off in speed.

The pilot's chips are random signs, independent of whatever signal they are correlated with. For a
signal ``v`` that does not carry them, Hoeffding's inequality bounds the normalised correlation
``z = Σ v·p / ‖v‖``:  ``P(|z| > t) ≤ 2·exp(−t²/2)``, whatever ``v`` is. Times the number of
hypotheses tried (lags, speeds, windows, keys) that bounds the false alarm of a whole search.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import soxr

from ringtrue.voices.watermark.errors import WatermarkError
from ringtrue.voices.watermark.frontend import MARGIN, whitened
from ringtrue.voices.watermark.keys import CHIP_RATE, PERIOD, DetectionKey
from ringtrue.voices.watermark.lpc import RealArray

WINDOWS: Final = (2.0, 5.12, 10.24)
"""Seconds of signal correlated at once: short ones find short speech, long ones faint marks."""

OVERLAP: Final = 0.5
LAGS_PER_CHIP: Final = 2
BLOCK_SECONDS: Final = 20.48
"""Signal held at once; blocks overlap by the longest window."""

CLOCK_DRIFT: Final = 3e-4
"""Speeds searched unless told otherwise: what two sound cards' clocks may differ by."""

MIN_RATE: Final = 8000
MAX_RATE: Final = 192_000


@dataclass(frozen=True, slots=True)
class Detection:
    """The strongest sign of a mark that a search found."""

    key: str
    """Id of the detection key."""

    z: float
    """Normalised correlation; about 1 where there is no mark."""

    false_alarm: float
    """Bound on the probability that a search like this finds as much in an unmarked signal."""

    start: float
    """Seconds into the signal of the window it was found in."""

    seconds: float
    speed: float
    """How much faster the signal runs than it was marked."""

    lag: int
    """Chip of the period at the window's start, in steps of 1/LAGS_PER_CHIP."""

    @property
    def significance(self) -> float:
        """−log10 of the false-alarm bound, at least 0."""
        return max(0.0, -math.log10(max(self.false_alarm, 1e-300)))


def detect(
    samples: npt.NDArray[np.float32] | npt.NDArray[np.int16],
    rate: int,
    keys: Sequence[DetectionKey],
    *,
    drift: float = CLOCK_DRIFT,
) -> Detection | None:
    """The strongest sign of any of ``keys`` in mono ``samples``; None without keys or signal.

    Floats have full scale 1.0. Speeds from ``1 − drift`` to ``1 + drift`` are searched. Blocking:
    some 40 times faster than real time on one core. Raises :class:`WatermarkError` for a rate
    outside 8 to 192 kHz or more than one channel.
    """
    signal = at_chip_rate(samples, rate)
    spectra = [(key.id, np.fft.rfft(key.pilot)) for key in keys]
    best: Detection | None = None
    hypotheses = 0
    for first, block in _blocks(signal):
        carrier = whitened(block)[MARGIN:-MARGIN]
        for start, seconds, part in _windows(carrier):
            for speed in speeds(len(part), drift):
                folded = _fold(part if speed == 1.0 else respeed(part, speed))
                norm = float(np.sqrt((folded**2).sum()))
                if norm == 0.0:
                    continue
                spectrum = np.conj(np.fft.rfft(folded))
                for key_id, pilot in spectra:
                    hypotheses += PERIOD * LAGS_PER_CHIP
                    z = np.abs(_correlate(spectrum, pilot)) / norm
                    lag = int(z.argmax())
                    if best is None or z[lag] > best.z:
                        at = (first + MARGIN + start) / CHIP_RATE
                        best = Detection(key_id, float(z[lag]), 1.0, at, seconds, speed, lag)
    if best is None:
        return None
    bound = min(1.0, 2.0 * hypotheses * math.exp(-(best.z**2) / 2))
    return Detection(best.key, best.z, bound, best.start, best.seconds, best.speed, best.lag)


def at_chip_rate(samples: npt.NDArray[np.float32] | npt.NDArray[np.int16], rate: int) -> RealArray:
    """Mono ``samples`` at 8 kHz and the scale of 16-bit PCM.

    Raises :class:`WatermarkError` for a rate outside 8 to 192 kHz or more than one channel.
    """
    if not MIN_RATE <= rate <= MAX_RATE:
        raise WatermarkError(f"rate must be from {MIN_RATE} to {MAX_RATE} Hz, got {rate}")
    if samples.ndim != 1:
        raise WatermarkError(f"mono samples have shape (n,), got {samples.shape}")
    scaled = samples.astype(np.float64)
    if samples.dtype != np.int16:
        scaled *= 32768.0
    if rate == CHIP_RATE:
        return scaled
    return np.asarray(soxr.resample(scaled, rate, CHIP_RATE), np.float64)


def speeds(length: int, drift: float) -> Iterator[float]:
    """Speeds to try for a window of ``length`` chips: steps of one chip over the window."""
    steps = math.ceil(drift * length)
    for step in range(-steps, steps + 1):
        yield 1.0 + step / length


def _blocks(signal: RealArray) -> Iterator[tuple[int, RealArray]]:
    size = int(BLOCK_SECONDS * CHIP_RATE)
    overlap = int(WINDOWS[-1] * CHIP_RATE)
    first = 0
    while True:
        yield first, signal[first : first + size]
        if first + size >= len(signal):
            return
        first += size - overlap


def _windows(carrier: RealArray) -> Iterator[tuple[int, float, RealArray]]:
    """Overlapping windows of each length; one that is longer than the signal takes all of it."""
    for seconds in WINDOWS:
        size = int(seconds * CHIP_RATE)
        if size >= len(carrier):
            if len(carrier):
                yield 0, len(carrier) / CHIP_RATE, carrier
            return
        step = int(size * OVERLAP)
        for start in range(0, len(carrier) - size + step, step):
            start = min(start, len(carrier) - size)
            yield start, seconds, carrier[start : start + size]


def _fold(part: RealArray) -> RealArray:
    padded = np.pad(part, (0, -len(part) % PERIOD))
    return np.asarray(padded.reshape(-1, PERIOD).sum(axis=0))


def _correlate(
    spectrum: npt.NDArray[np.complex128], pilot: npt.NDArray[np.complex128]
) -> RealArray:
    """Correlation at every lag of the period, in steps of 1/LAGS_PER_CHIP."""
    product = (spectrum * pilot)[:-1]
    wide = np.zeros(PERIOD * LAGS_PER_CHIP // 2 + 1, np.complex128)
    wide[: len(product)] = product
    return np.asarray(np.fft.irfft(wide, PERIOD * LAGS_PER_CHIP) * LAGS_PER_CHIP)


def respeed(part: RealArray, speed: float) -> RealArray:
    """``part`` as it would be had it not run ``speed`` times too fast (cubic interpolation)."""
    count = int(len(part) * speed)
    time = np.arange(count) / speed
    at = time.astype(np.int64)
    f = time - at
    padded = np.pad(part, (1, 3))
    a, b, c, d = (padded[at + n] for n in range(4))
    bend = 2 * a - 5 * b + 4 * c - d + f * (3 * (b - c) + d - a)
    return np.asarray(b + 0.5 * f * (c - a + f * bend))
