"""Reads tokens along the tracks of marks, with the secret key."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.watermark.keys import PERIOD, SYMBOL_CHIPS, SYMBOLS, MarkKey
from ringtrue.voices.watermark.lpc import RealArray
from ringtrue.voices.watermark.token import Token, read, symbols
from ringtrue.voices.watermark.tracing import Track
from ringtrue.voices.watermark.tracking import SEGMENT, Segments

SAME: Final = 6.0
"""Standard deviations from which on symbols agree with a token that was read elsewhere: less
than one chance in 10⁸."""


class Reader:
    """Adds up one mark's symbols over as many periods as it lasts, and reads them."""

    def __init__(self, key: MarkKey) -> None:
        """Nothing heard yet."""
        self._key = key
        self._soft = np.zeros(SYMBOLS)

    def add(self, segments: Segments, track: Track) -> None:
        """Take what one epoch's track carries."""
        self._soft += soft_symbols(self._key, segments, track)

    def read(self, known: tuple[Token, ...] = ()) -> Token | None:
        """The token; None where no valid MAC has been found yet.

        Symbols too few to be decoded are compared with the tokens already ``known``.
        """
        found = read(self._key, self._soft)
        if found is not None:
            return found
        scale = float(np.sqrt((self._soft**2).sum()))
        for token in known:
            if scale and float(self._soft @ symbols(self._key, token)) / scale > SAME:
                return token
        return None


def soft_symbols(key: MarkKey, segments: Segments, track: Track) -> RealArray:
    """How strongly each data symbol of a period speaks for +1; shape ``(SYMBOLS,)``."""
    count = len(segments)
    values = segments.values[int(track.bet.late)].astype(np.float64)
    first = track.lags + np.arange(count) * SEGMENT
    chips: npt.NDArray[np.int64] = (first[:, None] + np.arange(SEGMENT)) % PERIOD
    weights = values * key.carrier[chips] * (track.bet.polarity * track.sure)[:, None]
    sums = np.bincount((chips // SYMBOL_CHIPS).ravel(), weights.ravel(), minlength=SYMBOLS)
    return np.asarray(sums, np.float64)
