"""Reads tokens along the tracks of marks, with the secret key."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from ringtrue.voices.watermark.keys import CHIP_RATE, PERIOD, SYMBOL_CHIPS, SYMBOLS, MarkKey
from ringtrue.voices.watermark.lpc import RealArray
from ringtrue.voices.watermark.token import LAST_LIST, Token, read, symbols
from ringtrue.voices.watermark.tracing import Track
from ringtrue.voices.watermark.tracking import SEGMENT, Segments

SAME: Final = 6.0
"""Standard deviations from which on symbols agree with a token that was read elsewhere: less
than one chance in 10⁸."""


SMOOTH_HZ: Final = 480.0
"""Standard deviation over frequency to which what became of the pilot is smoothed."""


class Reader:
    """Adds up one mark's symbols over as many periods as it lasts, and reads them.

    The pilot shows what became of the mark at each frequency: its level beside everything else,
    and its phase. The data went the same way, so it is equalised by that (a Wiener filter trained
    on the pilot) before its chips are added up.
    """

    def __init__(self, key: MarkKey) -> None:
        """Nothing heard yet."""
        self._key = key
        self._pilot = key.detection.pilot
        self._soft = np.zeros(SYMBOLS)
        self._cross = np.zeros(_BINS, np.complex128)
        self._power = np.zeros(_BINS)

    def add(self, segments: Segments, track: Track) -> None:
        """Take what one epoch's track carries."""
        heard = track.bet.polarity * segments.values[int(track.bet.late)].astype(np.float64)
        first = track.lags + np.arange(len(segments)) * SEGMENT
        chips: npt.NDArray[np.int64] = (first[:, None] + np.arange(SEGMENT)) % PERIOD
        weights = self._equalised(heard, chips, track.sure) * self._key.carrier[chips]
        weights *= track.sure[:, None]
        self._soft += np.bincount((chips // SYMBOL_CHIPS).ravel(), weights.ravel(), SYMBOLS)

    def _equalised(
        self, heard: RealArray, chips: npt.NDArray[np.int64], sure: RealArray
    ) -> RealArray:
        """``heard``, each frequency weighted by how much of the pilot was found there so far."""
        spectrum = np.fft.rfft(heard, axis=1)
        sent = np.fft.rfft(self._pilot[chips], axis=1)
        self._cross += (sure[:, None] * np.conj(spectrum) * sent).sum(axis=0)
        self._power += (sure[:, None] * np.abs(spectrum) ** 2).sum(axis=0)
        gain = _SMOOTH @ self._cross / np.maximum(_SMOOTH @ self._power, _LEAST)
        return np.asarray(np.fft.irfft(spectrum * gain, SEGMENT, axis=1))

    def read(self) -> Token | None:
        """The token; None where no valid MAC has been found yet."""
        return read(self._key, self._soft)

    def read_at_last(self, known: tuple[Token, ...]) -> Token | None:
        """The token, looked for longer: nothing more is to come.

        Symbols too few to be decoded are compared with the tokens already ``known``.
        """
        found = read(self._key, self._soft, candidates=LAST_LIST)
        if found is not None:
            return found
        scale = float(np.sqrt((self._soft**2).sum()))
        for token in known:
            if scale and float(self._soft @ symbols(self._key, token)) / scale > SAME:
                return token
        return None


def _smoothing() -> RealArray:
    """Averages neighbouring frequencies of a segment, ``(_BINS, _BINS)``."""
    at = np.arange(_BINS) * CHIP_RATE / SEGMENT
    weights = np.exp(-0.5 * ((at[:, None] - at) / SMOOTH_HZ) ** 2)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


_BINS: Final = SEGMENT // 2 + 1
_SMOOTH: Final[RealArray] = _smoothing()
_LEAST: Final = 1e-9
"""Power below which there is nothing to be heard."""
