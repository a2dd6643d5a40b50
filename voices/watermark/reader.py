"""Reads the token of a mark that was found, with the secret key."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.watermark.detector import LAGS_PER_CHIP, Detection, at_chip_rate, respeed
from ringtrue.voices.watermark.errors import WatermarkError
from ringtrue.voices.watermark.frontend import MARGIN, whitened
from ringtrue.voices.watermark.keys import CHIP_RATE, PERIOD, SYMBOL_CHIPS, SYMBOLS, Chips, MarkKey
from ringtrue.voices.watermark.token import Token, read

REACH_SECONDS: Final = 10.24
"""Signal on either side of the window of detection whose symbols are added up."""


def read_token(
    samples: npt.NDArray[np.float32] | npt.NDArray[np.int16],
    rate: int,
    key: MarkKey,
    found: Detection,
) -> Token | None:
    """The token of the mark ``found`` in these ``samples``; None where its MAC can't be checked.

    Raises :class:`WatermarkError` where ``found`` is of another key.
    """
    if found.key != key.id:
        raise WatermarkError(f"the mark was found by key {found.key}, not {key.id}")
    signal = at_chip_rate(samples, rate)
    start = round(found.start * CHIP_RATE)
    first = max(0, start - int(REACH_SECONDS * CHIP_RATE))
    last = start + int((found.seconds + REACH_SECONDS) * CHIP_RATE)
    block = signal[first:last]
    carrier = whitened(block)
    carrier[:MARGIN] = carrier[-MARGIN:] = 0.0
    values = carrier if found.speed == 1.0 else respeed(carrier, found.speed)
    origin = round((start - first) * found.speed)
    chip = found.lag + LAGS_PER_CHIP * (np.arange(len(values)) - origin)
    chip %= PERIOD * LAGS_PER_CHIP
    pilot = _finer(key.detection.pilot)[chip]
    window = slice(origin, origin + int(found.seconds * CHIP_RATE))
    polarity = np.sign((values[window] * pilot[window]).sum())
    soft = np.bincount(
        chip // (SYMBOL_CHIPS * LAGS_PER_CHIP),
        weights=values * _finer(key.carrier)[chip],
        minlength=SYMBOLS,
    )
    return read(key, polarity * soft)


def _finer(chips: Chips) -> Chips:
    """Band-limited interpolation to LAGS_PER_CHIP values a chip."""
    spectrum = np.fft.rfft(chips)[:-1]
    wide = np.zeros(PERIOD * LAGS_PER_CHIP // 2 + 1, np.complex128)
    wide[: len(spectrum)] = spectrum
    return np.asarray(np.fft.irfft(wide, PERIOD * LAGS_PER_CHIP) * LAGS_PER_CHIP)
